/**
 * All schedules with few preemptions and kills of processes that use a shared queue: a process can be killed or preempted
 * at each load and store of its bytes.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { crewOnly, slow } from "../support/support.ts";
import { explore } from "./explorer.ts";
import { QUEUE_SCENARIOS } from "./queue_scenarios.ts";
import type { Bounds, Failure, Scenario } from "./scenario.ts";

function shown({ what, deviations, trace }: Failure): string {
  return [what, JSON.stringify(deviations), ...trace].join("\n");
}

function assertExplored(scenario: Scenario, bounds: Bounds): void {
  const { schedules, failures, isComplete } = explore(scenario, bounds);
  assert.deepEqual(failures.map(shown), []);
  assert.ok(isComplete && schedules > 0);
}

describe("a shared queue in simulated memory", () => {
  for (const [name, scenario] of Object.entries(QUEUE_SCENARIOS)) {
    test(`${name}: a kill at each moment`, slow, () => {
      assertExplored(scenario, { preemptions: 0, crashes: 1 });
    });
    test(`${name}: a preemption and a kill`, { ...slow, ...crewOnly }, () => {
      assertExplored(scenario, { preemptions: 1, crashes: 1 });
    });
  }
});

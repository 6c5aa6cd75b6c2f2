/** The same as in collection_test.ts for processes that publish to a shared topic and read it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { crewOnly, slow } from "../support/support.ts";
import { explore } from "./explorer.ts";
import type { Bounds, Failure, Scenario } from "./scenario.ts";
import { TOPIC_SCENARIOS } from "./topic_scenarios.ts";

function shown({ what, deviations, trace }: Failure): string {
  return [what, JSON.stringify(deviations), ...trace].join("\n");
}

function assertExplored(scenario: Scenario, bounds: Bounds): void {
  const { schedules, failures, isComplete } = explore(scenario, bounds);
  assert.deepEqual(failures.map(shown), []);
  assert.ok(isComplete && schedules > 0);
}

describe("a shared topic in simulated memory", () => {
  for (const [name, scenario] of Object.entries(TOPIC_SCENARIOS)) {
    if (scenario.isReordered) {
      test(`${name}: a preemption and a reordering`, { ...slow, ...crewOnly }, () => {
        assertExplored(scenario, { preemptions: 1, crashes: 0, reorderings: 1 });
      });
    } else {
      test(`${name}: a kill at each moment`, slow, () => {
        assertExplored(scenario, { preemptions: 0, crashes: 1 });
      });
      test(`${name}: a preemption and a kill`, { ...slow, ...crewOnly }, () => {
        assertExplored(scenario, { preemptions: 1, crashes: 1 });
      });
    }
  }
});

/**
 * All schedules with few preemptions, kills and reordered loads and stores of processes that use a shared map: a process
 * can be killed or preempted at each load and store of its bytes.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { crewOnly, slow } from "../support/support.ts";
import { COLLECTION_SCENARIOS } from "./collection_scenarios.ts";
import { outsideOfJobs } from "./event_loop.ts";
import { explore } from "./explorer.ts";
import type { Bounds, Failure, Scenario } from "./scenario.ts";

function shown({ what, deviations, trace }: Failure): string {
  return [what, JSON.stringify(deviations), ...trace].join("\n");
}

function assertExplored(scenario: Scenario, bounds: Bounds): void {
  const { schedules, failures, isComplete } = explore(scenario, bounds);
  assert.deepEqual(failures.map(shown), []);
  assert.ok(isComplete && schedules > 0);
}

describe("a shared map in simulated memory", () => {
  for (const [name, scenario] of Object.entries(COLLECTION_SCENARIOS)) {
    if (scenario.isReordered) {
      test(`${name}: a preemption and a reordering`, { ...slow, ...crewOnly }, () => {
        assertExplored(scenario, { preemptions: 1, crashes: 0, reorderings: 1 });
      });
      continue;
    }
    test(
      `${name}: a kill at each moment`,
      slow,
      () => outsideOfJobs(() => assertExplored(scenario, { preemptions: 0, crashes: 1 })),
    );
    // An asynchronous program makes many more calls: `npm run simulate` explores both at once.
    const crashes = scenario.isAsync ? 0 : 1;
    const what = scenario.isAsync ? "a preemption" : "a preemption and a kill";
    test(
      `${name}: ${what}`,
      { ...slow, ...crewOnly },
      () => outsideOfJobs(() => assertExplored(scenario, { preemptions: 1, crashes })),
    );
  }
});

/**
 * All schedules with few preemptions, kills and reordered loads and stores of processes that use a collection: a process can
 * be killed or preempted at each load and store of its bytes.
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

/** Whether a test has no time for a preemption and a kill at once, which `npm run simulate` explores. */
function isLarge({ name, isAsync }: Scenario): boolean {
  return isAsync === true || name.startsWith("topic");
}

describe("a collection in simulated memory", () => {
  for (const [name, scenario] of Object.entries(COLLECTION_SCENARIOS)) {
    if (scenario.isReordered) {
      if (isLarge(scenario) && scenario.programs.length > 2) continue;
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
    const crashes = isLarge(scenario) ? 0 : 1;
    const what = isLarge(scenario) ? "a preemption" : "a preemption and a kill";
    test(
      `${name}: ${what}`,
      { ...slow, ...crewOnly },
      () => outsideOfJobs(() => assertExplored(scenario, { preemptions: 1, crashes })),
    );
  }
});

/**
 * All schedules with few preemptions, kills and reordered loads and stores of processes that use primitives of ./sync.
 * `npm run simulate` explores more of them.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { crewOnly, slow } from "../support/support.ts";
import { explore } from "./explorer.ts";
import type { Bounds, Failure, Scenario } from "./scenario.ts";
import { SYNC_SCENARIOS } from "./sync_scenarios.ts";

function shown({ what, deviations, trace }: Failure): string {
  return [what, JSON.stringify(deviations), ...trace].join("\n");
}

function assertExplored(scenario: Scenario, bounds: Bounds): void {
  const { schedules, failures, isComplete } = explore(scenario, bounds);
  assert.deepEqual(failures.map(shown), []);
  assert.ok(isComplete && schedules > 0);
}

describe("primitives in simulated memory", () => {
  for (const [name, scenario] of Object.entries(SYNC_SCENARIOS)) {
    test(`${name}: a preemption, a kill and a reordering`, slow, () => {
      for (const bounds of [[1, 0, 0], [0, 1, 0], [0, 0, 1]] as const) {
        const [preemptions, crashes, reorderings] = bounds;
        assertExplored(scenario, { preemptions, crashes, reorderings });
      }
    });

    test(`${name}: two preemptions and a kill`, { ...slow, ...crewOnly }, () => {
      assertExplored(scenario, { preemptions: 2, crashes: 1 });
    });

    if (!scenario.isReordered) continue;
    const isLarge = scenario.programs.length > 2 || name === "create counter";
    test(`${name}: two preemptions and reorderings`, { ...slow, ...crewOnly }, () => {
      assertExplored(scenario, { preemptions: 2, crashes: 0, reorderings: isLarge ? 1 : 2 });
    });

    test(`${name}: a preemption, a kill and a reordering at once`, { ...slow, ...crewOnly }, () => {
      assertExplored(scenario, { preemptions: 1, crashes: 1, reorderings: isLarge ? 0 : 1 });
    });
  }
});

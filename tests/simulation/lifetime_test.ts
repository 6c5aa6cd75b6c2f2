/** All schedules with few preemptions and a kill of processes that adopt or remove a segment that stays without a process. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { crewOnly, slow } from "../support/support.ts";
import { explore } from "./explorer.ts";
import { LIFETIME_SCENARIOS } from "./lifetime_scenarios.ts";

describe("a segment that stays until it is removed", () => {
  for (const [name, scenario] of Object.entries(LIFETIME_SCENARIOS)) {
    test(`${name}: two preemptions, or one and a kill`, { ...slow, ...crewOnly }, () => {
      for (const [preemptions, crashes] of [[2, 0], [1, 1]] as const) {
        const { failures, isComplete } = explore(scenario, { preemptions, crashes });
        const shown = failures.map(({ what, trace }) => [what, ...trace].join("\n"));
        assert.deepEqual(shown, []);
        assert.ok(isComplete);
      }
    });
  }
});

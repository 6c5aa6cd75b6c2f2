/**
 * All schedules with few preemptions, kills and stops of two processes on the simulated kernel. `npm run simulate`
 * explores more of them.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { crewOnly, slow } from "../support/support.ts";
import { explore, replay } from "./explorer.ts";
import { FOUND } from "./found.ts";
import type { Bounds, Failure } from "./scenario.ts";
import { pairs, rareScenarios, scenarioOf } from "./scenarios.ts";

function shown({ what, deviations, trace }: Failure): string {
  return [what, JSON.stringify(deviations), ...trace].join("\n");
}

function assertExplored(names: readonly string[], bounds: Bounds): void {
  const { schedules, failures, isComplete } = explore(scenarioOf(...names), bounds);
  assert.deepEqual(failures.map(shown), []);
  assert.ok(isComplete && schedules > 0);
}

describe("two processes at once", () => {
  for (const pair of pairs()) {
    // In the other runtimes it is enough that the simulation runs.
    const options = pair[0] === pair[1] ? slow : { ...slow, ...crewOnly };
    test(`${pair.join(" and ")}: every preemption`, options, () => {
      assertExplored(pair, { preemptions: crewOnly.skip === undefined ? 2 : 1, crashes: 0 });
    });

    test(`${pair.join(" and ")}: every kill and stop`, { ...slow, ...crewOnly }, () => {
      assertExplored(pair, { preemptions: 0, crashes: 1 });
    });
  }
});

describe("a rare program", () => {
  for (const names of rareScenarios()) {
    test(`${names.join(" and ")}: every preemption`, { ...slow, ...crewOnly }, () => {
      assertExplored(names, { preemptions: 1, crashes: 0 });
    });
  }

  // Only so does a lock stay at 0 although its holder has ended.
  test("open and Qt reset: every preemption with a kill or stop", { ...slow, ...crewOnly }, () => {
    assertExplored(["open", "Qt reset"], { preemptions: 1, crashes: 1 });
  });
});

describe("a schedule that once failed", () => {
  for (const { what, programs, deviations } of FOUND) {
    test(`does not any more: ${what}`, () => {
      const failure = replay(scenarioOf(...programs), deviations);
      assert.equal(failure && shown(failure), null);
    });
  }
});

/**
 * All schedules with few preemptions, kills and stops of two and three processes on the simulated kernel.
 * `npm run simulate` explores more of them.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { crewOnly, slow } from "../support/support.ts";
import { outsideOfJobs } from "./event_loop.ts";
import { explore, type ExploreOptions, kindOf, replay } from "./explorer.ts";
import { FOUND } from "./found.ts";
import { keyTypeOf, POSIX } from "./keys.ts";
import type { Bounds, Failure } from "./scenario.ts";
import { asyncPairs, classPairs, pairs, rareScenarios, scenarioOf, triples } from "./scenarios.ts";

function shown({ what, deviations, trace }: Failure): string {
  return [what, JSON.stringify(deviations), ...trace].join("\n");
}

function assertExplored(names: readonly string[], bounds: Bounds): void {
  const { schedules, failures, isComplete } = explore(scenarioOf(...names), bounds);
  assert.deepEqual(failures.map(shown), []);
  assert.ok(isComplete && schedules > 0);
}

const isCrew = crewOnly.skip === undefined;

describe("two processes at once", () => {
  for (const pair of pairs()) {
    // In the other runtimes it is enough that the simulation runs.
    const options = pair[0] === pair[1] ? slow : { ...slow, ...crewOnly };
    test(`${pair.join(" and ")}`, options, () => {
      if (!isCrew) {
        assertExplored(pair, { preemptions: 1, crashes: 0 });
      } else if (keyTypeOf(pair[0]) === POSIX) { // whose loads and stores are calls too, and many
        assertExplored(pair, { preemptions: 2, crashes: 0 });
        assertExplored(pair, { preemptions: 0, crashes: 1 });
      } else {
        assertExplored(pair, { preemptions: 2, crashes: 1, isWithoutStops: true });
        assertExplored(pair, { preemptions: 1, crashes: 1 });
      }
    });
  }
});

describe("two processes at once, of which one uses the classes", () => {
  for (const [index, pair] of classPairs().entries()) {
    const isRun = index === 0 ? {} : crewOnly;
    test(`${pair.join(" and ")}`, { ...slow, ...isRun }, () => {
      assertExplored(pair, { preemptions: isCrew ? 2 : 1, crashes: 0 });
      if (isCrew) assertExplored(pair, { preemptions: 0, crashes: 1 });
    });
  }
});

describe("two processes at once, of which one is asynchronous", () => {
  const isHeld = (name: string) => /hold briefly( semaphore)?$/.test(name);
  const others = ["async lock", "open", "Qt create", "rm lock file"];
  const crashing = ["async lock", "async abort", "async exit", "async semaphore"];
  const chosen = asyncPairs().filter(([first, second]) =>
    isHeld(second) || first === "async lock" && others.includes(second)
  );
  for (const [index, pair] of chosen.entries()) {
    const isRun = index === 0 ? {} : crewOnly;
    test(`${pair.join(" and ")}`, { ...slow, ...isRun }, () =>
      outsideOfJobs(() => {
        assertExplored(pair, { preemptions: 1, crashes: 0 });
        if (isCrew && isHeld(pair[1]) && crashing.includes(pair[0])) {
          assertExplored(pair, { preemptions: 0, crashes: 1 });
        }
      }));
  }
});

describe("three processes at once", () => {
  for (const triple of triples().filter((names) => names[2].startsWith("Qt"))) {
    test(`${triple.join(" and ")}: a preemption`, { ...slow, ...crewOnly }, () => {
      assertExplored(triple, { preemptions: 1, crashes: 0 });
    });
  }
});

describe("no schedule is lost, as states are explored only once:", () => {
  const found = (names: readonly string[], bounds: Bounds, options?: ExploreOptions) => {
    // Everything that is wrong counts here, also what this module cannot prevent.
    const scenario = { ...scenarioOf(...names), tolerates: () => false };
    const { failures, ends } = explore(scenario, bounds, options);
    return [failures.map(({ what }) => kindOf(what)).sort(), [...ends].sort()];
  };
  const cases: [string[], number, number][] = [
    [["open", "open"], 1, 0],
    [["create", "Qt create"], 1, 1],
    [["attach", "Qt create"], 2, 0],
    [["open semaphore", "cleanup"], 1, 1],
    [["open", "rm lock file", "ipcrm -m"], 1, 0],
    [["async abort", "hold briefly"], 1, 0],
  ];
  for (const [names, preemptions, crashes] of cases) {
    test(names.join(" and "), slow, () =>
      outsideOfJobs(() => {
        const bounds = { preemptions, crashes };
        assert.deepEqual(found(names, bounds), found(names, bounds, { isThorough: true }));
      }));
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
  for (const { what, failure, programs, deviations } of FOUND) {
    test(`does not any more: ${what}`, () =>
      outsideOfJobs(() => {
        const scenario = scenarioOf(...programs);
        const found = replay(scenario, deviations);
        assert.equal(found && shown(found), null);
        const any = replay({ ...scenario, tolerates: () => false }, deviations);
        assert.doesNotMatch(any?.what ?? "", failure);
      }));
  }
});

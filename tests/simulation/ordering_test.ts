/**
 * The simulated memory shows what JavaScript's memory model and arm64 allow, and nothing that they forbid, in the small
 * programs by which processors are compared.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { explore, replay, shrunk } from "./explorer.ts";
import { scenarioOf } from "./shared_bytes.ts";

/** Two words that are 0, and that processes store 1 into. */
const [X, Y] = [0, 1] as const;
const RESULTS = 2;
const MAX_RESULTS = 4;

/** What a process does; it returns what it has loaded. */
type Reader = (words: Int32Array) => readonly number[];

interface Litmus {
  readonly name: string;
  readonly processes: readonly Reader[];
  /** What the processes have loaded, one after the other, and the final values, that must occur. */
  readonly possible: readonly string[];
  /** And that must not. */
  readonly impossible: readonly string[];
}

const LITMUS: readonly Litmus[] = [
  {
    name: "plain stores may become visible in another order, and plain loads be satisfied in one",
    processes: [(w) => (w[X] = 1, w[Y] = 1, []), (w) => [w[Y]!, w[X]!]],
    possible: ["0 0", "0 1", "1 0", "1 1"],
    impossible: [],
  },
  {
    name: "a store by Atomics comes after plain stores, for a process that loads by Atomics",
    processes: [(w) => (w[X] = 1, Atomics.store(w, Y, 1), []), (w) => [Atomics.load(w, Y), w[X]!]],
    possible: ["0 0", "0 1", "1 1"],
    impossible: ["1 0"],
  },
  {
    name: "a plain store does not",
    processes: [(w) => (w[X] = 1, w[Y] = 1, []), (w) => [Atomics.load(w, Y), Atomics.load(w, X)]],
    possible: ["1 0"],
    impossible: [],
  },
  {
    name: "a plain load does not come before the next plain load",
    processes: [(w) => (w[X] = 1, Atomics.store(w, Y, 1), []), (w) => [w[Y]!, w[X]!]],
    possible: ["1 0"],
    impossible: [],
  },
  {
    name: "a load by Atomics does not come after plain loads",
    processes: [
      (w) => (Atomics.store(w, X, 1), Atomics.store(w, Y, 1), []),
      (w) => [w[Y]!, Atomics.load(w, X)],
    ],
    possible: ["1 0"],
    impossible: [],
  },
  {
    name: "an update by Atomics comes after plain loads",
    processes: [
      (w) => (Atomics.store(w, X, 1), Atomics.store(w, Y, 1), []),
      (w) => [w[Y]!, Atomics.add(w, X, 0)],
    ],
    possible: ["0 0", "0 1", "1 1"],
    impossible: ["1 0"],
  },
  {
    name: "a plain store may become visible before an earlier store by Atomics",
    processes: [
      (w) => (Atomics.store(w, X, 1), w[Y] = 1, []),
      (w) => [Atomics.load(w, Y), Atomics.load(w, X)],
    ],
    possible: ["1 0"],
    impossible: [],
  },
  {
    name: "a plain store may become visible before the store of an earlier update",
    processes: [
      (w) => (Atomics.exchange(w, X, 1), w[Y] = 1, []),
      (w) => [Atomics.load(w, Y), Atomics.load(w, X)],
    ],
    possible: ["1 0"],
    impossible: [],
  },
  {
    name: "but not for a process that updates the same word",
    processes: [
      (w) => (Atomics.exchange(w, X, 1), w[Y] = 1, []),
      (w) => [w[Y]!, Atomics.add(w, X, 0)],
    ],
    possible: ["0 0", "0 1", "1 1"],
    impossible: ["1 0"],
  },
  {
    name: "operations of Atomics have one order (store, load)",
    processes: [
      (w) => (Atomics.store(w, X, 1), [Atomics.load(w, Y)]),
      (w) => (Atomics.store(w, Y, 1), [Atomics.load(w, X)]),
    ],
    possible: ["0 1", "1 0", "1 1"],
    impossible: ["0 0"],
  },
  {
    name: "operations of Atomics have one order (update, load)",
    processes: [
      (w) => (Atomics.add(w, X, 1), [Atomics.load(w, Y)]),
      (w) => (Atomics.add(w, Y, 1), [Atomics.load(w, X)]),
    ],
    possible: ["0 1", "1 0", "1 1"],
    impossible: ["0 0"],
  },
  {
    name: "plain ones have none",
    processes: [(w) => (w[X] = 1, [w[Y]!]), (w) => (w[Y] = 1, [w[X]!])],
    possible: ["0 0", "0 1", "1 0", "1 1"],
    impossible: [],
  },
  {
    name: "a process sees its own stores",
    processes: [(w) => (w[X] = 1, w[X] = 2, [w[X]!]), (w) => [w[X]!]],
    possible: ["2 0", "2 1", "2 2"],
    impossible: ["0 0", "0 1", "0 2", "1 0", "1 1", "1 2"],
  },
  {
    name: "updates are not lost",
    processes: [
      (w) => [Atomics.add(w, X, 1), Atomics.add(w, X, 1)],
      (w) => [Atomics.add(w, X, 1)],
    ],
    possible: ["0 1 2", "0 2 1", "1 2 0"],
    impossible: ["0 1 0", "0 1 1", "0 2 0", "0 2 2", "1 2 1", "1 2 2"],
  },
];

/** Returns a scenario that fails with what the processes have loaded, if `isWrong` says so. */
function scenarioFor(processes: readonly Reader[], isWrong: (result: string) => boolean) {
  return scenarioOf({
    name: "litmus",
    bytes: 4 * (RESULTS + MAX_RESULTS * processes.length),
    prepare: () => {},
    programs: processes.map((process, i) => ({ view: { buffer } }) => {
      const words = new Int32Array(buffer);
      for (const [j, value] of process(words).entries()) {
        Atomics.store(words, RESULTS + i * MAX_RESULTS + j, value + 1);
      }
    }),
    check({ buffer }) {
      const values = [...new Int32Array(buffer).subarray(RESULTS)].filter((value) => value > 0);
      const result = values.map((value) => value - 1).join(" ");
      return isWrong(result) ? `the result is ${result}` : null;
    },
  });
}

const BOUNDS = { preemptions: 2, crashes: 0, reorderings: 2 };

/** Explores what processes may load. */
function results(processes: readonly Reader[]): Set<string> {
  const found = new Set<string>();
  const scenario = scenarioFor(processes, (result) => {
    found.add(result);
    return false;
  });
  const report = explore(scenario, BOUNDS);
  assert.deepEqual(report.failures, []);
  assert.ok(report.isComplete);
  return found;
}

describe("the order of loads and stores", () => {
  for (const { name, processes, possible, impossible } of LITMUS) {
    test(name, () => {
      const found = results(processes);
      for (const result of possible) assert.ok(found.has(result), `never ${result}`);
      for (const result of impossible) assert.ok(!found.has(result), `there is ${result}`);
    });
  }

  test("a schedule with a late store fails again, and shows where the store was late", () => {
    const scenario = scenarioFor(LITMUS[0]!.processes, (result) => result === "1 0");
    const [failure] = explore(scenario, BOUNDS).failures;
    const { what, deviations, trace } = shrunk(scenario, failure!);
    assert.equal(what, "the result is 1 0");
    assert.equal(replay(scenario, deviations)?.what, what);
    assert.ok(deviations.some((deviation) => deviation.what === "reordered"));
    assert.ok(trace.some((line) => /^P0 stores late|^P1 gets the older/.test(line)), `${trace}`);
  });
});

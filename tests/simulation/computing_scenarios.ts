/** `getOrSet()` of shared maps in shared bytes: who computes, and what is stored. */
import { delay } from "../../backends/timing.ts";
import { MapComputer } from "../../collections/map_computer.ts";
import {
  among,
  expect,
  type Joined,
  LOCK_MS,
  type MapScenario,
  numberOf,
  read,
  set,
  type Step,
  value,
} from "./shared_maps.ts";

type Raw = Uint8Array | number;
type Compute = (map: Joined) => Promise<number>;

/** The notes: how many values of a were begun to be computed, and what each process got, and what it has found before. */
const [BEGUN, RESULTS, SEEN] = [0, 1, 3];
/** As long as a value takes to be computed, in ms: others look meanwhile. */
const COMPUTE_MS = 2;

function getOrSet(map: Joined, key: string, compute: Compute, timeout: number): Promise<number> {
  computers.set(
    map,
    computers.get(map) ?? new MapComputer<Raw>({ ...map, ...PLAIN, lockTimeout: LOCK_MS }),
  );
  const computer = computers.get(map)!;
  return computer.getOrSet(
    key,
    async () => value(await compute(map)),
    { timeout, ref: true },
    Infinity,
  )
    .then(numberOf);
}

/** Values are stored as they are. */
const PLAIN = { decoded: (raw: Raw) => raw, encoded: (raw: Raw) => raw };
/** What each process computes with. */
const computers = new WeakMap<Joined, MapComputer<Raw>>();

/** Computes a number for a, as nobody else does at the same time. */
const computing = (number: number): Compute => async ({ notes }) => {
  Atomics.add(notes, BEGUN, 1);
  await delay(COMPUTE_MS);
  return number;
};

/** Notes the number that the process with an index gets for a. */
const wanting = (index: number, timeout = Infinity) => async (map: Joined): Promise<void> => {
  const number = await getOrSet(map, "a", computing(index + 1), timeout);
  Atomics.store(map.notes, RESULTS + index, number);
};

function resultOf({ notes }: Joined, index: number): number {
  return notes[RESULTS + index]!;
}

const withB: Step = (map) => set(map, "b", 5);

/** The other one computes if the first one is killed; nobody does if it is not. */
const wanted: MapScenario = {
  name: "map: two compute a value",
  isAsync: true,
  prepare: withB,
  programs: [wanting(0), wanting(1)],
  check(map, { outcomes, hasKill }) {
    const begun = map.notes[BEGUN]!;
    if (begun > (hasKill ? 2 : 1)) return `it was computed ${begun} times`;
    const results = [0, 1].filter((i) => outcomes[i] === "ok").map((i) => resultOf(map, i));
    return among(map, "b", [5]) ??
      (results.length > 1 && results[0] !== results[1] ? `they got ${results}` : null) ??
      (results.length > 0 ? among(map, "a", results) : null);
  },
};

/** What is set or removed while the value is computed is not overwritten. */
const overtaken = (name: string, change: Step, left: number, isThrown = false): MapScenario => ({
  name,
  isAsync: true,
  prepare: withB,
  programs: [async (map) => {
    if (!isThrown) return await wanting(0)(map);
    const compute = async () => {
      await computing(0)(map);
      throw new Error("no value");
    };
    await getOrSet(map, "a", compute, Infinity).then(
      (number) => expect(number === left, "there was another value"),
      (error) => expect(error.message === "no value", String(error)),
    );
  }, (map) => {
    const begun = Atomics.load(map.notes, BEGUN);
    change(map);
    Atomics.store(map.notes, SEEN, 1 + begun);
  }],
  check(map, { outcomes }) {
    const seen = map.notes[SEEN]!; // 2 if the computation had begun before the change
    const computed = isThrown ? 0 : 1;
    const possible = seen > 1 || seen === 1 && left !== 0 ? [left] : [0, computed, left];
    if (outcomes[0] === "ok" && !isThrown && ![1, left].includes(resultOf(map, 0))) {
      return `the result is ${resultOf(map, 0)}`;
    }
    return among(map, "a", possible) ?? among(map, "b", [5]);
  },
});

/** The record of the computer is moved, as there is little room, by another writer. */
const movedMeanwhile: MapScenario = {
  name: "map: compute while records are moved",
  isAsync: true,
  prepare(map) {
    set(map, "b", 4);
    set(map, "b", 5);
  },
  programs: [wanting(0), (map) => {
    set(map, "c", 6);
    set(map, "b", 7);
  }],
  check: (map, { outcomes }) =>
    among(map, "a", outcomes[0] === "ok" ? [1] : [0, 1]) ??
      among(map, "b", outcomes[1] === "ok" ? [7] : [5, 7]) ??
      among(map, "c", outcomes[1] === "ok" ? [6] : [0, 6]),
};

/** A process needs a for its value of b. The one that computes a may be killed, and its slot be used by the other one. */
const nested: MapScenario = {
  name: "map: compute a value inside of another",
  isAsync: true,
  units: 64,
  prepare: (map) => set(map, "c", 5),
  programs: [wanting(0), async (map) => {
    const number = await getOrSet(map, "b", async () => {
      await wanting(1)(map);
      return 10 + resultOf(map, 1);
    }, Infinity);
    expect(number === 10 + read(map, "a"), `b is ${number}`);
  }],
  check(map, { outcomes, hasKill }) {
    const begun = map.notes[BEGUN]!;
    if (begun > (hasKill ? 2 : 1)) return `it was computed ${begun} times`;
    return outcomes[1] === "ok" ? among(map, "b", [10 + read(map, "a")]) : among(map, "c", [5]);
  },
};

/** Each of two processes needs the value that the other one computes. */
const crosswise: MapScenario = {
  name: "map: compute values crosswise",
  isAsync: true,
  units: 64,
  prepare: (map) => set(map, "c", 5),
  programs: [["a", "b", 1], ["b", "a", 2]].map(([own, other, number]) => async (map) => {
    const compute = async () => {
      await getOrSet(map, other as string, () => Promise.resolve(number as number + 2), 20);
      return number as number;
    };
    const found = await getOrSet(map, own as string, compute, 20);
    expect(found >= 1 && found <= 4, `it is ${found}`);
  }),
  check: (map, { outcomes }) =>
    among(map, "a", outcomes.includes("killed") ? [0, 1, 4] : [1, 4]) ??
      among(map, "b", outcomes.includes("killed") ? [0, 2, 3] : [2, 3]) ?? among(map, "c", [5]),
};

export const COMPUTING_SCENARIOS: readonly MapScenario[] = [
  wanted,
  overtaken("map: compute and set", (map) => set(map, "a", 5), 5),
  overtaken("map: compute and delete", ({ writer }) => void writer.delete("delete", "a"), 0),
  overtaken("map: compute, throw and set", (map) => set(map, "a", 5), 5, true),
  movedMeanwhile,
  nested,
  crosswise,
];

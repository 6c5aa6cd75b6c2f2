/** Shared maps in shared bytes: what processes do with them, and what must be true. */
import { COMPUTING_SCENARIOS } from "./computing_scenarios.ts";
import { LIMITER_SCENARIOS } from "./limiter_scenarios.ts";
import type { Scenario } from "./scenario.ts";
import { scenarioOf, type SharedBytes } from "./shared_bytes.ts";
import { TOPIC_BYTES } from "./topic_scenarios.ts";
import { VALUE_BYTES } from "./value_scenarios.ts";
import { among, bytesOf, expect, type MapScenario, read, set, type Step } from "./shared_maps.ts";

/** Reads keys again and again: each is one of its numbers, and never goes back in their order. */
function reading(keys: Readonly<Record<string, readonly number[]>>, times: number): Step {
  return (map) => {
    const last = new Map<string, number>();
    for (let i = 0; i < times; i++) {
      for (const [key, numbers] of Object.entries(keys)) {
        const found = read(map, key);
        const at = numbers.indexOf(found);
        expect(at >= (last.get(key) ?? 0), `${key} is ${found}, which comes too late or never`);
        last.set(key, at);
      }
    }
  };
}

const replaced: MapScenario = {
  name: "map: set and read",
  prepare(map) {
    set(map, "a", 1);
    set(map, "b", 5);
  },
  programs: [(map) => {
    set(map, "a", 2);
    expect(read(map, "a") === 2, "the writer does not read what it has set");
  }, reading({ a: [1, 2], b: [5] }, 2)],
  check: (map, { outcomes }) =>
    among(map, "a", outcomes[0] === "ok" ? [2] : [1, 2]) ?? among(map, "b", [5]),
};

/** Two keys in one bucket: the record that is replaced is not the first one of the chain. */
const behind: MapScenario = {
  name: "map: set behind another and read",
  units: 64,
  prepare(map) {
    set(map, "b", 5);
    set(map, "c", 6);
  },
  programs: [(map) => set(map, "b", 7), reading({ b: [5, 7], c: [6] }, 1)],
  check: (map, { outcomes }) =>
    among(map, "b", outcomes[0] === "ok" ? [7] : [5, 7]) ?? among(map, "c", [6]),
};

const removed: MapScenario = {
  name: "map: delete, set and read",
  units: 64,
  prepare(map) {
    for (const [i, key] of ["a", "b", "c"].entries()) set(map, key, i + 1);
  },
  programs: [(map) => {
    expect(map.writer.delete("delete", "a"), "there is nothing to remove");
    expect(read(map, "a") === 0, "a removed key is found");
    set(map, "a", 9);
  }, reading({ a: [1, 0, 9], b: [2], c: [3] }, 2)],
  check: (map, { outcomes }) =>
    among(map, "a", outcomes[0] === "ok" ? [9] : [1, 0, 9]) ?? among(map, "b", [2]) ??
      among(map, "c", [3]),
};

const added: MapScenario = {
  name: "map: two add to a number",
  prepare: (map) => set(map, "b", 5),
  programs: [1, 2].map((by) => (map) => {
    map.writer.incr("incr", "n", by, 0, Infinity);
    map.writer.incr("incr", "n", by * 4, 0, Infinity);
  }),
  check(map, { outcomes }) {
    const sum = read(map, "n");
    for (const [i, by] of [1, 2].entries()) {
      if (outcomes[i] === "ok" && (sum & 5 * by) !== 5 * by) return `the sum is ${sum}`;
    }
    return among(map, "b", [5]);
  },
};

/** The ring has room for five records of these keys: there is one to move, and one to drop. */
const moved: MapScenario = {
  name: "map: move, set and read",
  prepare(map) {
    set(map, "a", 1);
    set(map, "b", 4);
    set(map, "b", 5);
  },
  programs: [(map) => {
    set(map, "c", 6);
    set(map, "b", 7);
  }, reading({ a: [1], b: [5, 7] }, 2)],
  check: (map, { outcomes }) =>
    among(map, "a", [1]) ?? among(map, "b", outcomes[0] === "ok" ? [7] : [5, 7]) ??
      among(map, "c", outcomes[0] === "ok" ? [6] : [0, 6]),
};

const evicted: MapScenario = {
  name: "map: evict, set and read",
  evicts: true,
  prepare(map) {
    for (const [i, key] of ["a", "b", "c", "d"].entries()) set(map, key, i + 1);
    read(map, "b");
  },
  programs: [(map) => {
    set(map, "e", 5);
    set(map, "f", 6);
    set(map, "n", 7);
  }, (map) => {
    for (const [i, key] of ["a", "b", "f"].entries()) {
      const found = read(map, key);
      expect([0, [1, 2, 6][i]].includes(found), `${key} is ${found}`);
    }
  }],
  check: (map, { outcomes }) =>
    among(map, "a", [0, 1]) ?? among(map, "b", [0, 2]) ??
      among(map, "f", outcomes[0] === "ok" ? [6] : [0, 6]),
};

/** The second writer comes after the first one was killed, or waits for it. */
const repaired: MapScenario = {
  name: "map: two writers",
  prepare(map) {
    set(map, "a", 1);
    set(map, "b", 5);
  },
  programs: [(map) => set(map, "a", 2), (map) => {
    set(map, "b", 6);
    expect(read(map, "b") === 6, "the writer does not read what it has set");
    map.writer.delete("delete", "a");
    expect([0, 2].includes(read(map, "a")), "a removed value is found");
  }],
  check: (map, { outcomes }) =>
    among(map, "a", [0, 2].concat(outcomes[1] === "ok" ? [] : [1])) ??
      among(map, "b", outcomes[1] === "ok" ? [6] : [5, 6]),
};

/** A record that a reader has found is removed by a process that is killed, and its space is used by another one. */
const reused: MapScenario = {
  name: "map: the space of a removed record",
  prepare(map) {
    set(map, "a", 1);
    set(map, "b", 5);
  },
  programs: [
    (map) => void map.writer.delete("delete", "b"),
    reading({ b: [5, 0] }, 1),
    (map) => set(map, "c", 6),
  ],
  check: (map, { outcomes }) =>
    among(map, "a", [1]) ?? among(map, "b", outcomes[0] === "ok" ? [0] : [0, 5]) ??
      among(map, "c", outcomes[2] === "ok" ? [6] : [0, 6]),
};

const MAP_BYTES: readonly SharedBytes[] = [
  ...[replaced, behind, removed, added, moved, evicted, repaired, reused, ...LIMITER_SCENARIOS]
    .flatMap((one) => [one, { ...one, isInOrder: false, name: `${one.name}, reordered` }]),
  ...COMPUTING_SCENARIOS,
].map(bytesOf);

export const COLLECTION_SCENARIOS: Readonly<Record<string, Scenario>> = Object.fromEntries(
  [...MAP_BYTES, ...TOPIC_BYTES, ...VALUE_BYTES].map((
    one,
  ) => [one.name, scenarioOf(one)]),
);

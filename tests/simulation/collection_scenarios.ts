/** Shared maps and rate limiters in shared bytes: what processes do with them, and what must be true. */
import { LinuxFutex } from "../../backends/futex/linux.ts";
import { OwnerMutexes } from "../../backends/mutex/owner_word.ts";
import { MutexAbi } from "../../backends/mutex/types.ts";
import { Libc } from "../../backends/unix/libc.ts";
import { LimiterRule } from "../../collections/limiter_rule.ts";
import { ALLOWED, LimiterWriter } from "../../collections/limiter_writer.ts";
import { MapCore } from "../../collections/map_core.ts";
import type { MapHeader } from "../../collections/map_header.ts";
import { entriesOf } from "../../collections/map_iterator.ts";
import { MapReader } from "../../collections/map_reader.ts";
import { mapBytes, stripeByte } from "../../collections/map_shape.ts";
import { EXPIRY } from "../../collections/map_record.ts";
import { COUNT, MISS } from "../../collections/map_stripe.ts";
import { RECOVERED } from "../../collections/ring_log.ts";
import { MapWriter } from "../../collections/map_writer.ts";
import { Mutex } from "../../sync/mod.ts";
import { PrimitiveKind, Slot } from "../../sync/slot.ts";
import { ARCH } from "./ffi.ts";
import type { Ending, Scenario } from "./scenario.ts";
import { type Place, scenarioOf, type SharedBytes } from "./shared_bytes.ts";

/** How long a writer waits for another one, in ms. */
const LOCK_MS = 10_000;
const CALL = "SharedMap.at";

function expect(isTrue: boolean, text: string): void {
  if (!isTrue) throw new Error(text);
}

/** A map of one stripe, in which all keys are in one of few buckets. */
function headerOf(evicts: boolean, units = 32): MapHeader {
  return { stripes: 1, units, buckets: 8, evicts, key0: 1, key1: 2, codec: "" };
}

/** What a process has of a map. */
interface Joined {
  readonly core: MapCore;
  readonly reader: MapReader;
  readonly writer: MapWriter;
}

function joined(
  slot: Slot,
  header: MapHeader,
  mutex: MapCore["joinMutex"],
  isOrdered: boolean,
): Joined {
  const core = new MapCore(slot, header, mutex, isOrdered);
  return { core, reader: new MapReader(core), writer: new MapWriter(core, LOCK_MS) };
}

/** A mutex that is the word with its owner, as on macOS. */
function mutexAt({ view, ffi }: Place, byteOffset: number): Mutex {
  const libc = new Libc(ffi, ARCH);
  const pid = libc.c.getpid();
  const threads = {
    self: () => ({ pid, thread: BigInt(pid) }),
    isRunning: (pid: number) => libc.c.kill(pid, 0) === 0,
  };
  const slot = new Slot("Mutex.at", view, byteOffset, Mutex.ALIGNMENT);
  slot.join("Mutex.at", PrimitiveKind.Mutex, Mutex.BYTES);
  const mutexes = new OwnerMutexes(ffi, threads, new LinuxFutex(libc));
  return Reflect.construct(Mutex as never, ["Mutex.at", slot, mutexes]);
}

/** The map as nobody else uses it: before the processes begin, and after all have ended. */
function alone(view: Uint8Array, header: MapHeader, make = false): Joined {
  const slot = new Slot(CALL, view, 0, 64);
  if (make) {
    slot.make(CALL, PrimitiveKind.SharedMap, mapBytes(header), () => {
      const mutex = new Slot("Mutex.create", view, stripeByte(header, 0), Mutex.ALIGNMENT);
      mutex.make("Mutex.create", PrimitiveKind.Mutex, Mutex.BYTES, () => {}, MutexAbi.macos);
    });
  }
  slot.join(CALL, PrimitiveKind.SharedMap, 128);
  const mutex = { isHeld: true, wasAbandoned: false, tryLock: () => true, unlock() {} };
  return joined(slot, header, () => mutex, true);
}

/** A value of which each byte has the number. */
function value(number: number): Uint8Array {
  return new Uint8Array(8).fill(number);
}

/** Returns the number that was found, 0 if there is no value. */
function read({ reader }: Joined, key: string): number {
  const found = reader.get("get", key);
  if (found === undefined || typeof found === "number") return found ?? 0;
  expect(found.length === 8 && found.every((byte) => byte === found[0]), `a torn value: ${found}`);
  return found[0]!;
}

function set({ writer }: Joined, key: string, number: number): void {
  writer.set("set", key, value(number), 0);
}

type Step = (map: Joined) => void;

interface MapScenario {
  readonly name: string;
  readonly evicts?: boolean;
  readonly units?: number;
  readonly isInOrder?: boolean;
  readonly prepare: Step;
  readonly programs: readonly Step[];
  /** Says what is wrong with the numbers that are found in the end, before and after the next change. */
  readonly check: (map: Joined, ending: Ending) => string | null;
}

/** Returns what is wrong with the map itself. */
function problemOf(map: Joined): string | null {
  const entries = [...entriesOf(map.core, "entries")];
  const keys = new Set(entries.map(([key]) => key));
  if (keys.size < entries.length) return "a key is found twice";
  const count = map.core.stripes[0]!.words[COUNT];
  return count === entries.length ? null : `the count is ${count}, not ${entries.length}`;
}

/** Removes all keys; returns the one of which an older value is found then. */
function comingBack(map: Joined, { hasKill }: Ending): string | null {
  for (const key of "abcdefn") {
    map.writer.delete("delete", key);
    if (map.reader.probe("has", key)) return `${key} comes back after it was removed`;
  }
  const isRepaired = map.core.stripes[0]!.words[RECOVERED] !== 0;
  return isRepaired && !hasKill ? "it was repaired for nothing" : null;
}

function bytesOf(scenario: MapScenario): SharedBytes {
  const { name, evicts = false, units, isInOrder = true, prepare, programs, check } = scenario;
  const header = headerOf(evicts, units);
  return {
    name,
    bytes: mapBytes(header),
    isInOrder,
    prepare: (view) => prepare(alone(view, header, true)),
    programs: programs.map((program) => (place) => {
      const slot = new Slot(CALL, place.view, 0, 64);
      slot.join(CALL, PrimitiveKind.SharedMap, 128);
      program(joined(slot, header, (byte) => mutexAt(place, byte), isInOrder));
    }),
    check(view, ending) {
      const map = alone(view, header);
      const before = check(map, ending);
      if (before !== null) return before;
      map.writer.delete("delete", "z"); // the next change, which repairs what a killed process has left
      const after = problemOf(map) ?? check(map, ending) ?? comingBack(map, ending);
      return after === null ? null : `after the next change: ${after}`;
    },
  };
}

/** Says what is wrong with a number that must be one of some. */
function among(map: Joined, key: string, numbers: readonly number[]): string | null {
  const found = read(map, key);
  return numbers.includes(found) ? null : `${key} is ${found}, not one of ${numbers}`;
}

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
  }, (map) => {
    for (const [i, key] of ["a", "b", "f"].entries()) {
      const found = read(map, key);
      expect([0, [1, 2, 6][i]].includes(found), `${key} is ${found}`);
    }
  }],
  check: (map, { outcomes }) =>
    among(map, "a", [0, 1]) ?? among(map, "b", [0, 2]) ??
      among(map, "f", outcomes[0] === "ok" ? [0, 6] : [0, 6]),
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

/** The clock of the limiters stands still, later than that of the system, so that no entry has expired for the map. */
const NOW = 2 ** 36;

/** A limiter in the map, of which a name may use 6. */
function take({ core }: Joined, name: string, cost: number): boolean {
  const rule = new LimiterRule({ limit: 1, window: 1000, burst: 6 });
  const limiter = new LimiterWriter(core, rule, LOCK_MS, { scope: 0, now: () => NOW });
  return limiter.take("take", name, cost) === ALLOWED;
}

/** Returns what a name has used. */
function used({ core }: Joined, name: string): number {
  const stripe = core.seek("used", name);
  const at = stripe.look(core.key);
  return at === MISS ? 0 : (stripe.floats[(at >> 1) + EXPIRY]! - NOW) / 1000;
}

/** Of the two costs that the processes take of the same name, only one is allowed. */
const limited: MapScenario = {
  name: "limiter: two take",
  units: 64,
  prepare: (map) => expect(take(map, "a", 1), "nothing was used"),
  programs: [(map) => {
    take(map, "a", 2);
    expect(take(map, "b", 5) && !take(map, "b", 2), "b has used 5");
  }, (map) => {
    const isAllowed = take(map, "a", 4);
    expect([isAllowed ? 5 : 3].includes(used(map, "a")), `${used(map, "a")} of a are used`);
  }],
  check(map, { outcomes }) {
    const possible = outcomes.includes("ok") ? [3, 5] : [1, 3, 5];
    if (!possible.includes(used(map, "a"))) return `${used(map, "a")} of a are used`;
    const isUsed = (outcomes[0] === "ok" ? [5] : [0, 5]).includes(used(map, "b"));
    return isUsed ? null : `${used(map, "b")} of b are used`;
  },
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

export const MAP_SCENARIOS: Readonly<Record<string, Scenario>> = Object.fromEntries(
  [replaced, behind, removed, added, moved, evicted, repaired, reused, limited]
    .flatMap((one) => [one, { ...one, isInOrder: false, name: `${one.name}, reordered` }])
    .map((one) => [one.name, scenarioOf(bytesOf(one))]),
);

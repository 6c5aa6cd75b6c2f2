/** Random operations on a shared map do what a `Map` with a clock does, apart from what the map may evict. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import type { SharedMap } from "../../collections/mod.ts";
import { Random } from "../../scripts/random.ts";
import { beginAt, logsOf, ManualClock, openMap, withClock } from "../support/maps.ts";
import { crewOnly, leaveNothingBehind, slow } from "../support/support.ts";

/** The same operations again with `MODEL_SEED=…`, which a failure names. */
const SEED = Number(process.env["MODEL_SEED"] ?? 20261129);
const OPERATIONS = 200_000;

type Value = Uint8Array | number;

interface Entry {
  value: Value;
  expiry: number;
}

const KEYS: readonly (string | Uint8Array)[] = [
  ...Array.from({ length: 300 }, (_, i) => `key ${i}`),
  ...Array.from({ length: 100 }, (_, i) => `clé ${i} ключ 鍵 🔑`),
  ...Array.from({ length: 40 }, (_, i) => "long ".repeat(i + 1)),
  ...Array.from({ length: 30 }, (_, i) => `lone \ud800${i}`),
  ...["", "\0", "\0\0", "\ufffd", "\ud800", "\udc00", "x".repeat(2000), "é".repeat(999)],
  ...[[], [0], [0, 0], [107], [239, 191, 189]].map((bytes) => Uint8Array.from(bytes)),
];

/** A random sequence of operations on a map and its model. */
class Model {
  readonly #map: SharedMap<Value>;
  readonly #clock: ManualClock;
  readonly #random: Random;
  readonly #valueBytes: number;
  /** By the index of the key. */
  readonly #entries = new Map<number, Entry>();
  /** How many entries were found to have been evicted. */
  lost = 0;
  evicted = 0;
  /** How often the map has said that it is full. */
  full = 0;

  constructor(map: SharedMap<Value>, clock: ManualClock, random: Random, valueBytes: number) {
    this.#map = map;
    this.#clock = clock;
    this.#random = random;
    this.#valueBytes = valueBytes;
  }

  /** The entry that the key must have. */
  #entry(index: number): Entry | undefined {
    const entry = this.#entries.get(index);
    if (entry === undefined || entry.expiry > this.#clock.time) return entry;
    this.#entries.delete(index);
    return undefined;
  }

  #value(): Value {
    const random = this.#random;
    if (random.chance(0.2)) return random.below(1000);
    const length = random.below(random.chance(0.02) ? this.#valueBytes : 200);
    return new Uint8Array(length).fill(random.below(256));
  }

  #expiry(ttl: number | undefined): number {
    return ttl === undefined ? Infinity : this.#clock.time + ttl;
  }

  /** That what was found is what the model has, or nothing if that may have been evicted. */
  #check(index: number, found: Value | undefined, what: string): Entry | undefined {
    const entry = this.#entry(index);
    if (found === undefined && entry !== undefined) {
      this.lost++;
      this.#entries.delete(index);
      return undefined;
    }
    assert.deepEqual(found, entry?.value, what);
    return entry;
  }

  /** Does something. A map that evicts nothing may say that it is full, and must not have changed then. */
  step(): void {
    try {
      this.#step();
    } catch (error) {
      if ((error as { code?: string }).code !== "Full") throw error;
      this.full++;
    }
  }

  #step(): void {
    const random = this.#random;
    const map = this.#map;
    if (random.chance(0.1)) this.#clock.time += random.below(20);
    const index = random.chance(0.5) ? random.below(60) : random.below(KEYS.length);
    const key = KEYS[index]!;
    const ttl = random.chance(0.3) ? 1 + random.below(200) : undefined;
    const operation = random.weighted([
      [30, "set"],
      [8, "conditional"],
      [25, "get"],
      [5, "into"],
      [5, "delete"],
      [10, "incr"],
      [8, "update"],
      [4, "expire"],
      [4, "ttl"],
      [1, "flush"],
      [0.02, "clear"],
    ]);
    const what = `${operation} of ${JSON.stringify(key)}`;
    switch (operation) {
      case "set": {
        const value = this.#value();
        const { stored, evicted } = map.set(key, value, { ttl });
        assert.equal(stored, true);
        this.evicted += evicted;
        this.#entries.set(index, { value, expiry: this.#expiry(ttl) });
        break;
      }
      case "conditional":
        return this.#conditional(index, ttl, what);
      case "get":
        return void this.#check(index, map.get(key), what);
      case "into":
        return this.#into(index, what);
      case "delete": {
        const entry = this.#check(index, map.get(key), what);
        assert.equal(map.delete(key), entry !== undefined, what);
        this.#entries.delete(index);
        assert.equal(map.get(key), undefined, what);
        break;
      }
      case "incr":
        return this.#incr(index, ttl, what);
      case "update":
        return this.#update(index, ttl, what);
      case "expire": {
        const entry = this.#check(index, map.get(key), what);
        assert.equal(map.expire(key, ttl ?? Infinity), entry !== undefined, what);
        if (entry !== undefined) entry.expiry = this.#expiry(ttl);
        break;
      }
      case "ttl": {
        const entry = this.#check(index, map.get(key), what);
        const left = map.ttl(key);
        assert.equal(left, entry === undefined ? undefined : entry.expiry - this.#clock.time, what);
        assert.equal(map.has(key), entry !== undefined, what);
        break;
      }
      case "flush":
        map.flushExpired(random.below(50));
        break;
      case "clear":
        map.clear();
        this.#entries.clear();
        assert.equal(map.size, 0);
    }
  }

  #into(index: number, what: string): void {
    const into = new Uint8Array(this.#valueBytes);
    const length = this.#map.getInto(KEYS[index]!, into);
    const entry = this.#entry(index);
    const isNumber = typeof entry?.value === "number";
    if (length === -1 || !isNumber) {
      this.#check(index, length === -1 ? undefined : into.slice(0, length), what);
    } else {
      assert.equal(length, 8, what);
      assert.equal(new DataView(into.buffer).getFloat64(0, true), entry!.value, what);
    }
  }

  #conditional(index: number, ttl: number | undefined, what: string): void {
    const map = this.#map;
    const key = KEYS[index]!;
    const entry = this.#check(index, map.get(key), what);
    const version = map.getWithVersion(key)?.version ?? 0;
    const value = this.#value();
    const [options, isStored] = this.#random.oneOf([
      [{ ifAbsent: true }, entry === undefined],
      [{ ifPresent: true }, entry !== undefined],
      [{ ifVersion: version }, entry !== undefined],
      [{ ifVersion: version + 1 }, false],
    ]);
    const result = map.set(key, value, { ttl, ...options });
    assert.equal(result.stored, isStored, what);
    this.evicted += result.evicted;
    if (isStored) this.#entries.set(index, { value, expiry: this.#expiry(ttl) });
    else assert.equal(result.version, version, what);
  }

  #incr(index: number, ttl: number | undefined, what: string): void {
    const map = this.#map;
    const key = KEYS[index]!;
    const entry = this.#check(index, map.get(key), what);
    const by = this.#random.below(100) - 50;
    if (entry !== undefined && typeof entry.value !== "number") {
      assert.throws(() => map.incr(key, by), { code: "WrongKind" }, what);
      return;
    }
    const expected = (entry?.value as number | undefined ?? 7) + by;
    assert.equal(map.incr(key, by, { initial: 7, ttl }), expected, what);
    if (entry === undefined) {
      this.#entries.set(index, { value: expected, expiry: this.#expiry(ttl) });
    } else entry.value = expected;
  }

  #update(index: number, ttl: number | undefined, what: string): void {
    const map = this.#map;
    const key = KEYS[index]!;
    const next = this.#random.chance(0.3) ? undefined : this.#value();
    let entry: Entry | undefined;
    map.update(key, (old) => {
      entry = this.#check(index, old, what);
      return next;
    }, { ttl });
    if (next === undefined) {
      this.#entries.delete(index);
    } else {
      const isKept = ttl === undefined && entry !== undefined;
      this.#entries.set(index, { value: next, expiry: isKept ? entry!.expiry : this.#expiry(ttl) });
    }
  }

  /** That the map has the entries of the model, and no others. */
  checkAll(): void {
    const found = new Map([...this.#map.entries()].map(([key, value]) => [shown(key), value]));
    for (const [index, key] of KEYS.entries()) {
      this.#check(index, found.get(shown(key)), `entries: ${shown(key)}`);
      found.delete(shown(key));
    }
    assert.deepEqual([...found.keys()], []);
    assert.deepEqual([...this.#map.keys()].length, this.#entries.size);
  }
}

function shown(key: string | Uint8Array): string {
  return typeof key === "string" ? JSON.stringify(key) : `bytes ${key}`;
}

interface Setting {
  readonly evict: "clock" | "none";
  readonly bytes: number;
  readonly steps: number;
  /** The position at which the log of each stripe begins. */
  readonly begin: number;
  readonly entryBytes?: number;
}

const SETTINGS: readonly Setting[] = [
  { evict: "clock", bytes: 40_000, steps: OPERATIONS, begin: 0 },
  { evict: "clock", bytes: 60_000, steps: OPERATIONS / 4, begin: 0 },
  { evict: "none", bytes: 2 ** 19, steps: OPERATIONS, begin: 0 },
  // This one is full as a rule, and has few buckets, so records of one chain are moved between each other.
  { evict: "none", bytes: 40_000, steps: OPERATIONS / 2, begin: 0, entryBytes: 4000 },
  // Positions go past 2^31 and 2^32 within these steps.
  { evict: "clock", bytes: 40_000, steps: OPERATIONS / 4, begin: 2 ** 31 - 50_000 },
  { evict: "clock", bytes: 40_000, steps: OPERATIONS / 4, begin: 2 ** 32 - 50_000 },
  { evict: "none", bytes: 2 ** 19, steps: OPERATIONS / 4, begin: 2 ** 31 - 50_000 },
  { evict: "none", bytes: 2 ** 19, steps: OPERATIONS / 4, begin: 2 ** 32 - 50_001 },
];

/** Takes the steps of a setting. */
function run({ evict, bytes, steps, begin, entryBytes = 200 }: Setting): void {
  const clock = new ManualClock();
  withClock(clock, () => {
    const options = { bytes, evict, stripes: 2, entryBytes };
    using place = openMap<Value>(options);
    const { map } = place;
    const logs = logsOf(place.memory, options);
    beginAt(logs, begin);
    const model = new Model(map, clock, new Random(SEED), bytes < 2 ** 19 ? 900 : 9000);
    let step = 0;
    try {
      for (; step < steps; step++) {
        model.step();
        if (step % 20_000 === 0) model.checkAll();
      }
      model.checkAll();
    } catch (error) {
      throw new Error(`MODEL_SEED=${SEED}, step ${step}`, { cause: error });
    }
    for (const [head] of logs) assert.ok((head! - begin >>> 0) > 50_000, `${head}`);
    const { evicted, recovered, expired } = map.stats();
    assert.equal(recovered, 0);
    assert.ok(expired > 100);
    assert.equal(model.full > 100, evict === "none" && bytes < 2 ** 19);
    assert.ok(model.lost <= evicted && model.evicted <= evicted);
    if (evict === "none") assert.equal(evicted + model.lost, 0);
    else assert.ok(model.lost > 100);
  });
}

describe("a shared map beside a model", () => {
  leaveNothingBehind();

  for (const setting of SETTINGS) {
    const { evict, bytes, begin } = setting;
    const name = `does what a Map does in ${bytes} bytes from position ${begin}, evict: "${evict}"`;
    test(name, { ...slow, ...(begin === 0 ? {} : crewOnly) }, () => run(setting));
  }
});

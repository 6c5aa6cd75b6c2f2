/** Bytes of a shared map that anybody overwrites lead to errors or misses: never to a crash, a hang or a wrong byte elsewhere. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { SharedMap } from "../../collections/mod.ts";
import { META, NUMBER } from "../../collections/map_record.ts";
import { MARGIN_BYTES, UNIT_BYTES } from "../../collections/ring_log.ts";
import { shapeOf } from "../../collections/map_shape.ts";
import { Random } from "../../scripts/random.ts";
import { joining, logsOf, openMap } from "../support/maps.ts";
import {
  crewOnly,
  inTime,
  leaveNothingBehind,
  runtimes,
  slow,
  startAgent,
} from "../support/support.ts";

/** The same stores again with `MODEL_SEED=…`, which a failure names. */
const SEED = Number(process.env["MODEL_SEED"] ?? 4711);
const ROUNDS = 400;
/** What no single call takes more CPU time than, in ms. */
const CALL_MS = 2000;

const OPTIONS = { bytes: 40_000, stripes: 2, lockTimeout: 20 } as const;
const CODES = ["Damaged", "Busy", "Full", "WrongKind", "System", "Deadlock"];

/** All operations on a map of which anything may be wrong. */
const OPERATIONS: readonly ((map: SharedMap, key: string, random: Random) => unknown)[] = [
  (map, key) => map.get(key),
  (map, key) => map.getInto(key, new Uint8Array(4000)),
  (map, key) => map.getStale(key),
  (map, key) => map.getWithVersion(key),
  (map, key) => map.has(key),
  (map, key) => map.ttl(key),
  (map, key, random) => map.set(key, new Uint8Array(random.below(800))),
  (map, key, random) => map.set(key, new Uint8Array(random.below(50)), { ttl: 5 }),
  (map, key) => map.set(key, 1 as never, { ifAbsent: true }),
  (map, key) => map.update(key, (old) => old),
  (map, key) => map.incr(key),
  (map, key) => map.delete(key),
  (map, key) => map.expire(key, 10),
  (map) => map.flushExpired(3),
  (map) => [...map.keys()].length,
  (map) => [...map.entries()].length,
  (map) => map.size,
  (map) => map.stats(),
];

/** Calls an operation, which may fail in the ways in which it may. */
function attempt(map: SharedMap, random: Random): string {
  const operation = random.oneOf(OPERATIONS);
  try {
    inTime(CALL_MS, String(operation), () => operation(map, `${random.below(60)}`, random));
    return "ok";
  } catch (error) {
    const { code, name, message } = error as { code?: string; name: string; message: string };
    const isExpected = name === "SyncError" && CODES.includes(code!) ||
      name === "RangeError" && /the array only/.test(message);
    assert.ok(isExpected, `${operation}: ${(error as Error).stack}`);
    return code ?? name;
  }
}

/** Overwrites some bytes: a few at random, a range, words that look like positions and sizes, or nearly everything. */
function damage(bytes: Uint8Array, random: Random): void {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  switch (random.below(4)) {
    case 0:
      for (let i = random.below(20); i >= 0; i--) {
        bytes[random.below(bytes.length)] = random.below(256);
      }
      break;
    case 1: {
      const begin = random.below(bytes.length);
      bytes.fill(random.below(256), begin, begin + random.below(2000));
      break;
    }
    case 2:
      for (let i = random.below(50); i >= 0; i--) {
        words[random.below(words.length)] = random.oneOf([
          ...[0, 1, -1, 8, 2 ** 30, -(2 ** 31), 2 ** 31 - 1],
          ...[random.below(4096), random.below(100), 2 ** 30 | random.below(100)],
        ]);
      }
      break;
    default:
      for (let i = 0; i < words.length; i++) if (random.chance(0.5)) words[i] = random.below(5000);
  }
}

describe("a shared map whose bytes are overwritten", () => {
  leaveNothingBehind();

  test("fails with a reason, or does not find what was there", slow, () => {
    const random = new Random(SEED);
    const outcomes = new Map<string, number>();
    for (let round = 0; round < ROUNDS; round++) {
      using place = openMap(OPTIONS);
      const { map, memory } = place;
      for (let i = 0; i < 60; i++) map.set(`${i}`, new Uint8Array(random.below(300)));
      // Not the magic words and not always the mutexes: calls would only say that they are damaged.
      const [from] = logsOf(memory, OPTIONS);
      const begin = random.chance(0.2) ? 32 : from!.byteOffset;
      try {
        for (let i = 0; i < 3; i++) {
          damage(memory.bytes.subarray(begin), random);
          for (let i = 0; i < 15; i++) {
            const outcome = attempt(map, random);
            outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
          }
        }
      } catch (error) {
        throw new Error(`MODEL_SEED=${SEED}, round ${round}`, { cause: error });
      }
    }
    assert.ok(outcomes.get("ok")! > ROUNDS);
  });

  test("has no number of another size than 8 bytes", () => {
    const options = { bytes: 2 ** 16, stripes: 1 };
    const forged = (act: (map: SharedMap) => unknown) => {
      using place = openMap(options);
      const { map, memory } = place;
      const [log] = logsOf(memory, options);
      const { units } = shapeOf("test", options);
      const ring = SharedMap.bytesFor(options) - MARGIN_BYTES - UNIT_BYTES * units;
      map.set("n", new Uint8Array(0));
      map.set("other", new Uint8Array(8).fill(9));
      const data = new Int32Array(log!.buffer, ring, 2 * units);
      data[2 * 1 + META]! |= NUMBER; // the record at position 1
      const result = act(map);
      assert.deepEqual(map.get("other"), new Uint8Array(8).fill(9));
      return result;
    };
    const damaged = { name: "SyncError", code: "Damaged" };
    forged((map) => assert.throws(() => map.get("n"), damaged));
    forged((map) => assert.throws(() => map.getInto("n", new Uint8Array(0)), damaged));
    forged((map) => assert.throws(() => map.getWithVersion("n"), damaged));
    forged((map) => assert.deepEqual([...map.keys()], ["other"]));
    forged((map) => assert.equal(map.incr("n", 5), 5)); // it was repaired before
    forged((map) => assert.equal(map.set("n", 1 as never).stored, true));
  });

  test("is iterated in little memory, whatever sizes its records claim", () => {
    const options = { bytes: 2 ** 20, stripes: 1 };
    using place = openMap(options);
    const { map, memory } = place;
    const [log] = logsOf(memory, options);
    const { units } = shapeOf("test", options);
    const data = new Int32Array(log!.buffer, log!.byteOffset + 4 * 32 + 5 * (log!.length - 32));
    const count = 3000; // each of them seems to have all units up to the end of the ring
    for (let i = 0; i < count; i++) {
      const position = 1 + 8 * i;
      data.set([units - position, i === 0 ? 0 : position - 8, 0, 1], 2 * position);
    }
    log![0] = 1;
    log![16] = units;
    log!.fill(1 + 8 * (count - 1), 32);
    let bytes = 0;
    for (const [, value] of map.entries()) bytes += value.length;
    assert.ok(bytes <= 2 ** 20, `${bytes}`);
  });

  test("is whole again after a clear, unless its mutexes are gone", () => {
    const random = new Random(SEED);
    for (let round = 0; round < 100; round++) {
      using place = openMap({ ...OPTIONS, lockTimeout: 1000 });
      const { map, memory } = place;
      for (const words of logsOf(memory, OPTIONS)) {
        damage(new Uint8Array(words.buffer, words.byteOffset, words.byteLength), random);
      }
      map.clear();
      map.clear();
      for (let i = 0; i < 500; i++) map.set(`${i}`, new Uint8Array(i % 60).fill(i));
      let found = 0;
      for (let i = 0; i < 500; i++) {
        const value = map.get(`${i}`);
        if (value === undefined) continue;
        found++;
        assert.deepEqual(value, new Uint8Array(i % 60).fill(i));
      }
      assert.ok(found > 100, `round ${round}: ${found}`);
    }
  });

  test("fails with a reason while another process goes on overwriting them", {
    ...slow,
    ...crewOnly,
  }, async () => {
    const random = new Random(SEED);
    for (const runtime of runtimes) {
      using place = openMap(OPTIONS);
      const { map, memory } = place;
      const [from] = logsOf(memory, OPTIONS);
      const agent = startAgent(runtime);
      await agent.run(joining(place.key, JSON.stringify(OPTIONS)));
      await agent.run(`
        const memory = objects.memory = library.SharedMemory.open(${JSON.stringify(place.key)});
        const words = memory.view(Int32Array, ${from!.byteOffset});
        setTimeout(function scribble() {
          for (let i = 0; i < 300; i++) {
            const at = Math.floor(Math.random() * words.length);
            if (Math.random() < 0.9 && at % 3 > 0) words[at] = Math.random() * 5000;
            else words[at] = words[Math.floor(Math.random() * words.length)];
          }
          setTimeout(scribble);
        });`);
      const end = performance.now() + 1500;
      for (let calls = 0; calls <= 50 || performance.now() < end; calls++) attempt(map, random);
      await agent.kill();
    }
  });
});

/** Bytes of a shared value that anybody overwrites lead to errors: never to a crash, a hang or a read outside of it. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { type Codec, SharedValue, utf8 } from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import {
  crewOnly,
  inTime,
  leaveNothingBehind,
  runtimes,
  slow,
  startAgent,
  uniqueKey,
} from "../support/support.ts";
import { openValue, type ValuePlace } from "../support/values.ts";

/** The same stores again with `MODEL_SEED=…`, which a failure names. */
const SEED = Number(process.env["MODEL_SEED"] ?? 4711);
const ROUNDS = 500;
/** What no single call takes more CPU time than, in ms. */
const CALL_MS = 5000;

const MAX_BYTES = 1000;
const CODES = ["Damaged", "Busy", "System", "Deadlock"];

/** A codec that never gets more bytes than a value may have. */
const strict: Codec<string> = {
  encode: (value) => utf8.encode(value),
  decode(bytes) {
    assert.ok(bytes.length <= MAX_BYTES, `${bytes.length}`);
    return utf8.decode(bytes);
  },
};
const OPTIONS = { maxBytes: MAX_BYTES, codec: strict, lockTimeout: 20 } as const;

const OPERATIONS: readonly ((value: SharedValue<string>, random: Random) => unknown)[] = [
  (value) => value.value,
  (value) => value.version,
  (value, random) => value.set("x".repeat(random.below(MAX_BYTES))),
  (value) => value.update((old) => old === undefined ? "a" : old.slice(0, 100)),
  (value) => value.stats(),
  (value) => void value.changes(),
];

/** Calls an operation, which may fail in the ways in which it may. */
function attempt(value: SharedValue<string>, random: Random): string {
  const operation = random.oneOf(OPERATIONS);
  try {
    inTime(CALL_MS, String(operation), () => operation(value, random));
    return "ok";
  } catch (error) {
    const { code, name, message, stack } = error as Error & { code?: string };
    // A text of damaged bytes may need more bytes than it had.
    const isExpected = name === "SyncError" && CODES.includes(code!) || code === "InvalidSize";
    assert.ok(isExpected, `${operation}: ${message} ${stack}`);
    return code!;
  }
}

/** Overwrites some bytes: a few at random, a range, or words that look like versions and lengths. */
function damage({ memory, words, versions }: ValuePlace<string>, from: number, random: Random) {
  const bytes = memory.bytes.subarray(from);
  switch (random.below(4)) {
    case 0:
      for (let i = random.below(20); i >= 0; i--) {
        bytes[random.below(bytes.length)] = random.below(256);
      }
      break;
    case 1: {
      const begin = random.below(bytes.length);
      bytes.fill(random.below(256), begin, begin + random.below(500));
      break;
    }
    case 2:
      words[random.oneOf([16, 17, 18, 24, 25, 28, 29])] = random.oneOf([
        ...[0, 1, -1, MAX_BYTES + 1, 2 ** 31 - 1, -(2 ** 31)],
        random.below(5000),
      ]);
      break;
    default:
      versions[random.below(2)] = random.oneOf([
        ...[0, -1, 0.5, NaN, Infinity, 2 ** 53, 2 ** 52, 2 ** 52 - 1],
        random.below(5000),
      ]);
  }
}

describe("a shared value whose bytes are overwritten", () => {
  leaveNothingBehind();

  test("fails with a reason, or is another value", slow, () => {
    const random = new Random(SEED);
    const outcomes = new Map<string, number>();
    for (let round = 0; round < ROUNDS; round++) {
      using place = openValue<string>(OPTIONS);
      const objects = [place.value, place.join()];
      for (let i = random.below(3); i >= 0; i--) place.value.set("y".repeat(random.below(500)));
      // Rarely the mutex: calls would only say that it is damaged.
      const from = random.chance(0.2) ? 64 : 192;
      try {
        for (let i = 0; i < 4; i++) {
          damage(place, from, random);
          for (let i = 0; i < 10; i++) {
            const outcome = attempt(random.oneOf(objects), random);
            outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
          }
        }
      } catch (error) {
        throw new Error(`MODEL_SEED=${SEED}, round ${round}`, { cause: error });
      }
    }
    assert.ok(outcomes.get("ok")! > ROUNDS && outcomes.get("Damaged")! > ROUNDS / 10);
  });

  test("is whole again after a set(), with a version that none had before", () => {
    const random = new Random(SEED);
    for (let round = 0; round < 200; round++) {
      using place = openValue<string>({ ...OPTIONS, lockTimeout: 1000 });
      const { value, words, versions } = place;
      const other = place.join();
      const known = [0];
      for (let i = random.below(4); i >= 0; i--) known.push(value.set("a"));
      assert.equal(other.value, "a");
      for (const word of [16, 17, 18, 24, 25]) {
        if (random.chance(0.7)) words[word] = random.below(10_000);
      }
      for (const half of [0, 1]) if (random.chance(0.7)) versions[half] = random.below(10_000);
      const isForged = words[16] === (versions[words[16]! & 1]! | 0);
      for (let i = 0; i < 3; i++) {
        const version = value.set(`${i}`);
        if (!isForged) assert.ok(!known.includes(version), `round ${round}: ${version}`);
        known.push(version);
        assert.deepEqual([value.value, other.value, other.version], [`${i}`, `${i}`, version]);
      }
    }
  });

  test("is refused if its header says what cannot be", () => {
    using place = openValue<string>(OPTIONS);
    const { memory, words, value } = place;
    for (const size of [0, -1, 2 ** 30 + 1, 999, 2 ** 31 - 1]) {
      words[2] = size;
      assert.throws(() => place.join(), { code: "Damaged" });
    }
    words[2] = 2 ** 20;
    words[3] = ~(2 ** 20); // as of a larger segment
    assert.throws(() => place.join(), RangeError);
    words[0] = 0;
    assert.throws(() => SharedValue.at(memory.bytes), { code: "NotFound" });
    for (const use of [() => value.value, () => value.set("a"), () => value.version]) {
      assert.throws(use, { code: "Damaged" });
    }
  });

  test("fails with a reason while another process goes on overwriting it", {
    ...slow,
    ...crewOnly,
  }, async () => {
    const random = new Random(SEED);
    for (const runtime of runtimes) {
      using place = openValue<string>(OPTIONS);
      const agent = startAgent(runtime);
      await agent.run(`
        const memory = objects.memory = library.SharedMemory.open(${JSON.stringify(place.key)});
        const words = memory.view(Int32Array);
        setTimeout(function scribble() {
          for (let i = 0; i < 300; i++) {
            const at = Math.random() < 0.5 ? 16 + Math.floor(Math.random() * 16) : 48 + Math.floor(Math.random() * 500);
            words[at] = Math.random() < 0.5 ? Math.random() * 2000 : words[16];
          }
          setTimeout(scribble);
        });`);
      const end = performance.now() + 1000;
      for (let calls = 0; calls <= 5 || performance.now() < end; calls++) {
        attempt(place.value, random);
      }
      await agent.kill();
    }
  });

  test("is not read beyond its end, and its neighbours are not written", () => {
    const random = new Random(SEED);
    const size = SharedValue.bytesFor(OPTIONS);
    using memory = SharedMemory.open(uniqueKey(), { size: size + 128 });
    memory.bytes.fill(0xee);
    memory.bytes.fill(0, 64, 64 + size);
    const value = SharedValue.create(memory.bytes.subarray(0, 64 + size), 64, OPTIONS);
    const words = memory.view(Int32Array, 64, 32);
    for (let i = 0; i < 1000; i++) {
      words[24 + random.below(2)] = random.oneOf([MAX_BYTES, MAX_BYTES + 1, -1, 2 ** 31 - 1]);
      attempt(value, random);
    }
    const outside = [...memory.bytes.subarray(0, 64), ...memory.bytes.subarray(64 + size)];
    assert.ok(outside.slice(0, 128).every((byte) => byte === 0xee));
  });
});

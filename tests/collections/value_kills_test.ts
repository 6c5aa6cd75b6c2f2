/** Whichever writer is killed at whatever moment, the others find the value whole, and nobody waits. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedValue } from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import { checkFor, killOneByOne, killsOf } from "../support/kills.ts";
import { leaveNothingBehind, LOCK_MS, uniqueKey } from "../support/support.ts";

const { kills: KILLS, options } = killsOf("VALUE_KILLS", 48);

const WRITERS = 3;
const MAX_BYTES = 2 ** 18;
const OPTIONS = { maxBytes: MAX_BYTES, lockTimeout: LOCK_MS } as const;
const VALUE_BYTES = SharedValue.bytesFor(OPTIONS);

/**
 * After the value there are two words for each writer: how many values it has set, and the version of the last one. A value
 * has a number that each change adds 1 to, who has set it, a sum of these and of its length, and bytes that follow from it.
 */
const [SET, LAST] = [0, WRITERS];

/** JavaScript of writer `me`, which sets values until it is killed. */
function victim(key: string, me: number): string {
  return `
    const memory = objects.memory = library.SharedMemory.open(${JSON.stringify(key)});
    const value = objects.value = collections.SharedValue.at(memory.bytes, 0, { lockTimeout: ${LOCK_MS} });
    const words = objects.words = memory.view(Int32Array, ${VALUE_BYTES}, ${2 * WRITERS});
    let state = ${me + 1} + Date.now() | 0;
    const below = (limit) => {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      return (state >>> 8) % limit;
    };
    const next = (old) => {
      const length = 12 + (below(2) === 0 ? below(200) : below(${MAX_BYTES} - 12));
      const bytes = new Uint8Array(length);
      const head = new Int32Array(bytes.buffer, 0, 3);
      head[0] = old === undefined ? 1 : new Int32Array(old.buffer, 0, 1)[0] + 1;
      head[1] = ${me};
      head[2] = head[0] * 31 + ${me} * 7 + length;
      bytes.fill(head[0], 12);
      return bytes;
    };
    setTimeout(function set() {
      for (let i = 0; i < 20; i++) {
        const bytes = value.update(next);
        Atomics.store(words, ${LAST} + ${me}, new Int32Array(bytes.buffer, 0, 1)[0]);
        Atomics.add(words, ${SET} + ${me}, 1);
      }
      setTimeout(set);
    });`;
}

/** Returns the number of a value, which must be whole. */
function numberOf(bytes: Uint8Array): number {
  const [number, me, sum] = new Int32Array(bytes.slice(0, 12).buffer);
  assert.equal(sum, number! * 31 + me! * 7 + bytes.length | 0, "a torn value");
  const byte = number! & 255;
  assert.ok(bytes.subarray(12).every((one) => one === byte), "a torn value");
  return number!;
}

describe("a shared value whose writers are killed at random moments", () => {
  leaveNothingBehind();

  test("is whole for all readers, is never an older one, and lets nobody wait", {
    ...options,
  }, async () => {
    const seed = Date.now() | 0;
    const random = new Random(seed);
    const key = uniqueKey("value");
    using memory = SharedMemory.open(key, {
      size: VALUE_BYTES + 8 * WRITERS,
      initialize: (bytes) => void SharedValue.create(bytes, 0, OPTIONS),
    });
    const words = memory.view(Int32Array, VALUE_BYTES, 2 * WRITERS);
    const value = SharedValue.at(memory.bytes, 0, OPTIONS);
    let reads = 0;
    let told = 0;
    let seen = 0;

    const check = () => {
      const least = Math.max(seen, ...words.slice(LAST, LAST + WRITERS));
      const before = value.version;
      const bytes = value.value;
      const after = value.version;
      if (bytes === undefined) return assert.equal(least, 0);
      const number = numberOf(bytes);
      assert.ok(number >= least, `seed ${seed}: ${number} was found after ${least}`);
      assert.ok(before <= number && number <= after, `seed ${seed}: ${before} ${number} ${after}`);
      seen = number;
      reads++;
    };
    const subscription = value.subscribe((bytes, version) => {
      assert.equal(numberOf(bytes), version, `seed ${seed}`);
      assert.ok(version > told, `seed ${seed}: ${version} was told after ${told}`);
      told = version;
    });

    await killOneByOne({
      kills: KILLS,
      lanes: WRITERS,
      seed,
      begin: (agent, me) => agent.run(victim(key, me)),
      live: () => checkFor(random, 5, 35, check),
      check,
      news: () => `${value.stats().recovered} recovered`,
    });
    subscription.close();
    const { recovered } = value.stats();
    const set = words.slice(SET, SET + WRITERS).reduce((sum, one) => sum + one, 0);
    const { version } = value;
    assert.ok(
      set <= version && version <= set + KILLS,
      `seed ${seed}: ${version} versions, ${set} set`,
    );
    assert.equal(value.set(new Uint8Array(1)), version + 1);
    assert.ok(recovered <= KILLS && reads > KILLS && told > 0);
    console.log(`${KILLS} kills, ${reads} reads, ${version} versions, ${recovered} recovered`);
  });
});

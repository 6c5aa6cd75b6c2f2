/** Whoever is killed in the middle of whatever change, the others find each entry whole, and lose none. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMap } from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import { checkFor, killOneByOne, killsOf } from "../support/kills.ts";
import { leaveNothingBehind, LOCK_MS, uniqueKey } from "../support/support.ts";

const { kills: KILLS, options } = killsOf("MAP_KILLS", 24);

const WRITERS = 3;
const KEYS = 40;
const STABLE = 100;
const OPTIONS = { bytes: 2 ** 18, stripes: 2, evict: "none", lockTimeout: LOCK_MS } as const;
const MAP_BYTES = SharedMap.bytesFor(OPTIONS);

/**
 * After the map there are words of 32 bits for each key of each writer: the number of the last value that the writer began
 * to set, and of the last one that it has deleted; and for each writer, how often it has added to the counter.
 */
const NUMBERS = WRITERS * KEYS;
const [BEGUN, DELETED, ADDED] = [0, NUMBERS, 2 * NUMBERS];

/** JavaScript of writer `me`, which sets, deletes and adds until it is killed. */
function victim(key: string, me: number): string {
  return `
    const memory = objects.memory = library.SharedMemory.open(${JSON.stringify(key)});
    const map = objects.map = collections.SharedMap.at(memory.bytes, 0, { lockTimeout: ${LOCK_MS} });
    const words = objects.words = memory.view(Int32Array, ${MAP_BYTES}, ${2 * NUMBERS + WRITERS});
    let state = ${me + 1} + Date.now() | 0;
    const below = (limit) => {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      return (state >>> 8) % limit;
    };
    const valueOf = (me, i, number, length) => {
      const value = new Uint8Array(16 + length);
      const head = new Int32Array(value.buffer, 0, 4);
      for (let at = 16; at < value.length; at++) value[at] = number + at;
      head[0] = me; head[1] = i; head[2] = number;
      head[3] = value.reduce((sum, byte, at) => at < 12 || at > 15 ? Math.imul(sum, 31) + byte | 0 : sum, 7);
      return value;
    };
    const round = () => {
      for (let step = 0; step < 200; step++) {
        const i = below(${KEYS});
        const word = ${me * KEYS} + i;
        const key = "writer ${me} key " + i;
        const job = below(10);
        if (job < 6) {
          const number = Atomics.add(words, ${BEGUN} + word, 1) + 1;
          map.set(key, valueOf(${me}, i, number, below(below(20) === 0 ? 4000 : 200)));
        } else if (job < 8) {
          const number = Atomics.load(words, ${BEGUN} + word);
          map.delete(key);
          Atomics.store(words, ${DELETED} + word, number);
        } else {
          map.incr("count", 1);
          Atomics.add(words, ${ADDED} + ${me}, 1);
        }
      }
      setTimeout(round);
    };
    setTimeout(round);`;
}

/** Whether the bytes are those of a value that a writer has made for a key. */
function numberOf(value: Uint8Array, me: number, i: number): number {
  const head = new Int32Array(value.slice(0, 16).buffer);
  const sum = value.reduce(
    (sum, byte, at) => at < 12 || at > 15 ? Math.imul(sum, 31) + byte | 0 : sum,
    7,
  );
  assert.deepEqual([head[0], head[1], head[3]], [me, i, sum], "a torn or foreign value");
  return head[2]!;
}

describe("a shared map whose writers are killed at random moments", () => {
  leaveNothingBehind();

  test("lets readers find whole values, loses none, and lets nobody wait", {
    ...options,
  }, async () => {
    const seed = Date.now() | 0;
    const random = new Random(seed);
    const key = uniqueKey("map");
    using memory = SharedMemory.open(key, {
      size: MAP_BYTES + 4 * (2 * NUMBERS + WRITERS),
      initialize: (bytes) => void SharedMap.create(bytes, 0, OPTIONS),
    });
    const words = memory.view(Int32Array, MAP_BYTES, 2 * NUMBERS + WRITERS);
    const map = SharedMap.at(memory.bytes, 0, OPTIONS);
    for (let i = 0; i < STABLE; i++) map.set(`stable ${i}`, new Uint8Array(100).fill(i));
    map.set("count", 0);
    const seen = new Int32Array(NUMBERS);
    let reads = 0;
    let counted = 0;

    /** That all keys have what they may have. */
    const check = () => {
      for (let i = 0; i < STABLE; i++, reads++) {
        const value = map.get(`stable ${i}`);
        assert.ok(value !== undefined, `seed ${seed}: stable ${i} is missing`);
        assert.ok(value.length === 100 && value.every((byte) => byte === i));
      }
      for (let me = 0; me < WRITERS; me++) {
        for (let i = 0; i < KEYS; i++, reads++) {
          const word = me * KEYS + i;
          const deleted = Atomics.load(words, DELETED + word);
          const value = map.get(`writer ${me} key ${i}`);
          if (value === undefined) continue;
          const number = numberOf(value, me, i);
          assert.ok(
            number > deleted,
            `seed ${seed}: ${number} was found after ${deleted} was deleted`,
          );
          assert.ok(number >= seen[word]!, `seed ${seed}: ${number} was found after ${seen[word]}`);
          seen[word] = number;
        }
      }
      const count = map.get("count") as unknown as number;
      assert.ok(count >= counted, `seed ${seed}: ${count} after ${counted}`);
      counted = count;
    };

    await killOneByOne({
      kills: KILLS,
      lanes: WRITERS,
      seed,
      begin: (agent, me) => agent.run(victim(key, me)),
      live: () => checkFor(random, 10, 70, check),
      check,
      news: () => `${map.stats().recovered} recovered`,
    });
    // Each stripe can be changed at once.
    for (let i = 0; i < 100; i++) map.set(`after ${i}`, Uint8Array.of(i), { ifAbsent: true });
    check();
    const added = words.subarray(ADDED).reduce((sum, one) => sum + one, 0);
    const total = map.get("count") as unknown as number;
    assert.ok(total >= added && total <= added + KILLS, `seed ${seed}: ${total}, ${added} added`);
    const { entries, recovered } = map.stats();
    assert.equal(entries, [...map.keys()].length, `seed ${seed}`);
    assert.ok(recovered <= KILLS);
    assert.ok(reads > 1000);
    console.log(`${KILLS} kills, ${reads} reads, ${recovered} recovered`);
  });
});

/** Publishers are killed at random moments: what is published stays whole and in order, and each number means one message. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { TopicMessage, TopicReader } from "../../collections/mod.ts";
import { Random } from "../../scripts/random.ts";
import { joining, MESSAGES, numberOf, openTopic } from "../support/topics.ts";
import { checkFor, killOneByOne, killsOf } from "../support/kills.ts";
import { leaveNothingBehind, LOCK_MS } from "../support/support.ts";

const { kills: KILLS, options } = killsOf("TOPIC_KILLS", 24);

const PUBLISHERS = 3;
const OPTIONS = { bytes: 2 ** 14, lockTimeout: LOCK_MS } as const;

/** JavaScript of publisher `me`, which publishes numbered messages until it is killed. */
function victim(key: string, me: number): string {
  return `
    ${joining(key, JSON.stringify(OPTIONS))}
    ${MESSAGES}
    const { topic } = objects;
    let number = 0;
    let state = ${me} + Date.now() | 0;
    const below = (limit) => {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      return (state >>> 8) % limit;
    };
    const round = () => {
      for (let i = 0; i < 200; i++) {
        topic.publish(valueOf(${me}, ++number, below(below(20) === 0 ? 4000 : 100)));
      }
      setTimeout(round);
    };
    setTimeout(round);`;
}

/** A reader that checks what it gets: the order, the numbers, and the sums. */
class Checked {
  readonly #reader: TopicReader<Uint8Array>;
  readonly #seed: number;
  /** The last number of each publisher. */
  readonly #last = new Map<number, number>();
  #expected: number;
  /** How many messages were lost, and how many were read. */
  lost = 0;
  count = 0;

  constructor(reader: TopicReader<Uint8Array>, expected: number, seed: number) {
    this.#reader = reader;
    this.#expected = expected;
    this.#seed = seed;
  }

  /** Reads at most so many messages. */
  read(most: number, visit: (message: TopicMessage<Uint8Array>) => void = () => {}): void {
    for (let i = 0; i < most; i++) {
      const message = this.#reader.next();
      if (message === undefined) return;
      const { value, sequence, lost } = message;
      assert.equal(sequence, this.#expected + lost, `seed ${this.#seed}`);
      const [me, number] = numberOf(value);
      assert.ok(number > (this.#last.get(me) ?? 0), `seed ${this.#seed}: ${number} again`);
      this.#last.set(me, number);
      this.#expected = sequence + 1;
      this.lost += lost;
      this.count++;
      visit(message);
    }
  }

  /** The numbers that it knows of all messages up to the last one. */
  get known(): number {
    return this.lost + this.count;
  }
}

describe("a shared topic whose publishers are killed at random moments", () => {
  leaveNothingBehind();

  test("gives whole messages in order, loses count of none, and lets nobody wait", {
    ...options,
  }, async () => {
    const seed = Date.now() | 0;
    const random = new Random(seed);
    using place = openTopic(OPTIONS);
    const { topic } = place;
    const fast = new Checked(topic.reader(), 1, seed);
    const slow = new Checked(topic.reader(), 1, seed);
    /** What the fast reader has seen under each number, as far as the slow one may come to it. */
    const seen = new Map<number, Uint8Array>();
    const check = () => {
      fast.read(2000, ({ sequence, value }) => {
        seen.set(sequence, value);
        seen.delete(sequence - 2000);
      });
      if (random.number() < 0.05) {
        slow.read(300, ({ sequence, value }) => {
          const same = seen.get(sequence);
          if (same !== undefined) assert.deepEqual(value, same, `seed ${seed}: ${sequence} twice`);
        });
      }
    };

    await killOneByOne({
      kills: KILLS,
      lanes: PUBLISHERS,
      seed,
      begin: (agent, _, number) => agent.run(victim(place.key, number)),
      live: () => checkFor(random, 10, 70, check),
      check,
      news: () => `${topic.stats().recovered} recovered`,
    });
    const before = topic.stats().last;
    const last = topic.publish(new Uint8Array(place.topic.stats().capacity / 4 - 16)); // at once
    assert.ok(last === before + 1, `seed ${seed}: ${last} after ${before}`);
    const rest = topic.reader({ from: "oldest" });
    for (let expected = topic.stats().first;; expected++) {
      const message = rest.next();
      if (message === undefined) break;
      assert.deepEqual([message.sequence, message.lost], [expected, 0], `seed ${seed}`);
    }
    for (const reader of [fast, slow]) {
      let isOver = false;
      while (!isOver) {
        try {
          reader.read(Infinity);
        } catch (error) {
          if (!/a torn message/.test(String(error))) throw error;
          isOver = true; // that is the message above, which has no sum
        }
      }
      assert.equal(reader.known + 1, last, `seed ${seed}`);
    }
    const { recovered } = topic.stats();
    assert.ok(recovered <= KILLS);
    assert.ok(fast.count > 100 && slow.lost > 0, `${fast.count} read, ${slow.lost} lost`);
    console.log(
      `${KILLS} kills, ${last} messages, ${fast.count} read, ${slow.lost} lost, ${recovered} recovered`,
    );
  });
});

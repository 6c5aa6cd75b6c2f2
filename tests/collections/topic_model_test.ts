/** A shared topic does what a list of messages does of which the oldest ones are dropped. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import type { TopicReader } from "../../collections/mod.ts";
import { Random } from "../../scripts/random.ts";
import { beginAt, openTopic } from "../support/topics.ts";
import { leaveNothingBehind } from "../support/support.ts";

const STEPS = 20_000;

/** A reader and what it must read next. */
interface Reading {
  readonly reader: TopicReader<Uint8Array>;
  expected: number;
}

/** Where the first positions and sequence numbers are, which both overflow soon. */
const places = [
  ["at the beginning", 0, 0],
  ["where positions become negative", 2 ** 31 - 300, 2 ** 32 - 40],
  ["where positions become 0", -300, 2 ** 31 - 40],
  ["with the last sequence numbers but some", 17, 2 ** 52],
] as const;

describe("a shared topic and its model", () => {
  leaveNothingBehind();

  for (const [where, position, sequence] of places) {
    test(`agree ${where}`, () => {
      const seed = Number(process.env["MODEL_SEED"] ?? Date.now() % 2 ** 31);
      const random = new Random(seed);
      const below = (limit: number) => Math.floor(random.number() * limit);
      using place = openTopic({ bytes: 2048 });
      beginAt(place, position, sequence);
      const topics = [place.topic, place.join()];
      const messages = new Map<number, Uint8Array>();
      let last = sequence;
      let readings: Reading[] = [];

      const newReading = (): Reading => {
        const { first } = topics[0]!.stats();
        const kind = below(3);
        const from = kind === 0
          ? "latest"
          : kind === 1
          ? "oldest"
          : first + below(last + 2 - first);
        const expected = from === "latest" ? last + 1 : from === "oldest" ? first : from;
        return { reader: topics[below(2)]!.reader({ from }), expected };
      };
      const read = (reading: Reading, count: number) => {
        for (let i = 0; i < count; i++) {
          const message = reading.reader.next();
          if (message === undefined) {
            assert.equal(reading.expected, last + 1, `seed ${seed}: nothing was found`);
            return;
          }
          assert.equal(message.sequence, reading.expected + message.lost, `seed ${seed}`);
          assert.deepEqual(message.value, messages.get(message.sequence), `seed ${seed}`);
          const { first } = topics[0]!.stats();
          if (message.lost > 0) assert.equal(message.sequence, first, `seed ${seed}: lost`);
          reading.expected = message.sequence + 1;
        }
      };

      for (let step = 0; step < STEPS; step++) {
        const job = below(10);
        if (job < 6) {
          const message = new Uint8Array(below(below(4) === 0 ? 497 : 40)).fill(step);
          assert.equal(topics[below(2)]!.publish(message), ++last, `seed ${seed}`);
          messages.set(last, message);
        } else if (job === 6 && below(20) === 0) {
          readings = Array.from({ length: 4 }, newReading);
        } else if (readings.length > 0) {
          read(readings[below(readings.length)]!, below(below(8) === 0 ? 100 : 4));
        }
        if (step % 1000 === 0) {
          const all = {
            reader: topics[0]!.reader({ from: "oldest" }),
            expected: topics[0]!.stats().first,
          };
          read(all, 1000);
          for (const number of messages.keys()) if (number < last - 1000) messages.delete(number);
        }
      }
      for (const reading of readings) read(reading, 1000);
      const { recovered, first, bytes } = topics[1]!.stats();
      assert.equal(recovered, 0);
      // At most a message and padding of its size were dropped more than needed.
      assert.ok(bytes > 2048 - 2 * 512, `seed ${seed}: ${bytes} bytes from ${first} to ${last}`);
    });
  }
});

/** Bytes of a shared topic that anybody has overwritten lead to errors with a code and to lost messages, and to nothing else. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { TopicReader } from "../../collections/mod.ts";
import { LOG_BYTE, LOG_BYTES, MUTEX_BYTE } from "../../collections/topic_shape.ts";
import { SyncError } from "../../sync/mod.ts";
import { Random } from "../../scripts/random.ts";
import { beginAt, openTopic, valueOf } from "../support/topics.ts";
import { inTime, leaveNothingBehind, slow, until } from "../support/support.ts";

const OPTIONS = { bytes: 1024, lockTimeout: 5 } as const;
/** No call may take more CPU time, in ms: a read gives up after 100. */
const LONG_MS = 2000;

/** The words of the log by their number. */
const [HEAD, EPOCH, TAIL, NEWEST, BASE_LOW, BASE_HIGH, SIGNAL, WAITING] = [
  ...[0, 1, 16, 17, 18, 19, 32, 33],
];
const ODD = [0, 1, -1, 2, 63, 127, 128, 2 ** 30, -(2 ** 31), 2 ** 31 - 1, 0x7fff_fff0, 1 << 30 | 1];

/** Returns what a call returns, or the code of its error. It must not take long. */
function codeOf<Result>(call: () => Result): Result | string {
  try {
    return inTime(LONG_MS, String(call), call);
  } catch (error) {
    if (!(error instanceof SyncError)) throw error;
    return error.code;
  }
}

/** Reads all that there is; returns how many messages and how many errors there were. */
function drain(reader: TopicReader<Uint8Array>): [messages: number, errors: number] {
  let [messages, errors] = [0, 0];
  for (let i = 0; i < 500; i++) {
    const message = codeOf(() => reader.next());
    if (message === undefined) return [messages, errors];
    if (typeof message === "string") errors++;
    else messages++;
  }
  throw new assert.AssertionError({ message: "the reader comes to no end" });
}

describe("a shared topic whose bytes are overwritten", () => {
  leaveNothingBehind();

  test("goes on after any of its words was forged", slow, () => {
    for (const position of [0, 2 ** 31 - 40, -40]) {
      for (const word of [HEAD, EPOCH, TAIL, NEWEST, BASE_LOW, BASE_HIGH, SIGNAL, WAITING]) {
        for (const odd of ODD) {
          using place = openTopic(OPTIONS);
          const { topic, words } = place;
          beginAt(place, position);
          for (let i = 1; i <= 30; i++) topic.publish(valueOf(1, i, i));
          const readers = (["oldest", "latest", 25] as const).map((from) => topic.reader({ from }));
          words[word!] = odd;
          const late = codeOf(() => topic.reader({ from: "oldest" }));
          for (let i = 1; i <= 3; i++) codeOf(() => topic.publish(valueOf(2, i, 100)));
          for (const reader of readers) drain(reader);
          if (typeof late !== "string") drain(late);
          codeOf(() => topic.stats());
          // Now it is whole again: each message comes to each reader.
          const fresh = topic.reader();
          for (let i = 1; i <= 40; i++) {
            topic.publish(valueOf(3, i, i));
            assert.deepEqual(fresh.next()?.value, valueOf(3, i, i), `word ${word} was ${odd}`);
          }
          for (const reader of readers) {
            drain(reader);
            topic.publish(valueOf(4, 1, 9));
            assert.deepEqual(reader.next()?.value, valueOf(4, 1, 9), `word ${word} was ${odd}`);
          }
        }
      }
    }
  });

  test("goes on after the header of a message was forged, which its readers learn", slow, () => {
    for (const field of [0, 1, 2, 3]) {
      for (const odd of ODD) {
        using place = openTopic(OPTIONS);
        const { topic, words, data } = place;
        for (let i = 1; i <= 10; i++) topic.publish(valueOf(1, i, 20));
        const reader = topic.reader({ from: "oldest" });
        const newest = words[NEWEST!]!;
        const size = 2 + 4; // 32 bytes
        const at = ((newest - 4 * size) & 127) << 1;
        assert.equal(data[at + 2], 6, "the sixth message");
        data[at + field] = odd;
        const [messages, errors] = drain(reader);
        assert.ok(messages >= 5 && errors <= 1);
        for (let i = 1; i <= 40; i++) topic.publish(valueOf(2, i, 20));
        drain(reader);
        const fresh = topic.reader();
        topic.publish(valueOf(3, 1, 20));
        assert.deepEqual(fresh.next()?.value, valueOf(3, 1, 20));
        assert.deepEqual(reader.next()?.value, valueOf(3, 1, 20));
      }
    }
  });

  test("never gives numbers again that this process has seen, as far as it can", () => {
    using place = openTopic(OPTIONS);
    const { topic, words } = place;
    for (let i = 1; i <= 30; i++) topic.publish(valueOf(1, i, i));
    words[TAIL!] = words[HEAD!]! - 5; // the log makes no sense
    words[NEWEST!] = 0;
    assert.equal(topic.publish(valueOf(1, 31, 1)), 31);
    assert.equal(topic.stats().recovered, 1);
    assert.deepEqual([topic.stats().first, topic.stats().last], [31, 31]);
  });

  test("ends every call if random bytes are overwritten again and again", slow, () => {
    const seed = Date.now() | 0;
    const random = new Random(seed);
    const below = (limit: number) => Math.floor(random.number() * limit);
    const codes = new Map<string, number>();
    for (let round = 0; round < 150; round++) {
      using place = openTopic(OPTIONS);
      const { topic, memory } = place;
      const all = memory.view(Int32Array);
      const from = round % 3 === 0 ? 0 : LOG_BYTE / 4; // with the header and the mutex, or without
      const readers: TopicReader<Uint8Array>[] = [topic.reader()];
      for (let step = 0; step < 60; step++) {
        for (let i = below(3); i > 0; i--) {
          const at = from +
            below((round % 2 === 0 ? (LOG_BYTE + LOG_BYTES) / 4 : all.length) - from);
          all[at] = below(2) === 0 ? ODD[below(ODD.length)]! : below(2 ** 32);
        }
        const outcomes = [
          codeOf(() => topic.publish(new Uint8Array(below(240)))),
          codeOf(() => readers[below(readers.length)]!.next()),
          codeOf(() => topic.stats()),
        ];
        if (below(4) === 0) {
          const reader = codeOf(() => topic.reader({ from: below(2) === 0 ? "oldest" : "latest" }));
          if (typeof reader !== "string") readers.push(reader);
        }
        for (const outcome of outcomes) {
          if (typeof outcome === "string") codes.set(outcome, (codes.get(outcome) ?? 0) + 1);
        }
      }
      all.fill(0, MUTEX_BYTE / 4, LOG_BYTE / 4); // so that nothing seems to be locked
    }
    const possible = [
      "Damaged",
      "Busy",
      "Deadlock",
      "NotFound",
      "WrongKind",
      "Unsupported",
      "System",
    ];
    for (const code of codes.keys()) assert.ok(possible.includes(code), `seed ${seed}: ${code}`);
    assert.ok(codes.has("Damaged"));
  });

  test("tells a subscriber, which gets the next messages", async () => {
    using place = openTopic({ ...OPTIONS, lockTimeout: 1000 });
    const { topic, words, data } = place;
    const errors: unknown[] = [];
    const sequences: number[] = [];
    for (let i = 1; i <= 4; i++) topic.publish(valueOf(1, i, 20));
    data[((words[NEWEST!]! - 6) & 127) << 1] = 77;
    using _subscription = topic.subscribe(({ sequence }) => void sequences.push(sequence), {
      from: "oldest",
      onError: (error) => void errors.push(error),
    });
    await until(() => errors.length === 1, "the error");
    assert.match(
      String(errors[0]),
      /SharedTopic.next: the bytes of a message were overwritten; this reader goes on/,
    );
    topic.publish(valueOf(1, 5, 20));
    await until(() => sequences.includes(5), "the next message");
    assert.deepEqual(sequences, [1, 2, 5]);
    place.memory.view(Int32Array)[0] = 0; // no topic any more
    assert.throws(() => topic.publish(valueOf(1, 6, 20)), { code: "Damaged" });
    assert.throws(() => topic.stats(), { code: "Damaged" });
    assert.throws(() => topic.subscribe(), { code: "Damaged" });
    place.memory.view(Int32Array)[0] = 0x316e_7973;
  });
});

/** A shared topic in one process: what it promises, and what it refuses. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  bytes,
  json,
  layout,
  SharedMap,
  SharedTopic,
  type TopicMessage,
  utf8,
  WrongLayout,
} from "../../collections/mod.ts";
import { Counter } from "../../sync/mod.ts";
import type { SharedMemory } from "../../mod.ts";
import { openTopic } from "../support/topics.ts";
import { leaveNothingBehind, uniqueKey, until, withDeadline } from "../support/support.ts";

/** A codec whose `decode` refuses the text "bad". */
const picky = {
  encode: utf8.encode,
  decode(raw: Uint8Array): string {
    const text = utf8.decode(raw);
    if (text === "bad") throw new Error("it is bad");
    return text;
  },
};

describe("a shared topic", () => {
  leaveNothingBehind();

  test("gives each reader each message, in order, with its number", () => {
    using topic = SharedTopic.open(uniqueKey(), { bytes: 4096, codec: json });
    const readers = [topic.reader(), topic.reader()];
    assert.deepEqual([1, 2, 3].map((n) => topic.publish({ n })), [1, 2, 3]);
    for (const reader of readers) {
      assert.ok(reader.hasNext);
      assert.deepEqual(
        [reader.next(), reader.next(), reader.next(), reader.next()],
        [
          ...[1, 2, 3].map((n) => ({ value: { n }, sequence: n, lost: 0 })),
          undefined,
        ],
      );
      assert.ok(!reader.hasNext);
    }
    assert.equal(topic.reader().next(), undefined);
    topic.publish({ n: 4 });
    assert.equal(readers[0]!.next()?.sequence, 4);
  });

  test("begins with the latest message, the oldest one, or the one with a number", () => {
    using topic = SharedTopic.open(uniqueKey(), { bytes: 512, codec: utf8 });
    const first = (from: "latest" | "oldest" | number) => topic.reader({ from }).next();
    assert.equal(first("oldest"), undefined);
    assert.equal(first(1), undefined);
    for (let i = 1; i <= 100; i++) topic.publish(`${i}`);
    const { first: oldest, last } = topic.stats();
    assert.equal(last, 100);
    assert.ok(oldest > 50 && oldest < 100);
    assert.equal(first("latest"), undefined);
    assert.deepEqual(first("oldest"), { value: `${oldest}`, sequence: oldest, lost: 0 });
    assert.deepEqual(first(98), { value: "98", sequence: 98, lost: 0 });
    assert.equal(first(101), undefined);
    assert.deepEqual(first(10), { value: `${oldest}`, sequence: oldest, lost: oldest - 10 });
    assert.throws(() => first(102), {
      name: "RangeError",
      message: /SharedTopic.reader: from is 102, but the topic has had 100 messages/,
    });
    const reader = topic.reader({ from: 101 });
    topic.publish("next");
    assert.deepEqual(reader.next(), { value: "next", sequence: 101, lost: 0 });
  });

  test("tells a slow reader exactly how many messages it has lost", () => {
    using topic = SharedTopic.open(uniqueKey(), { bytes: 1024, codec: utf8 });
    for (const from of ["latest", "oldest", 1] as const) {
      const begin = from === "latest"
        ? topic.stats().last + 1
        : from === 1
        ? 1
        : topic.stats().first;
      const reader = topic.reader({ from });
      for (let i = 0; i < 300; i++) topic.publish("x".repeat(i % 100));
      let expected = begin;
      for (let message; (message = reader.next()) !== undefined;) {
        assert.equal(message.sequence, expected + message.lost);
        assert.equal(message.value.length, (message.sequence - 1) % 300 % 100);
        expected = message.sequence + 1;
      }
      assert.equal(expected, topic.stats().last + 1);
    }
  });

  test("takes messages of a quarter of its bytes, and says what to do for more", () => {
    using topic = SharedTopic.open(uniqueKey(), { bytes: 4096 });
    const reader = topic.reader();
    for (let i = 0; i < 20; i++) {
      const message = new Uint8Array(1024 - 16).fill(i);
      topic.publish(message);
      assert.deepEqual(reader.next()?.value, message);
      topic.publish(new Uint8Array(0));
      assert.deepEqual(reader.next()?.value, new Uint8Array(0));
    }
    assert.throws(() => topic.publish(new Uint8Array(1009)), {
      name: "SyncError",
      code: "InvalidSize",
      message:
        "SharedTopic.publish: the message has 1009 bytes; at most 1008 are possible, as a message may take a " +
        "quarter of the 4096 bytes of the topic. Create it with 4128 bytes",
    });
    assert.equal(topic.stats().last, 40);
  });

  test("says in stats() what there is", () => {
    using topic = SharedTopic.open(uniqueKey(), { bytes: 4000, codec: utf8 });
    const empty = { first: 1, last: 0, bytes: 0, capacity: 4096, waiters: 0, recovered: 0 };
    assert.deepEqual(topic.stats(), empty);
    topic.publish("abc");
    topic.publish("def");
    const { bytes } = topic.stats();
    assert.deepEqual(topic.stats(), { ...empty, last: 2, bytes });
    assert.ok(bytes >= 48 && bytes <= 56);
  });

  test("calls back with each message, not before subscribe() has returned, until it is closed", async () => {
    using topic = SharedTopic.open(uniqueKey(), { bytes: 4096, codec: utf8 });
    topic.publish("before");
    const texts: string[] = [];
    const all: TopicMessage<string>[] = [];
    using latest = topic.subscribe(({ value }) => {
      texts.push(value);
      if (value === "last") latest.close();
    });
    using _oldest = topic.subscribe((message) => void all.push(message), { from: "oldest" });
    assert.deepEqual([texts, all], [[], []]);
    topic.publish("one");
    await until(() => all.length === 2 && texts.length === 1, "the first message");
    await until(() => topic.stats().waiters === 1, "one thread that sleeps");
    topic.publish("last");
    await until(() => all.length === 3 && texts.length === 2, "the last message");
    topic.publish("after");
    await until(() => all.length === 4, "one more");
    assert.deepEqual(texts, ["one", "last"]);
    assert.deepEqual(
      all.map(({ sequence, lost }) => [sequence, lost]),
      [1, 2, 3, 4].map((n) => [n, 0]),
    );
  });

  test("is iterated over, and the iteration ends by break, close(), a signal, or the end of the topic", async () => {
    const key = uniqueKey();
    using topic = SharedTopic.open(key, { bytes: 4096, codec: utf8 });
    const texts: string[] = [];
    for (const text of ["a", "b", "c"]) topic.publish(text);
    for await (const { value } of topic.subscribe({ from: "oldest" })) {
      texts.push(value);
      if (value === "c") break;
    }
    assert.deepEqual(texts, ["a", "b", "c"]);

    const closed = topic.subscribe();
    const waiting = closed.next();
    closed.close();
    assert.deepEqual(await withDeadline(waiting, "its end"), { done: true, value: undefined });
    assert.equal((await closed.next()).done, true);

    const controller = new AbortController();
    const aborted = topic.subscribe({ signal: controller.signal });
    const two = [aborted.next(), aborted.next()];
    topic.publish("d");
    assert.equal((await withDeadline(two[0]!, "a message")).value?.value, "d");
    controller.abort(new Error("enough"));
    await assert.rejects(withDeadline(two[1]!, "the abort"), /enough/);
    await assert.rejects(aborted.next(), /enough/);

    const ended = topic.subscribe();
    const last = ended.next();
    await until(() => topic.stats().waiters === 1, "the wait");
    topic[Symbol.dispose]();
    assert.equal((await withDeadline(last, "the end")).done, true);
    assert.equal((await ended.next()).done, true);
    assert.throws(() => topic.publish("e"), { code: "NotAttached" });
    assert.throws(() => topic.subscribe(), { code: "NotAttached" });
  });

  test("gives what a codec throws to who reads, and goes on", async () => {
    using place = openTopic({ bytes: 4096, codec: picky });
    const { topic } = place;
    const reader = topic.reader();
    const errors: unknown[] = [];
    const texts: string[] = [];
    using _subscription = topic.subscribe(({ value }) => void texts.push(value), {
      onError: (error) => void errors.push(error),
    });
    const iterated = topic.subscribe();
    const three = [iterated.next(), iterated.next()];
    topic.publish("bad");
    topic.publish("good");
    assert.throws(() => reader.next(), /it is bad/);
    assert.equal(reader.next()?.value, "good");
    await assert.rejects(withDeadline(three[0]!, "the error"), /it is bad/);
    assert.equal((await withDeadline(three[1]!, "the message")).value?.value, "good");
    await until(() => texts.length === 1, "the message");
    assert.deepEqual([texts, errors.map(String)], [["good"], ["Error: it is bad"]]);
    iterated.close();
  });

  test("publishes in a promise what it publishes at once, and refuses the same", async () => {
    using place = openTopic({ bytes: 4096, codec: utf8, lockTimeout: 50 });
    const { topic } = place;
    assert.equal(await topic.publishAsync("free"), 1);
    const signal = AbortSignal.abort(new Error("no"));
    await assert.rejects(topic.publishAsync("x", { signal }), /no/);
    await assert.rejects(topic.publishAsync("x", { timeout: -1 }), RangeError);
    await assert.rejects(topic.publishAsync("x", { signal: 1 as never }), {
      name: "TypeError",
      message: "SharedTopic.publishAsync: signal must be an AbortSignal, not number",
    });
    await assert.rejects(topic.publishAsync("x".repeat(4096)), { code: "InvalidSize" });
    assert.equal(topic.stats().last, 1);
  });

  test("lies in a layout, beside others", () => {
    const Site = layout({
      visits: Counter,
      news: SharedTopic.of({ bytes: 1024, codec: utf8 }),
      names: SharedMap.of({ bytes: 65_536, codec: utf8 }),
      more: SharedTopic.of<number[]>({ bytes: 2048, codec: json }),
    });
    const key = uniqueKey();
    using site = Site.open(key);
    using same = Site.open(key);
    const reader = same.news.reader();
    const more = same.more.reader();
    for (let i = 0; i < 100; i++) {
      site.news.publish(`${i}`);
      site.names.set(`${i}`, `${i}`);
      site.more.publish([i]);
      assert.deepEqual([reader.next()?.value, more.next()?.value], [`${i}`, [i]]);
    }
    const Other = layout({
      visits: Counter,
      news: SharedTopic.of({ bytes: 2048, codec: utf8 }),
      names: SharedMap.of({ bytes: 65_536, codec: utf8 }),
      more: SharedTopic.of<number[]>({ bytes: 2048, codec: json }),
    });
    assert.throws(() => Other.open(key), WrongLayout);
  });

  test("stays with its messages if its lifetime says so, until remove()", () => {
    const key = uniqueKey();
    const options = { bytes: 4096, codec: utf8, lifetime: "until-removed" } as const;
    {
      using topic = SharedTopic.open(key, options);
      topic.publish("kept");
    }
    using topic = SharedTopic.open(key, options);
    assert.equal(topic.reader({ from: "oldest" }).next()?.value, "kept");
    topic.publish("more");
    topic.remove();
    assert.throws(() => SharedTopic.at(memoryOf(topic), 0, { codec: utf8 }).remove(), {
      code: "NotOwner",
    });
  });

  test("refuses wrong arguments", () => {
    const wrong = (options: object) => () => SharedTopic.bytesFor(options as { bytes: number });
    assert.throws(wrong({}), TypeError);
    assert.throws(wrong({ bytes: "1" }), TypeError);
    for (const bytes of [0, -1, 1.5, NaN, 2 ** 31]) assert.throws(wrong({ bytes }), RangeError);
    assert.equal(SharedTopic.bytesFor({ bytes: 4096 }), 4096 + 384);
    assert.equal(SharedTopic.bytesFor({ bytes: 4097 }), 8192 + 384);
    using place = openTopic({ bytes: 4096 });
    const { topic, memory } = place;
    assert.throws(() => topic.publish("text" as never), TypeError);
    assert.throws(() => topic.reader({ from: "first" as never }), TypeError);
    assert.throws(() => topic.reader({ from: 0 }), RangeError);
    assert.throws(() => topic.subscribe({ from: 1.5 }), RangeError);
    assert.throws(() => topic.subscribe(() => {}, { onError: 1 as never }), TypeError);
    const names = (call: string) => ({ name: "TypeError", message: new RegExp(`^${call}: `) });
    for (const options of ["oldest", 1, null, { ref: 1 }, { signal: 1 }, { signal: {} }]) {
      assert.throws(() => topic.subscribe(options as never), names("SharedTopic.subscribe"));
      const more = options as never;
      assert.throws(() => topic.subscribe(() => {}, more), names("SharedTopic.subscribe"));
    }
    for (const options of ["oldest", 1, null]) {
      assert.throws(() => topic.reader(options as never), names("SharedTopic.reader"));
    }
    assert.throws(() => SharedTopic.at(memory.bytes, 0, { bytes: 8192 }), { code: "WrongKind" });
    assert.throws(() => SharedTopic.at(memory.bytes, 0, { codec: json }), {
      code: "WrongKind",
      message: /the topic was created with the codec "bytes", not "json"/,
    });
    const unnamed = { encode: bytes.encode, decode: bytes.decode };
    SharedTopic.at(memory.bytes, 0, { codec: unnamed });
    assert.throws(() => SharedTopic.at(memory.bytes, 8), RangeError);
    assert.throws(() => SharedTopic.at(memory.bytes, 0, { codec: {} as never }), TypeError);
    assert.throws(() => SharedTopic.at(memory.bytes, 0, { lockTimeout: -1 }), RangeError);
    assert.throws(() => SharedTopic.create(memory.bytes, 0, { bytes: 4096 }), {
      code: "AlreadyExists",
    });
    assert.throws(() => SharedMap.at(memory.bytes), { code: "WrongKind" });
  });

  test("does not let a fast publisher keep the rest of the program waiting", async () => {
    using topic = SharedTopic.open(uniqueKey(), { bytes: 2 ** 16, codec: bytes });
    let count = 0;
    using _endless = topic.subscribe(() => {
      count++;
      topic.publish(new Uint8Array(4)); // each message causes the next one
    });
    topic.publish(new Uint8Array(4));
    await withDeadline(delay(50), "a timer");
    await until(() => count > 100, "the messages");
  });
});

/** The bytes of the segment that a topic has opened. */
function memoryOf(topic: SharedTopic<string>): Uint8Array {
  return (topic as unknown as { memory: SharedMemory }).memory.bytes;
}

/** Subscriptions and codecs at the end of what they belong to. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import {
  bytes,
  json,
  SharedBroadcastChannel,
  SharedTopic,
  SharedValue,
  structured,
  utf8,
} from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";

describe("a subscription", () => {
  leaveNothingBehind();

  test("of a shared value ends without an error if another one detaches the segment", async () => {
    const value = SharedValue.open(uniqueKey("value"), { maxBytes: 100, codec: json, initial: 1 });
    const calls: string[] = [];
    value.subscribe(() => {
      calls.push("first");
      value[Symbol.dispose]();
    }, { ref: true });
    value.subscribe(() => calls.push("second"), { ref: true });
    value.set(2);
    while (calls.length === 0) await pause(1);
    await pause(20); // an error that nobody handles would end the test
    assert.equal(calls[0], "first");
  });

  test("of a shared value is not called after close()", async () => {
    using value = SharedValue.open<number>(uniqueKey("value"), { maxBytes: 100, codec: json });
    const calls: string[] = [];
    const first = value.subscribe(() => {
      calls.push("first");
      second.close();
    }, { ref: true });
    const second = value.subscribe(() => calls.push("second"), { ref: true });
    value.set(1);
    while (calls.length === 0) await pause(1);
    await pause(20);
    first.close();
    assert.deepEqual(calls, ["first"]);
  });

  test("of a topic finds its message, and not bytes of another one, almost 2 to the 32 units later", () => {
    const options = { bytes: 512, codec: bytes };
    using memory = SharedMemory.open(uniqueKey("topic"), {
      size: SharedTopic.bytesFor(options),
      initialize: (view) => void SharedTopic.create(view, 0, options),
    });
    const view = memory.view(Uint8Array);
    const topic = SharedTopic.at(view, 0, options);
    const words = new Int32Array(view.buffer, view.byteOffset + 128, 64);
    const [HEAD, EPOCH, TAIL, NEWEST, LOW] = [0, 1, 16, 17, 18] as const;
    const begin = (position: number, epoch: number, sequence: number) => {
      words[HEAD] = words[TAIL] = position;
      words[NEWEST] = 0;
      words[LOW] = sequence;
      words[EPOCH] = epoch;
    };
    begin(2, 0, 0);
    topic.publish(new Uint8Array(8).fill(1));
    const reader = topic.reader({ from: "oldest" });
    assert.equal(reader.next()?.sequence, 1);
    topic.publish(new Uint8Array(8).fill(1));
    topic.publish(new Uint8Array(8));
    assert.equal(reader.next()?.sequence, 2);
    begin(-24, 1, 1_000_000); // as publishers would have left it
    topic.publish(new Uint8Array(14 * 8));
    topic.publish(new Uint8Array(5 * 8));
    const evil = new Int32Array(28); // its bytes look like a record where the reader is
    evil.set([3, 8, 1_000_001, 0, 0x6b63_6168], 10);
    topic.publish(new Uint8Array(evil.buffer));
    const next = reader.next()!;
    assert.equal(next.value.length, 14 * 8);
    assert.equal(next.sequence, topic.reader({ from: "oldest" }).next()!.sequence);
  });

  test("of a topic lets the program end after the detach, whatever its ref was", async () => {
    const topic = SharedTopic.open(uniqueKey("topic"), { bytes: 4096, codec: utf8 });
    topic.publish("a");
    const messages = topic.subscribe({ from: "oldest", ref: true });
    assert.equal((await messages.next()).value?.value, "a");
    topic[Symbol.dispose]();
    messages.ref();
    // If a timer of the subscription went on, the program of this test would not end.
    assert.equal((await messages.next()).done, true);
  });

  test("of a channel does not count its own messages as lost", async () => {
    const channel = new SharedBroadcastChannel(uniqueKey("channel"), { bytes: 4096 });
    const errors: unknown[] = [];
    channel.onmessageerror = (event) => errors.push(event.data);
    for (let i = 0; i < 500; i++) channel.postMessage(i);
    await pause(50);
    channel.close();
    assert.deepEqual(errors, []);
  });
});

describe("a shared value", () => {
  test("whose version was overwritten by the largest one is right again after the next set()", () => {
    const options = { maxBytes: 64, codec: utf8 };
    using memory = SharedMemory.open(uniqueKey("value"), {
      size: SharedValue.bytesFor(options),
      initialize: (view) => void SharedValue.create(view, 0, { ...options, initial: "a" }),
    });
    const view = memory.view(Uint8Array);
    const value = SharedValue.at(view, 0, options);
    new Float64Array(view.buffer, view.byteOffset + 80, 2)[1] = 2 ** 52 - 1;
    const words = new Int32Array(view.buffer, view.byteOffset, 32);
    words[16] = words[18] = -1;
    for (const text of ["b", "c"]) {
      value.set(text);
      assert.equal(value.value, text);
    }
  });
});

describe("the codec structured", () => {
  test("returns bytes that are the caller's", () => {
    const one = structured.encode("aaaa");
    structured.encode("bbbb");
    assert.equal(structured.decode(one), "aaaa");
  });

  test("returns arrays with memory of their own, also from a Buffer", () => {
    const encoded = Buffer.from(structured.encode(new Uint8Array([1, 2, 3])));
    const decoded = structured.decode<Uint8Array>(encoded);
    assert.deepEqual([...decoded], [1, 2, 3]);
    assert.equal(decoded.buffer.byteLength, 3);
  });
});

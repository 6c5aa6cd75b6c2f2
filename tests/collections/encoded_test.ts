/** Values whose bytes are no longer there, or are none, are refused before anything is changed. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMap, SharedQueue, SharedTopic, SharedValue } from "../../collections/mod.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";

/** Returns an array whose buffer was transferred away. */
function transferred(): Uint8Array {
  const array = Uint8Array.of(1, 2, 3);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

const NO_BYTES = { name: "TypeError", message: /^Shared\w+\.\w+: the array of the value has no/ };
const NO_ARRAY = { name: "TypeError", message: /^Shared\w+\.\w+: encode of the codec must return/ };

describe("a collection", () => {
  leaveNothingBehind();

  /** Calls that store a value, of objects whose codec makes of it what the test wants. */
  function* collections(encode: () => Uint8Array) {
    const codec = { encode, decode: () => "" };
    using map = SharedMap.open<string>(uniqueKey("map"), { bytes: 16_384, codec });
    yield { sets: [() => map.set("a", "b"), () => map.update("a", () => "b")], object: map };
    using queue = SharedQueue.open<string>(uniqueKey("queue"), { bytes: 16_384, codec });
    yield {
      sets: [
        () => queue.trySend("b"),
        () => queue.trySend("b", { delay: 1 }),
        () => queue.send("b"),
        () => queue.sendAsync("b"),
      ],
      object: queue,
    };
    using topic = SharedTopic.open<string>(uniqueKey("topic"), { bytes: 16_384, codec });
    yield { sets: [() => topic.publish("b"), () => topic.publishAsync("b")], object: topic };
    using value = SharedValue.open<string>(uniqueKey("value"), { maxBytes: 16_384, codec });
    yield { sets: [() => value.set("b"), () => value.update(() => "b")], object: value };
  }

  test("refuses an array whose buffer was transferred away, and is not damaged by it", async () => {
    let bytes: () => Uint8Array = transferred;
    for (const { sets, object } of collections(() => bytes())) {
      for (const set of sets) {
        bytes = transferred;
        await assert.rejects(async () => void await set(), NO_BYTES);
        bytes = () => ({ length: 3 }) as Uint8Array;
        await assert.rejects(async () => void await set(), NO_ARRAY);
      }
      bytes = () => new Uint8Array(0); // no bytes are a value
      await sets[0]!();
      assert.equal(object.stats().recovered, 0);
    }
  });
});

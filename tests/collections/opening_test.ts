/** open() of each collection, on the key of something else: the error names the call, the key and what is there. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  RateLimiter,
  SharedMap,
  SharedQueue,
  SharedTopic,
  SharedValue,
} from "../../collections/mod.ts";
import { type NativeIpcKey, SharedMemory } from "../../mod.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";

type Key = string | NativeIpcKey;

/** Each takes less than the segment that the tests open it in. */
const opens: Readonly<Record<string, (key: Key) => object>> = {
  "RateLimiter.open": (key) => RateLimiter.open(key, { limit: 1, window: 1000, keys: 10 }),
  "SharedMap.open": (key) => SharedMap.open(key, { bytes: 16_384 }),
  "SharedQueue.open": (key) => SharedQueue.open(key, { bytes: 16_384 }),
  "SharedTopic.open": (key) => SharedTopic.open(key, { bytes: 8192 }),
  "SharedValue.open": (key) => SharedValue.open(key, { maxBytes: 1000 }),
};

describe("open() of a collection", () => {
  leaveNothingBehind();

  for (const [call, open] of Object.entries(opens)) {
    test(`names the key whose segment holds something else: ${call}`, () => {
      const text = uniqueKey("other");
      const keys: Key[] = [text, SharedMemory.platformSafeKey(text)];
      for (const key of keys) {
        using memory = SharedMemory.open(key, { size: 1_000_000 });
        assert.throws(() => open(key), (error: Error & { code: string }) => {
          assert.equal(error.name, "SyncError");
          assert.equal(error.code, "NotFound");
          const shown = JSON.stringify(typeof key === "string" ? key : memory.nativeKey());
          const begin = `${call} (${shown}): ${call.replace(".open", ".at")}: nothing has been`;
          assert.ok(error.message.startsWith(begin), error.message);
          return true;
        });
        (call === "SharedTopic.open" ? SharedMap : SharedTopic).create(memory.bytes, 0, {
          bytes: 65_536,
        });
        assert.throws(() => open(key), (error: Error & { code: string }) => {
          assert.equal(error.code, "WrongKind");
          assert.match(
            error.message,
            /there is a Shared(Map|Topic) of version 1 here; use another/,
          );
          return true;
        });
      }
    });
  }
});

/** What becomes of objects and views that are sent to another thread. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { MessageChannel } from "node:worker_threads";
import { SharedMemory } from "../../mod.ts";
import { leaveNothingBehind, sizeOf, transferOnly, uniqueKey } from "../support/support.ts";
import { assertAttached } from "../support/systemv_tables.ts";
import { Thread } from "../support/threads.ts";

function created(size: number): SharedMemory {
  const memory = new SharedMemory(uniqueKey());
  assert.equal(memory.create(size), true, memory.errorString());
  return memory;
}

describe("what is sent to another thread", () => {
  leaveNothingBehind();

  const copies: Record<string, (memory: SharedMemory) => Promise<unknown>> = {
    "structuredClone()": (memory) => Promise.resolve(structuredClone(memory)),
    "postMessage()": async (memory) => {
      const { port1, port2 } = new MessageChannel();
      const message = once(port2, "message");
      port1.postMessage(memory);
      const [copy] = await message;
      port1.close();
      return copy;
    },
  };
  for (const [what, copy] of Object.entries(copies)) {
    test(`through ${what} is no SharedMemory but an object without anything`, async () => {
      using memory = created(64);
      const dead = await copy(memory) as Partial<SharedMemory>;
      assert.equal(dead instanceof SharedMemory, false);
      assert.deepEqual([Object.getPrototypeOf(dead), Reflect.ownKeys(dead)], [
        Object.prototype,
        [],
      ]);
      assert.equal(dead.lock, undefined);
      assert.equal(memory.isAttached(), true);
      assertAttached(memory.key()!, 1);
    });
  }

  test("is a copy of a view's bytes", async () => {
    using memory = created(64);
    const thread = new Thread(
      memory.key()!,
      `const copy = await next();
      copy[0] = 9;
      memory.data()[1] = 8;
      tell([copy.length, ...copy.subarray(0, 3)]);`,
    );
    memory.data()!.set([1, 2, 3]);
    thread.tell(memory.data()!);
    assert.deepEqual(await thread.next(), [sizeOf(64), 9, 2, 3]);
    assert.deepEqual([...memory.data()!.subarray(0, 3)], [1, 8, 3]);
    assert.equal(await thread.end(), 0);
  });

  test(
    "is the segment itself if a view's buffer is transferred, until detach()",
    transferOnly,
    async () => {
      using other = created(64);
      using memory = new SharedMemory(other.key());
      assert.equal(memory.attach(), true, memory.errorString());
      const thread = new Thread(
        memory.key()!,
        `const moved = await next();
      moved[0] = 9;
      tell(moved.length);
      await next();
      moved[1] = 8;
      tell([...moved.subarray(0, 3)]);`,
      );
      other.data()!.set([1, 2, 3]);
      const view = memory.data()!;
      thread.tell(view, [view.buffer as ArrayBuffer]);
      assert.equal(await thread.next(), 64);
      assert.deepEqual([view.length, other.data()![0]], [0, 9]);
      assert.throws(() => memory.data(), { reason: "Transferred" });
      assert.equal(memory.isAttached(), true);
      assert.equal(memory.detach(), true, memory.errorString());
      thread.tell("go");
      assert.deepEqual(await thread.next(), [0, 8, 0]); // memory of its own by now
      assert.deepEqual([...other.data()!.subarray(0, 3)], [9, 2, 3]);
      assert.equal(await thread.end(), 0);
    },
  );

  test(
    "stays harmless if the thread that had the segment ends before its receiver",
    transferOnly,
    async () => {
      using memory = created(64);
      memory.data()![0] = 5;
      const thread = new Thread(memory.key()!, "tell(memory.data(), [memory.data().buffer]);");
      const moved = await thread.next() as Uint8Array;
      assert.equal(await thread.end(), 0);
      assertAttached(memory.key()!, 1);
      assert.deepEqual([moved.length, moved[0]], [64, 0]);
      moved.fill(1);
      assert.equal(memory.data()![0], 5);
    },
  );
});

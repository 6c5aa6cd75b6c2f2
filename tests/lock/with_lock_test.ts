/** `withLock(fn)` and `withLockAsync(fn)`: the lock is held while `fn` runs, and released after it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory, SharedMemoryError, SharedMemoryException } from "../../mod.ts";
import { attached, created, ownPeer, peers, startAttached, startHolder } from "../support/peers.ts";
import { expectTrue } from "../support/qt_pairs.ts";
import {
  leaveNothingBehind,
  semaphoreValue,
  slow,
  uniqueKey,
  untilBlocked,
} from "../support/support.ts";

/** Matches the `LockError` that an operation throws. */
function lockError(operation: string, memory: SharedMemory, text: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof SharedMemoryException, String(error));
    assert.deepEqual([error.code, error.error], ["LockError", SharedMemoryError.LockError]);
    assert.equal(error.key, memory.key());
    const start = `SharedMemory.${operation} (${JSON.stringify(memory.key())}): `;
    assert.ok(error.message.startsWith(start), error.message);
    assert.match(error.message.slice(start.length), text);
    return true;
  };
}

const HELD = /^this object holds the lock already, and it is not recursive$/;
const OTHER = /^another object of this thread holds the lock/;

describe("withLock()", () => {
  leaveNothingBehind();

  test("holds the lock while fn runs, and returns what that returns", () => {
    using memory = created();
    const key = memory.key()!;
    const value = { thenable: false };
    assert.equal(
      memory.withLock(() => {
        assert.equal(semaphoreValue(key), 0);
        return value;
      }),
      value,
    );
    assert.equal(semaphoreValue(key), 1);
    assert.equal(memory.withLock(() => {}), undefined);
    assert.equal(memory.withLock(() => null), null);
    assert.equal(memory.unlock(), false);
  });

  test("unlocks if fn throws, and throws the same", () => {
    using memory = created();
    const error = new Error("mine");
    const act = () => {
      throw error;
    };
    assert.throws(() => memory.withLock(act), (thrown) => thrown === error);
    assert.equal(semaphoreValue(memory.key()!), 1);
  });

  test("refuses a promise, and unlocks", () => {
    using memory = created();
    const thenable = { then() {} };
    for (const promise of [Promise.resolve(1), thenable]) {
      assert.throws(() => memory.withLock(() => promise), {
        name: "TypeError",
        message: /^SharedMemory\.withLock: fn returned a promise, .* use withLockAsync\(\)$/,
      });
      assert.equal(semaphoreValue(memory.key()!), 1);
    }
  });

  test("refuses to be nested, and leaves the outer lock held", () => {
    using memory = created();
    using other = attached(memory.key()!);
    const outer = memory.withLock(() => {
      assert.throws(() => memory.withLock(() => {}), lockError("withLock", memory, HELD));
      assert.throws(() => other.withLock(() => {}), lockError("withLock", other, OTHER));
      assert.equal(semaphoreValue(memory.key()!), 0);
      return "outer";
    });
    assert.equal(outer, "outer");
    assert.equal(semaphoreValue(memory.key()!), 1);
  });

  test("leaves a lock alone that fn has unlocked, or unlocked and taken again", () => {
    using memory = created();
    using other = attached(memory.key()!);
    memory.withLock(() => {
      assert.equal(memory.unlock(), true);
      assert.equal(other.lock(), true, other.errorString());
    });
    assert.equal(semaphoreValue(memory.key()!), 0);
    assert.equal(other.unlock(), true, other.errorString());
    memory.withLock(() => assert.equal(memory.unlock() && memory.lock(), true));
    assert.equal(semaphoreValue(memory.key()!), 0);
    assert.equal(memory.unlock(), true, memory.errorString());
  });

  test("bears fn to detach, to attach again, and to set another key", () => {
    using memory = created();
    using other = attached(memory.key()!);
    memory.withLock(() => assert.equal(memory.detach(), true));
    assert.equal(other.withLock(() => 1), 1);
    assert.equal(memory.attach(), true, memory.errorString());
    memory.withLock(() => {
      memory.setKey(uniqueKey());
      assert.equal(memory.create(64) && memory.lock(), true, memory.errorString());
    });
    assert.equal(semaphoreValue(memory.key()!), 0); // its own lock, not withLock's
    assert.equal(memory.unlock(), true, memory.errorString());
    assert.equal(other.withLock(() => 2), 2);
  });

  test("fails without a segment", () => {
    const memory = new SharedMemory(uniqueKey());
    const never = () => assert.fail("fn was called");
    assert.throws(
      () => memory.withLock(never),
      lockError("withLock", memory, /^this object is not/),
    );
  });

  for (const peer of peers) {
    test(`waits for the lock of ${peer.name}`, peer.options, async () => {
      using memory = created();
      const key = memory.key()!;
      const holder = await startHolder(peer, key);
      const waiter = await startAttached(ownPeer, key);
      const counted = waiter.run("return objects.m.withLock(() => ++objects.m.data()[0]);");
      await untilBlocked(key);
      await expectTrue(holder, "unlock");
      assert.equal(await counted, 1);
      assert.equal(semaphoreValue(key), 1);
      assert.equal(await waiter.end(), 0);
      assert.equal(await holder.end(), 0);
    });
  }
});

describe("withLockAsync()", () => {
  leaveNothingBehind();

  test("holds the lock until fn's promise is settled, and returns its value", async () => {
    using memory = created();
    const key = memory.key()!;
    const value = await memory.withLockAsync(async () => {
      assert.equal(semaphoreValue(key), 0);
      await new Promise((resolve) => setTimeout(resolve, 1));
      assert.equal(semaphoreValue(key), 0);
      return 7;
    });
    assert.equal(value, 7);
    assert.equal(await memory.withLockAsync(() => 8), 8);
    assert.equal(semaphoreValue(key), 1);
  });

  test("unlocks if fn throws or rejects, and rejects with the same", async () => {
    using memory = created();
    const error = new Error("mine");
    const throws = () => {
      throw error;
    };
    for (const act of [throws, () => Promise.reject(error)]) {
      await assert.rejects(memory.withLockAsync(act), (thrown) => thrown === error);
      assert.equal(semaphoreValue(memory.key()!), 1);
    }
  });

  test(
    "runs concurrent calls of one and of several objects one after the other",
    slow,
    async () => {
      using memory = created();
      using other = attached(memory.key()!);
      const count = memory.view(Int32Array, 0, 1);
      const order: number[] = [];
      const calls = Array.from(
        { length: 60 },
        (_, i) =>
          (i % 3 === 0 ? other : memory).withLockAsync(async () => {
            const before = count[0]!;
            await new Promise((resolve) => setTimeout(resolve, i % 2));
            count[0] = before + 1;
            order.push(i);
          }),
      );
      await Promise.all(calls);
      assert.equal(count[0], 60);
      assert.deepEqual(
        order,
        order.toSorted((a, b) => a - b),
      );
      assert.equal(semaphoreValue(memory.key()!), 1);
    },
  );

  test("leaves a lock alone that fn has unlocked, and that the next call has now", async () => {
    using memory = created();
    const key = memory.key()!;
    let finishFirst = () => {};
    let finishSecond = () => {};
    const first = memory.withLockAsync(() => {
      assert.equal(memory.unlock(), true);
      return new Promise<void>((resolve) => finishFirst = resolve);
    });
    await new Promise<void>((started) => {
      void memory.withLockAsync(() => {
        started();
        return new Promise<void>((resolve) => finishSecond = resolve);
      });
    });
    finishFirst();
    await first;
    assert.equal(semaphoreValue(key), 0);
    finishSecond();
    assert.equal(await memory.lockAsync(), true);
  });

  test("rejects without calling fn if the lock cannot be had", async () => {
    using memory = created();
    using other = attached(memory.key()!);
    const never = () => assert.fail("fn was called");
    assert.equal(other.lock(), true);
    const TIMED_OUT = /^timed out after 20 ms: this process holds the lock$/;
    await assert.rejects(
      memory.withLockAsync(never, { timeout: 20 }),
      lockError("withLockAsync", memory, TIMED_OUT),
    );
    const reason = { mine: true };
    await assert.rejects(
      memory.withLockAsync(never, { signal: AbortSignal.abort(reason) }),
      (thrown) => thrown === reason,
    );
    const detached = new SharedMemory(uniqueKey());
    await assert.rejects(
      detached.withLockAsync(never),
      lockError("withLockAsync", detached, /^this object is not attached/),
    );
  });

  test("bears fn to detach", async () => {
    using memory = created();
    using other = attached(memory.key()!);
    await memory.withLockAsync(() => assert.equal(memory.detach(), true));
    assert.equal(other.lock(), true, other.errorString());
  });
});

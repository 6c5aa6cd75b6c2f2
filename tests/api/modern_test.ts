/** What the classes have beside Qt's methods: getters, locks and permits that are disposed, options for every wait. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import {
  SharedMemory,
  SharedMemoryException,
  SystemSemaphore,
  SystemSemaphoreMode,
} from "../../mod.ts";
import { keyOf, keyTypes, semaphoreKeyOf } from "../support/key_types.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";

/** Options with a signal that is aborted already. */
const aborted = () => ({ signal: AbortSignal.abort(new Error("too late")) });

function thrown(act: () => unknown): SharedMemoryException {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof SharedMemoryException, String(error));
    return error;
  }
  assert.fail("nothing was thrown");
}

describe("SharedMemory", () => {
  leaveNothingBehind();

  test("has its state as getters", () => {
    using memory = new SharedMemory(uniqueKey());
    assert.deepEqual([memory.attached, memory.byteLength], [false, 0]);
    const { reason, message } = thrown(() => memory.bytes);
    assert.equal(reason, "NotAttached");
    assert.match(message, /^SharedMemory\.bytes \("/);
    assert.equal(memory.create(64), true, memory.errorString());
    assert.deepEqual([memory.attached, memory.byteLength], [true, memory.size()]);
    assert.equal(memory.bytes, memory.data());
    memory.bytes[0] = 7;
    assert.equal(memory.view(Uint8Array)[0], 7);
    const { bytes } = memory;
    memory.detach();
    assert.deepEqual([memory.attached, memory.byteLength, bytes.length], [false, 0, 0]);
    assert.equal(thrown(() => memory.bytes).reason, "NotAttached");
  });

  for (const keyType of keyTypes) {
    test(`acquires its lock until the end of a block: ${keyType.name}`, async () => {
      const key = keyOf(keyType);
      using memory = SharedMemory.open(key, { size: 16 });
      using other = SharedMemory.open(key);
      {
        using _lock = memory.acquireLock();
        assert.equal(other.tryLock(), false);
        assert.equal(thrown(() => other.acquireLock({ timeout: 20 })).reason, "Timeout");
        await assert.rejects(other.acquireLockAsync({ timeout: 20 }), { reason: "Timeout" });
        assert.equal(thrown(() => memory.acquireLock()).reason, "AlreadyHeld");
      }
      // The wait that was given up may have acquired the lock, and then releases it on its own thread.
      assert.equal(other.tryLock(10_000) && other.unlock(), true);
      {
        using _lock = await memory.acquireLockAsync({ timeout: 10_000 });
        assert.equal(other.tryLock({ timeout: 20 }), false);
        assert.equal(other.errorReason(), "Timeout");
      }
      assert.throws(() => {
        using _lock = memory.acquireLock();
        throw new Error("within");
      }, /^Error: within$/);
      assert.equal(other.tryLock() && other.unlock(), true);
    });
  }

  test("releases with a lock only what was acquired with it", () => {
    using memory = SharedMemory.open(uniqueKey(), { size: 16 });
    const first = memory.acquireLock();
    assert.equal(memory.unlock(), true);
    using _second = memory.acquireLock();
    first[Symbol.dispose](); // the second one's
    assert.equal(memory.tryLock(), false);
    assert.equal(memory.errorReason(), "AlreadyHeld");
  });

  test("releases nothing with a lock after detach()", () => {
    const key = uniqueKey();
    using memory = SharedMemory.open(key, { size: 16 });
    using other = SharedMemory.open(key);
    const lock = memory.acquireLock();
    memory.detach();
    assert.equal(other.lock(), true);
    lock[Symbol.dispose]();
    using third = SharedMemory.open(key);
    assert.equal(third.tryLock(), false);
    assert.equal(other.unlock(), true);
  });

  test("waits no longer than the options of any wait say", async () => {
    const key = uniqueKey();
    using holder = SharedMemory.open(key, { size: 16 });
    using memory = SharedMemory.open(key);
    using _lock = holder.acquireLock();
    assert.equal(memory.tryLock({}), false);
    assert.equal(thrown(() => memory.withLock(() => 1, { timeout: 10 })).reason, "Timeout");
    for (
      const call of [
        () => memory.tryLock(aborted()),
        () => memory.acquireLock(aborted()),
        () => memory.withLock(() => 1, aborted()),
      ]
    ) assert.throws(call, /^Error: too late$/);
    await assert.rejects(memory.acquireLockAsync(aborted()), /^Error: too late$/);
    const controller = new AbortController();
    const waiting = memory.acquireLockAsync({ signal: controller.signal });
    controller.abort(new Error("given up"));
    await assert.rejects(waiting, /^Error: given up$/);
    for (const timeout of [-1, NaN, "1", null]) {
      const options = { timeout } as { timeout: number };
      const expected = typeof timeout === "number" ? RangeError : TypeError;
      assert.throws(() => memory.tryLock(options), expected);
      assert.throws(() => memory.acquireLock(options), expected);
      assert.throws(() => memory.withLock(() => 1, options), expected);
      await assert.rejects(memory.acquireLockAsync(options), expected);
    }
    assert.throws(() => memory.tryLock(null as unknown as number), TypeError);
  });

  test("has no lock to acquire that it is not attached to", async () => {
    const memory = new SharedMemory(uniqueKey());
    assert.equal(thrown(() => memory.acquireLock()).reason, "NotAttached");
    await assert.rejects(memory.acquireLockAsync(), { reason: "NotAttached" });
  });
});

describe("SystemSemaphore", () => {
  leaveNothingBehind();

  test("does not hide what a function has thrown, also if its permit cannot be released", async () => {
    using slots = SystemSemaphore.open(uniqueKey(), { initialValue: 1 });
    const error = new Error("mine");
    const fail = () => {
      while (slots.tryAcquire());
      slots.release(32_767); // one more would be too many where the largest value is this one
      throw error;
    };
    assert.throws(() => slots.withPermit(fail), error);
    // deno-lint-ignore require-await -- what it throws is to reject the promise
    await assert.rejects(slots.withPermitAsync(async () => fail()), error);
  });

  for (const keyType of keyTypes) {
    test(`is opened, and lends its permits to functions: ${keyType.name}`, async () => {
      const key = semaphoreKeyOf(keyType);
      using slots = SystemSemaphore.open(key, { initialValue: 2 });
      using other = SystemSemaphore.open(key);
      const inner = slots.withPermit(() => other.withPermit(() => slots.tryAcquire()));
      assert.equal(inner, false);
      assert.throws(() => slots.withPermit(() => assert.fail("within")), /within/);
      await assert.rejects(
        slots.withPermitAsync(() => Promise.reject(new Error("later"))),
        /later/,
      );
      assert.equal(await slots.withPermitAsync(async () => await 5), 5);
      assert.throws(() => slots.withPermit(() => Promise.resolve()), TypeError);
      assert.equal(slots.acquire() && slots.acquire(), true); // none was lost, none was added
      assert.equal(other.tryAcquire({ timeout: 10 }), false);
      assert.equal(thrown(() => other.withPermit(() => 1, { timeout: 10 })).reason, "Timeout");
      await assert.rejects(other.withPermitAsync(() => 1, { timeout: 10 }), { reason: "Timeout" });
      await assert.rejects(other.withPermitAsync(() => 1, aborted()), /too late/);
      assert.throws(() => other.withPermit(() => 1, aborted()), /too late/);
      assert.throws(() => other.tryAcquire(aborted()), /too late/);
      assert.equal(slots.release(2), true);
    });
  }

  test("sets the value of one that exists with Create, and throws what it cannot open", () => {
    const key = uniqueKey();
    using first = SystemSemaphore.open(key, { initialValue: 1 });
    using second = SystemSemaphore.open(key, { initialValue: 3, mode: SystemSemaphoreMode.Create });
    const taken = [1, 2, 3, 4].filter(() => first.tryAcquire()).length;
    assert.equal(taken, process.platform === "win32" ? 1 : 3); // Windows cannot set a value
    assert.equal(first.release(taken), true);
    void second;
    const { reason, message } = thrown(() => SystemSemaphore.open(""));
    assert.equal(reason, "KeyError");
    assert.match(message, /^SystemSemaphore\.open \(/);
    assert.throws(() => SystemSemaphore.open(key, { initialValue: -1 }), RangeError);
    assert.throws(() => SystemSemaphore.open(5 as unknown as string), TypeError);
  });
});

/** Waits of the primitives whose timeout and signal are options. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import { Event, Mutex } from "../../sync/mod.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";

const aborted = { signal: AbortSignal.abort(new Error("too late")) };

describe("the options of a wait that blocks", () => {
  leaveNothingBehind();

  test("limit how long a mutex is waited for", () => {
    using memory = SharedMemory.open(uniqueKey(), { size: Mutex.BYTES });
    const mutex = Mutex.create(memory.bytes);
    const other = Mutex.at(memory.bytes);
    mutex.lock();
    assert.equal(other.tryLock({ timeout: 5 }), false);
    assert.equal(other.tryLock({}), false);
    mutex.unlock();
    assert.equal(other.tryLock({ timeout: 5 }), true);
    other.unlock();
    assert.equal(other.withLock(() => 5, { timeout: 5 }), 5);
    assert.throws(() => other.tryLock(aborted), /^Error: too late$/);
    assert.throws(() => other.withLock(() => 5, aborted), /^Error: too late$/);
    assert.throws(() => other.tryLock({ timeout: -1 }), RangeError);
    assert.throws(() => other.withLock(() => 5, { timeout: NaN }), RangeError);
    assert.equal(mutex.tryLock(), true); // nothing is left locked
    mutex.unlock();
  });

  test("limit how long an event is waited for, from a notification on", () => {
    using memory = SharedMemory.open(uniqueKey(), { size: Event.BYTES });
    const event = Event.create(memory.bytes);
    const since = event.sequence;
    assert.equal(event.wait({ timeout: 5, since }), false);
    event.notify();
    assert.equal(event.wait({ timeout: 5, since }), true);
    assert.equal(event.wait({ timeout: 5 }), false);
    assert.equal(event.waitUntil(() => false, { timeout: 5 }), false);
    assert.equal(event.waitUntil(() => true, {}), true);
    assert.throws(() => event.wait(aborted), /^Error: too late$/);
    assert.throws(() => event.waitUntil(() => false, aborted), /^Error: too late$/);
    assert.throws(() => event.wait({ timeout: -1 }), RangeError);
  });
});

describe("the options of a wait that does not block", () => {
  leaveNothingBehind();

  test("are refused if they are no object, or if the signal is none", async () => {
    const size = Mutex.BYTES + Event.BYTES;
    using memory = SharedMemory.open(uniqueKey(), { size });
    const mutex = Mutex.create(memory.bytes);
    const event = Event.create(memory.bytes, Mutex.BYTES);
    for (const options of [5, "5", null, true] as unknown[] as [{ timeout: number }]) {
      const isRefused = (error: unknown) => {
        assert.ok(error instanceof TypeError, String(error));
        assert.match(error.message, /Async: the options must be an object, .* not (5|null|true)$/);
        return true;
      };
      await assert.rejects(event.waitAsync(options), isRefused);
      await assert.rejects(mutex.lockAsync(options), isRefused);
      await assert.rejects(mutex.withLockAsync(() => 5, options), isRefused);
      await assert.rejects(memory.lockAsync(options), isRefused);
    }
    const array = [5] as unknown as { timeout: number };
    const blocking = [
      () => mutex.tryLock(array),
      () => mutex.withLock(() => 5, array),
      () => memory.withLock(() => 5, array),
      () => event.wait(array),
      () => event.waitUntil(() => true, array),
    ];
    for (const call of blocking) {
      assert.throws(call, { name: "TypeError", message: /: the options must be .* not an array$/ });
    }
    for (const signal of [5, null, {}, new AbortController()] as unknown[] as [AbortSignal]) {
      const isRefused = (error: unknown) => {
        assert.ok(error instanceof TypeError, String(error));
        assert.match(error.message, /: signal must be an AbortSignal, not (number|null|object)$/);
        return true;
      };
      await assert.rejects(event.waitAsync({ signal }), isRefused);
      await assert.rejects(mutex.lockAsync({ signal }), isRefused);
      await assert.rejects(memory.withLockAsync(() => 5, { signal }), isRefused);
      assert.throws(() => mutex.tryLock({ signal }), isRefused);
      assert.throws(() => event.wait({ signal }), isRefused);
    }
    assert.equal(mutex.tryLock(), true); // nothing is left locked
    mutex.unlock();
  });
});

/** Why something failed, in words that a program can act on; Qt's numbers stay as they are. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { codeOf, type ErrorReason, REASONS, semaphoreErrorOf } from "../../errors.ts";
import {
  IpcError,
  SharedMemory,
  SharedMemoryError,
  SharedMemoryException,
  SystemSemaphore,
  SystemSemaphoreError,
  UnsupportedError,
} from "../../mod.ts";
import * as sync from "../../sync/mod.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";

describe("the reason of an error", () => {
  leaveNothingBehind();

  const failed = (
    object: SharedMemory,
    result: boolean,
    error: keyof typeof SharedMemoryError,
    reason: ErrorReason,
  ) => {
    assert.deepEqual(
      [result, object.error(), object.errorReason()],
      [false, SharedMemoryError[error], reason],
    );
  };

  test("tells a timeout from a mistake, of lock() and what is like it", async () => {
    const key = uniqueKey();
    using memory = new SharedMemory(key);
    failed(memory, memory.lock(), "LockError", "NotAttached");
    failed(memory, memory.detach(), "NotFound", "NotAttached");
    failed(memory, memory.attach(), "NotFound", "NotFound");
    failed(memory, memory.create(0), "InvalidSize", "InvalidSize");
    assert.equal(memory.create(10), true, memory.errorString());
    assert.equal(memory.errorReason(), null);
    failed(memory, memory.unlock(), "LockError", "NotOwner");
    failed(memory, memory.create(10), "AlreadyExists", "AlreadyAttached");
    using other = SharedMemory.open(key);
    assert.equal(memory.lock(), true);
    failed(other, other.tryLock(1), "LockError", "Timeout");
    failed(other, await other.lockAsync({ timeout: 1 }), "LockError", "Timeout");
    failed(other, other.lock(), "LockError", "Deadlock");
    failed(memory, memory.tryLock(), "LockError", "AlreadyHeld");
    failed(other, other.tryLock(), "LockError", "Timeout");
    assert.throws(() => memory.withLock(() => {}), { reason: "AlreadyHeld", code: "LockError" });
    await assert.rejects(other.withLockAsync(() => {}, { timeout: 1 }), {
      name: "SharedMemoryException",
      reason: "Timeout",
      code: "LockError",
      error: SharedMemoryError.LockError,
    });
    assert.throws(() => SharedMemory.open(uniqueKey()), { reason: "NotFound", code: "NotFound" });
    assert.throws(() => SharedMemory.open(key, { size: 10, disposition: "create" }), {
      reason: "AlreadyExists",
    });
    using twin = new SharedMemory(key);
    failed(twin, twin.create(10), "AlreadyExists", "AlreadyExists");
    const waiting = other.lockAsync();
    assert.equal(other.detach(), true);
    failed(other, await waiting, "LockError", "NotAttached");
    using none = new SharedMemory();
    failed(none, none.create(1), "KeyError", "KeyError");
    const withoutLock = new SharedMemory();
    withoutLock.setNativeKey(memory.nativeKey());
    assert.equal(withoutLock.attach(), true, withoutLock.errorString());
    failed(withoutLock, withoutLock.lock(), "LockError", "NoLock");
    withoutLock.detach();
  });

  test("is a timeout of a semaphore without a free permit, by Qt's number of an unknown error", async () => {
    using semaphore = new SystemSemaphore(uniqueKey(), 0);
    assert.equal(semaphore.errorReason(), null);
    for (const ms of [0, 5]) {
      assert.equal(semaphore.tryAcquire(ms), false);
      assert.equal(semaphore.error(), SystemSemaphoreError.UnknownError);
      assert.equal(semaphore.errorReason(), "Timeout");
    }
    assert.equal(semaphore.release(), true);
    assert.equal(semaphore.errorReason(), null);
    const waiting = new SystemSemaphore(semaphore.key(), 0);
    assert.equal(semaphore.acquire(), true);
    const acquired = waiting.acquireAsync();
    waiting[Symbol.dispose]();
    assert.equal(await acquired, false);
    assert.deepEqual(
      [waiting.error(), waiting.errorReason()],
      [SystemSemaphoreError.UnknownError, "Closed"],
    );
    const none = new SystemSemaphore();
    assert.equal(none.acquire(), false);
    assert.equal(none.errorReason(), "KeyError");
  });

  test("is what all errors of the package have, with one base class", () => {
    assert.equal(sync.IpcError, IpcError);
    const errors = [
      new SharedMemoryException("Deadlock", "text"),
      new sync.SyncError("Deadlock", "text"),
      new UnsupportedError("text"),
    ];
    for (const error of errors) assert.ok(error instanceof IpcError && error instanceof Error);
    assert.deepEqual(errors.map(({ reason }) => reason), ["Deadlock", "Deadlock", "Unsupported"]);
    assert.throws(
      () => sync.Counter.at(new Uint8Array(64)),
      (error) => error instanceof IpcError && error.reason === "NotAttached",
    );
  });

  test("has Qt's numbers that the table in docs/qt.md says, for every reason", () => {
    const page = readFileSync(new URL("../../docs/qt.md", import.meta.url), "utf8");
    const rows = [...page.matchAll(/^\| `(\w+)` +\| `(\w+)` (\d) +\| (?:`(\w+)` (\d))? +\|/gm)];
    assert.deepEqual(rows.map(([, reason]) => reason).sort(), [...REASONS].sort());
    for (const [row, reason, code, number, semaphoreCode, semaphoreNumber] of rows) {
      const expected = codeOf(reason as ErrorReason);
      assert.deepEqual([code, Number(number)], [expected, SharedMemoryError[expected]], row);
      if (semaphoreCode === undefined) continue;
      const known = SystemSemaphoreError[semaphoreCode as keyof typeof SystemSemaphoreError];
      assert.deepEqual(
        [known, Number(semaphoreNumber)],
        Array(2).fill(semaphoreErrorOf(expected)),
        row,
      );
    }
  });

  test("has the same error of Qt in the reference, for every reason", () => {
    const source = readFileSync(new URL("../../errors.ts", import.meta.url), "utf8");
    const texts = [...source.matchAll(/^ +\/\*\* .*`(\w+)`[.,;].*\*\/\n +\| "(\w+)"/gm)];
    assert.deepEqual(texts.map(([, , reason]) => reason).sort(), [...REASONS].sort());
    for (const [text, , reason] of texts) {
      assert.ok(text.includes(` \`${codeOf(reason as ErrorReason)}\``), text);
    }
  });
});

/** Why something failed, in words that a program can act on; Qt's numbers stay as they are. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { codeOf, type ErrorReason } from "../errors.ts";
import {
  IpcError,
  SharedMemory,
  SharedMemoryError,
  SharedMemoryException,
  SystemSemaphore,
  SystemSemaphoreError,
  UnsupportedError,
} from "../mod.ts";
import * as sync from "../sync/mod.ts";
import { leaveNothingBehind, uniqueKey } from "./support.ts";

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
    failed(memory, memory.create(10), "AlreadyExists", "AlreadyExists");
    using other = SharedMemory.open(key);
    assert.equal(memory.lock(), true);
    failed(other, other.tryLock(1), "LockError", "Timeout");
    failed(other, await other.lockAsync({ timeout: 1 }), "LockError", "Timeout");
    failed(other, other.lock(), "LockError", "Deadlock");
    failed(memory, memory.tryLock(), "LockError", "AlreadyHeld");
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
    using none = new SharedMemory();
    failed(none, none.create(1), "KeyError", "KeyError");
    const withoutLock = new SharedMemory();
    withoutLock.setNativeKey(memory.nativeKey());
    assert.equal(withoutLock.attach(), true, withoutLock.errorString());
    failed(withoutLock, withoutLock.lock(), "LockError", "NoLock");
    withoutLock.detach();
  });

  test("is a timeout of a semaphore without a free permit, by Qt's number of an unknown error", () => {
    using semaphore = new SystemSemaphore(uniqueKey(), 0);
    assert.equal(semaphore.errorReason(), null);
    for (const ms of [0, 5]) {
      assert.equal(semaphore.tryAcquire(ms), false);
      assert.equal(semaphore.error(), SystemSemaphoreError.UnknownError);
      assert.equal(semaphore.errorReason(), "Timeout");
    }
    assert.equal(semaphore.release(), true);
    assert.equal(semaphore.errorReason(), null);
    const none = new SystemSemaphore();
    assert.equal(none.acquire(), false);
    assert.equal(none.errorReason(), "KeyError");
  });

  test("is what all errors of the package have, with one base class", () => {
    assert.equal(sync.IpcError, IpcError);
    const errors = [
      new SharedMemoryException("LockError", "text", { reason: "Deadlock" }),
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

  test("and Qt's numbers are those of the table in docs/qt.md", () => {
    const page = readFileSync(new URL("../docs/qt.md", import.meta.url), "utf8");
    const rows = [...page.matchAll(/^\| `(\w+)` +\| `(\w+)` (\d)[^|]*\| (?:`(\w+)` (\d))?/gm)];
    const reasons = rows.map(([, reason, code, number, semaphore, other]) => {
      assert.equal(codeOf(reason as ErrorReason), code);
      assert.equal(SharedMemoryError[code as keyof typeof SharedMemoryError], Number(number));
      if (semaphore !== undefined) {
        const known = SystemSemaphoreError[semaphore as keyof typeof SystemSemaphoreError];
        assert.equal(known, Number(other), reason);
        const expected = code! in SystemSemaphoreError && code !== "LockError"
          ? code
          : "UnknownError";
        assert.equal(semaphore, expected, reason);
      }
      return reason;
    });
    assert.equal(reasons.length, 16, `${reasons}`);
  });
});

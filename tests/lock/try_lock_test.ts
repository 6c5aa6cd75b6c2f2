/** Locks and semaphores that are tried, or waited for up to a time, by blocking the thread. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory, SystemSemaphore, SystemSemaphoreError } from "../../mod.ts";
import {
  assertLockError,
  attached,
  badTimeouts,
  created,
  ownPeer,
  peers,
  pidOf,
  startAttached,
  startHolder,
} from "../support/peers.ts";
import { expectTrue } from "../support/qt_pairs.ts";
import {
  capabilities,
  DEADLINE_MS,
  leaveNothingBehind,
  runtimes,
  segmentFile,
  semaphoreValue,
  slow,
  startAgent,
  uniqueKey,
  untilBlocked,
} from "../support/support.ts";

describe("tryLock()", () => {
  leaveNothingBehind();

  for (const peer of peers) {
    test(
      `fails while ${peer.name} holds the lock, and names that process if it is known`,
      peer.options,
      async () => {
        using memory = created();
        const holder = await startHolder(peer, memory.key()!);
        const pid = await pidOf(holder);
        for (const ms of [undefined, 0, 30, 1.5]) {
          const start = performance.now();
          assert.equal(memory.tryLock(ms), false);
          assert.ok(performance.now() - start >= (ms ?? 0) - 1, `${ms} ms`);
          const who = capabilities.namesHolder
            ? `process ${pid} holds the lock`
            : "the lock is held by another process or thread";
          assertLockError(memory, "tryLock", `timed out after ${ms ?? 0} ms: ${who}`);
        }
        await expectTrue(holder, "unlock");
        assert.equal(memory.tryLock(), true, memory.errorString());
        assert.deepEqual([memory.error(), memory.errorString()], [0, ""]);
        assert.equal(semaphoreValue(memory.key()!), 0);
        assert.equal(memory.unlock(), true, memory.errorString());
        assert.equal(semaphoreValue(memory.key()!), 1);
        assert.equal(await holder.end(), 0);
      },
    );

    test(`gets the lock that ${peer.name} unlocks within the time`, peer.options, async () => {
      using memory = created();
      const key = memory.key()!;
      const holder = await startHolder(peer, key);
      const waiter = await startAttached(ownPeer, key);
      for (const ms of [DEADLINE_MS, "Infinity"]) {
        const locked = waiter.run(`return objects.m.tryLock(${ms});`);
        await untilBlocked(key);
        await expectTrue(holder, "unlock");
        assert.equal(await locked, true);
        const lockedAgain = holder.call("m", "lock");
        await untilBlocked(key);
        await expectTrue(waiter, "unlock");
        assert.equal(await lockedAgain, true);
      }
      assert.equal(await waiter.end(), 0);
      assert.equal(await holder.end(), 0);
    });

    test(`gets the lock of ${peer.name} that is killed`, peer.options, async () => {
      using memory = created();
      const key = memory.key()!;
      const holder = await startHolder(peer, key);
      const waiter = await startAttached(ownPeer, key);
      const locked = waiter.call("m", "tryLock", DEADLINE_MS);
      await untilBlocked(key);
      await holder.kill();
      assert.equal(await locked, true);
      assert.equal(await waiter.end(), 0);
    });
  }

  test("fails if another object of this thread holds the lock, and names this process", () => {
    using memory = created();
    using other = attached(memory.key()!);
    assert.equal(other.tryLock(), true, other.errorString());
    assert.equal(memory.tryLock(20), false);
    assertLockError(memory, "tryLock", "timed out after 20 ms: this process holds the lock");
    assert.equal(other.unlock(), true);
    assert.equal(memory.tryLock(20), true, memory.errorString());
  });

  test("refuses what is no number of ms, and takes nothing", () => {
    using memory = created();
    for (const [bad, Kind] of badTimeouts) {
      assert.throws(() => memory.tryLock(bad as number), (error) => {
        assert.ok(error instanceof Kind, String(error));
        assert.match(error.message, /^SharedMemory\.tryLock: the timeout must be /);
        return true;
      });
    }
    assert.equal(semaphoreValue(memory.key()!), 1);
  });

  test("fails without a segment or without a lock", () => {
    const detached = new SharedMemory(uniqueKey());
    assert.equal(detached.tryLock(), false);
    assertLockError(
      detached,
      "tryLock",
      "this object is not attached; create() or attach() first",
    );
    using memory = created();
    using native = new SharedMemory();
    native.setNativeKey(segmentFile(memory.key()!));
    assert.equal(native.attach(), true, native.errorString());
    assert.equal(native.tryLock(), false);
    assert.match(
      native.errorString(),
      /: a native key that is a string has no lock; use setKey\(\) or a NativeIpcKey to have one$/,
    );
  });
});

describe("tryAcquire()", () => {
  leaveNothingBehind();

  for (const runtime of runtimes) {
    test(`takes what ${runtime.name} releases, and fails while there is none`, slow, async () => {
      const key = uniqueKey();
      using semaphore = new SystemSemaphore(key, 1);
      const agent = startAgent(runtime);
      await agent.request("semaphore", "s", key, 0);
      assert.equal(await agent.call("s", "tryAcquire"), true);
      for (const ms of [undefined, 0, 30]) {
        const start = performance.now();
        assert.equal(semaphore.tryAcquire(ms), false);
        assert.ok(performance.now() - start >= (ms ?? 0) - 1, `${ms} ms`);
        assert.equal(semaphore.error(), SystemSemaphoreError.UnknownError);
        assert.equal(
          semaphore.errorString(),
          `SystemSemaphore.tryAcquire (${JSON.stringify(key)}): ` +
            `timed out after ${ms ?? 0} ms: the value is 0`,
        );
      }
      assert.equal(await agent.call("s", "release", 3), true);
      for (const ms of [undefined, 30, Infinity]) {
        assert.equal(semaphore.tryAcquire(ms), true, semaphore.errorString());
        assert.equal(semaphore.error(), SystemSemaphoreError.NoError);
      }
      const acquired = agent.run("return objects.s.tryAcquire(Infinity);");
      await untilBlocked(key);
      assert.equal(semaphore.release(), true, semaphore.errorString());
      assert.equal(await acquired, true);
      assert.equal(await agent.end(), 0);
    });
  }

  test("refuses what is no number of ms, and takes nothing", () => {
    const key = uniqueKey();
    using semaphore = new SystemSemaphore(key, 1);
    for (const [bad, Kind] of badTimeouts) {
      assert.throws(() => semaphore.tryAcquire(bad as number), Kind);
    }
    assert.equal(semaphoreValue(key), 1);
  });
});

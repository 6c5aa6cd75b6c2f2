/** `lockAsync()` and who lets it have the lock, or why it never gets it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import {
  assertLockError,
  badTimeouts,
  created,
  ownPeer,
  peers,
  pidOf,
  served,
  startHolder,
} from "../support/peers.ts";
import { expectTrue } from "../support/qt_pairs.ts";
import {
  capabilities,
  leaveNothingBehind,
  runtimes,
  segmentFile,
  semaphoreValue,
  slow,
  startAgent,
  uniqueKey,
  untilBlocked,
} from "../support/support.ts";

describe("lockAsync()", () => {
  leaveNothingBehind();

  for (const peer of peers) {
    test(`gets the lock that ${peer.name} unlocks, and excludes it`, peer.options, async () => {
      using memory = created();
      const key = memory.key()!;
      const holder = await startHolder(peer, key);
      for (let round = 0; round < 5; round++) {
        let got = false;
        const locked = memory.lockAsync().then((result) => got = result);
        await untilBlocked(key);
        assert.equal(got, false);
        await expectTrue(holder, "unlock");
        assert.equal(await served(locked), true, memory.errorString());
        assert.deepEqual([memory.error(), memory.errorString()], [0, ""]);
        const lockedAgain = holder.call("m", "lock");
        await untilBlocked(key);
        assert.equal(memory.unlock(), true, memory.errorString());
        assert.equal(await lockedAgain, true);
      }
      assert.equal(await holder.end(), 0);
      assert.equal(memory.tryLock(), true, memory.errorString());
    });

    test(`gets the lock of ${peer.name} that is killed`, peer.options, async () => {
      using memory = created();
      const key = memory.key()!;
      const holder = await startHolder(peer, key);
      const locked = memory.lockAsync();
      await untilBlocked(key);
      await holder.kill();
      assert.equal(await served(locked), true, memory.errorString());
      assert.equal(memory.unlock(), true, memory.errorString());
      assert.equal(semaphoreValue(key), 1);
    });

    test(`times out while ${peer.name} holds the lock`, peer.options, async () => {
      using memory = created();
      const holder = await startHolder(peer, memory.key()!);
      const pid = await pidOf(holder);
      for (const timeout of [0, 1, 30, 450]) {
        const start = performance.now();
        assert.equal(await memory.lockAsync({ timeout }), false);
        assert.ok(performance.now() - start >= timeout - 2, `${timeout} ms`);
        const who = capabilities.namesHolder
          ? `process ${pid} holds the lock`
          : "the lock is held by another process or thread";
        assertLockError(memory, "lockAsync", `timed out after ${timeout} ms: ${who}`);
      }
      await expectTrue(holder, "unlock");
      assert.equal(await served(memory.lockAsync({ timeout: 1000 })), true, memory.errorString());
      assert.equal(memory.unlock(), true); // Qt waits for it to detach
      assert.equal(await holder.end(), 0);
    });
  }

  for (const runtime of runtimes) {
    test(`in ${runtime.name} gets the lock that this process unlocks`, slow, async () => {
      using memory = created();
      const key = memory.key()!;
      const agent = startAgent(runtime);
      await agent.request("memory", "m", key);
      await expectTrue(agent, "attach");
      for (let round = 0; round < 5; round++) {
        assert.equal(memory.lock(), true, memory.errorString());
        const locked = agent.call("m", "lockAsync");
        await untilBlocked(key);
        assert.equal(memory.unlock(), true);
        assert.equal(await locked, true);
        await expectTrue(agent, "unlock");
      }
      assert.equal(await agent.end(), 0);
    });
  }

  test("takes a free lock in the same turn of the event loop", async () => {
    using memory = created();
    const locked = memory.lockAsync();
    assert.equal(semaphoreValue(memory.key()!), 0);
    assert.equal(await locked, true);
    assert.equal(memory.unlock(), true);
    for (const timeout of [0, Infinity, 2 ** 31, Number.MAX_VALUE]) {
      assert.equal(await memory.lockAsync({ timeout }), true);
      assert.equal(memory.unlock(), true);
    }
  });

  test("waits longer than the longest timer", slow, async () => {
    using memory = created();
    const key = memory.key()!;
    const holder = await startHolder(ownPeer, key);
    for (const timeout of [2 ** 31 - 1, 2 ** 31, 2 ** 53, Infinity]) {
      const locked = memory.lockAsync({ timeout });
      await untilBlocked(key);
      await expectTrue(holder, "unlock");
      assert.equal(await served(locked), true, memory.errorString());
      const lockedAgain = holder.call("m", "lock");
      await untilBlocked(key);
      assert.equal(memory.unlock(), true);
      assert.equal(await lockedAgain, true);
    }
    assert.equal(await holder.end(), 0);
  });

  test("rejects what is no number of ms, and takes nothing", async () => {
    using memory = created();
    for (const [timeout, Kind] of badTimeouts) {
      await assert.rejects(memory.lockAsync({ timeout: timeout as number }), (error) => {
        assert.ok(error instanceof Kind, String(error));
        assert.match(error.message, /^SharedMemory\.lockAsync: the timeout must be /);
        return true;
      });
    }
    assert.equal(semaphoreValue(memory.key()!), 1);
  });

  test("fails without a segment or without a lock", async () => {
    const detached = new SharedMemory(uniqueKey());
    assert.equal(await detached.lockAsync(), false);
    const text = "this object is not attached; create() or attach() first";
    assertLockError(detached, "lockAsync", text);
    using memory = created();
    using native = new SharedMemory();
    native.setNativeKey(segmentFile(memory.key()!));
    assert.equal(native.attach(), true, native.errorString());
    assert.equal(await native.lockAsync(), false);
    assert.match(
      native.errorString(),
      /: a native key that is a string has no lock; use setKey\(\) or a NativeIpcKey to have one$/,
    );
  });
});

/** What may happen to the lock, the segment and the object while `lockAsync()` waits. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory, SharedMemoryError } from "../../mod.ts";
import {
  assertLockError,
  attached,
  created,
  ownPeer,
  served,
  startHolder,
} from "../support/peers.ts";
import { expectTrue, versions, withQt } from "../support/qt_pairs.ts";
import {
  ftok,
  ipcObjects,
  ipcObjectsSince,
  leaveNothingBehind,
  semaphoreFile,
  semaphoreValue,
  sizeOf,
  slow,
  startQt,
  systemLibrary,
  systemVOnly,
  uniqueKey,
  until,
  untilBlocked,
} from "../support/support.ts";
import { semaphoreRow } from "../support/systemv_tables.ts";

const IPC_CREAT = 0o1000;
const IPC_RMID = 0;

describe("lockAsync() that waits", () => {
  leaveNothingBehind();

  const leaving: readonly [string, (memory: SharedMemory) => void][] = [
    ["detach()", (memory) => assert.equal(memory.detach(), true, memory.errorString())],
    ["disposal", (memory) => memory[Symbol.dispose]()],
    ["setKey()", (memory) => memory.setKey(uniqueKey("other"))],
  ];
  for (const [what, leave] of leaving) {
    test(`fails by ${what} of its object, and takes nothing later`, slow, async () => {
      const before = ipcObjects();
      const memory = created();
      const key = memory.key()!;
      const holder = await startHolder(ownPeer, key);
      const waits = [memory.lockAsync(), memory.lockAsync({ timeout: 20_000 })];
      await untilBlocked(key);
      leave(memory);
      assert.equal(memory.isAttached(), false);
      assert.deepEqual(await Promise.all(waits), [false, false]);
      if (what !== "setKey()") assertLockError(memory, "lockAsync", "detached while it waited");
      await expectTrue(holder, "unlock");
      using other = attached(key);
      // Free, or removed with the leaving of the one that made it, which the next user notices.
      await until(() => semaphoreValue(key) !== 0, "the return of what was taken too late");
      assert.equal(await served(other.lockAsync()), true, other.errorString());
      assert.equal(await holder.end(), 0);
      assert.equal(other.detach(), true, other.errorString());
      await until(() => ipcObjectsSince(before).length === 0, "the removal");
    });
  }

  test("leaves the segment to the last one out, who may be the one that waited", slow, async () => {
    const before = ipcObjects();
    for (let round = 0; round < 20; round++) {
      const memory = created();
      const holder = attached(memory.key()!);
      assert.equal(holder.lock(), true);
      const locked = memory.lockAsync();
      if (round % 2 === 0) await untilBlocked(memory.key()!);
      assert.equal(holder.detach(), true, holder.errorString());
      assert.equal(memory.detach(), true, memory.errorString());
      assert.equal(await served(locked), false);
      await until(() => ipcObjectsSince(before).length === 0, "the removal");
    }
  });

  test("fails for the object that was disposed, and goes on for another", slow, async () => {
    using memory = created();
    const key = memory.key()!;
    using other = attached(key);
    const holder = await startHolder(ownPeer, key);
    const first = memory.lockAsync();
    const second = other.lockAsync();
    await untilBlocked(key);
    memory.detach();
    assert.equal(await first, false);
    await expectTrue(holder, "unlock");
    assert.equal(await served(second), true, other.errorString());
    assert.equal(await holder.end(), 0);
  });

  test("makes lock() of this thread fail, which would wait for ever", slow, async () => {
    using memory = created();
    const key = memory.key()!;
    using other = attached(key);
    const holder = await startHolder(ownPeer, key);
    const locked = memory.lockAsync();
    await untilBlocked(key);
    for (const object of [memory, other]) {
      assert.equal(object.lock(), false);
      assert.equal(object.error(), SharedMemoryError.LockError);
      assert.match(object.errorString(), /^SharedMemory\.lock .* waits for it in this thread, /);
      assert.equal(object.tryLock(10), false);
    }
    await expectTrue(holder, "unlock");
    assert.equal(await served(locked), true);
    assert.equal(memory.unlock(), true);
    assert.equal(await holder.end(), 0);
    await until(() => other.lock(), "the end of the wait"); // the queue is gone a turn later
  });

  test(
    "makes a removed semaphore again, and has its lock",
    { ...slow, ...systemVOnly },
    async () => {
      using memory = created();
      const key = memory.key()!;
      const holder = await startHolder(ownPeer, key);
      for (let round = 0; round < 3; round++) {
        const locked = memory.lockAsync();
        await untilBlocked(key);
        const id = Number(semaphoreRow(key)["semid"]);
        assert.equal(systemLibrary().c.semctl(id, 0, IPC_RMID, 0n), 0);
        assert.equal(await served(locked), true, memory.errorString());
        assert.notEqual(Number(semaphoreRow(key)["semid"]), id);
        assert.equal(semaphoreValue(key), 0);
        await holder.call("m", "unlock"); // its lock went with the old semaphore
        assert.equal(semaphoreValue(key), 0);
        const lockedAgain = holder.call("m", "lock");
        await untilBlocked(key);
        assert.equal(memory.unlock(), true, memory.errorString());
        assert.equal(await lockedAgain, true);
      }
      assert.equal(await holder.end(), 0);
    },
  );

  for (const version of versions) {
    test(`makes the lock again that Qt ${version} removes`, withQt(version), async () => {
      const key = uniqueKey();
      const qt = startQt(version);
      await qt.request("memory", "m", key);
      await expectTrue(qt, "create", 64);
      using memory = attached(key);
      await expectTrue(qt, "detach");
      const holder = await startHolder(ownPeer, key);
      const locked = memory.lockAsync();
      await untilBlocked(key);
      await qt.request("dispose", "m"); // Qt's owner removes the lock under our feet
      assert.equal(await served(locked), true, memory.errorString());
      assert.equal(semaphoreValue(key), 0);
      assert.equal(await qt.end(), 0);
      await holder.kill();
      assert.equal(semaphoreValue(key), 0);
    });

    test(`survives that create() of Qt ${version} resets the lock`, withQt(version), async () => {
      using memory = created();
      const key = memory.key()!;
      const holder = await startHolder(ownPeer, key);
      const qt = startQt(version);
      await qt.request("memory", "m", key);
      const locked = memory.lockAsync();
      await untilBlocked(key);
      const creating = qt.call("m", "create", 64); // Qt sets 1 before it waits for the lock itself
      assert.equal(await served(locked), true, memory.errorString());
      assert.equal(memory.unlock(), true);
      assert.equal(await creating, false);
      await expectTrue(holder, "unlock");
      assert.equal(semaphoreValue(key), 1);
      assert.equal(await qt.end(), 0);
      assert.equal(await holder.end(), 0);
    });
  }

  test("takes over a lock that nobody can hold", { ...slow, ...systemVOnly }, async () => {
    using memory = created();
    const { c } = systemLibrary();
    const key = memory.key()!;
    const id = Number(semaphoreRow(key)["semid"]);
    assert.equal(c.semctl(id, 0, IPC_RMID, 0n), 0);
    const systemVKey = ftok(semaphoreFile(key));
    assert.notEqual(c.semget(systemVKey, 1, IPC_CREAT | 0o600), -1); // its maker was killed then
    assert.equal(semaphoreValue(key), 0);
    assert.equal(await served(memory.lockAsync()), true, memory.errorString());
    assert.equal(memory.unlock(), true, memory.errorString());
    assert.equal(semaphoreValue(key), 1);
  });

  test("is no obstacle to create(), attach() and detach() of others", slow, async () => {
    using memory = created();
    const key = memory.key()!;
    const holder = await startHolder(ownPeer, key);
    const locked = memory.lockAsync();
    await untilBlocked(key);
    const other = new SharedMemory(key);
    assert.equal(other.create(64), false);
    assert.equal(other.attach(), true, other.errorString());
    assert.equal(other.detach(), true, other.errorString());
    using opened = SharedMemory.open(key, { size: 64 });
    assert.equal(opened.size(), sizeOf(64));
    await expectTrue(holder, "unlock");
    assert.equal(await served(locked), true, memory.errorString());
    assert.equal(await holder.end(), 0);
  });
});

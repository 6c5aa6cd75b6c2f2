/** One lock for real Qt and ours: who waits, who gets it, and what happens to it in between. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory, SharedMemoryError } from "../../mod.ts";
import { expectTrue, pairs, startAttached, versions, withQt } from "../support/qt_pairs.ts";
import {
  leaveNothingBehind,
  ownRuntime,
  runtimes,
  semaphoreValue,
  startAgent,
  startQt,
  uniqueKey,
  until,
  untilBlocked,
} from "../support/support.ts";
import { semaphoreRow } from "../support/systemv_tables.ts";

/** This process as one more user, the last one out: it removes what Qt does not. */
function attached(key: string): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.attach(), true, memory.errorString());
  return memory;
}

describe("the lock between Qt and ours", () => {
  leaveNothingBehind();

  for (const pair of pairs) {
    const { first, second, options } = pair;

    test(
      `${second.name} waits for the lock of ${first.name} until that unlocks`,
      options,
      async () => {
        const key = uniqueKey();
        const [holder, waiter] = await startAttached(pair, key);
        using _last = attached(key);
        await expectTrue(holder, "lock");
        assert.equal(semaphoreValue(key), 0);
        let got = false;
        const locked = waiter.call("m", "lock").then((result) => got = result);
        await untilBlocked(key);
        assert.equal(got, false);
        await holder.request("write", "m", 0, [42]);
        await expectTrue(holder, "unlock");
        assert.equal(await locked, true);
        assert.equal(semaphoreValue(key), 0);
        assert.deepEqual(await waiter.request("read", "m", 0, 1), [42]);
        assert.equal(await holder.call("m", "unlock"), false); // the waiter has it, not the holder
        assert.equal(semaphoreValue(key), 0);
        await expectTrue(waiter, "unlock");
        assert.equal(semaphoreValue(key), 1);
        assert.equal(await waiter.end(), 0);
        assert.equal(await holder.end(), 0);
      },
    );

    test(`${second.name} gets the lock when ${first.name} is killed with it`, options, async () => {
      const key = uniqueKey();
      const [holder, waiter] = await startAttached(pair, key);
      using _last = attached(key);
      await expectTrue(holder, "lock");
      const locked = waiter.call("m", "lock");
      await untilBlocked(key);
      await holder.kill();
      assert.equal(await locked, true);
      assert.equal(semaphoreValue(key), 0);
      await expectTrue(waiter, "unlock");
      assert.equal(semaphoreValue(key), 1);
      assert.equal(await waiter.end(), 0);
    });
  }

  for (const version of versions) {
    for (const runtime of runtimes) {
      const options = withQt(version);

      test(
        `${runtime.name} makes the lock again that Qt ${version} removes while it waits`,
        options,
        async () => {
          const key = uniqueKey();
          const [qt, waiter] = [startQt(version), startAgent(runtime)];
          await qt.request("memory", "m", key);
          await waiter.request("memory", "m", key);
          await expectTrue(qt, "create", 16);
          await expectTrue(waiter, "attach");
          using holder = attached(key);
          await expectTrue(qt, "detach");
          assert.equal(holder.lock(), true, holder.errorString());
          const locked = waiter.call("m", "lock");
          await untilBlocked(key);
          const { semid } = semaphoreRow(key);
          await qt.request("dispose", "m"); // Qt's owner removes the lock under our feet
          assert.equal(await locked, true);
          assert.notEqual(semaphoreRow(key)["semid"], semid);
          assert.equal(semaphoreValue(key), 0);
          // The former holder's lock went with the old semaphore: it must not free the new one.
          assert.equal(holder.unlock(), true, holder.errorString());
          assert.equal(semaphoreValue(key), 0);
          const locking = waiter.call("m", "unlock");
          assert.equal(await locking, true);
          assert.equal(semaphoreValue(key), 1);
          assert.equal(await qt.end(), 0);
          assert.equal(await waiter.end(), 0);
        },
      );
    }

    test(
      `${ownRuntime.name} comes and goes while Qt ${version} holds the lock`,
      withQt(version),
      async () => {
        const key = uniqueKey();
        const [qt, agent] = [startQt(version), startAgent(ownRuntime)];
        await qt.request("memory", "m", key);
        await agent.request("memory", "m", key);
        await expectTrue(qt, "create", 16);
        await expectTrue(qt, "lock");
        const { semid } = semaphoreRow(key);
        // Qt's attach() and detach() would wait, and its create() would free the lock.
        assert.equal(await agent.call("m", "create", 16), false);
        assert.equal(await agent.call("m", "error"), SharedMemoryError.AlreadyExists);
        await expectTrue(agent, "attach");
        await expectTrue(agent, "detach");
        assert.equal(semaphoreValue(key), 0);
        assert.equal(semaphoreRow(key)["semid"], semid);
        await expectTrue(qt, "unlock");
        assert.equal(await agent.end(), 0);
        assert.equal(await qt.end(), 0);
      },
    );

    test(
      `a failing create() of Qt ${version} frees our lock, and unlock() does not let two in`,
      withQt(version),
      async () => {
        const key = uniqueKey();
        const qt = startQt(version);
        await qt.request("memory", "m", key);
        using memory = new SharedMemory(key);
        assert.equal(memory.create(16), true, memory.errorString());
        assert.equal(memory.lock(), true);
        assert.equal(await qt.call("m", "create", 16), false);
        assert.equal(semaphoreValue(key), 1); // Qt resets the lock before it looks for the segment
        assert.equal(memory.unlock(), true);
        assert.equal(semaphoreValue(key), 1); // and Qt itself would make it 2
        assert.equal(await qt.end(), 0);
      },
    );

    test(`Qt ${version} waits for this process's lock`, withQt(version), async () => {
      const key = uniqueKey();
      using memory = new SharedMemory(key);
      assert.equal(memory.create(16), true, memory.errorString());
      const qt = startQt(version);
      await qt.request("memory", "m", key);
      await expectTrue(qt, "attach");
      assert.equal(memory.lock(), true);
      const locked = qt.call("m", "lock");
      await untilBlocked(key);
      memory.data()![0] = 42;
      assert.equal(memory.unlock(), true);
      assert.equal(await locked, true);
      assert.deepEqual(await qt.request("read", "m", 0, 1), [42]);
      await qt.kill();
      await until(() => semaphoreValue(key) === 1, "the kernel's undo");
      assert.equal(memory.lock(), true);
      assert.equal(memory.unlock(), true);
    });
  }
});

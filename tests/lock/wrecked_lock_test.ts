/** Locks whose value peers have wrecked: real Qt by a create() that fails, or whoever by hand. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { SharedMemory } from "../../mod.ts";
import { expectTrue, versions, withQt } from "../support/qt_pairs.ts";
import {
  ftok,
  leaveNothingBehind,
  needsQt,
  onceOnly,
  semaphoreFile,
  semaphoreValue,
} from "../support/support.ts";
import {
  ownRuntime,
  slow,
  startAgent,
  startQt,
  systemLibrary,
  uniqueKey,
} from "../support/support.ts";

const SETVAL = 16;
/** Long enough to find out that nobody holds a lock, which takes a little over a second, though processes are stopped. */
const RECOVERY_MS = 20_000;
const once = { ...slow, ...onceOnly };

/** Sets the value of a lock as a process does that has ended since, which gives nothing back. */
function wreck(key: string, value: number): void {
  const id = systemLibrary().c.semget(ftok(semaphoreFile(key)), 0, 0);
  const program = `import ctypes; c = ctypes.CDLL(None); c.semctl(${id}, 0, ${SETVAL}, ${value})`;
  const { status, stderr } = spawnSync("/usr/bin/python3", ["-c", program], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  assert.equal(semaphoreValue(key), value);
}

function attached(key: string): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.createOrAttach(16), true, memory.errorString());
  return memory;
}

describe("a lock whose value was wrecked", needsQt(5), () => {
  leaveNothingBehind();

  for (const value of [2, 3, 100]) {
    test(`to ${value} lets only one in`, () => {
      const key = uniqueKey();
      using first = attached(key);
      using second = attached(key);
      wreck(key, value);
      assert.equal(first.tryLock(), true, first.errorString());
      assert.equal(semaphoreValue(key), 0);
      assert.equal(second.tryLock(), false);
      assert.equal(first.unlock() && semaphoreValue(key) === 1, true);
      wreck(key, value);
      assert.equal(second.lock(), true, second.errorString());
      assert.equal(first.tryLock(5), false);
      assert.equal(second.unlock() && semaphoreValue(key) === 1, true);
    });
  }

  test("to 0 by somebody who has ended is taken over after a while", once, async () => {
    const key = uniqueKey();
    using first = attached(key);
    using second = attached(key);
    wreck(key, 0);
    assert.equal(first.tryLock(20), false, "not at once");
    assert.equal(first.tryLock(RECOVERY_MS), true, first.errorString());
    assert.equal(second.tryLock(), false);
    assert.equal(first.unlock() && semaphoreValue(key) === 1, true);
    wreck(key, 0);
    assert.equal(await first.lockAsync({ timeout: RECOVERY_MS }), true, first.errorString());
    assert.equal(first.unlock() && semaphoreValue(key) === 1, true);
    wreck(key, 0);
    assert.equal(first.lock(), true, first.errorString());
  });

  test("to 0 is taken over by one whose wait is interrupted again and again", once, async () => {
    const key = uniqueKey();
    using memory = attached(key);
    const agent = startAgent(ownRuntime);
    await agent.request("memory", "m", key);
    await expectTrue(agent, "attach");
    for (const take of ["lock()", `tryLock(${RECOVERY_MS})`]) {
      wreck(key, 0);
      let isOver = false;
      const taken = agent.run(`return objects.m.${take};`).finally(() => isOver = true);
      while (!isOver) { // a call into the kernel that waits is interrupted then
        process.kill(agent.child.pid!, "SIGSTOP");
        process.kill(agent.child.pid!, "SIGCONT");
        await delay(100);
      }
      assert.equal(await taken, true, take);
      await expectTrue(agent, "unlock");
    }
    assert.equal(memory.lock() && memory.unlock(), true);
    assert.equal(await agent.end(), 0);
  });

  test("to 0 by somebody who lives is left alone, as he may hold it", once, () => {
    const key = uniqueKey();
    using memory = attached(key);
    const { c } = systemLibrary();
    const id = c.semget(ftok(semaphoreFile(key)), 0, 0);
    assert.equal(c.semctl(id, 0, SETVAL, 0n), 0); // this process
    assert.equal(memory.tryLock(2500), false);
    assert.match(memory.errorString(), /this process holds the lock/);
    assert.equal(c.semctl(id, 0, SETVAL, 1n), 0);
  });

  test(
    `to 0 is taken over by one of four ${ownRuntime.name} processes that wait`,
    once,
    async () => {
      const key = uniqueKey();
      using memory = attached(key);
      const agents = Array.from({ length: 4 }, () => startAgent(ownRuntime));
      for (const agent of agents) {
        await agent.request("memory", "m", key);
        await expectTrue(agent, "attach");
      }
      wreck(key, 0);
      const source = `
      const { m } = objects;
      if (!m.tryLock(${RECOVERY_MS})) throw new Error(m.errorString());
      const view = m.view(Int32Array);
      const value = view[0];
      const end = Date.now() + 20;
      while (Date.now() < end);
      view[0] = value + 1;
      if (!m.unlock()) throw new Error(m.errorString());`;
      await Promise.all(agents.map((agent) => agent.run(source)));
      assert.equal(memory.view(Int32Array)[0], 4);
      assert.equal(semaphoreValue(key), 1);
      for (const agent of agents) assert.equal(await agent.end(), 0);
    },
  );
});

describe("a lock that a failing create() of Qt resets while another Qt process holds it", () => {
  leaveNothingBehind();

  for (const version of versions) {
    test(
      `excludes again once we use it (Qt ${version})`,
      { ...withQt(version), ...onceOnly },
      async () => {
        const key = uniqueKey();
        const [holder, failing] = [startQt(version), startQt(version)];
        for (const qt of [holder, failing]) await qt.request("memory", "m", key);
        await expectTrue(holder, "create", 16);
        await expectTrue(holder, "lock");
        assert.equal(await failing.call("m", "create", 16), false);
        await expectTrue(holder, "unlock");
        assert.equal(semaphoreValue(key), 2);
        using first = attached(key);
        using second = attached(key);
        assert.equal(first.lock(), true, first.errorString());
        assert.equal(second.tryLock(), false);
        assert.equal(first.unlock(), true);
        assert.equal(semaphoreValue(key), 1);

        // What Qt added too much the kernel would take back when it ends, were that not forgotten.
        assert.equal(first.lock(), true, first.errorString());
        await holder.kill();
        assert.equal(second.tryLock(2500), false, "nobody takes it over beside the holder");
        assert.equal(first.unlock(), true);
        assert.equal(semaphoreValue(key), 1);
        assert.equal(second.tryLock(), true, second.errorString());
        assert.equal(second.unlock(), true);
        assert.equal(await failing.end(), 0);
      },
    );
  }
});

/** `SystemSemaphore.acquireAsync()`: as many get through as there are. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SystemSemaphore, SystemSemaphoreError } from "../../mod.ts";
import { badTimeouts, created, served } from "../support/peers.ts";
import { versions, withQt } from "../support/qt_pairs.ts";
import {
  leaveNothingBehind,
  runtimes,
  semaphoreValue,
  slow,
  startAgent,
} from "../support/support.ts";
import {
  startQt,
  systemLibrary,
  systemVOnly,
  undoOnly,
  uniqueKey,
  until,
  untilBlocked,
  withDeadline,
} from "../support/support.ts";
import { semaphoreRow } from "../support/systemv_tables.ts";

const IPC_RMID = 0;

/** Asserts that the last operation failed because of what the text says. */
function assertFailed(semaphore: SystemSemaphore, text: string): void {
  assert.equal(semaphore.error(), SystemSemaphoreError.UnknownError);
  const expected = `SystemSemaphore.acquireAsync (${JSON.stringify(semaphore.key())}): ${text}`;
  assert.equal(semaphore.errorString(), expected);
}

describe("acquireAsync()", () => {
  leaveNothingBehind();

  for (const runtime of runtimes) {
    test(`lets through as many as ${runtime.name} releases, in order`, slow, async () => {
      const key = uniqueKey();
      using semaphore = new SystemSemaphore(key, 2);
      const agent = startAgent(runtime);
      await agent.request("semaphore", "s", key, 0);
      const order: number[] = [];
      const waits = [0, 1, 2, 3, 4].map(async (i) => {
        assert.equal(await semaphore.acquireAsync(), true, semaphore.errorString());
        order.push(i);
      });
      await withDeadline(Promise.all(waits.slice(0, 2)), "the first two");
      await untilBlocked(key);
      assert.deepEqual(order, [0, 1]);
      assert.equal(await agent.call("s", "release", 2), true);
      await withDeadline(Promise.all(waits.slice(0, 4)), "the next two");
      await untilBlocked(key);
      assert.deepEqual(order, [0, 1, 2, 3]);
      assert.equal(semaphore.release(), true); // this process's own
      await withDeadline(Promise.all(waits), "the last");
      assert.equal(semaphoreValue(key), 0);
      const acquired = agent.call("s", "acquireAsync");
      await untilBlocked(key);
      assert.equal(semaphore.release(4), true);
      assert.equal(await acquired, true);
      assert.equal(semaphoreValue(key), 3);
      assert.equal(await agent.end(), 0);
    });

    test(`gets what ${runtime.name} had when it is killed`, { ...slow, ...undoOnly }, async () => {
      const key = uniqueKey();
      using semaphore = new SystemSemaphore(key, 1);
      const agent = startAgent(runtime);
      await agent.request("semaphore", "s", key);
      assert.equal(await agent.call("s", "acquireAsync"), true);
      const acquired = semaphore.acquireAsync();
      await untilBlocked(key);
      await agent.kill();
      assert.equal(await served(acquired), true, semaphore.errorString());
    });
  }

  for (const version of versions) {
    test(`gets what Qt ${version} releases`, withQt(version), async () => {
      const key = uniqueKey();
      using semaphore = new SystemSemaphore(key, 0);
      const qt = startQt(version);
      await qt.request("semaphore", "s", key, 0);
      const acquired = semaphore.acquireAsync();
      await untilBlocked(key);
      assert.equal(await qt.call("s", "release"), true);
      assert.equal(await served(acquired), true, semaphore.errorString());
      assert.equal(await qt.end(), 0);
    });
  }

  test("fails after its timeout, and takes nothing later", slow, async () => {
    const key = uniqueKey();
    using semaphore = new SystemSemaphore(key, 0);
    for (const timeout of [0, 1, 250]) {
      assert.equal(await semaphore.acquireAsync({ timeout }), false);
      assertFailed(semaphore, `timed out after ${timeout} ms: the value is 0`);
    }
    assert.equal(semaphore.release(), true);
    await until(() => semaphoreValue(key) === 1, "the return of what was taken too late");
    assert.equal(await semaphore.acquireAsync({ timeout: 0 }), true, semaphore.errorString());
    assert.equal(semaphore.error(), SystemSemaphoreError.NoError);
  });

  test(
    "rejects with the reason of its signal, 500 times at the moment of release",
    slow,
    async () => {
      const key = uniqueKey();
      using semaphore = new SystemSemaphore(key, 0);
      await assert.rejects(
        semaphore.acquireAsync({ signal: AbortSignal.abort("early") }),
        (error) => error === "early",
      );
      let taken = 0;
      for (let round = 0; round < 500; round++) {
        const controller = new AbortController();
        const acquired = semaphore.acquireAsync({ signal: controller.signal });
        if (round % 2 === 0) await untilBlocked(key);
        assert.equal(semaphore.release(), true);
        if (round % 3 === 0) await new Promise((resolve) => setTimeout(resolve));
        controller.abort(round);
        const got = await acquired.catch((reason) => assert.equal(reason, round));
        if (got === true) taken++;
        else assert.equal(await served(semaphore.acquireAsync()), true);
        assert.equal(semaphoreValue(key), 0);
      }
      assert.ok(taken < 500, `${taken}`);
    },
  );

  test("fails when its object is disposed, and takes nothing later", slow, async () => {
    const key = uniqueKey();
    using other = new SystemSemaphore(key, 0);
    const semaphore = new SystemSemaphore(key, 0);
    const acquired = semaphore.acquireAsync();
    await untilBlocked(key);
    semaphore[Symbol.dispose]();
    assert.equal(await served(acquired), false);
    assertFailed(semaphore, "disposed while it waited");
    assert.equal(other.release(), true);
    await until(() => semaphoreValue(key) === 1, "the return of what was taken too late");
    await untilBlocked(key, 0);
    assert.equal(semaphoreValue(key), 1);
  });

  test("makes a semaphore again that is removed, with its initial value", {
    ...slow,
    ...systemVOnly,
  }, async () => {
    const key = uniqueKey();
    using semaphore = new SystemSemaphore(key, 3);
    for (let i = 0; i < 3; i++) assert.equal(semaphore.acquire(), true);
    const acquired = semaphore.acquireAsync();
    await untilBlocked(key);
    assert.equal(systemLibrary().c.semctl(Number(semaphoreRow(key)["semid"]), 0, IPC_RMID, 0n), 0);
    assert.equal(await served(acquired), true, semaphore.errorString());
    assert.equal(semaphoreValue(key), 2);
  });

  test("rejects what is no number of ms, and fails without a key", async () => {
    using semaphore = new SystemSemaphore(uniqueKey(), 1);
    for (const [timeout, Kind] of badTimeouts) {
      await assert.rejects(semaphore.acquireAsync({ timeout: timeout as number }), Kind);
    }
    const none = new SystemSemaphore();
    assert.equal(await none.acquireAsync(), false);
    assert.equal(none.error(), SystemSemaphoreError.KeyError);
  });

  test("of many processes lets in no more than the value", slow, async () => {
    using memory = created();
    const key = uniqueKey();
    using semaphore = new SystemSemaphore(key, 3);
    const agents = [...runtimes, ...runtimes].map((runtime) => startAgent(runtime));
    const most = await Promise.all(agents.map(async (agent) => {
      await agent.request("memory", "m", memory.key());
      await agent.request("semaphore", "s", key);
      assert.equal(await agent.call("m", "attach"), true);
      return await agent.run(`
        const inside = objects.m.view(Int32Array, 0, 1);
        let most = 0;
        const once = async () => {
          if (!await objects.s.acquireAsync()) throw new Error(objects.s.errorString());
          most = Math.max(most, Atomics.add(inside, 0, 1) + 1);
          await new Promise((resolve) => setTimeout(resolve, 1));
          Atomics.sub(inside, 0, 1);
          if (!objects.s.release()) throw new Error(objects.s.errorString());
        };
        await Promise.all(Array.from({ length: 30 }, once));
        return most;`);
    }));
    assert.equal(Math.max(...most), 3);
    assert.equal(semaphoreValue(key), 3);
    for (const agent of agents) assert.equal(await agent.end(), 0);
    assert.equal(semaphore.tryAcquire(), true);
    assert.equal(semaphore.release(), true);
  });
});

/** Many waits at once: in one thread they are served in their order, and none is forgotten. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { attached, created, ownPeer, startAttached, startHolder } from "../support/peers.ts";
import { expectTrue } from "../support/qt_pairs.ts";
import {
  leaveNothingBehind,
  runtimes,
  semaphoreValue,
  slow,
  startAgent,
} from "../support/support.ts";
import { uniqueKey, untilBlocked, withDeadline } from "../support/support.ts";

const WAITERS = 200;

function ascending(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

describe("lockAsync() of many in one thread", () => {
  leaveNothingBehind();

  for (const what of ["one object", "many objects"]) {
    test(`serves ${WAITERS} waits of ${what} in their order`, slow, async () => {
      using memory = created();
      const key = memory.key()!;
      using objects = new DisposableStack();
      const object = () => what === "one object" ? memory : objects.use(attached(key));
      const holder = await startHolder(ownPeer, key);
      const order: number[] = [];
      let holders = 0;
      const waits = ascending(WAITERS).map(async (i) => {
        const own = object();
        assert.equal(await own.lockAsync(), true, own.errorString());
        assert.equal(++holders, 1);
        order.push(i);
        if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve));
        holders--;
        assert.equal(own.unlock(), true, own.errorString());
      });
      await untilBlocked(key);
      await expectTrue(holder, "unlock");
      await withDeadline(Promise.all(waits), "the last one");
      assert.deepEqual(order, ascending(WAITERS));
      assert.equal(semaphoreValue(key), 1);
      assert.equal(await holder.end(), 0);
    });
  }

  test("serves those who stay when others give up", slow, async () => {
    using memory = created();
    const key = memory.key()!;
    const holder = await startHolder(ownPeer, key);
    const controller = new AbortController();
    const { signal } = controller;
    const options = [{}, { signal }, { timeout: 10 }];
    const order: number[] = [];
    const waits = ascending(90).map(async (i) => {
      const got = await memory.lockAsync(options[i % 3]).catch(() => false);
      assert.equal(got, i % 3 === 0, `${i}`);
      if (!got) return;
      order.push(i);
      assert.equal(memory.unlock(), true, memory.errorString());
    });
    await Promise.all(waits.filter((_, i) => i % 3 === 2));
    controller.abort();
    await Promise.all(waits.filter((_, i) => i % 3 === 1));
    await expectTrue(holder, "unlock");
    await withDeadline(Promise.all(waits), "the last one");
    assert.deepEqual(order, ascending(90).filter((i) => i % 3 === 0));
    assert.equal(await holder.end(), 0);
  });

  // More than there are threads to wait in.
  test("waits for 40 keys at once, and gets each when it is free", slow, async () => {
    const keys = Array.from({ length: 40 }, () => uniqueKey());
    using objects = new DisposableStack();
    const agent = startAgent(runtimes[0]!);
    const memories = keys.map((key) => objects.use(created(key)));
    for (const key of keys) {
      await agent.request("memory", key, key);
      assert.equal(await agent.call(key, "attach") && await agent.call(key, "lock"), true);
    }
    const got: number[] = [];
    const waits = memories.map(async (memory, i) => {
      assert.equal(await memory.lockAsync(), true, memory.errorString());
      got.push(i);
    });
    for (const i of [39, 0, 20]) {
      assert.equal(await agent.call(keys[i]!, "unlock"), true);
      await withDeadline(waits[i]!, `key ${i}`);
      assert.equal(got.at(-1), i);
    }
    for (const i of ascending(40).filter((i) => !got.includes(i))) {
      assert.equal(await agent.call(keys[i]!, "unlock"), true);
    }
    await withDeadline(Promise.all(waits), "the last one");
    assert.equal(await agent.end(), 0);
  });
});

describe("lockAsync() of many processes", () => {
  leaveNothingBehind();

  test("counts right, with lock() and tryLock() among them", slow, async () => {
    using memory = created();
    const count = memory.view(Int32Array);
    const TURNS = 60;
    const locks = ["await m.lockAsync()", "m.lock()", "m.tryLock(30_000)"];
    const agents = await Promise.all([...runtimes, ...runtimes].map(async (runtime) => {
      const peer = { name: runtime.name, options: slow, start: () => startAgent(runtime) };
      return await startAttached(peer, memory.key()!);
    }));
    const counted = agents.map((agent, i) =>
      agent.run(`
        const { m } = objects;
        const count = m.view(Int32Array);
        for (let i = 0; i < ${TURNS}; i++) {
          if (!${i < 3 ? locks[0] : locks[i % 3]}) throw new Error(m.errorString());
          const before = count[0];
          await new Promise((resolve) => setTimeout(resolve, i % 8 === 0 ? 1 : 0));
          count[0] = before + 1;
          if (!m.unlock()) throw new Error(m.errorString());
        }`)
    );
    for (let i = 0; i < TURNS; i++) await memory.withLockAsync(() => count[0]! += 1);
    await Promise.all(counted);
    assert.equal(count[0], (agents.length + 1) * TURNS);
    assert.equal(semaphoreValue(memory.key()!), 1);
    for (const agent of agents) assert.equal(await agent.end(), 0);
  });

  test("is not put off for ever by one who takes the lock again and again", slow, async () => {
    using memory = created();
    const key = memory.key()!;
    const agents = await Promise.all([0, 1].map(() => startAttached(ownPeer, key)));
    const stop = memory.view(Int32Array, 0, 1);
    const busy = agents.map((agent) =>
      agent.run(`
        const stop = objects.m.view(Int32Array, 0, 1);
        while (Atomics.load(stop, 0) === 0) {
          if (!objects.m.lock() || !objects.m.unlock()) throw new Error(objects.m.errorString());
        }`)
    );
    for (let i = 0; i < 100; i++) {
      await withDeadline(memory.withLockAsync(() => {}), `lock ${i}`);
    }
    Atomics.store(stop, 0, 1);
    await Promise.all(busy);
    for (const agent of agents) assert.equal(await agent.end(), 0);
  });
});

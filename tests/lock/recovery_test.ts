/** Many processes that come and go at once, and locks that nobody is left to release. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { SharedMemory, SharedMemoryError } from "../../mod.ts";
import {
  type Agent,
  crewOnly,
  endAll,
  ipcObjects,
  ipcObjectsSince,
  leaveNothingBehind,
  onceOnly,
  runtimes,
  semaphoreFile,
  startMany,
} from "../support/support.ts";
import {
  ftok,
  semaphoreValue,
  slow,
  startAgent,
  systemLibrary,
  systemVOnly,
  uniqueKey,
} from "../support/support.ts";

const IPC_CREAT = 0o1000;
const IPC_RMID = 0;

/** Makes the lock of a key one that is taken by nobody: who made it was killed before he set it. */
function stick(key: string): void {
  const { c } = systemLibrary();
  const path = semaphoreFile(key);
  writeFileSync(path, "", { flag: "a" });
  c.semctl(c.semget(ftok(path), 1, 0o600), 0, IPC_RMID, 0n);
  assert.notEqual(c.semget(ftok(path), 1, IPC_CREAT | 0o600), -1);
  assert.equal(semaphoreValue(key), 0);
}

/** A segment that nobody is attached to, whose lock nobody can release. */
async function abandon(key: string): Promise<void> {
  const agent = startAgent(runtimes[0]!);
  await agent.request("memory", "m", key);
  assert.equal(await agent.call("m", "create", 64), true);
  await agent.request("write", "m", 0, [42]);
  await agent.kill();
  stick(key);
}

/** Agents of all runtimes in turn, each with an object `m` of the key. */
async function startAgents(count: number, key: string): Promise<Agent[]> {
  const agents = startMany(count);
  await Promise.all(agents.map((agent) => agent.request("memory", "m", key)));
  return agents;
}

const once = { ...systemVOnly, ...onceOnly };

describe("a lock that is taken, with nobody attached who could release it", once, () => {
  leaveNothingBehind();

  test("is recovered by create(), and works", () => {
    const before = ipcObjects();
    const key = uniqueKey();
    stick(key);
    using memory = new SharedMemory(key);
    assert.equal(memory.create(64), true, memory.errorString());
    assert.equal(semaphoreValue(key), 1);
    assert.equal(memory.lock(), true, memory.errorString());
    assert.equal(semaphoreValue(key), 0);
    assert.equal(memory.detach(), true, memory.errorString());
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  test("is recovered by attach(), and detach() removes all", slow, async () => {
    const before = ipcObjects();
    const key = uniqueKey();
    await abandon(key);
    using memory = new SharedMemory(key);
    assert.equal(memory.create(64), false);
    assert.equal(memory.error(), SharedMemoryError.AlreadyExists);
    assert.equal(memory.attach(), true, memory.errorString());
    assert.equal(memory.data()![0], 42);
    assert.equal(semaphoreValue(key), 1);
    assert.equal(memory.detach(), true, memory.errorString());
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  test("is recovered by the detach() of the last one out, which removes all", slow, async () => {
    const before = ipcObjects();
    const key = uniqueKey();
    const [agent] = await startAgents(1, key);
    assert.equal(await agent!.call("m", "create", 64), true);
    stick(key);
    assert.equal(await agent!.call("m", "detach"), true);
    assert.deepEqual(ipcObjectsSince(before), []);
    assert.equal(await agent!.end(), 0);
  });

  test("is left to others by a program that ends, since an end never waits", slow, async () => {
    const before = ipcObjects();
    const key = uniqueKey();
    const [agent] = await startAgents(1, key);
    assert.equal(await agent!.call("m", "create", 64), true);
    stick(key);
    assert.equal(await agent!.end(), 0);
    assert.equal(semaphoreValue(key), 0);
    using memory = new SharedMemory(key);
    assert.equal(memory.attach(), true, memory.errorString());
    assert.equal(memory.detach(), true, memory.errorString());
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  test(
    "is recovered by one of four processes that create() at once",
    { ...slow, ...crewOnly },
    async () => {
      const before = ipcObjects();
      const key = uniqueKey();
      stick(key);
      const agents = await startAgents(4, key);
      const source = `
      for (;;) {
        if (objects.m.create(64)) return "created";
        if (objects.m.error() !== 4) throw new Error(objects.m.errorString());
        if (objects.m.attach()) return "attached";
        if (objects.m.error() !== 5) throw new Error(objects.m.errorString());
      }`;
      const results = await Promise.all(agents.map((agent) => agent.run(source)));
      assert.deepEqual(results.sort(), ["attached", "attached", "attached", "created"]);
      assert.equal(semaphoreValue(key), 1);
      await increment(agents, 50);
      assert.deepEqual(await agents[0]!.run("return objects.m.view(Int32Array)[0];"), 200);
      await endAll(agents);
      assert.deepEqual(ipcObjectsSince(before), []);
    },
  );

  test(
    "is recovered by one of four processes that attach() at once",
    { ...slow, ...crewOnly },
    async () => {
      const before = ipcObjects();
      const key = uniqueKey();
      await abandon(key);
      const agents = await startAgents(4, key);
      const results = await Promise.all(agents.map((agent) => agent.call("m", "attach")));
      assert.deepEqual(results, [true, true, true, true]);
      assert.equal(semaphoreValue(key), 1);
      await increment(agents, 50);
      assert.deepEqual(await agents[0]!.run("return objects.m.view(Int32Array)[0];"), 42 + 200);
      await endAll(agents);
      assert.deepEqual(ipcObjectsSince(before), []);
    },
  );

  function increment(agents: readonly Agent[], times: number): Promise<unknown> {
    const source = `
      const view = objects.m.view(Int32Array);
      for (let i = 0; i < ${times}; i++) {
        if (!objects.m.lock()) throw new Error(objects.m.errorString());
        const value = view[0];
        await null; // others run meanwhile
        view[0] = value + 1;
        if (!objects.m.unlock()) throw new Error(objects.m.errorString());
      }`;
    return Promise.all(agents.map((agent) => agent.run(source)));
  }
});

describe("six processes that create or attach, lock, count, unlock and detach", () => {
  leaveNothingBehind();

  const PROCESSES = 6;
  const TURNS = 20;
  /** Gives `m` a segment: its own new one, or the one that is there. */
  const createOrAttach = `
    for (;;) {
      if (m.create(4096)) { created++; break; }
      if (m.error() !== 4) throw new Error(m.errorString());
      if (m.attach()) break;
      if (m.error() !== 5) throw new Error(m.errorString());
    }`;

  // The segment and its lock come and go all the time, so the count is in one that stays. Two locks
  // of the same key at once, or two creators, would lose some of it.
  for (const [leave, what] of [["m.detach()", "detach"], ["m.unlock() && m.detach()", "unlock"]]) {
    test(`count right and leave nothing (${what})`, { ...slow, ...crewOnly }, async () => {
      using counter = new SharedMemory(uniqueKey("counter"));
      assert.equal(counter.create(8), true, counter.errorString());
      const before = ipcObjects();
      const key = uniqueKey();
      const agents = await startAgents(PROCESSES, key);
      for (const agent of agents) {
        await agent.request("memory", "counter", counter.key());
        assert.equal(await agent.call("counter", "attach"), true);
      }
      const source = `
        const { m } = objects;
        const counts = objects.counter.view(Int32Array);
        let created = 0;
        for (let turn = 0; turn < ${TURNS}; turn++) {
          ${createOrAttach}
          if (!m.lock()) throw new Error(m.errorString());
          const value = counts[0];
          const own = m.view(Int32Array);
          if (own[0] !== own[1]) throw new Error("somebody is in here");
          own[0]++;
          await null;
          counts[0] = value + 1;
          own[1]++;
          if (!(${leave})) throw new Error(m.errorString());
          if (turn % 3 === 0) await new Promise((done) => setTimeout(done, 1)); // let them all out
        }
        return created;`;
      const created = await Promise.all(agents.map((agent) => agent.run(source)));
      assert.equal(counter.view(Int32Array)[0], PROCESSES * TURNS);
      assert.ok(created.reduce((sum, count) => sum + count) >= 1);
      assert.deepEqual(ipcObjectsSince(before), []);
      await endAll(agents);
    });
  }

  test("never get a segment that was removed in between", { ...slow, ...crewOnly }, async () => {
    const before = ipcObjects();
    const key = uniqueKey();
    const agents = await startAgents(PROCESSES, key);
    // Each is alone or together with others; who is attached together must see the same bytes.
    const source = `
      const { m } = objects;
      let created = 0;
      for (let turn = 0; turn < ${TURNS * 5}; turn++) {
        ${createOrAttach}
        const users = m.view(Int32Array, 0, 1);
        Atomics.add(users, 0, 1);
        const probe = new library.SharedMemory(m.key());
        if (probe.create(8) || probe.error() !== 4) throw new Error("twice: " + probe.errorString());
        if (!probe.attach()) throw new Error(probe.errorString());
        if (Atomics.load(probe.view(Int32Array, 0, 1), 0) < 1) throw new Error("another segment");
        probe.detach();
        Atomics.sub(users, 0, 1);
        if (!m.detach()) throw new Error(m.errorString());
      }
      return created;`;
    await Promise.all(agents.map((agent) => agent.run(source)));
    assert.deepEqual(ipcObjectsSince(before), []);
    await endAll(agents);
  });
});

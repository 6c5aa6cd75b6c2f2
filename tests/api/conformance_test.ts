/**
 * What every type of keys must do, in real processes of all runtimes. Where the types differ, their
 * capabilities say so.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import process from "node:process";
import { describe, test } from "node:test";
import { Worker } from "node:worker_threads";
import {
  AccessMode,
  type NativeIpcKey,
  SharedMemory,
  SharedMemoryError,
  SystemSemaphore,
  SystemSemaphoreError,
  SystemSemaphoreMode,
} from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import {
  giveMemory,
  giveSemaphore,
  isSystemV,
  keyOf,
  keyTypes,
  semaphoreKeyOf,
  sourceOf,
} from "../support/key_types.ts";
import { expectTrue } from "../support/qt_pairs.ts";
import {
  type Agent,
  crewOnly,
  DEADLINE_MS,
  endAll,
  ipcObjects,
  ipcObjectsSince,
  leaveNothingBehind,
  onceOnly,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  startMany,
  until,
  withDeadline,
} from "../support/support.ts";
import { fixture } from "../support/threads.ts";

const { ReadOnly } = AccessMode;
const { AlreadyExists, InvalidSize, LockError, NotFound } = SharedMemoryError;

/** For the test that starts most processes. */
const verySlow = { timeout: 4 * slow.timeout };

/** Agents of all runtimes do it. */
const crew = { ...slow, ...crewOnly };

/** More than any page has. */
const PAGE_MAX = 65536;

/** For what should happen at once, on a machine that is busy with something else. */
const SOON_MS = 10_000;

function create(key: NativeIpcKey, size = 64): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.create(size), true, memory.errorString());
  return memory;
}

function attach(key: NativeIpcKey): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.attach(), true, memory.errorString());
  return memory;
}

/** Each of them with an object `m` of the key. */
async function startAgents(key: NativeIpcKey, count?: number): Promise<Agent[]> {
  const agents = startMany(count);
  await giveMemory(agents, key);
  return agents;
}

async function startAttached(key: NativeIpcKey, count?: number): Promise<Agent[]> {
  const agents = await startAgents(key, count);
  await Promise.all(agents.map((agent) => expectTrue(agent, "attach")));
  return agents;
}

/** One agent, attached and with the lock held. */
async function startHolder(runtime: Runtime, key: NativeIpcKey): Promise<Agent> {
  const agent = startAgent(runtime);
  await giveMemory(agent, key);
  await expectTrue(agent, "attach");
  await expectTrue(agent, "lock");
  return agent;
}

/** Asserts that a segment is gone: it can be made anew. */
function assertGone(key: NativeIpcKey): void {
  const memory = new SharedMemory(key);
  assert.equal(memory.attach(), false);
  assert.equal(memory.error(), NotFound, memory.errorString());
}

/** JavaScript of a wait for the lock in an agent, in whose segment its holder has said when he gives it back. */
const RELEASED = 7;
const LOCK_WHEN_RELEASED = `
  if (!objects.m.lock()) throw new Error(objects.m.errorString());
  const released = objects.m.data()[63] === ${RELEASED};
  if (!objects.m.unlock()) throw new Error(objects.m.errorString());
  return released;`;

function release(memory: SharedMemory): void {
  memory.data()![63] = RELEASED;
  assert.equal(memory.unlock(), true, memory.errorString());
}

/** Returns the answer after a line that an agent's program prints itself. It is called before that line is awaited. */
// deno-lint-ignore no-explicit-any
function nextAnswer(agent: Agent): Promise<any> {
  return agent.run(""); // which is answered only after that
}

/** Lets agents begin to wait: it is not needed for what is tested, which holds whoever comes first. */
function aMoment(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 50));
}

for (const keyType of keyTypes) {
  const { name, capabilities } = keyType;
  const { exactSize, killedHolder, survivesCrash } = capabilities;
  // Those of System V differ in a number only: what takes long is done with one of them, and the rest in one runtime.
  const isVariant = isSystemV(keyType) && keyType !== keyTypes[0];
  const options = isVariant ? onceOnly : {};
  const peers = isVariant ? [ownRuntime] : runtimes;
  const kills = isVariant ? 6 : isSystemV(keyType) ? 34 : 100; // kills_test.ts has more for System V
  const crowd = isVariant ? 6 : 12;

  describe(`a segment: ${name}`, options, () => {
    leaveNothingBehind();

    test("is made, found, read and written between all runtimes", crew, async () => {
      const [creators, joiners] = [peers, peers].map((list) => list.map((r) => startAgent(r)));
      await Promise.all(creators!.flatMap((creator, i) =>
        joiners!.map(async (joiner, j) => {
          const [object, key] = [`m${i}${j}`, keyOf(keyType)];
          await giveMemory([creator, joiner], key, object);
          const expectObject = async (agent: Agent, method: string, ...args: unknown[]) => {
            const result = await agent.call(object, method, ...args);
            assert.equal(result, true, await agent.call(object, "errorString"));
          };
          await expectObject(creator, "create", 100);
          await expectObject(joiner, "attach");
          const size: number = await joiner.call(object, "size");
          assert.equal(size, await creator.call(object, "size"));
          assert.ok(exactSize ? size === 100 : size >= 100 && size <= PAGE_MAX, `${size} bytes`);
          assert.deepEqual(await joiner.request("read", object, 0, 100), new Array(100).fill(0));
          await creator.request("write", object, 0, [1, 2, 3]);
          assert.deepEqual(await joiner.request("read", object, 0, 4), [1, 2, 3, 0]);
          await joiner.request("write", object, 97, [7, 8, 9]);
          assert.deepEqual(await creator.request("read", object, 96, 4), [0, 7, 8, 9]);
          await expectObject(creator, "detach");
          assert.deepEqual(await joiner.request("read", object, 97, 3), [7, 8, 9]);
          await expectObject(joiner, "detach");
        })
      ));
      await endAll([...creators!, ...joiners!]);
    });

    test("has the size that was asked for", () => {
      for (const size of [1, 2, 4095, 4096, 4097, 5000, 65536, 1_000_003]) {
        const key = keyOf(keyType);
        using memory = create(key, size);
        using other = attach(key);
        assert.equal(other.size(), memory.size());
        const excess = memory.size() - size;
        assert.ok(exactSize ? excess === 0 : excess >= 0 && excess < PAGE_MAX, `${memory.size()}`);
        assert.equal(memory.data()!.length, memory.size());
        memory.data()![size - 1] = 9;
        assert.equal(other.data()![size - 1], 9);
      }
    });

    test("exists once, and is not found before and after", () => {
      const key = keyOf(keyType);
      using memory = new SharedMemory(key);
      using other = new SharedMemory(key);
      for (let turn = 0; turn < 2; turn++) {
        assert.equal(other.attach(), false);
        assert.equal(other.error(), NotFound, other.errorString());
        const shown = key.legacyKey || String(key);
        assert.throws(() => SharedMemory.open(key), { code: "NotFound", key: shown });
        assert.equal(memory.create(64), true, memory.errorString());
        for (const size of [1, 64, 10_000]) {
          assert.equal(other.create(size), false);
          assert.equal(other.error(), AlreadyExists, other.errorString());
        }
        assert.throws(() => SharedMemory.open(key, { size: 64, disposition: "create" }), {
          code: "AlreadyExists",
        });
        assert.equal(memory.create(64), false, "this object is attached already");
        assert.equal(memory.error(), AlreadyExists);
        assert.equal(memory.isAttached(), true);
        assert.equal(memory.detach(), true, memory.errorString());
        assert.equal(memory.detach(), false);
        assert.equal(memory.error(), NotFound);
      }
    });

    test("of 0 bytes or fewer is InvalidSize, and leaves nothing", () => {
      const before = ipcObjects();
      const memory = new SharedMemory(keyOf(keyType));
      for (const size of [0, -1, -(2 ** 40)]) {
        for (const result of [memory.create(size), memory.createOrAttach(size)]) {
          assert.equal(result, false);
          assert.equal(memory.error(), InvalidSize);
        }
      }
      assert.deepEqual(ipcObjectsSince(before), []);
    });

    test("that is made again is filled with zeros again", () => {
      const key = keyOf(keyType);
      for (let turn = 0; turn < 3; turn++) {
        using memory = create(key, 10_000);
        assert.ok(memory.data()!.every((byte) => byte === 0));
        memory.data()!.fill(255);
      }
    });

    test("that is attached to for reading shows what others write", () => {
      const key = keyOf(keyType);
      using memory = create(key);
      using reader = new SharedMemory(key);
      assert.equal(reader.attach(ReadOnly), true, reader.errorString());
      memory.data()![5] = 55;
      assert.equal(reader.constData()![5], 55);
      assert.equal(reader.lock() && reader.unlock(), true, reader.errorString());
      using opened = SharedMemory.open(key, { mode: ReadOnly });
      assert.equal(opened.constData()![5], 55);
      const another = keyOf(keyType);
      using made = new SharedMemory(another);
      assert.equal(made.create(64, ReadOnly), true, made.errorString());
      using writer = attach(another);
      writer.data()![0] = 1;
      assert.equal(made.constData()![0], 1);
    });

    test("that is attached to for reading cannot be written to", slow, async () => {
      const key = keyOf(keyType);
      using memory = create(key);
      const agents = await startAgents(key, peers.length);
      await Promise.all(agents.map(async (agent) => {
        await expectTrue(agent, "attach", ReadOnly);
        await assert.rejects(agent.request("write", "m", 0, [1]), / ended \(/);
        const how = await agent.ended;
        // Bun's handler of signals ends the process in its own way.
        if (process.platform !== "win32") assert.ok(/^SIG|^13[0-9]$/.test(String(how)), `${how}`);
        else assert.notEqual(how, 0);
      }));
      assert.equal(memory.data()![0], 0);
      assert.equal(memory.lock(), true, memory.errorString());
    });

    test("has views that are empty after detach()", () => {
      const key = keyOf(keyType);
      const memory = create(key);
      const views = [
        ...[memory.data()!, memory.view(Int32Array, 4, 2), memory.view(Float64Array)],
        ...[memory.view(DataView, 1, 3)],
      ];
      assert.deepEqual(
        views.map((view) => view.byteLength),
        [64, 8, 64, 3].map((bytes, index) => index % 2 === 0 ? memory.size() : bytes),
      );
      const { buffer } = memory.data()!;
      assert.equal(memory.detach(), true, memory.errorString());
      assert.equal(buffer.byteLength, 0);
      for (const view of views) {
        if (view instanceof DataView) assert.throws(() => view.getInt8(0));
        else assert.equal(view.length, 0);
      }
      assert.equal(memory.data(), null);
      assert.throws(() => memory.view(Int8Array), { code: "NotFound" });
    });
  });

  describe(`the lock: ${name}`, options, () => {
    leaveNothingBehind();

    test("excludes processes of all runtimes", crew, async () => {
      const key = keyOf(keyType);
      using memory = create(key);
      const agents = await startAttached(key, 3);
      const turns = 3000;
      const source = `
        const counts = objects.m.view(Int32Array);
        const turn = () => {
          const before = counts[0];
          counts[1]++;
          if (counts[2] !== 0) throw new Error("two have the lock");
          counts[2] = process.pid;
          for (let spin = 0; spin < 50; spin++) counts[3] = spin;
          if (counts[2] !== process.pid) throw new Error("two have the lock");
          counts[2] = 0;
          counts[0] = before + 1;
        };
        for (let i = 0; i < ${turns}; i++) {
          if (!objects.m.lock()) throw new Error(objects.m.errorString());
          turn();
          if (!objects.m.unlock()) throw new Error(objects.m.errorString());
          if (i % 100 === 0) await objects.m.withLockAsync(turn);
        }`;
      await Promise.all(agents.map((agent) => agent.run(source)));
      const counts = memory.view(Int32Array);
      const expected = agents.length * (turns + Math.ceil(turns / 100));
      assert.deepEqual([counts[0], counts[1], counts[2]], [expected, expected, 0]);
      await endAll(agents);
    });

    test("is the object's, and not the process's", () => {
      const key = keyOf(keyType);
      using first = create(key);
      using second = attach(key);
      assert.equal(first.unlock(), false);
      assert.equal(first.error(), LockError);
      assert.equal(first.lock(), true, first.errorString());
      assert.equal(second.tryLock(), false);
      assert.equal(second.unlock(), false);
      assert.equal(second.lock(), false, "this thread would wait for itself");
      assert.equal(second.error(), LockError);
      assert.equal(first.tryLock(), false, "it has it already");
      assert.equal(first.unlock(), true, first.errorString());
      assert.equal(second.lock(), true, second.errorString());
      assert.equal(first.tryLock(), false);
      assert.equal(second.detach(), true, second.errorString());
      assert.equal(first.tryLock(), true, first.errorString());
    });

    test("does not come in time if another process holds it", slow, async () => {
      const key = keyOf(keyType);
      using memory = create(key);
      const holder = await startHolder(ownRuntime, key);
      const started = performance.now();
      assert.equal(memory.tryLock(), false);
      assert.equal(memory.error(), LockError);
      assert.match(memory.errorString(), /^SharedMemory\.tryLock .*timed out after 0 ms: /);
      assert.equal(memory.tryLock(150), false);
      assert.ok(performance.now() - started >= 145);
      assert.match(memory.errorString(), /timed out after 150 ms: /);
      let turns = 0;
      const ticking = setInterval(() => turns++, 5);
      for (let wait = 0; turns <= 2 && wait < 10; wait++) { // on a busy machine it may turn once in a wait
        turns = 0;
        const waitStarted = performance.now();
        assert.equal(await memory.lockAsync({ timeout: 300 }), false);
        assert.ok(performance.now() - waitStarted >= 295);
      }
      clearInterval(ticking);
      assert.ok(turns > 2, `the event loop turned ${turns} times`);
      assert.match(memory.errorString(), /^SharedMemory\.lockAsync .*timed out after 300 ms: /);
      const controller = new AbortController();
      const aborted = memory.lockAsync({ signal: controller.signal });
      const reason = new Error("mine");
      controller.abort(reason);
      await assert.rejects(aborted, (error) => error === reason);
      await expectTrue(holder, "unlock");
      // What a wait that was given up may have taken, the event loop gives back.
      assert.equal(await memory.lockAsync({ timeout: SOON_MS }), true, memory.errorString());
      assert.equal(memory.unlock(), true, memory.errorString());
      assert.equal(await holder.end(), 0);
    });

    test("is handed to those who wait, in every runtime, when it is given back", crew, async () => {
      const key = keyOf(keyType);
      using memory = create(key);
      assert.equal(memory.lock(), true, memory.errorString());
      const agents = await startAttached(key, peers.length);
      const locked = agents.map((agent) => agent.run(LOCK_WHEN_RELEASED));
      await aMoment();
      release(memory);
      assert.deepEqual(await Promise.all(locked), agents.map(() => true));
      memory.data()![63] = 0;
      assert.equal(memory.lock(), true, memory.errorString());
      const asynchronous = agents.map((agent) =>
        agent.run(LOCK_WHEN_RELEASED.replace("!objects.m.lock()", "!await objects.m.lockAsync()"))
      );
      await aMoment();
      release(memory);
      assert.deepEqual(await Promise.all(asynchronous), agents.map(() => true));
      await endAll(agents);
    });

    test("is handed to many who wait, one after the other", crew, async () => {
      const key = keyOf(keyType);
      using memory = create(key);
      assert.equal(memory.lock(), true, memory.errorString());
      const agents = await startAttached(key, 6);
      const waits = 5;
      const waiting = agents.map((agent, index) =>
        agent.run(
          index < 3 ? LOCK_WHEN_RELEASED : `
          const order = [];
          const counts = objects.m.view(Int32Array);
          await Promise.all(Array.from({ length: ${waits} }, async (_, index) => {
            if (!await objects.m.lockAsync()) throw new Error(objects.m.errorString());
            if (objects.m.data()[63] !== ${RELEASED}) throw new Error("not released");
            order.push(index);
            const before = counts[0];
            await new Promise((resolve) => setTimeout(resolve, 1));
            counts[0] = before + 1;
            objects.m.unlock();
          }));
          return order;`,
        )
      );
      await aMoment();
      const started = performance.now();
      release(memory);
      const results = await Promise.all(waiting);
      const order = Array.from({ length: waits }, (_, index) => index);
      assert.deepEqual(results, [true, true, true, order, order, order]);
      assert.equal(memory.view(Int32Array)[0], 3 * waits);
      assert.ok(performance.now() - started < SOON_MS, "nobody sleeps for long beside a free lock");
      await endAll(agents);
    });

    test(`of a ${ownRuntime.name} process that is killed becomes free`, slow, async () => {
      const key = keyOf(keyType);
      using memory = create(key);
      const first = await startHolder(ownRuntime, key);
      await first.kill();
      // Whoever comes then, has it at once, or has to find out that its holder is dead.
      const patience = killedHolder === "undone" ? 0 : SOON_MS;
      assert.equal(memory.tryLock(patience), true, memory.errorString());
      assert.equal(memory.unlock(), true, memory.errorString());

      // Who has waited since before, too, whatever the way.
      const second = await startHolder(ownRuntime, key);
      const [blocked, queued] = await startAttached(key, 2) as [Agent, Agent];
      const locked = [
        blocked.run("const ok = objects.m.lock(); objects.m.unlock(); return ok;"),
        queued.run("const ok = await objects.m.lockAsync(); objects.m.unlock(); return ok;"),
      ];
      await aMoment();
      assert.equal(memory.tryLock(), false);
      await second.kill();
      const started = performance.now();
      assert.deepEqual(await Promise.all(locked), [true, true]);
      assert.ok(performance.now() - started < SOON_MS);
      assert.equal(memory.tryLock(SOON_MS), true, memory.errorString());
      assert.equal(memory.unlock(), true, memory.errorString());
      await endAll([blocked, queued]);
    });

    test("of one that is killed while it waits does no harm", slow, async () => {
      const key = keyOf(keyType);
      using memory = create(key);
      assert.equal(memory.lock(), true, memory.errorString());
      const agents = await startAttached(key, 6);
      const waiting = agents.map((agent, index) =>
        assert.rejects(agent.run(`await objects.m.lock${index % 2 ? "Async" : ""}();`), /SIGKILL/)
      );
      await aMoment();
      await Promise.all(agents.map((agent) => agent.kill()));
      await Promise.all(waiting);
      using other = attach(key);
      assert.equal(other.tryLock(), false, "it is held");
      assert.equal(memory.unlock(), true, memory.errorString());
      assert.equal(other.tryLock(SOON_MS), true, other.errorString());
    });

    test(
      `works after ${kills} kills in the middle of its use`,
      { ...verySlow, ...crewOnly },
      async () => {
        const before = ipcObjects();
        const seed = Date.now() | 0;
        const random = new Random(seed);
        const key = keyOf(keyType);
        const memory = create(key);
        const counts = memory.view(Int32Array);
        const source = `
        const { m } = objects;
        const counts = m.view(Int32Array);
        const turn = () => {
          counts[0]++;
          for (let spin = 0; spin < 50; spin++) counts[3] = spin;
          counts[1]++;
        };
        setTimeout(function turnAround() {
          const end = Date.now() + 20;
          while (Date.now() < end) {
            if (!m.lock()) throw new Error(m.errorString());
            turn();
            if (!m.unlock()) throw new Error(m.errorString());
          }
          m.withLockAsync(turn).then(turnAround);
        });`;
        let started = 0;
        async function killSome(): Promise<void> {
          while (started < kills) {
            const victim = startAgent(runtimes[started++ % runtimes.length]!);
            await giveMemory(victim, key);
            await expectTrue(victim, "attach");
            await victim.run(source);
            await new Promise((resolve) => setTimeout(resolve, random.number() * 10));
            await victim.kill();
            const how = await victim.ended;
            assert.equal(how, "SIGKILL", `seed ${seed}: ${victim.stderr}`);
          }
        }
        await Promise.all([killSome(), killSome(), killSome()]);
        assert.equal(memory.tryLock(SOON_MS), true, `seed ${seed}: ${memory.errorString()}`);
        const torn = counts[0]! - counts[1]!;
        assert.ok(counts[1]! > kills, `they did something: ${counts}`);
        assert.ok(torn >= 0 && torn <= kills, `seed ${seed}: ${counts}`);
        using other = attach(key);
        assert.equal(other.tryLock(), false, "one has it");
        assert.equal(memory.unlock(), true, memory.errorString());
        assert.equal(other.tryLock(), true, other.errorString());
        assert.equal(memory.tryLock(), false);
        assert.equal(other.detach() && memory.detach(), true);
        assert.deepEqual(ipcObjectsSince(before), [], `seed ${seed}`);
      },
    );

    test("is that of one thread of two", slow, async () => {
      const key = keyOf(keyType);
      using memory = create(key);
      const count = `
        const view = memory.view(Int32Array);
        for (let i = 0; i < 2000; i++) {
          if (!memory.lock()) throw new Error(memory.errorString());
          view[0]++;
          if (!memory.unlock()) throw new Error(memory.errorString());
        }`;
      const workers = [1, 2].map(() =>
        new Worker(fixture, {
          workerData: `
            const memory = new library.SharedMemory(${sourceOf(key)});
            if (!memory.attach()) throw new Error(memory.errorString());
            tell("ready");
            await next();
            ${count}
            tell(memory.tryLock() && memory.unlock());`,
        })
      );
      const ends = workers.map((worker) => once(worker, "exit"));
      const messages = () => Promise.all(workers.map((worker) => once(worker, "message")));
      assert.deepEqual(await withDeadline(messages(), "two threads"), [["ready"], ["ready"]]);
      const done = messages();
      for (const worker of workers) worker.postMessage("go");
      new Function("memory", count)(memory);
      const results = await withDeadline(done, "the end of their work");
      assert.equal(memory.view(Int32Array)[0], 6000, String(results));
      assert.deepEqual(await withDeadline(Promise.all(ends), "their ends"), [[0], [0]]);
      assert.equal(memory.tryLock(), true, memory.errorString());
    });
  });

  describe(`the last one out: ${name}`, options, () => {
    leaveNothingBehind();

    test("removes everything, also by the end of a program", slow, async () => {
      const before = ipcObjects();
      const key = keyOf(keyType);
      const agents = await startAgents(key, 3);
      await expectTrue(agents[0]!, "create", 64);
      await Promise.all(agents.slice(1).map((agent) => expectTrue(agent, "attach")));
      for (const agent of agents) {
        await expectTrue(agent, "lock");
        await expectTrue(agent, "unlock");
      }
      // The creator goes first.
      for (const agent of agents) {
        using other = new SharedMemory(key);
        assert.equal(other.attach(), true, other.errorString());
        assert.equal(other.detach(), true, other.errorString());
        assert.equal(await agent.end(), 0);
      }
      assertGone(key);
      assert.deepEqual(ipcObjectsSince(before), []);
    });

    test(`removes everything by process.exit() in ${ownRuntime.name}`, slow, async () => {
      const before = ipcObjects();
      const key = keyOf(keyType);
      const agent = startAgent(ownRuntime);
      await giveMemory(agent, key);
      await expectTrue(agent, "create", 64);
      await expectTrue(agent, "lock");
      agent.run("process.exit(5);").catch(() => {});
      assert.equal(await withDeadline(agent.ended, "the exit"), 5);
      assert.deepEqual(ipcObjectsSince(before), []);
    });

    const stays = survivesCrash ? "stays, until somebody attaches and detaches" : "goes with it";
    test(`that is killed: its segment ${stays}`, slow, async () => {
      const before = ipcObjects();
      const key = keyOf(keyType);
      const agent = startAgent(ownRuntime);
      await giveMemory(agent, key);
      await expectTrue(agent, "create", 64);
      await agent.request("write", "m", 0, [42]);
      await expectTrue(agent, "lock");
      await agent.kill();
      using memory = new SharedMemory(key);
      if (survivesCrash) {
        assert.equal(memory.create(64), false);
        assert.equal(memory.error(), AlreadyExists, memory.errorString());
        assert.equal(memory.attach(), true, memory.errorString());
        assert.deepEqual([memory.size(), memory.data()![0]], [64, 42]);
        assert.equal(memory.tryLock(SOON_MS), true, memory.errorString());
        assert.equal(memory.detach(), true, memory.errorString());
      }
      assert.deepEqual(ipcObjectsSince(before), []);
      assert.equal(memory.create(32), true, memory.errorString());
      assert.equal(memory.data()![0], 0);
    });

    test(
      `that waits for the lock in ${ownRuntime.name} and exits leaves nothing`,
      slow,
      async () => {
        const key = keyOf(keyType);
        const memory = create(key);
        assert.equal(memory.lock(), true, memory.errorString());
        const agent = startAgent(ownRuntime);
        await giveMemory(agent, key);
        await expectTrue(agent, "attach");
        await agent.run("objects.m.lockAsync().then(() => {}, () => {});");
        await aMoment();
        memory.detach(); // and what waits may have the lock before it ends, or just after
        const started = performance.now();
        agent.run("process.exit(3);").catch(() => {});
        assert.equal(await withDeadline(agent.ended, "the exit"), 3, agent.stderr);
        assert.ok(performance.now() - started < SOON_MS);
        // leaveNothingBehind() looks
      },
    );

    test(
      `with two objects of which one waits for the other: ${ownRuntime.name}`,
      slow,
      async () => {
        const before = ipcObjects();
        const key = keyOf(keyType);
        const agent = startAgent(ownRuntime);
        await giveMemory(agent, key, "m");
        await giveMemory(agent, key, "n");
        await expectTrue(agent, "create", 64);
        await agent.run(`
        if (!objects.n.attach() || !objects.m.lock()) throw new Error("cannot lock");
        objects.n.lockAsync().then(() => {}, () => {});`);
        await aMoment();
        agent.run("process.exit(3);").catch(() => {});
        assert.equal(await withDeadline(agent.ended, "the exit"), 3, agent.stderr);
        assert.deepEqual(ipcObjectsSince(before), []);
      },
    );

    test("an exit while waiting leaves the lock to its holder", slow, async () => {
      const key = keyOf(keyType);
      using memory = create(key);
      using other = attach(key);
      assert.equal(memory.lock(), true, memory.errorString());
      const agents = await startAttached(key, peers.length);
      await Promise.all(
        agents.map((agent) => agent.run("objects.m.lockAsync().then(() => {}, () => {});")),
      );
      await aMoment();
      await Promise.all(agents.map(async (agent) => {
        agent.run("process.exit(3);").catch(() => {});
        assert.equal(await withDeadline(agent.ended, "the exit"), 3, agent.stderr);
      }));
      assert.equal(other.tryLock(), false);
      assert.equal(memory.unlock(), true, memory.errorString());
      assert.equal(other.tryLock(SOON_MS), true, other.errorString());
    });

    test("removes it though another is just finding that it is too small", slow, async () => {
      const key = keyOf(keyType);
      const agent = startAgent(ownRuntime);
      const refused = agent.run(`
        const codes = {};
        console.log(JSON.stringify({ value: "looking" }));
        for (const end = Date.now() + 500; Date.now() < end;) {
          try {
            library.SharedMemory.open(${sourceOf(key)}, { size: 2 ** 17, disposition: "attach" });
          } catch ({ code }) {
            codes[code] = (codes[code] ?? 0) + 1;
          }
        }
        return Object.keys(codes);`);
      const codes = nextAnswer(agent);
      assert.equal(await refused, "looking");
      const end = Date.now() + 400;
      for (let turn = 0; Date.now() < end; turn++) {
        const memory = create(key);
        assert.equal(memory.detach(), true, memory.errorString());
      }
      for (const code of await codes) assert.match(code, /^(InvalidSize|NotFound)$/);
      assertGone(key);
      assert.equal(await agent.end(), 0);
    });

    test("an object that is disposed while it waits fails its wait, and never has it", async () => {
      const key = keyOf(keyType);
      using memory = create(key);
      const waiter = attach(key);
      using third = attach(key);
      assert.equal(memory.lock(), true, memory.errorString());
      const waiting = waiter.lockAsync();
      const others = third.lockAsync({ timeout: DEADLINE_MS });
      await aMoment();
      waiter[Symbol.dispose]();
      assert.equal(await withDeadline(waiting, "the end of the wait"), false);
      assert.equal(waiter.error(), LockError);
      assert.match(waiter.errorString(), /detached while it waited/);
      assert.equal(waiter.isAttached(), false);
      assert.equal(memory.unlock(), true, memory.errorString());
      assert.equal(await others, true, third.errorString());
      assert.equal(third.unlock(), true, third.errorString());
    });
  });

  describe(`many who open one segment at once: ${name}`, options, () => {
    leaveNothingBehind();

    test(
      `${crowd} processes of all runtimes have one creator, and see it finished`,
      crew,
      async () => {
        const agents = startMany(crowd);
        await Promise.all(agents.map((agent) => agent.run(""))); // they run
        for (let round = 0; round < (isVariant ? 1 : 6); round++) {
          const key = keyOf(keyType);
          const start = Date.now() + 50;
          const made: number[] = await Promise.all(agents.map((agent) =>
            agent.run(`
            let made = 0;
            while (Date.now() < ${start});
            objects.m = library.SharedMemory.open(${sourceOf(key)}, {
              size: 4096,
              timeout: ${DEADLINE_MS},
              initialize(bytes) {
                made++;
                for (let i = 0; i < bytes.length; i++) bytes[i] = 1;
              },
            });
            const unfinished = objects.m.data().subarray(0, 4096).findIndex((byte) => byte !== 1);
            if (unfinished >= 0) throw new Error("unfinished at " + unfinished);
            return made;`)
          ));
          assert.equal(made.reduce((sum, one) => sum + one, 0), 1, String(made));
          await Promise.all(agents.map((agent) => expectTrue(agent, "detach")));
          assertGone(key);
        }
        await endAll(agents);
      },
    );

    test(
      `createOrAttach() of ${crowd} processes always succeeds while they come and go`,
      crew,
      async () => {
        const key = keyOf(keyType);
        const agents = await startAgents(key, crowd);
        const made: number[] = await Promise.all(agents.map((agent) =>
          agent.run(`
          for (let i = 0; i < ${isVariant ? 20 : 100}; i++) {
            if (!objects.m.createOrAttach(64)) throw new Error(objects.m.errorString());
            if (objects.m.size() < 64) throw new Error("size " + objects.m.size());
            if (i % 3 === 0) objects.m.withLock(() => objects.m.data()[0]++);
            if (!objects.m.detach()) throw new Error(objects.m.errorString());
          }
          return 1;`)
        ));
        assert.equal(made.length, crowd);
        await endAll(agents);
        assertGone(key);
      },
    );

    test("if the creator is killed in initialize the next one begins anew", slow, async () => {
      const key = keyOf(keyType);
      const creator = startAgent(ownRuntime);
      const dying = creator.run(`
        library.SharedMemory.open(${sourceOf(key)}, {
          size: 64,
          initialize(bytes) {
            bytes.fill(66);
            console.log(JSON.stringify({ value: "in initialize" }));
            for (;;);
          },
        });`);
      assert.equal(await dying, "in initialize");
      assertNotThere(key);
      const waiting = startAgent(ownRuntime);
      const opened = waiting.run(`
        let first = -1;
        objects.m = library.SharedMemory.open(${sourceOf(key)}, {
          size: 64,
          timeout: ${DEADLINE_MS},
          initialize(bytes) { first = bytes[0]; bytes.fill(5); },
        });
        return [first, objects.m.data()[0], objects.m.tryLock()];`);
      await aMoment();
      assertNotThere(key);
      await creator.kill();
      assert.deepEqual(await opened, [0, 5, true]);
      assert.equal(await waiting.end(), 0);
    });

    function assertNotThere(key: NativeIpcKey): void {
      const memory = new SharedMemory(key);
      assert.equal(memory.attach(), false, "it is not finished");
      assert.equal(memory.error(), NotFound, memory.errorString());
    }

    test("an open() without patience says that another is making it", slow, async () => {
      const key = keyOf(keyType);
      const creator = startAgent(ownRuntime);
      const busy = creator.run(`
        library.SharedMemory.open(${sourceOf(key)}, {
          size: 64,
          initialize() {
            console.log(JSON.stringify({ value: "in initialize" }));
            for (;;);
          },
        });`);
      assert.equal(await busy, "in initialize");
      for (const timeout of [0, 150]) {
        const started = performance.now();
        assert.throws(() => SharedMemory.open(key, { size: 64, timeout }), {
          code: "LockError",
          message: /: timed out: the lock is held by /,
        });
        assert.ok(performance.now() - started >= timeout - 5);
      }
      await creator.kill();
      using memory = SharedMemory.open(key, { size: 64 });
      assert.equal(memory.data()![0], 0);
    });

    test("create() beside initialize: one of the two makes the segment", slow, async () => {
      const key = keyOf(keyType);
      const creator = startAgent(ownRuntime);
      const busy = creator.run(`
        objects.m = library.SharedMemory.open(${sourceOf(key)}, {
          size: 64,
          initialize(bytes) {
            console.log(JSON.stringify({ value: "in initialize" }));
            const end = Date.now() + 300;
            while (Date.now() < end);
            bytes.fill(5);
          },
        });
        return "opened";`);
      const opened = nextAnswer(creator).catch(({ code }) => code);
      assert.equal(await busy, "in initialize");
      using memory = new SharedMemory(key);
      const isMade = memory.create(64);
      assert.equal(await opened, isMade ? "AlreadyExists" : "opened");
      if (!isMade) {
        assert.equal(memory.error(), AlreadyExists, memory.errorString());
        assert.equal(memory.attach(), true, memory.errorString());
      }
      assert.equal(memory.data()![0], isMade ? 0 : 5);
      assert.equal(memory.tryLock(SOON_MS), true, memory.errorString());
      assert.equal(memory.unlock(), true, memory.errorString());
      assert.equal(await creator.end(), 0);
    });

    test("initialize that throws leaves nothing, and the next one begins anew", () => {
      const before = ipcObjects();
      const key = keyOf(keyType);
      const mine = new Error("mine");
      let kept: Uint8Array | undefined;
      const open = () =>
        SharedMemory.open(key, {
          size: 64,
          initialize(bytes) {
            kept = bytes;
            bytes[0] = 9;
            throw mine;
          },
        });
      assert.throws(open, (error) => error === mine);
      assert.equal(kept!.length, 0);
      assert.deepEqual(ipcObjectsSince(before), []);
      using memory = SharedMemory.open(key, { size: 64 });
      assert.equal(memory.data()![0], 0);
      assert.equal(memory.lock(), true, memory.errorString());
    });

    test("a segment of a crash is replaced, or kept on request", slow, async () => {
      for (const stale of ["replace", "keep"] as const) {
        const key = keyOf(keyType);
        const agent = startAgent(ownRuntime);
        await giveMemory(agent, key);
        await expectTrue(agent, "create", 64);
        await agent.request("write", "m", 0, [42]);
        await agent.kill();
        let called = false;
        const initialize = () => called = true;
        using memory = SharedMemory.open(key, { size: 32, stale, initialize });
        const isKept = stale === "keep" && survivesCrash;
        assert.equal(called, !isKept);
        assert.equal(memory.data()![0], isKept ? 42 : 0);
        if (exactSize) assert.equal(memory.size(), isKept ? 64 : 32);
        using other = SharedMemory.open(key, { size: 32, stale, initialize: () => assert.fail() });
        memory.data()![1] = 5;
        assert.equal(other.data()![1], 5);
        assert.equal(memory.lock(), true, memory.errorString());
        assert.equal(other.tryLock(), false);
      }
    });

    test("a segment that is smaller than asked for is an error, and stays as it is", () => {
      const key = keyOf(keyType);
      using memory = create(key, 64);
      const size = memory.size() + 1;
      using other = new SharedMemory(key);
      assert.equal(other.createOrAttach(size), false);
      assert.equal(other.error(), InvalidSize);
      assert.match(
        other.errorString(),
        new RegExp(`has ${size - 1} bytes, fewer than the ${size}`),
      );
      assert.equal(other.isAttached(), false);
      assert.throws(() => SharedMemory.open(key, { size }), { code: "InvalidSize" });
      assert.throws(() => SharedMemory.open(key, { size, disposition: "attach" }), {
        code: "InvalidSize",
      });
      assert.equal(other.createOrAttach(64), true, other.errorString());
      assert.equal(memory.lock(), true, memory.errorString());
      assert.equal(other.tryLock(), false);
    });
  });

  describe(`a SystemSemaphore: ${name}`, options, () => {
    leaveNothingBehind();

    const { semaphoreCreate, semaphoreUndo } = capabilities;

    function open(key: NativeIpcKey, value = 0, mode?: 0 | 1): SystemSemaphore {
      const semaphore = new SystemSemaphore(key, value, mode);
      assert.equal(semaphore.error(), SystemSemaphoreError.NoError, semaphore.errorString());
      return semaphore;
    }

    /** Its value, found by taking all there is. */
    function valueOf(semaphore: SystemSemaphore): number {
      let value = 0;
      while (semaphore.tryAcquire()) value++;
      assert.equal(semaphore.error(), SystemSemaphoreError.UnknownError, semaphore.errorString());
      assert.equal(semaphore.release(value), true, semaphore.errorString());
      return value;
    }

    test("counts between processes of all runtimes", crew, async () => {
      const key = semaphoreKeyOf(keyType);
      using semaphore = open(key, 2);
      const agents = peers.map((runtime) => startAgent(runtime));
      await giveSemaphore(agents, key, 99); // which does not count: there is one
      assert.equal(valueOf(semaphore), 2);
      for (const agent of agents) {
        assert.equal(await agent.call("s", "acquire"), true);
        assert.equal(valueOf(semaphore), 1);
        assert.equal(await agent.call("s", "release", 4), true);
        assert.equal(valueOf(semaphore), 5);
        for (let i = 0; i < 3; i++) assert.equal(await agent.call("s", "tryAcquire"), true);
        assert.equal(valueOf(semaphore), 2);
      }
      assert.equal(semaphore.acquire() && semaphore.acquire(), true);
      const waiting = agents.map((agent, index) =>
        agent.call("s", index % 2 === 0 ? "acquire" : "acquireAsync")
      );
      await aMoment();
      assert.equal(semaphore.release(agents.length), true, semaphore.errorString());
      assert.deepEqual(await Promise.all(waiting), agents.map(() => true));
      assert.equal(valueOf(semaphore), 0);
      await Promise.all(agents.map((agent) => agent.call("s", "release")));
      await endAll(agents);
    });

    test("is waited for no longer than asked", async () => {
      using semaphore = open(semaphoreKeyOf(keyType), 0);
      const started = performance.now();
      assert.equal(semaphore.tryAcquire(), false);
      assert.equal(semaphore.tryAcquire(120), false);
      assert.ok(performance.now() - started >= 115);
      assert.match(semaphore.errorString(), /timed out after 120 ms: the value is 0$/);
      const waitStarted = performance.now();
      assert.equal(await semaphore.acquireAsync({ timeout: 250 }), false);
      assert.ok(performance.now() - waitStarted >= 245);
      const controller = new AbortController();
      const aborted = semaphore.acquireAsync({ signal: controller.signal });
      const reason = new Error("mine");
      controller.abort(reason);
      await assert.rejects(aborted, (error) => error === reason);
      assert.equal(semaphore.release(2), true, semaphore.errorString());
      assert.deepEqual(
        await Promise.all(
          [SOON_MS, SOON_MS, 1000].map((timeout) => semaphore.acquireAsync({ timeout })),
        ),
        [true, true, false],
      );
    });

    test("of many who wait in one thread serves the first first", async () => {
      const key = semaphoreKeyOf(keyType);
      using semaphore = open(key, 0);
      using other = open(key);
      const order: number[] = [];
      const waiting = [0, 1, 2, 3].map(async (index) => {
        const acquired = await (index % 2 ? other : semaphore).acquireAsync();
        if (acquired) order.push(index);
      });
      await aMoment();
      assert.equal(semaphore.release(4), true, semaphore.errorString());
      await withDeadline(Promise.all(waiting), "four waits");
      assert.deepEqual(order, [0, 1, 2, 3]);
    });

    const does = semaphoreCreate === "sets" ? "sets" : "leaves as it is";
    test(`in mode Create ${does} one that exists`, () => {
      const { Create, Open } = SystemSemaphoreMode;
      const key = semaphoreKeyOf(keyType);
      using old = open(key, 5, Create);
      assert.equal(valueOf(old), 5);
      using opened = open(key, 3, Open);
      assert.equal(valueOf(opened), 5);
      using created = open(key, 2, Create);
      const value = semaphoreCreate === "sets" ? 2 : 5;
      assert.deepEqual([created, opened, old].map(valueOf), [value, value, value]);
      using last = open(key, 9, Open);
      assert.equal(created.acquire(), true);
      assert.equal(valueOf(last), value - 1);
      assert.equal(old.release(), true);
    });

    const gives = semaphoreUndo ? "is given back" : "stays acquired";
    test(`what a process acquired that ends ${gives}`, slow, async () => {
      const key = semaphoreKeyOf(keyType);
      using semaphore = open(key, 4);
      const [ending, killed] = [startAgent(ownRuntime), startAgent(ownRuntime)];
      await giveSemaphore([ending, killed], key);
      for (const agent of [ending, killed]) assert.equal(await agent.call("s", "acquire"), true);
      assert.equal(valueOf(semaphore), 2);
      assert.equal(await ending.end(), 0);
      assert.equal(valueOf(semaphore), semaphoreUndo ? 3 : 2);
      await killed.kill();
      const expected = semaphoreUndo ? 4 : 2;
      await until(() => valueOf(semaphore) === expected, `the value ${expected}`);
    });

    test("is removed by the last who uses it, also by one who waits and exits", slow, async () => {
      const before = ipcObjects();
      const key = semaphoreKeyOf(keyType);
      const semaphore = open(key, 0);
      const agent = startAgent(ownRuntime);
      await giveSemaphore(agent, key, 7);
      semaphore[Symbol.dispose]();
      await agent.run("objects.s.acquireAsync().then(() => {}, () => {});");
      await aMoment();
      const started = performance.now();
      agent.run("process.exit(4);").catch(() => {});
      assert.equal(await withDeadline(agent.ended, "the exit"), 4, agent.stderr);
      assert.ok(performance.now() - started < SOON_MS);
      assert.deepEqual(ipcObjectsSince(before), []);
      using again = open(key, 6);
      assert.equal(valueOf(again), 6);
    });

    test("that is disposed while it is waited for fails the wait", async () => {
      const key = semaphoreKeyOf(keyType);
      const semaphore = open(key, 0);
      using other = open(key);
      const waiting = semaphore.acquireAsync();
      await aMoment();
      semaphore[Symbol.dispose]();
      assert.equal(await withDeadline(waiting, "the end of the wait"), false);
      assert.match(semaphore.errorString(), /disposed while it waited/);
      assert.equal(other.release(), true, other.errorString());
      // What the call on another thread may have taken meanwhile, the event loop gives back.
      assert.equal(await other.acquireAsync({ timeout: SOON_MS }), true, other.errorString());
    });
  });
}

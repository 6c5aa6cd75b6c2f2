/** A wait that was given up holds nobody up, whatever the event loop of its process does meanwhile. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { sleepSync } from "../../backends/timing.ts";
import type { Semaphore } from "../../backends/types.ts";
import { acquireWithin } from "../../core/acquire_queue.ts";
import { SharedMemory, SystemSemaphore } from "../../mod.ts";
import { registry } from "../../registry.ts";
import { keyOf, type KeyType, keyTypes, semaphoreKeyOf, sourceOf } from "../support/key_types.ts";
import { attached, created, served } from "../support/peers.ts";
import {
  type Agent,
  leaveNothingBehind,
  ownRuntime,
  slow,
  startAgent,
} from "../support/support.ts";
import { uniqueKey, until } from "../support/support.ts";
import { fixture } from "../support/threads.ts";

/** How long the event loop is blocked after the wait was given up, unless the test ends that before. */
const BLOCKED_MS = 20_000;
/**
 * What others may wait for the lock after it was released: a few milliseconds on an idle machine, some seconds where
 * processes are stopped, and otherwise as long as the event loop is blocked.
 */
const PROMPTLY_MS = 10_000;

/** Something to wait for, as JavaScript for agents: `objects.o` is a new object of it. */
interface Subject {
  readonly name: string;
  /** What makes the object of the one who holds it, where that is another one. */
  readonly holder?: string;
  readonly make: string;
  readonly take: string;
  readonly tryTake: string;
  readonly takeAsync: string;
  readonly give: string;
}

const LOCK = { take: "lock", tryTake: "tryLock", takeAsync: "lockAsync", give: "unlock" };
const SEMAPHORE = {
  take: "acquire",
  tryTake: "tryAcquire",
  takeAsync: "acquireAsync",
  give: "release",
};

function memoryOf(key: string): string {
  return `
    objects.o = new library.SharedMemory(${key});
    if (!objects.o.createOrAttach(64)) throw new Error(objects.o.errorString());`;
}

function subjectsOf(keyType: KeyType): Subject[] {
  const lock = {
    ...LOCK,
    name: `the lock of a segment: ${keyType.name}`,
    make: memoryOf(sourceOf(keyOf(keyType))),
  };
  const key = sourceOf(semaphoreKeyOf(keyType));
  const semaphore = {
    ...SEMAPHORE,
    name: `a semaphore: ${keyType.name}`,
    make: `objects.o = new library.SystemSemaphore(${key}, 1);`,
  };
  if (keyType.name !== "POSIX") return [lock, semaphore];
  // Only this module's processes exclude each other by a note beside the semaphore.
  const text = uniqueKey();
  const { type } = keyType;
  const bare = sourceOf(SystemSemaphore.legacyNativeKey(text, type));
  const foreign = {
    ...LOCK,
    name: "the lock of a segment that another program holds: POSIX",
    make: memoryOf(sourceOf(SharedMemory.legacyNativeKey(text, type))),
    holder: `
      const semaphore = new library.SystemSemaphore(${bare}, 1);
      objects.o = { lock: () => semaphore.acquire(), unlock: () => semaphore.release(), semaphore };`,
  };
  return [lock, semaphore, foreign];
}

const subjects = keyTypes.filter(({ name }) => !name.includes("project id")).flatMap(subjectsOf);

/** What the words of a segment say of a process: how often it was blocked, and how often that may end. */
const [BLOCKED, ENOUGH] = [0, 1] as const;

/** Code for `block()`, which blocks the event loop, no longer than the test needs. */
const BLOCK = (text: string) => `
  const said = new library.SharedMemory(${JSON.stringify(text)});
  if (!said.attach()) throw new Error(said.errorString());
  const words = said.view(Int32Array);
  const block = () => {
    const round = Atomics.add(words, ${BLOCKED}, 1) + 1;
    const end = performance.now() + ${BLOCKED_MS};
    while (Atomics.load(words, ${ENOUGH}) < round && performance.now() < end);
  };`;

/** How a wait is given up, by code that has `wait(options)` and `block()`. */
const ways: readonly [name: string, source: string][] = [
  ["by its timeout", "const taken = await wait({ timeout: 50 }); block(); return taken;"],
  [
    "by an abort",
    `const controller = new AbortController();
    const taken = wait({ signal: controller.signal }).catch(() => false);
    await new Promise((resolve) => setTimeout(resolve, 50));
    controller.abort();
    block();
    return await taken;`,
  ],
  [
    "by a timeout that passes while its event loop is blocked",
    `const taken = wait({ timeout: 50 });
    await new Promise((resolve) => setTimeout(resolve, 20));
    block();
    return await taken;`,
  ],
  [
    "a hundred times",
    `for (let i = 0; i < 100; i++) {
      const controller = new AbortController();
      const taken = wait({ signal: controller.signal }).catch(() => false);
      if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 3));
      controller.abort();
      if (await taken) return true;
    }
    block();
    return false;`,
  ],
];

async function make(agent: Agent, { make, name, ...subject }: Subject): Promise<void> {
  await agent.run(make).catch((error) => assert.fail(`${name}: ${error.message}`));
  await agent.run(`
    objects.must = (value) => { if (!value) throw new Error(objects.o.errorString()); };
    objects.take = () => objects.must(objects.o.${subject.take}());
    objects.tryTake = (ms) => objects.o.${subject.tryTake}(ms);
    objects.wait = (options) => objects.o.${subject.takeAsync}(options);
    objects.give = () => objects.must(objects.o.${subject.give}());`);
}

/**
 * Has `blocked`, an agent's run that blocks its event loop, overtaken: one process releases what that process has given
 * up, and another one waits for it. Returns how long it waited after the release, in ms.
 */
async function handOver(holder: Agent, third: Agent, take: string): Promise<number> {
  const taken = third.run(`${take} return Date.now();`);
  const released = await holder.run(`
    await new Promise((resolve) => setTimeout(resolve, 100));
    objects.give();
    return Date.now();`);
  return await taken - released;
}

/** The agents that have an object of `subject`: one that holds it, one that gives up, and one that waits for it. */
async function startWith(subject: Subject): Promise<[Agent, Agent, Agent]> {
  const agents: [Agent, Agent, Agent] = [
    startAgent(ownRuntime),
    startAgent(ownRuntime),
    startAgent(ownRuntime),
  ];
  const [holder, giver, third] = agents;
  await make(giver, subject);
  await make(third, subject);
  await make(holder, subject.holder ? { ...subject, make: subject.holder } : subject);
  // The thread that waits takes a moment to start the first time.
  await holder.run("objects.take();");
  assert.equal(await giver.run("return objects.wait({ timeout: 500 });"), false);
  await holder.run("objects.give();");
  return agents;
}

async function assertHandsOver(
  [holder, giver, third]: readonly [Agent, Agent, Agent],
  name: string,
  way: string,
  source: string,
): Promise<void> {
  const text = uniqueKey("said");
  using said = created(text);
  const words = said.view(Int32Array);
  await holder.run("objects.take();");
  for (const take of ["objects.take();", `objects.must(objects.tryTake(${BLOCKED_MS}));`]) {
    const given = giver.run(`const { wait } = objects; ${BLOCK(text)} ${source}`);
    await until(() => Atomics.load(words, BLOCKED) > words[ENOUGH]!, "the block");
    const ms = await handOver(holder, third, take);
    Atomics.add(words, ENOUGH, 1);
    if (process.env["SHOW_MS"]) console.error(ownRuntime.name, name, way, take, ms);
    assert.ok(ms < PROMPTLY_MS, `given up ${way}: ${take} got it after ${ms} ms`);
    assert.equal(await given, false, way);
    await third.run("objects.give();");
    await holder.run("objects.take();");
  }
  await holder.run("objects.give();");
  assert.equal(await giver.run("return objects.wait();"), true, way);
  await giver.run("objects.give();");
}

/** That a wait was given up, and its thread may be about to return what it took, is no reason to be refused. */
async function assertHasWhatIsFree([holder, giver]: readonly [Agent, Agent, Agent]): Promise<void> {
  for (const take of ["objects.tryTake()", "objects.tryTake(1)", "objects.take() ?? true"]) {
    await holder.run("objects.take();");
    const text = uniqueKey("said");
    using said = created(text);
    const words = said.view(Int32Array);
    const taken = giver.run(`
      ${BLOCK(text)}
      await objects.wait({ timeout: 30 });
      block();
      return ${take};`);
    await until(() => Atomics.load(words, BLOCKED) > 0, "the block");
    await holder.run("objects.give();");
    Atomics.add(words, ENOUGH, 1);
    assert.equal(await taken, true, take);
    await giver.run("objects.give();");
  }
}

describe(`a wait in ${ownRuntime.name} that was given up`, () => {
  leaveNothingBehind();

  for (const subject of subjects) {
    test(`lets others have ${subject.name}, in whichever way it was given up`, slow, async () => {
      const agents = await startWith(subject);
      for (const [way, source] of ways) await assertHandsOver(agents, subject.name, way, source);
      await assertHasWhatIsFree(agents);
      for (const agent of agents) assert.equal(await agent.end(), 0, agent.stderr);
    });
  }

  test("is given back before the same thread tries, 300 times", slow, async () => {
    using memory = created();
    using other = attached(memory.key()!);
    assert.equal(other.lock(), true);
    assert.equal(await memory.lockAsync({ timeout: 300 }), false); // its thread has started
    for (let round = 0; round < 300; round++) {
      const controller = new AbortController();
      const locked = memory.lockAsync({ signal: controller.signal });
      const ended = assert.rejects(locked, { name: "AbortError" });
      if (round % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      controller.abort();
      assert.equal(other.unlock(), true); // the kernel gives it to whoever waits, in this very call
      const way = round % 3;
      const isLocked = way === 0 ? memory.tryLock() : way === 1 ? memory.lock() : memory.tryLock(1);
      assert.equal(isLocked, true, `round ${round}: ${memory.errorString()}`);
      assert.equal(memory.unlock(), true);
      assert.equal(other.lock(), true);
      await ended;
    }
    assert.equal(other.unlock(), true);
    assert.equal(await served(memory.lockAsync()), true);
  });

  test("is given back before the same thread tries, though its process is stopped", () => {
    const steps: string[] = [];
    const results = [false, false, true];
    const semaphore = {
      identity: uniqueKey(),
      acquire() {
        steps.push("acquire");
        return results.shift()!;
      },
      isHeldHere: () => true,
    } as unknown as Semaphore;
    const givenUp = {
      identity: semaphore.identity,
      count: 0,
      join(ms: number) {
        steps.push(`join ${ms}`);
        sleepSync(50); // as a process that is stopped, and its other thread with it
        return true;
      },
    };
    registry.waits.add(givenUp);
    try {
      assert.equal(acquireWithin(semaphore, 0), true);
    } finally {
      registry.waits.delete(givenUp);
    }
    assert.deepEqual(steps, ["acquire", "join 1", "acquire", "join 1", "acquire"]);
  });

  test("of a worker thread that is blocked lets others have the lock", slow, async () => {
    using memory = created();
    const key = memory.key()!;
    using said = created(uniqueKey("said"));
    const words = said.view(Int32Array);
    assert.equal(memory.lock(), true);
    const flags = ownRuntime.name === "deno" ? ["--allow-read"] : [];
    const [host, third] = [startAgent(ownRuntime, {}, flags), startAgent(ownRuntime)];
    const workerData = `
      ${BLOCK(said.key()!)}
      const memory = new library.SharedMemory(${JSON.stringify(key)});
      if (!memory.attach()) throw new Error(memory.errorString());
      await memory.lockAsync({ timeout: 500 });
      await memory.lockAsync({ timeout: 50 });
      block();
      memory.detach();`;
    await host.run(`
      const { Worker } = process.getBuiltinModule("worker_threads");
      globalThis.thread = new Worker(new URL(${JSON.stringify(fixture.href)}), {
        workerData: ${JSON.stringify(workerData)},
      });
      globalThis.ended = new Promise((resolve) => thread.on("exit", resolve));`);
    await third.run(`
      objects.m = new library.SharedMemory(${JSON.stringify(key)});
      if (!objects.m.attach()) throw new Error(objects.m.errorString());`);
    await until(() => Atomics.load(words, BLOCKED) > 0, "the block");
    const locked = third.run("objects.m.lock(); return Date.now();");
    await new Promise((resolve) => setTimeout(resolve, 150));
    const released = Date.now();
    assert.equal(memory.unlock(), true);
    const ms = await locked - released;
    Atomics.add(words, ENOUGH, 1);
    assert.ok(ms < PROMPTLY_MS, `it got the lock after ${ms} ms`);
    await third.run("objects.m.unlock();");
    await host.run("await ended;");
    for (const agent of [host, third]) assert.equal(await agent.end(), 0, agent.stderr);
  });

  test("takes its turn among processes that lock in a tight loop", slow, async () => {
    using memory = created();
    using said = created(uniqueKey("said"));
    const stop = said.view(Int32Array);
    const agents = [0, 1, 2].map(() => startAgent(ownRuntime));
    const loops = agents.map((agent) =>
      agent.run(`
        const [m, said] = ${JSON.stringify([memory.key(), said.key()])}.map((key) => {
          const memory = new library.SharedMemory(key);
          if (!memory.attach()) throw new Error(memory.errorString());
          return memory;
        });
        const words = said.view(Int32Array);
        Atomics.add(words, 1, 1);
        let count = 0;
        for (; Atomics.load(words, 0) === 0; count++) {
          if (!m.lock() || !m.unlock()) throw new Error(m.errorString());
        }
        return count;`)
    );
    await until(() => Atomics.load(stop, 1) === agents.length, "all of them");
    const waits: number[] = [];
    for (let turn = 0; turn < 30; turn++) {
      const start = performance.now();
      assert.equal(await served(memory.lockAsync()), true);
      waits.push(performance.now() - start);
      assert.equal(memory.unlock(), true);
    }
    Atomics.store(stop, 0, 1);
    const counts = await Promise.all(loops);
    assert.ok(counts.every((count) => count > 0), String(counts));
    if (process.env["SHOW_MS"]) {
      console.error(ownRuntime.name, "turns", waits.map((ms) => Math.round(ms)).join(" "), counts);
    }
    for (const agent of agents) assert.equal(await agent.end(), 0, agent.stderr);
  });
});

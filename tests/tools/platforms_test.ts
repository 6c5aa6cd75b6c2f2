/** Processes for two processors, or of two C libraries, on one segment: in `npm run test:arm64` and so on. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { inspect } from "../../inspect.ts";
import { SharedMemory, SystemSemaphore } from "../../mod.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import { expectTrue } from "../support/qt_pairs.ts";
import {
  type Agent,
  isolatedOnly,
  leaveNothingBehind,
  ownRuntime,
  runtimes,
  segmentFile,
  slow,
  startAgent,
  uniqueKey,
  untilBlocked,
  withDeadline,
} from "../support/support.ts";

/** The runtimes of the system itself, while those that are tested are of another platform. */
const hosts: readonly Runtime[] = runtimes.flatMap((runtime) => {
  const command = process.env[`SHARED_MEMORY_TEST_HOST_${runtime.name.toUpperCase()}`];
  return command ? [{ ...runtime, name: runtime.name, command }] : [];
});

const skip = hosts.length === 0
  ? { skip: "there is one platform here; npm run test:arm64 and test:musl have two" }
  : {};

const alone = { ...slow, ...isolatedOnly };

function created(bytes: number): SharedMemory {
  const memory = new SharedMemory(uniqueKey());
  assert.equal(memory.create(bytes), true, memory.errorString());
  return memory;
}

async function startAttached(runtime: Runtime, key: string): Promise<Agent> {
  const agent = startAgent(runtime);
  await agent.request("memory", "m", key);
  await expectTrue(agent, "attach");
  return agent;
}

/** A number of each kind of view, which is another one from its other end. */
const WRITE = `
  memory.view(BigInt64Array, 0, 1)[0] = -0x0123456789abcdefn;
  memory.view(Float64Array, 8, 1)[0] = Math.PI;
  memory.view(Float32Array, 16, 1)[0] = -1.5;
  memory.view(Int32Array, 20, 1)[0] = -0x1234567;
  memory.view(Uint16Array, 24, 1)[0] = 0xfedc;
  memory.view(Uint8Array, 26, 1)[0] = 0x5a;`;
const READ = `
  return [
    String(memory.view(BigInt64Array, 0, 1)[0]),
    memory.view(Float64Array, 8, 1)[0],
    memory.view(Float32Array, 16, 1)[0],
    memory.view(Int32Array, 20, 1)[0],
    memory.view(Uint16Array, 24, 1)[0],
    memory.view(Uint8Array, 26, 1)[0],
  ];`;
const WRITTEN = ["-81985529216486895", Math.PI, -1.5, -0x1234567, 0xfedc, 0x5a];

/** Reads, and writes one more, under the lock: what two of them do at once is lost. */
const COUNT = `
  for (let i = 0; i < 500; i++) {
    if (!memory.lock()) throw new Error(memory.errorString());
    const count = memory.view(Int32Array);
    const seen = count[0];
    if (i % 50 === 0) await null;
    count[0] = seen + 1;
    if (!memory.unlock()) throw new Error(memory.errorString());
  }`;

function inAgent(agent: Agent, source: string) {
  return withDeadline(agent.run(`const memory = objects.m; ${source}`), source);
}

describe("processes of two platforms", skip, () => {
  leaveNothingBehind();

  const here = ownRuntime?.name;
  const library = (pid: number | "self") =>
    readFileSync(`/proc/${pid}/maps`, "utf8").includes("musl") ? "musl" : "glibc";

  for (const host of hosts) {
    const there = `the system's ${host.name}`;
    test(`this ${here} is for another platform than ${there}`, slow, async () => {
      const agent = startAgent(host);
      const other = [await agent.run("return process.arch"), library(agent.child.pid!)];
      assert.notDeepEqual(other, [process.arch, library("self")]);
      assert.equal(await agent.end(), 0);
    });

    test(`${here} and ${there} read the same numbers`, slow, async () => {
      using memory = created(32);
      const agent = await startAttached(host, memory.key()!);
      const run = (source: string) => new Function("memory", source)(memory);
      run(WRITE);
      assert.deepEqual(await inAgent(agent, READ), WRITTEN);
      memory.view(Uint8Array).fill(0);
      await inAgent(agent, WRITE);
      assert.deepEqual(run(READ), WRITTEN);
      assert.equal(await agent.call("m", "size"), memory.size());
      assert.equal(await agent.end(), 0);
    });

    test(`${here} and ${there} wait for each other's lock`, slow, async () => {
      using memory = created(16);
      const key = memory.key()!;
      const agent = await startAttached(host, key);
      assert.equal(memory.lock(), true, memory.errorString());
      assert.equal(await agent.call("m", "tryLock", 20), false);
      const locked = agent.call("m", "lock");
      await untilBlocked(key);
      assert.equal(memory.unlock(), true, memory.errorString());
      assert.equal(await locked, true);
      assert.equal(memory.tryLock(20), false);
      const lockedHere = memory.lockAsync();
      await untilBlocked(key);
      await expectTrue(agent, "unlock");
      assert.equal(await withDeadline(lockedHere, "the lock"), true, memory.errorString());
      assert.equal(memory.unlock(), true);
      assert.equal(await agent.end(), 0);
    });

    test(`the lock of a killed process of ${there} is free for ${here}`, slow, async () => {
      using memory = created(16);
      const agent = await startAttached(host, memory.key()!);
      await expectTrue(agent, "lock");
      await agent.kill();
      assert.equal(memory.tryLock(), true, memory.errorString());
      assert.equal(memory.unlock(), true);
    });

    test(`a semaphore gives ${there} what ${here} releases, and back`, slow, async () => {
      const key = uniqueKey();
      using semaphore = new SystemSemaphore(key, 0);
      const agent = startAgent(host);
      await agent.request("semaphore", "s", key);
      const acquired = agent.call("s", "acquire");
      await untilBlocked(key);
      assert.equal(semaphore.release(), true, semaphore.errorString());
      assert.equal(await acquired, true);
      assert.equal(await agent.call("s", "release"), true);
      assert.equal(semaphore.acquire(), true, semaphore.errorString());
      assert.equal(semaphore.release(), true, semaphore.errorString());
      assert.equal(await agent.end(), 0);
    });

    test(`${here} and ${there} see the same in inspect()`, alone, async () => {
      using memory = created(5000);
      using semaphore = new SystemSemaphore(uniqueKey(), 3);
      const agent = await startAttached(host, memory.key()!);
      assert.equal(semaphore.acquire() && memory.lock(), true);
      const seen = await agent.request("inspect");
      assert.deepEqual(JSON.parse(JSON.stringify(inspect())), seen);
      const found = seen.segments.find(({ keyFile }: { keyFile: string | null }) =>
        keyFile === segmentFile(memory.key()!)
      );
      assert.deepEqual([found.size, found.attached, found.lock.holder.pid], [5000, 2, process.pid]);
      assert.equal(memory.unlock(), true);
      assert.equal(await agent.end(), 0);
    });
  }

  test(`the lock of a killed process of ${here} is free for the system's`, slow, async () => {
    using memory = created(16);
    const [own, ...others] = await Promise.all(
      [ownRuntime, ...hosts].map((one) => startAttached(one, memory.key()!)),
    );
    await expectTrue(own!, "lock");
    await own!.kill();
    for (const other of others) {
      await expectTrue(other, "tryLock");
      await expectTrue(other, "unlock");
      assert.equal(await other.end(), 0);
    }
  });

  test("count right under one lock, all at once", slow, async () => {
    using memory = created(16);
    const everybody = [ownRuntime, ownRuntime, ...hosts];
    const agents = await Promise.all(everybody.map((one) => startAttached(one, memory.key()!)));
    await Promise.all(agents.map((agent) => inAgent(agent, COUNT)));
    assert.equal(memory.view(Int32Array)[0], 500 * agents.length);
    assert.deepEqual(await Promise.all(agents.map((agent) => agent.end())), agents.map(() => 0));
  });
});

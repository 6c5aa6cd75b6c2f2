/** From the creation of a segment to its removal by the last one out, however that one leaves. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { isRunning } from "../../backends/unix/processes.ts";
import { systemV } from "../../backends/systemv/mod.ts";
import { sleepSync } from "../../backends/timing.ts";
import { selectFfi } from "../../ffi/mod.ts";
import { SharedMemory, SharedMemoryError } from "../../mod.ts";
import { watched } from "../fixtures/watched_ffi.ts";
import {
  type Agent,
  DEADLINE_MS,
  ipcObjects,
  ipcObjectsSince,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  runtimes,
  segmentFile,
  semaphoreFile,
  sizeOf,
  staleOnly,
  startAgent,
  systemLibrary,
} from "../support/support.ts";
import { slow, uniqueKey, untilBlocked, withDeadline } from "../support/support.ts";
import { assertAttached } from "../support/systemv_tables.ts";

const { AlreadyExists, NotFound } = SharedMemoryError;

async function attachAgent(agent: Agent, name: string, key: string): Promise<void> {
  await agent.request("memory", name, key);
  assert.equal(await agent.call(name, "attach"), true);
}

async function createAgent(agent: Agent, name: string, key: string): Promise<void> {
  await agent.request("memory", name, key);
  assert.equal(await agent.call(name, "create", 100), true);
}

/** Runs what ends the agent's process, and waits for that. */
async function endBy(agent: Agent, source: string): Promise<number | string> {
  agent.run(source).catch(() => {}); // it ends instead of answering
  return await withDeadline(agent.ended, `the end of ${agent.name}`);
}

/** Blocks until a child process has ended, though it is waited for only later. */
function waitForDeath(pid: number): void {
  const deadline = performance.now() + DEADLINE_MS;
  while (isRunning(systemLibrary(), pid)) {
    assert.ok(performance.now() < deadline, `process ${pid} does not end`);
    sleepSync(1);
  }
}

/** How a process can leave its segments; each answers how the process ended, if it did. */
interface Way {
  readonly name: string;
  readonly only?: readonly string[];
  readonly leave: (agent: Agent) => Promise<unknown>;
  readonly ending?: number;
}

const ways: readonly Way[] = [
  {
    name: "detach()",
    leave: async (agent) => {
      assert.equal(await agent.call("held", "detach"), true);
      assert.equal(await agent.call("free", "detach"), true);
    },
  },
  {
    name: "disposal",
    leave: async (agent) => {
      await agent.request("dispose", "held");
      await agent.request("dispose", "free");
    },
  },
  { name: "the end of the program", leave: (agent) => agent.end(), ending: 0 },
  { name: "process.exit()", leave: (agent) => endBy(agent, "process.exit(3)"), ending: 3 },
  { name: "Deno.exit()", only: ["deno"], leave: (a) => endBy(a, "Deno.exit(4)"), ending: 4 },
  {
    name: "an uncaught error",
    only: ["bun", "node"],
    leave: (agent) => endBy(agent, "setTimeout(() => { throw new Error('boom'); }, 0);"),
    ending: 1,
  },
  {
    name: "an unhandled rejection",
    only: ["bun", "node"],
    leave: (agent) => endBy(agent, "Promise.reject(new Error('boom'));"),
    ending: 1,
  },
];

describe("the last one out", () => {
  leaveNothingBehind();

  for (const { name, only, leave, ending } of ways) {
    if (only?.includes(ownRuntime.name) === false) continue;
    test(`in ${ownRuntime.name} removes everything by ${name}, locked or not`, async () => {
      const before = ipcObjects();
      const agent = startAgent(ownRuntime);
      await createAgent(agent, "held", uniqueKey("held"));
      await createAgent(agent, "free", uniqueKey("free"));
      assert.equal(await agent.call("held", "lock"), true);
      assert.equal(ipcObjectsSince(before).length, 8);
      const how = await leave(agent);
      assert.deepEqual(ipcObjectsSince(before), []);
      if (ending !== undefined) assert.equal(how, ending);
    });
  }

  test(
    `is not a ${ownRuntime.name} process that ends while another is attached`,
    slow,
    async () => {
      const key = uniqueKey();
      using memory = new SharedMemory(key);
      assert.equal(memory.create(100), true, memory.errorString());
      for (const end of ["end", "process.exit()"]) {
        const agent = startAgent(ownRuntime);
        await attachAgent(agent, "m", key);
        await agent.request("write", "m", 5, [1, 2, 3]);
        assert.equal(await agent.call("m", "lock"), true);
        if (end === "end") await agent.end();
        else await endBy(agent, end);
        assertAttached(key, 1);
        assert.deepEqual([...memory.data()!.subarray(4, 9)], [0, 1, 2, 3, 0]);
        assert.equal(memory.lock(), true, memory.errorString()); // the other's ended with it
        assert.equal(memory.unlock(), true);
        memory.data()!.fill(0);
      }
    },
  );

  test(`in ${ownRuntime.name} hands the lock over by its end to a process that waits`, async () => {
    const key = uniqueKey();
    const [holder, waiter] = [startAgent(ownRuntime), startAgent(ownRuntime)];
    await createAgent(holder, "m", key);
    await attachAgent(waiter, "m", key);
    assert.equal(await holder.call("m", "lock"), true);
    const locked = waiter.call("m", "lock");
    await untilBlocked(key);
    assert.equal(await holder.end(), 0);
    assert.equal(await locked, true);
    assert.equal(await waiter.end(), 0);
  });

  for (const pending of [false, true]) {
    const also = pending ? ", and waits for that with lockAsync()," : "";
    test(
      `in ${ownRuntime.name} cannot have the lock${also} and leaves all to who is refused`,
      { ...slow, ...linuxOnly },
      async () => {
        const before = ipcObjects();
        const key = uniqueKey();
        const agent = startAgent(ownRuntime);
        await createAgent(agent, "m", key);
        const end = pending
          ? "objects.m.lockAsync(); setTimeout(() => process.exit(), 50);"
          : "process.exit();";
        const pid = await agent.run(
          `process.on("SIGTERM", () => { ${end} }); return process.pid;`,
        );
        let shmgets = 0;
        // The first one finds the segment in use and too small; by the second one the last user is gone.
        const ffi = watched(selectFfi(), (name) => {
          if (name !== "shmget" || ++shmgets !== 2) return;
          process.kill(pid, "SIGTERM");
          waitForDeath(pid);
        });
        const { segments, semaphores } = systemV(ffi, { os: "linux", arch: process.arch });
        const request = { size: 101, mode: 1, timeoutMs: 10_000, initialize: null } as const;
        const open = () =>
          segments.open(
            segmentFile(key),
            { ...request, existing: "attach", stale: "keep" },
            semaphores.lock(semaphoreFile(key)),
          );
        assert.throws(open, { code: "InvalidSize", message: /100 bytes, fewer than the 101/ });
        assert.ok(shmgets >= 2);
        assert.deepEqual(ipcObjectsSince(before), []);
        assert.equal(await withDeadline(agent.ended, `the end of ${agent.name}`), 0);
      },
    );
  }

  test(
    `killed in ${ownRuntime.name} leaves the bytes, and the next detach() removes all`,
    staleOnly,
    async () => {
      const before = ipcObjects();
      const key = uniqueKey();
      const agent = startAgent(ownRuntime);
      await createAgent(agent, "m", key);
      await agent.request("write", "m", 98, [8, 9]);
      assert.equal(await agent.call("m", "lock"), true);
      await agent.kill();
      using memory = new SharedMemory(key);
      // As in Qt, create() cannot know that these bytes are nobody's.
      assert.equal(memory.create(100), false);
      assert.equal(memory.error(), AlreadyExists);
      assert.match(memory.errorString(), /attach\(\) and detach\(\) removes it/);
      assert.equal(memory.attach(), true, memory.errorString());
      assert.deepEqual([...memory.data()!.subarray(97)], [0, 8, 9]);
      assert.equal(memory.lock(), true, memory.errorString());
      assert.equal(memory.detach(), true, memory.errorString());
      assert.deepEqual(ipcObjectsSince(before), []);
    },
  );

  const deno = runtimes.find(({ name }) => name === "deno");
  const options = deno ? staleOnly : { skip: "Deno is not installed" };
  for (const error of ["setTimeout(() => { throw new Error(); }, 0);", "Promise.reject(0);"]) {
    // Deno runs no hook then. What is left is the same as after a kill, and so is what to do.
    test(`in Deno leaves the segment if ended by ${error}`, options, async () => {
      const before = ipcObjects();
      const key = uniqueKey();
      const agent = startAgent(deno!);
      await createAgent(agent, "m", key);
      await agent.request("write", "m", 0, [5]);
      assert.equal(await agent.call("m", "lock"), true);
      assert.equal(await endBy(agent, error), 1);
      assertAttached(key, 0);
      using memory = new SharedMemory(key);
      assert.equal(memory.attach(), true, memory.errorString());
      assert.equal(memory.data()![0], 5);
      assert.equal(memory.detach(), true, memory.errorString());
      assert.deepEqual(ipcObjectsSince(before), []);
    });
  }

  for (let first = 0; first < runtimes.length; first++) {
    const pair = [runtimes[first]!, runtimes[(first + 1) % runtimes.length]!];
    const names = pair.map(({ name }) => name).join(" and ");
    test(`is one of ${names} processes that end at the same moment`, slow, async () => {
      const before = ipcObjects();
      for (let round = 0; round < 4; round++) {
        const keys = Array.from({ length: 5 }, () => uniqueKey());
        const agents = pair.map((runtime) => startAgent(runtime));
        for (const [index, key] of keys.entries()) {
          await createAgent(agents[index % 2]!, key, key);
          await attachAgent(agents[(index + 1) % 2]!, key, key);
        }
        assert.deepEqual(await Promise.all(agents.map((agent) => agent.end())), [0, 0]);
        assert.deepEqual(ipcObjectsSince(before), []);
      }
    });
  }
});

describe("one object", () => {
  leaveNothingBehind();

  test("can create, detach and create again, each time a segment of zeros", () => {
    using memory = new SharedMemory(uniqueKey());
    for (const size of [2 ** 20, 5000, 2 ** 20, 1, 2 ** 21]) {
      assert.equal(memory.create(size), true, memory.errorString());
      assert.equal(memory.size(), sizeOf(size));
      assert.equal(memory.data()!.findIndex((byte) => byte !== 0), -1);
      memory.data()!.fill(0xff);
      assert.equal(memory.detach(), true, memory.errorString());
      assert.equal(memory.attach(), false);
      assert.equal(memory.error(), NotFound);
    }
  });

  test("moves to another segment by setKey(), and leaves the first to others or removes it", () => {
    const before = ipcObjects();
    const [first, second] = [uniqueKey(), uniqueKey()];
    using memory = new SharedMemory(first);
    using other = new SharedMemory(first);
    assert.equal(memory.create(10), true, memory.errorString());
    memory.data()![0] = 1;
    assert.equal(other.attach(), true, other.errorString());
    assert.equal(memory.lock(), true);

    memory.setKey(second);
    assert.deepEqual([memory.key(), memory.isAttached(), memory.error()], [second, false, 0]);
    assert.equal(other.lock(), true, other.errorString()); // released by the move
    assert.equal(memory.create(20), true, memory.errorString());
    memory.data()![0] = 2;
    assert.deepEqual([other.data()![0], memory.data()![0]], [1, 2]);

    memory.setKey(first);
    assert.equal(memory.attach(), true, memory.errorString());
    assert.equal(memory.data()![0], 1);
    assert.equal(other.unlock(), true);
    using third = new SharedMemory(second);
    assert.equal(third.attach(), false); // the second segment had nobody else
    assert.equal(third.error(), NotFound);
    assert.equal(memory.detach() && other.detach(), true);
    assert.deepEqual(ipcObjectsSince(before), []);
  });
});

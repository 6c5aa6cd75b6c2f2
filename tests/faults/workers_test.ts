/** Threads of one process, each with its own objects. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { SharedMemory } from "../../mod.ts";
import {
  type Agent,
  ipcObjects,
  ipcObjectsSince,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  startAgent,
  withDeadline,
} from "../support/support.ts";
import {
  capabilities,
  semaphoreValue,
  systemVOnly,
  uniqueKey,
  untilBlocked,
} from "../support/support.ts";
import { assertAttached, untilAttached } from "../support/systemv_tables.ts";
import { fixture, Thread } from "../support/threads.ts";

function created(size: number): SharedMemory {
  const memory = new SharedMemory(uniqueKey());
  assert.equal(memory.create(size), true, memory.errorString());
  return memory;
}

async function attachedAgent(key: string, flags: readonly string[] = []): Promise<Agent> {
  const agent = startAgent(ownRuntime, {}, flags);
  await agent.request("memory", "m", key);
  assert.equal(await agent.call("m", "attach"), true);
  return agent;
}

/** How a thread ends by its own doing. */
const endings: readonly [string, string][] = [
  ["the end of its code", ""],
  ["process.exit()", "process.exit(0);"],
  ["an uncaught error", "setTimeout(() => { throw new Error('boom'); }, 0); await next();"],
];

const busy = { ...slow, ...linuxOnly };

describe("the threads of one process", () => {
  leaveNothingBehind();

  test("exclude each other, the main thread and another process with the lock", async () => {
    using memory = created(64);
    const key = memory.key()!;
    const count = (memory: string) => `
      const view = ${memory}.view(Int32Array);
      for (let i = 0; i < 5000; i++) {
        if (!${memory}.lock()) throw new Error(${memory}.errorString());
        view[0]++;
        if (!${memory}.unlock()) throw new Error(${memory}.errorString());
      }`;
    const agent = await attachedAgent(key);
    const threads = [1, 2].map(() =>
      new Thread(key, `tell("ready"); await next(); ${count("memory")} tell("done");`)
    );
    for (const thread of threads) assert.equal(await thread.next(), "ready");
    assertAttached(key, 4);
    const counted = agent.run(count("objects.m"));
    for (const thread of threads) thread.tell("go");
    const view = memory.view(Int32Array);
    for (let i = 0; i < 5000; i++) {
      assert.equal(memory.lock(), true, memory.errorString());
      view[0]! += 1;
      assert.equal(memory.unlock(), true, memory.errorString());
    }
    for (const thread of threads) assert.equal(await thread.next(), "done");
    await counted;
    for (const thread of threads) assert.equal(await thread.end(), 0);
    assert.equal(view[0], 20_000);
    assertAttached(key, 2);
    assert.equal(await agent.end(), 0);
  });

  test("block other processes, which get the lock when the thread unlocks", async () => {
    using memory = created(64);
    const key = memory.key()!;
    const agent = await attachedAgent(key);
    const holder = new Thread(key, "tell(memory.lock()); await next(); tell(memory.unlock());");
    const bystander = new Thread(key, "tell(memory.isAttached());");
    assert.equal(await holder.next(), true);
    assert.equal(await bystander.next(), true);
    let got = false;
    const locked = agent.call("m", "lock").then((result) => got = result);
    await untilBlocked(key);
    // The kernel undoes what a process did, and a thread's end is not the process's.
    assert.equal(await bystander.end(), 0);
    await untilBlocked(key);
    assert.equal(got, false);
    // The lock is the object's: this thread's object is told so at once.
    assert.equal(memory.unlock(), false);
    holder.tell("go");
    assert.equal(await holder.next(), true);
    assert.equal(await locked, true);
    assert.equal(await holder.end(), 0);
    assert.equal(await agent.end(), 0);
  });

  for (const [what, source] of endings) {
    test(`detach and unlock by ${what}`, async () => {
      using memory = created(64);
      const key = memory.key()!;
      const thread = new Thread(key, `tell(memory.lock()); await next(); ${source}`);
      assert.equal(await thread.next(), true);
      assert.equal(semaphoreValue(key), 0);
      assertAttached(key, 2);
      thread.tell("go");
      await thread.end();
      assert.deepEqual(
        thread.errors.map(({ message }) => message),
        /boom/.test(source) ? ["boom"] : [],
      );
      assert.equal(semaphoreValue(key), 1);
      assertAttached(key, 1);
      assert.equal(memory.lock(), true, memory.errorString());
    });
  }

  test("remove the segment when the last of them ends", async () => {
    const before = ipcObjects();
    const memory = created(64);
    const thread = new Thread(memory.key()!, "tell(1); await next();");
    await thread.next();
    assert.equal(memory.detach(), true);
    const left = ipcObjectsSince(before);
    thread.tell("go");
    assert.equal(await thread.end(), 0);
    // The segment and the two key files, which stay as long as somebody is attached; the lock's maker has left,
    // and the next user makes it again. On Windows the segment and the three objects of its lock.
    assert.equal(left.length, systemVOnly.skip === undefined ? 3 : 4, left.join(", "));
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  // No runtime tells a thread that it is terminated. What it held, the process goes on holding: the
  // kernel's undo is the process's. Nothing crashes, and everything ends with the process.
  test("that are terminated leave their lock and segment to the end of the process", async () => {
    using memory = created(64);
    const key = memory.key()!;
    const flags = ownRuntime.name === "deno" ? ["--allow-read"] : [];
    const agent = await attachedAgent(key, flags);
    await agent.run(`
      const { Worker } = process.getBuiltinModule("worker_threads");
      const worker = new Worker(new URL(${JSON.stringify(fixture.href)}), { workerData: \`
        globalThis.memory = new library.SharedMemory(${JSON.stringify(key)});
        tell([memory.attach(), memory.lock()]);
        for (;;) memory.data()[63]++;\` });
      const answer = await new Promise((done) => worker.on("message", done));
      if (String(answer) !== "true,true") throw new Error(String(answer));
      await worker.terminate();`);
    assert.equal(semaphoreValue(key), 0);
    assertAttached(key, 3);
    assert.equal(await agent.call("m", "detach"), true); // does not wait for the lock
    assert.equal(await agent.call("m", "attach"), true);
    await agent.request("write", "m", 0, [7]);
    assert.equal(memory.data()![0], 7);
    assert.equal(await agent.end(), 0);
    if (capabilities.killedHolder === "undone") assert.equal(semaphoreValue(key), 1);
    assertAttached(key, 1);
    assert.equal(memory.lock(), true, memory.errorString());
  });

  // Enough for Node, which ended with one of the first 50 of them if V8 was compiling what it called.
  const count = ownRuntime.name === "node" ? 100 : 10;
  test(`can end while their calls of C are compiled: ${count} threads`, busy, async () => {
    const { command, args, name } = ownRuntime;
    const file = fileURLToPath(new URL("busy_threads.ts", fixture));
    const flags = name === "deno" ? ["--allow-read"] : [];
    const child = spawn(command, [...args, ...flags, file, `${count}`]);
    let stderr = "";
    child.stderr.on("data", (data) => stderr += data);
    const ended = new Promise((resolve) => child.on("close", (...how) => resolve(how)));
    try {
      const how = await withDeadline(ended, "the end of the process");
      assert.deepEqual(how, [0, null], stderr);
    } finally {
      child.kill("SIGKILL");
    }
  });
});

// Bun's are the same as its node:worker_threads, and Node has none.
const noWebWorkers = ownRuntime.name === "deno" ? {} : { skip: "Deno's kind of Worker" };
describe("the web Workers of Deno", noWebWorkers, () => {
  leaveNothingBehind();

  // self.close(), an uncaught error and terminate() raise no event in there. What such a thread held
  // is freed by the end of the process, or by a detach() before.
  const ways: readonly [string, string, boolean][] = [
    ["Deno.exit()", "Deno.exit();", true],
    ["process.exit()", "process.exit();", true],
    ["self.close()", "self.close();", false],
    ["self.close() after detach()", "memory.detach(); self.close();", true],
  ];
  for (const [what, source, detaches] of ways) {
    const does = detaches ? "detach and unlock" : "detach by the end of the process at the latest";
    test(`${does} after ${what}`, async () => {
      using memory = created(64);
      const key = memory.key()!;
      const agent = await attachedAgent(key, ["--allow-read"]);
      await agent.run(`
        const url = new URL("./web_worker.ts", ${JSON.stringify(fixture.href)});
        globalThis.worker = new Worker(url, { type: "module" });
        const answer = new Promise((done) => worker.onmessage = done);
        worker.postMessage(\`
          globalThis.memory = new library.SharedMemory(${JSON.stringify(key)});
          if (!memory.attach() || !memory.lock()) throw new Error(memory.errorString());\`);
        await answer;`);
      assert.equal(semaphoreValue(key), 0);
      assertAttached(key, 3);
      await agent.run(`worker.postMessage(${JSON.stringify(source)});`);
      if (detaches) {
        await untilAttached(key, 2, `the detach by ${what}`);
        assert.equal(memory.lock(), true, memory.errorString());
        assert.equal(memory.unlock(), true);
      }
      assert.equal(await agent.end(), 0);
      if (capabilities.killedHolder === "undone") assert.equal(semaphoreValue(key), 1);
      assertAttached(key, 1);
    });
  }
});

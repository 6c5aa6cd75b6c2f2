/** The end of a program, or of a thread, that waits for a lock. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { created, served } from "../support/peers.ts";
import { expectTrue } from "../support/qt_pairs.ts";
import { type Agent, leaveNothingBehind, ownRuntime, slow } from "../support/support.ts";
import {
  semaphoreValue,
  startAgent,
  untilBlocked,
  waitingFor,
  withDeadline,
} from "../support/support.ts";
import { assertAttached } from "../support/systemv_tables.ts";
import { fixture } from "../support/threads.ts";

/** Longer than any end takes, and shorter than a wait that would keep the program. */
const PROMPTLY_MS = 10_000;
/** A call on another thread follows the one before within so many turns of its process, even on a busy machine. */
const BETWEEN_CALLS_TURNS = 50;

/** How a program ends by its own doing while it waits, and with which exit code. */
const endings: readonly [name: string, source: string, code: number, only?: readonly string[]][] = [
  ["process.exit()", "process.exit(3);", 3],
  ["Deno.exit()", "Deno.exit(4);", 4, ["deno"]],
  ["an uncaught error", "setTimeout(() => { throw new Error('boom'); }, 0);", 1, ["bun", "node"]],
];

async function startWaiting(agent: Agent, key: string): Promise<void> {
  await agent.request("memory", "m", key);
  await expectTrue(agent, "attach");
  await agent.run(`
    globalThis.controller = new AbortController();
    void objects.m.lockAsync({ signal: controller.signal }).then(
      (locked) => console.error("locked", locked, objects.m.unlock()),
      () => console.error("given up"),
    );`);
  await untilBlocked(key);
}

describe("a program that waits for a lock", () => {
  leaveNothingBehind();

  for (const [name, source, code, only] of endings) {
    if (only?.includes(ownRuntime.name) === false) continue;

    test(`ends in ${ownRuntime.name} by ${name}, and never has it`, slow, async () => {
      using memory = created();
      const key = memory.key()!;
      assert.equal(memory.lock(), true);
      const agent = startAgent(ownRuntime);
      await startWaiting(agent, key);
      const start = performance.now();
      agent.run(source).catch(() => {}); // it ends instead of answering
      assert.equal(await withDeadline(agent.ended, "the end"), code, agent.stderr);
      assert.ok(performance.now() - start < PROMPTLY_MS);
      assert.equal(agent.stderr.includes("locked true"), false, agent.stderr);
      assertAttached(key, 1);
      assert.equal(semaphoreValue(key), 0);
      assert.equal(memory.unlock(), true);
      assert.equal(semaphoreValue(key), 1);
    });

    test(
      `in ${ownRuntime.name} that is the last one out removes all by ${name}`,
      slow,
      async () => {
        const memory = created();
        const key = memory.key()!;
        assert.equal(memory.lock(), true);
        const agent = startAgent(ownRuntime);
        await startWaiting(agent, key);
        memory.detach(); // and what waits may have the lock before it ends, or just after
        agent.run(source).catch(() => {});
        assert.equal(await withDeadline(agent.ended, "the end"), code, agent.stderr);
      },
    );
  }

  test(`goes on in ${ownRuntime.name} until it has the lock`, slow, async () => {
    using memory = created();
    const key = memory.key()!;
    assert.equal(memory.lock(), true);
    const agent = startAgent(ownRuntime);
    await startWaiting(agent, key);
    let ended = false;
    const end = agent.end().then((code) => {
      ended = true;
      return code;
    });
    for (let i = 0; i < 3; i++) { // longer than one call into the kernel waits
      await new Promise((resolve) => setTimeout(resolve, 150));
      await untilBlocked(key);
    }
    assert.equal(ended, false);
    assert.equal(memory.unlock(), true);
    assert.equal(await end, 0);
    assert.match(agent.stderr, /locked true true/);
  });

  test(`is not kept in ${ownRuntime.name} by a wait that was given up`, slow, async () => {
    using memory = created();
    const key = memory.key()!;
    assert.equal(memory.lock(), true);
    const agent = startAgent(ownRuntime);
    await startWaiting(agent, key);
    await agent.run("controller.abort();");
    const start = performance.now();
    assert.equal(await agent.end(), 0);
    assert.ok(performance.now() - start < PROMPTLY_MS);
    assert.match(agent.stderr, /given up/);
    assert.equal(memory.unlock(), true);
  });

  test(`leaves the lock free if it is killed in ${ownRuntime.name}`, slow, async () => {
    using memory = created();
    const key = memory.key()!;
    assert.equal(memory.lock(), true);
    const agent = startAgent(ownRuntime);
    await startWaiting(agent, key);
    await agent.kill();
    assert.equal(memory.unlock(), true);
    assert.equal(memory.tryLock(1000), true, memory.errorString());
  });
});

describe("a worker thread that waits for a lock", () => {
  leaveNothingBehind();

  /** How a thread ends; its process goes on. */
  const threadEndings: readonly [name: string, source: string][] = [
    ["process.exit()", "process.exit(0);"],
    ["an uncaught error", "setTimeout(() => { throw new Error('boom'); }, 0); await next();"],
    ["terminate()", ""],
  ];

  /** A process with a thread that waits for the lock, and then ends as `source` says. */
  async function startHost(key: string, source: string): Promise<Agent> {
    const host = startAgent(ownRuntime, {}, ownRuntime.name === "deno" ? ["--allow-read"] : []);
    const workerData = `
      const memory = new library.SharedMemory(${JSON.stringify(key)});
      if (!memory.attach()) throw new Error(memory.errorString());
      void memory.lockAsync();
      await next();
      ${source}`;
    await host.run(`
      const { Worker } = process.getBuiltinModule("worker_threads");
      globalThis.thread = new Worker(new URL(${JSON.stringify(fixture.href)}), {
        workerData: ${JSON.stringify(workerData)},
      });
      thread.on("error", () => {});
      globalThis.ended = new Promise((resolve) => thread.on("exit", resolve));`);
    await untilBlocked(key);
    return host;
  }

  /**
   * Waits until nobody has waited for longer than between one call on another thread and the next, which a thread
   * that ends may begin yet. The time is that of the host, as nobody waits while that is stopped.
   */
  async function untilNobodyComes(host: Agent, key: string): Promise<void> {
    for (let turn = 0; turn < BETWEEN_CALLS_TURNS; turn++) {
      await host.run("await new Promise((resolve) => setTimeout(resolve, 10));");
      if (waitingFor(key) > 0) turn = 0;
    }
  }

  async function endThread(host: Agent, source: string): Promise<void> {
    await host.run(source === "" ? "await thread.terminate();" : 'thread.postMessage("go");');
    await host.run("await ended;");
  }

  for (const [what, source] of threadEndings) {
    test(`can end by ${what}, and others get the lock later`, slow, async () => {
      using memory = created();
      const key = memory.key()!;
      assert.equal(memory.lock(), true);
      const host = await startHost(key, source);
      await endThread(host, source);
      await untilNobodyComes(host, key);
      assert.equal(memory.unlock(), true);
      assert.equal(await served(memory.lockAsync()), true, memory.errorString());
      assert.equal(await host.end(), 0);
    });

    const skip = "the lock is the ended thread's until the process ends";
    test(`can end by ${what}, and others get the lock at once`, { ...slow, skip }, async () => {
      using memory = created();
      assert.equal(memory.lock(), true);
      const host = await startHost(memory.key()!, source);
      const ended = endThread(host, source);
      assert.equal(memory.unlock(), true);
      await ended;
      assert.equal(await served(memory.lockAsync()), true, memory.errorString());
      assert.equal(await host.end(), 0);
    });
  }
});

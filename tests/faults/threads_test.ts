/** The threads on which asynchronous calls wait: what runs there, and what happens if there is none. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { after, describe, test } from "node:test";
import { ThreadError } from "../../ffi/threads.ts";
import { selectFfi } from "../../ffi/mod.ts";
import {
  type Agent,
  cannotBeNobody,
  DEADLINE_MS,
  leaveNothingBehind,
  linuxOnly,
  nobody,
} from "../support/support.ts";
import {
  ownRuntime,
  slow,
  startAgent,
  startAgentThrough,
  uniqueKey,
  withDeadline,
} from "../support/support.ts";

const folder = mkdtempSync(path.join(os.tmpdir(), "shared-memory-preload-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Two objects of a process, one of which has the lock. */
async function giveObjects(agent: Agent, key = uniqueKey()): Promise<void> {
  await agent.run(`
    const make = () => {
      const memory = new library.SharedMemory(${JSON.stringify(key)});
      if (!memory.createOrAttach(64)) throw new Error(memory.errorString());
      return memory;
    };
    objects.holder = make();
    objects.waiter = make();
    if (!objects.holder.lock()) throw new Error(objects.holder.errorString());`);
}

describe("a preload of the program", () => {
  leaveNothingBehind();

  const said = path.join(folder, "said");
  const write = (name: string, source: string) => {
    const file = path.join(folder, name);
    writeFileSync(file, source);
    return file;
  };
  const { name } = ownRuntime;
  // What an agent does that opens a port or asks a server: it must not be done once more.
  const asModule = write(
    "preload.mjs",
    `import { appendFileSync } from "node:fs";
    appendFileSync(${JSON.stringify(said)}, "module\\n");`,
  );
  const asScript = write(
    "preload.cjs",
    `require("node:fs").appendFileSync(${JSON.stringify(said)}, "script\\n");`,
  );
  const preloads: Record<string, readonly [flags: string[], env?: NodeJS.ProcessEnv][]> = {
    node: [
      [["--require", asScript]],
      [["--import", asModule]],
      [["--require", asScript, "--import", asModule]],
      [[], { NODE_OPTIONS: `--require=${asScript} --import=${asModule}` }],
      [["--experimental-loader", asModule]],
    ],
    bun: [
      [["--preload", asModule]],
      [["--require", asScript]],
      [["--import", asModule]],
      [[], { BUN_OPTIONS: `--preload=${asModule}` }],
      [["--config=" + write("bunfig.toml", `preload = [${JSON.stringify(asModule)}]\n`)]],
    ],
    deno: [
      [["--allow-write", "--allow-read", "--preload", asModule]],
      [["--allow-write", "--allow-read", "--require", asScript]],
      [["--allow-write", "--allow-read", "--import", asModule]],
    ],
  };
  for (const [flags, env = {}] of preloads[name] ?? []) {
    const shown = [...flags.filter((flag) => !flag.startsWith("--allow")), ...Object.keys(env)];
    const what = shown.map((text) => text.replaceAll(`${folder}/`, "")).join(" ");
    test(`runs once, and not on the thread that waits, in ${name}: ${what}`, slow, async () => {
      writeFileSync(said, "");
      const agent = startAgent(ownRuntime, env, flags);
      await giveObjects(agent);
      const before = readFileSync(said, "utf8");
      assert.notEqual(before, "");
      const locked = await agent.run(`
        const locked = objects.waiter.lockAsync();
        setTimeout(() => objects.holder.unlock(), 400); // its thread has begun
        return await locked && objects.waiter.unlock();`);
      assert.equal(locked, true);
      assert.equal(await agent.end(), 0, agent.stderr);
      assert.equal(readFileSync(said, "utf8"), before);
    });
  }

  test(
    "is not missed in Node: a program that may start no threads is told of the flag",
    { ...slow, ...(name === "node" ? {} : { skip: "is about Node's permissions" }) },
    async () => {
      const flags = ["--permission", "--allow-ffi", "--allow-fs-read=*"];
      const agent = startAgent(ownRuntime, {}, flags);
      await giveObjects(agent);
      assert.deepEqual(await waited(agent), [false, "PermissionDenied", "told"]);
      assert.equal(await agent.end(), 0, agent.stderr);
    },
  );
});

/** How a wait of the agent ends: what it returns, why, and whether the text says what to do. */
function waited(agent: Agent): Promise<[boolean, string, string]> {
  return agent.run(`
    const { waiter } = objects;
    const locked = await waiter.lockAsync({ timeout: 20_000 });
    const text = waiter.errorString();
    const isTold = /ulimit -u|--allow-worker/.test(text) && text.includes(JSON.stringify(waiter.key()));
    return [locked, waiter.errorReason(), isTold ? "told" : text];`);
}

/** How often a runtime may end for want of a thread of its own. */
const ATTEMPTS = 5;

describe("a program that cannot start a thread", () => {
  leaveNothingBehind();

  const ends =
    "Deno itself ends if it cannot start a thread of its own, which it needs now and then";
  const reason = linuxOnly.skip ?? (ownRuntime.name === "deno" ? ends : undefined) ??
    cannotBeNobody();
  const options = { ...slow, ...(reason === undefined ? {} : { skip: reason }) };

  /** Sets how many processes and threads the user of an agent may have; returns how many that were. */
  function limit(agent: Agent, most: string): string {
    const prlimit = (...args: string[]) => {
      const all = ["--pid", String(agent.child.pid), ...args];
      const { status, stdout, stderr } = spawnSync("prlimit", all, { ...nobody, encoding: "utf8" });
      assert.equal(status, 0, stderr);
      return stdout.trim();
    };
    const before = prlimit("--nproc", "--output=SOFT", "--noheadings", "--raw");
    prlimit(`--nproc=${most}:`);
    return before;
  }

  const env = {
    HOME: folder,
    DENO_DIR: path.join(folder, "deno"),
    BUN_JSC_useConcurrentJIT: "0", // so that Bun needs fewer threads of its own
  };
  const [key, semaphoreKey] = [uniqueKey(), uniqueKey()];

  async function assertIsTold(agent: Agent): Promise<void> {
    await giveObjects(agent, key);
    const before = limit(agent, "1");
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(await waited(agent), [false, "OutOfResources", "told"]);
    }
    const answers = await agent.run(`
      const { holder, waiter } = objects;
      const withLock = await waiter.withLockAsync(() => 1).catch((error) => error.reason);
      const semaphores = ["a", "b"].map(() =>
        new library.SystemSemaphore(${JSON.stringify(semaphoreKey)}, 0));
      const acquired = await semaphores[0].acquireAsync();
      const event = sync.Event.create(waiter.view(Uint8Array), 0);
      const notified = await event.waitAsync().catch((error) => [error.name, error.code]);
      for (const semaphore of semaphores) semaphore[Symbol.dispose]();
      const free = holder.unlock() && await waiter.lockAsync() && waiter.unlock();
      return [withLock, acquired, notified, free, holder.lock()];`);
    assert.deepEqual(answers, ["OutOfResources", false, ["SyncError", "System"], true, true]);
    limit(agent, before);
    const locked = await agent.run(`
      setTimeout(() => objects.holder.unlock(), 50);
      return await objects.waiter.lockAsync() && objects.waiter.unlock();`);
    assert.equal(locked, true);
    assert.equal(await agent.end(), 0, agent.stderr);
  }

  /** Removes what a process has left that was aborted. */
  async function removeLeft(): Promise<void> {
    const agent = startAgentThrough(ownRuntime, [], env, nobody);
    await agent.run(`
      const memory = new library.SharedMemory(${JSON.stringify(key)});
      if (!memory.createOrAttach(64) || !memory.detach()) throw new Error(memory.errorString());
      const { Create } = library.SystemSemaphoreMode;
      new library.SystemSemaphore(${JSON.stringify(semaphoreKey)}, 0, Create)[Symbol.dispose]();`);
    assert.equal(await agent.end(), 0, agent.stderr);
  }

  test("is told so by every asynchronous call, and goes on", options, async () => {
    for (let attempt = 1;; attempt++) {
      const agent = startAgentThrough(ownRuntime, [], env, nobody);
      try {
        return await assertIsTold(agent);
      } catch (error) {
        // Bun calls abort() if it cannot start a thread for its garbage collection, which it seldom needs here.
        const isBuns = ownRuntime.name === "bun" && /SIGABRT/.test((error as Error).message);
        if (!isBuns || attempt === ATTEMPTS) throw error;
        await removeLeft();
      }
    }
  });
});

/** Bun opens a library only for at least one function. */
const functions = process.platform === "win32"
  ? { GetCurrentProcessId: { args: [], returns: "u32" } } as const
  : { getpid: { args: [], returns: "i32" } } as const;

describe("a thread that fails", () => {
  const library = process.platform === "win32"
    ? "kernel32.dll"
    : process.platform === "darwin"
    ? "libSystem.B.dylib"
    : "libc.so.6";
  const ends: readonly [name: string, library: string, take: string][] = [
    ["as it finds no library", "no-such-library", "() => true"],
    ["by an error", library, "() => { throw new Error('mine'); }"],
    ["by its end", library, "() => process.exit(3)"],
  ];
  for (const [how, path, take] of ends) {
    test(`${how} ends its call with an error, and those after it`, slow, async () => {
      const call = selectFfi().background([path], functions, { take });
      const calls = Array.from({ length: 40 }, () => call());
      for (const { over } of [...calls, call()]) {
        await assert.rejects(withDeadline(over, "the end of the call"), ThreadError);
      }
    });
  }

  test("answers of many calls at a time come each to its own", slow, async () => {
    const take = "(c, memory, number) => number % 3 === 0";
    const call = selectFfi().background([library], functions, { take });
    const calls = Array.from({ length: 100 }, (_, i) => call(i));
    await withDeadline(Promise.all(calls.map(({ over }) => over)), "the calls");
    for (const [i, { claim }] of calls.entries()) assert.equal(claim.call(calls[i]), i % 3 === 0);
  });

  test(
    "what a call takes after it was given up is given back once, by its thread",
    slow,
    async () => {
      const take = `(c, memory, ms) => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
      return true;
    }`;
      const call = selectFfi().background([library], functions, { take, giveBack: "() => {}" });
      const given = call(100);
      given.giveUp();
      assert.equal(given.resume(), true);
      given.giveUp();
      await withDeadline(given.over, "the call");
      assert.deepEqual([given.claim(), given.resume(), given.join(0)], [false, false, false]);
      const kept = call(100);
      kept.giveUp();
      kept.resume();
      await withDeadline(kept.over, "the call");
      assert.deepEqual([kept.claim(), kept.claim()], [true, false]);
      const late = call(50);
      for (const end = performance.now() + DEADLINE_MS; late.join(100) && performance.now() < end;);
      late.giveUp(); // it has taken it already
      assert.equal(late.claim(), true);
      await withDeadline(late.over, "the call");
    },
  );
});

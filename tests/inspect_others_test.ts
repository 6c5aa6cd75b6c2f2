/** What inspect() and cleanup() do not know, they leave alone; and nobody else can stop them. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import type { CleanupResult, Inventory } from "../inspect.ts";
import { NativeIpcKeyType, SharedMemory } from "../mod.ts";
import {
  cannotBeNobody,
  hasPython,
  isolatedOnly,
  keyFolder,
  leaveNothingBehind,
  nobody,
  ownRuntime,
  slow,
  startAgent,
  startAgentThrough,
  uniqueKey,
} from "./support.ts";

const isLinux = process.platform === "linux";
const isRoot = process.getuid?.() === 0;
const hasNamespaces = isLinux && isRoot &&
  spawnSync("unshare", ["--pid", "--fork", "--mount-proc", "true"]).status === 0;
const namespaces = hasNamespaces && hasPython
  ? { ...slow, ...isolatedOnly }
  : { skip: "needs namespaces and Python" };
const pids = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
const pathOf = (name: string) => `/dev/shm/${name}`;

/** A program that has a POSIX object of its own mapped, or merely open. */
const PROGRAM = `
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(fd, 4096)
if sys.argv[2] == "mapped":
    memory = mmap.mmap(fd, 4096)
    os.close(fd)
print("ready", flush=True)
sys.stdin.read()`;

async function startProgram(path: string, how: string) {
  const child = spawn("/usr/bin/python3", ["-c", PROGRAM, path, how], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return {
    async end() {
      child.stdin.end();
      await ended;
    },
  };
}

describe("an object of a living process that cannot be seen", namespaces, () => {
  leaveNothingBehind();

  for (const how of ["mapped", "open"]) {
    test(`of another program, ${how}, is kept, and the reason says why`, async () => {
      const path = pathOf(`qipc_sharedmemory_unseen${process.pid}${how}`);
      const program = await startProgram(path, how);
      const container = startAgentThrough(ownRuntime, pids);
      try {
        const { segments }: Inventory = await container.request("inspect");
        const found = segments.find(({ keyFile }) => keyFile === path)!;
        assert.equal(found.stale, false, found.reason);
        assert.match(found.reason, /cannot be known here/);
        const result: CleanupResult = await container.request("cleanup", { orphans: true });
        assert.ok(!JSON.stringify(result).includes(path));
        assert.ok(existsSync(path));
        // Seen from outside it is in use, and stale when the program has ended.
        const seen = startAgent(ownRuntime);
        const look = async () =>
          (await seen.request("inspect") as Inventory).segments.find(({ keyFile }) =>
            keyFile === path
          )!;
        assert.match((await look()).reason, /in use by process/);
        await program.end();
        assert.equal(await seen.end(), 0);
      } finally {
        await program.end();
        rmSync(path, { force: true });
        assert.equal(await container.end(), 0);
      }
    });
  }

  test("of this module is in use, and no failure of cleanup()", async () => {
    const key = SharedMemory.legacyNativeKey(uniqueKey(), NativeIpcKeyType.PosixRealtime);
    const user = startAgent(ownRuntime);
    await user.run(`
      objects.m = new library.SharedMemory(library.NativeIpcKey.fromString(${
      JSON.stringify(String(key))
    }));
      if (!objects.m.create(100)) throw new Error(objects.m.errorString());`);
    const container = startAgentThrough(ownRuntime, pids);
    const { segments }: Inventory = await container.request("inspect");
    const found = segments.find(({ nativeKey }) => nativeKey === key.nativeKey)!;
    assert.equal(found.stale, false, found.reason);
    assert.match(found.reason, /cannot be seen/);
    const result: CleanupResult = await container.request("cleanup", { orphans: true });
    assert.ok(!JSON.stringify(result).includes(key.nativeKey), JSON.stringify(result));
    assert.equal(await container.end(), 0);
    assert.equal(await user.end(), 0);
  });
});

const cannot = cannotBeNobody();
describe(
  "another user",
  isLinux && cannot === undefined
    ? { ...slow, ...isolatedOnly }
    : { skip: cannot ?? "needs Linux" },
  () => {
    leaveNothingBehind();

    test("cannot stop inspect() of others by what lies in /dev/shm", async () => {
      const name = `sem.qipc_systemsem_${process.pid}`;
      const names = [name, `${name}fifo`, `${name}\u001b[31m\nred`, `${name}\u202e`, `${name}link`];
      const script = `
      truncate -s 1T "/dev/shm/$0"; chmod 666 "/dev/shm/$0"; mkfifo "/dev/shm/$1"
      : > "/dev/shm/$2"; : > "/dev/shm/$3"; ln -s /dev/zero "/dev/shm/$4"`;
      assert.equal(spawnSync("sh", ["-c", script, ...names], nobody).status, 0);
      try {
        const agent = startAgent(ownRuntime);
        for (const options of [{}, { allUsers: true }]) {
          const started = performance.now();
          const seen: Inventory = await agent.request("inspect", options);
          assert.ok(performance.now() - started < 5000);
          const files = seen.semaphores.map(({ keyFile }) => keyFile);
          assert.equal(files.includes(pathOf(name)), options.allUsers === true);
        }
        assert.equal(await agent.end(), 0);
        for (
          const args of [["list"], ["list", "--all-users"], ["cleanup", "--orphans", "--dry-run"]]
        ) {
          const cli = spawnSync(
            ownRuntime.command,
            [...ownRuntime.args, new URL("../cli.ts", import.meta.url).pathname, ...args],
            { encoding: "utf8" },
          );
          assert.equal(cli.status, 0, cli.stderr);
          const printed = cli.stdout + cli.stderr;
          assert.ok(!printed.includes("\u001b[31m") && !printed.includes("\u202e"), printed);
          assert.equal(
            printed.includes("\\u{1b}[31m\\u{a}red"),
            args.includes("--all-users"),
            printed,
          );
        }
      } finally {
        for (const one of names) rmSync(pathOf(one), { force: true });
      }
    });
  },
);

describe(
  "a semaphore that is left over",
  isLinux ? { ...slow, ...isolatedOnly } : { skip: "needs Linux" },
  () => {
    leaveNothingBehind();

    test("is stale, whatever segment a program with another TMPDIR has", async () => {
      const [folder, other] = [0, 1].map(() => mkdtempSync(`${keyFolder}folder-`)) as [
        string,
        string,
      ];
      const agents = [folder, folder, other].map((TMPDIR) => startAgent(ownRuntime, { TMPDIR }));
      const [victim, inspector, user] = agents as [
        typeof agents[0],
        typeof agents[0],
        typeof agents[0],
      ];
      try {
        await user!.request("memory", "m", uniqueKey());
        assert.equal(await user!.call("m", "create", 10), true);
        rmSync(other + "/" + readdirSync(other).find((name) => name.includes("sharedmemory")));
        await victim!.request("semaphore", "s", uniqueKey(), 1);
        assert.equal(await victim!.call("s", "acquire"), true);
        await victim!.kill();
        const { semaphores }: Inventory = await inspector!.request("inspect");
        const found = semaphores.find(({ keyFile }) => keyFile?.startsWith(folder))!;
        assert.equal(found.stale, true, found.reason);
        const { removed }: CleanupResult = await inspector!.request("cleanup");
        assert.deepEqual(removed.map(({ keyFile }) => keyFile), [found.keyFile]);
        assert.equal(await inspector!.end(), 0);
        assert.equal(await user!.end(), 0);
      } finally {
        for (const one of [folder, other]) rmSync(one, { recursive: true });
      }
    });
  },
);

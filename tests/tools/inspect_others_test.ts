/** What inspect() and cleanup() do not know, they leave alone; and nobody else can stop them. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { EACCES, EIDRM, EINVAL } from "../../backends/unix/errno.ts";
import type { Libc } from "../../backends/unix/libc.ts";
import { readKeyFiles, semaphoreState } from "../../backends/systemv/proc_tables.ts";
import type { CleanupResult, Inventory, SemaphoreInfo } from "../../inspect.ts";
import { NativeIpcKeyType, SharedMemory } from "../../mod.ts";
import {
  type Agent,
  cannotBeNobody,
  hasPython,
  isolatedOnly,
  keyFolder,
  leaveNothingBehind,
  nobody,
  onceOnly,
  ownRuntime,
  slow,
  startAgent,
  startAgentThrough,
  uniqueKey,
} from "../support/support.ts";

const isLinux = process.platform === "linux";
const isRoot = process.getuid?.() === 0;
const hasNamespaces = isLinux && isRoot &&
  spawnSync("unshare", ["--pid", "--fork", "--mount-proc", "true"]).status === 0;
const namespaces = hasNamespaces && hasPython
  ? { ...slow, ...isolatedOnly, ...onceOnly }
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

/** A program with a System V segment of Qt's kind, whose key file it deletes; it keeps no file open. */
const QT_LIKE = `
import ctypes, os, sys
c = ctypes.CDLL(None, use_errno=True)
c.shmat.restype = ctypes.c_void_p
path = sys.argv[1] + "/qipc_sharedmemory_program" + "0" * 40
open(path, "x").close()
id = c.shmget(c.ftok(path.encode(), ord("Q")), 100, 0o1600)
os.unlink(path)
assert c.shmat(id, None, 0) not in (None, 2**64 - 1)
print("ready", flush=True)
sys.stdin.read()
c.shmctl(id, 0, None)  # not before: what is marked for removal has no key any more`;

async function startProgram(path: string, how: string, script = PROGRAM, env = {}) {
  const child = spawn("/usr/bin/python3", ["-c", script, path, how], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return {
    pid: child.pid!,
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
        assert.match(found.reason, /its users are not known/);
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

  test("which has just the lock of a segment keeps both", async () => {
    const name = `lock${process.pid}`;
    const segment = pathOf(`qipc_sharedmemory_${name}`);
    const lock = pathOf(`sem.qipc_systemsem_${name}`);
    writeFileSync(segment, "12345678");
    const program = await startProgram(lock, "mapped");
    const agent = startAgent(ownRuntime);
    try {
      const { segments }: Inventory = await agent.request("inspect");
      const { stale, reason } = segments.find(({ keyFile }) => keyFile === segment)!;
      assert.deepEqual([stale, reason], [false, `its lock is in use by process ${program.pid}`]);
      await agent.request("cleanup", { orphans: true });
      assert.deepEqual([segment, lock].map(existsSync), [true, true]);
      await program.end();
      await agent.request("cleanup", { orphans: true });
      assert.deepEqual([segment, lock].map(existsSync), [false, false]);
      assert.equal(await agent.end(), 0);
    } finally {
      await program.end();
      for (const path of [segment, lock]) rmSync(path, { force: true });
    }
  });

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
    ? { ...slow, ...isolatedOnly, ...onceOnly }
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
          const seen: Inventory = await agent.request("inspect", options); // which has a deadline
          const files = seen.semaphores.map(({ keyFile }) => keyFile);
          assert.equal(files.includes(pathOf(name)), options.allUsers === true);
        }
        assert.equal(await agent.end(), 0);
        const json = ["list", "--all-users", "--json"];
        for (
          const args of [
            ["list"],
            ["list", "--all-users"],
            ["cleanup", "--orphans", "--dry-run"],
            json,
          ]
        ) {
          const cli = spawnSync(
            ownRuntime.command,
            [...ownRuntime.args, new URL("../../cli.ts", import.meta.url).pathname, ...args],
            { encoding: "utf8" },
          );
          assert.equal(cli.status, 0, cli.stderr);
          const printed = cli.stdout + cli.stderr;
          assert.ok(!printed.includes("\u001b[31m") && !printed.includes("\u202e"), printed);
          if (args === json) {
            const { semaphores }: Inventory = JSON.parse(cli.stdout);
            const files = semaphores.map(({ keyFile }) => keyFile);
            for (const name of names.slice(2, 4)) assert.ok(files.includes(pathOf(name)), name);
            continue;
          }
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

    test("cannot slow inspect() down by many files", async () => {
      const folder = mkdtempSync(`${keyFolder}many-`);
      chmodSync(folder, 0o1777);
      // Each with a number that the key of a segment or a semaphore could have.
      const script = `
import os, sys
for i in range(20000):
    for path in (sys.argv[1] + "/qipc_systemsem_%040x", "/dev/shm/qipc_sharedmemory_%040x"):
        os.close(os.open(path % i, os.O_CREAT | os.O_WRONLY, 0o600))`;
      const made = spawnSync("/usr/bin/python3", ["-c", script, folder], nobody);
      try {
        assert.equal(made.status, 0, String(made.stderr));
        const agent = startAgent(ownRuntime, { TMPDIR: folder });
        for (const options of [{}, { allUsers: true }]) {
          // It takes some 100 and 1,000 ms on a quiet machine, and once took minutes: the request has a deadline.
          const { keyFiles }: Inventory = await agent.request("inspect", options);
          // One may have the number of a semaphore that is there.
          const listed = Math.ceil(keyFiles.length / 1000) * 1000;
          assert.equal(listed, options.allUsers === true ? 20_000 : 0);
        }
        assert.equal(await agent.end(), 0);
      } finally {
        rmSync(folder, { recursive: true });
        for (const name of readdirSync("/dev/shm")) {
          if (/^qipc_sharedmemory_0{35}/.test(name)) rmSync(pathOf(name));
        }
      }
    });

    test("cannot give a segment another lock by a key file with the hash of its key", async () => {
      const folder = mkdtempSync(`${keyFolder}hash-`);
      chmodSync(folder, 0o1777);
      const user = startAgent(ownRuntime, { TMPDIR: folder });
      await user.request("memory", "m", uniqueKey());
      assert.equal(await user.call("m", "create", 10), true);
      const lockFile = readdirSync(folder).find((name) => name.includes("systemsem"))!;
      const planted = `${folder}/qipc_systemsem_zzz${lockFile.slice(-40)}`;
      assert.equal(spawnSync("touch", [planted], nobody).status, 0);
      try {
        const { segments: [segment] }: Inventory = await user.request("inspect");
        assert.equal(segment!.lock?.keyFile, `${folder}/${lockFile}`);
        assert.equal(await user.end(), 0);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });

    test("leaves objects of its own that it cannot look at", async () => {
      const names = ["free", "locked"].map((name) => `qipc_sharedmemory_${name}${process.pid}`);
      const script = `: > "/dev/shm/$0"; : > "/dev/shm/$1"; chmod 0 "/dev/shm/$1"`;
      assert.equal(spawnSync("sh", ["-c", script, ...names], nobody).status, 0);
      const agent = startAgentThrough(ownRuntime, [], { TMPDIR: "/tmp" }, nobody);
      try {
        const { segments }: Inventory = await agent.request("inspect");
        const found = names.map((name) =>
          segments.find(({ keyFile }) => keyFile === pathOf(name))!
        );
        assert.deepEqual(found.map(({ stale }) => stale), [false, false]);
        assert.match(found[0]!.reason, /not all processes can be examined, .* rm \/dev\/shm\//);
        assert.match(found[1]!.reason, /its mode does not let this user see its users/);
        const result: CleanupResult = await agent.request("cleanup", { orphans: true });
        assert.deepEqual(result, { removed: [], failed: [] });
        assert.equal(await agent.end(), 0);
      } finally {
        for (const name of names) rmSync(pathOf(name));
      }
    });

    test("has objects whose users are not known to root either", async () => {
      const path = pathOf(`qipc_sharedmemory_others${process.pid}`);
      assert.equal(spawnSync("touch", [path], nobody).status, 0);
      const agent = startAgent(ownRuntime);
      try {
        const { segments }: Inventory = await agent.request("inspect", { allUsers: true });
        const { stale, reason } = segments.find(({ keyFile }) => keyFile === path)!;
        assert.deepEqual([stale, reason], [false, "another user's, so its users are not known"]);
        assert.equal(await agent.end(), 0);
      } finally {
        rmSync(path);
      }
    });
  },
);

/** Has a process killed that used a semaphore, and returns the key file. */
async function leaveSemaphore(folder: string): Promise<string> {
  const before = readdirSync(folder);
  const victim = startAgent(ownRuntime, { TMPDIR: folder });
  await victim.request("semaphore", "s", uniqueKey(), 1);
  assert.equal(await victim.call("s", "acquire"), true);
  await victim.kill();
  return `${folder}/${readdirSync(folder).find((name) => !before.includes(name))}`;
}

describe(
  "a semaphore that is left over",
  isLinux ? { ...slow, ...isolatedOnly, ...onceOnly } : { skip: "needs Linux" },
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

    for (const where of ["the same", "another"]) {
      const needs = hasPython ? {} : { skip: "needs Python" };
      test(`beside a Qt program whose TMPDIR is ${where} folder`, needs, async () => {
        const [folder, other] = [mkdtempSync(`${keyFolder}a-`), mkdtempSync(`${keyFolder}b-`)];
        const TMPDIR = where === "another" ? other : folder;
        const inspector = startAgent(ownRuntime, { TMPDIR: folder });
        const early = await leaveSemaphore(folder);
        const second = Math.floor(Date.now() / 1000);
        while (Math.floor(Date.now() / 1000) === second); // what the kernel's times tell apart
        const program = await startProgram(TMPDIR, "", QT_LIKE, { TMPDIR });
        const late = await leaveSemaphore(folder);
        const find = (seen: Inventory, path: string): SemaphoreInfo =>
          seen.semaphores.find(({ keyFile }) => keyFile === path)!;
        try {
          const seen: Inventory = await inspector.request("inspect");
          const [segment, ...more] = seen.segments;
          assert.deepEqual([segment!.keyFile, more], [null, []]);
          // It was used before the segment was attached to. That says nothing: a look attaches without the lock.
          assert.equal(find(seen, early).stale, where === "another");
          if (where === "another") {
            assert.match(segment!.reason, new RegExp(`TMPDIR=${other} shared-memory list`));
            assert.equal(find(seen, late).stale, true);
          } else {
            const { stale, reason } = find(seen, late);
            assert.equal(stale, false);
            const text = `may be the lock of segment ${
              segment!.id
            }.*process ${program.pid}.*ipcrm -s`;
            assert.match(reason, new RegExp(text));
          }
          await program.end();
          assert.equal(find(await inspector.request("inspect"), late).stale, true);
          await inspector.request("cleanup");
          assert.deepEqual(readdirSync(folder), []);
          assert.equal(await inspector.end(), 0);
        } finally {
          await program.end();
          for (const one of [folder, other]) rmSync(one, { recursive: true });
        }
      });
    }

    test("is stale beside a segment that has lost its key file, if it is not its lock", async () => {
      const folder = mkdtempSync(`${keyFolder}folder-`);
      const [inspector, user] = [0, 1].map(() => startAgent(ownRuntime, { TMPDIR: folder })) as [
        Agent,
        Agent,
      ];
      try {
        await user.request("memory", "m", uniqueKey());
        assert.equal(await user.call("m", "create", 10), true);
        for (const name of readdirSync(folder)) rmSync(`${folder}/${name}`);
        const left = await leaveSemaphore(folder);
        const seen: Inventory = await inspector.request("inspect");
        assert.match(seen.segments[0]!.reason, /in use, .*qipc_sharedmemory_\w+ was deleted$/);
        assert.equal(seen.semaphores.find(({ keyFile }) => keyFile === left)?.stale, true);
        await inspector.request("cleanup");
        assert.deepEqual(readdirSync(folder), []);
        for (const agent of [user, inspector]) assert.equal(await agent.end(), 0);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  },
);

describe("what is removed or hidden while inspect() looks", () => {
  const stub = (members: object) => members as unknown as Libc;

  test("is left out, and only what may not be looked at is another user's", () => {
    const failing = (errno: number) => stub({ c: { semctl: () => -1 }, errno: () => errno });
    for (const errno of [EINVAL, EIDRM]) assert.equal(semaphoreState(failing(errno), 1), null);
    const unknown = { value: null, waiting: null, last: null };
    assert.deepEqual(semaphoreState(failing(EACCES), 1), unknown);
  });

  test("is no key file, whatever error it gives", () => {
    const names = [`qipc_sharedmemory_${"a".repeat(40)}`, `qipc_systemsem_${"b".repeat(40)}`];
    const c = {
      opendir: () => 1n,
      readdir: () => BigInt(names.length),
      closedir: () => 0,
      syscall: () => -1,
    };
    const libc = stub({ c, darwin: null, text: () => names.pop()!, errno: () => EACCES });
    assert.deepEqual(readKeyFiles(libc, "/tmp"), []);
  });
});

/** What other programs made stays as it is, whatever its mode: this module's marks are none of its bits. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { afterEach, describe, test } from "node:test";
import { NativeIpcKey, NativeIpcKeyType, SharedMemory, SystemSemaphore } from "../../mod.ts";
import { cleanup } from "../../inspect.ts";
import {
  ftok,
  hasPython,
  isolatedOnly,
  keyFolder,
  leaveNothingBehind,
  ownRuntime,
  semaphoreFile,
  startAgent,
  systemLibrary,
  uniqueKey,
  until,
} from "../support/support.ts";
import { sourceOf } from "../support/key_types.ts";
import { expectTrue } from "../support/qt_pairs.ts";

const options = process.platform === "linux" ? {} : { skip: "needs Linux's System V objects" };
const [IPC_CREAT, IPC_RMID, IPC_STAT, GETVAL, SETVAL] = [0o1000, 0, 2, 12, 16];

/** Modes that C programs use, and each bit of them alone. */
const MODES = [
  ...[0o777, 0o700, 0o755, 0o711, 0o770, 0o666, 0o601, 0o611, 0o655, 0o641, 0o661, 0o667],
  ...Array.from({ length: 9 }, (_, bit) => 0o600 | 1 << bit),
];

let files: string[] = [];

/** A file of a C program's, as `ftok` wants one. */
function cFile(content = "not empty"): string {
  const file = `${keyFolder}c file ${uniqueKey()}`;
  writeFileSync(file, content);
  files.push(file);
  return file;
}

const { c } = process.platform === "linux" ? systemLibrary() : { c: null as never };

/** A segment as a C program makes it, attached to and detached from, with the text "kept" in it. */
function cSegment(file: string, mode: number, size = 100): number {
  const id = c.shmget(ftok(file), BigInt(size), IPC_CREAT | mode);
  assert.notEqual(id, -1);
  const address = c.shmat(id, 0n, 0);
  new Uint8Array(systemLibrary().ffi.arrayBuffer(address, 4)).set([107, 101, 112, 116]);
  c.shmdt(address);
  return id;
}

function segmentText(id: number): string {
  const address = c.shmat(id, 0n, 0);
  assert.notEqual(address, 0xffff_ffff_ffff_ffffn, "the segment is there");
  const text = String.fromCharCode(...new Uint8Array(systemLibrary().ffi.arrayBuffer(address, 4)));
  c.shmdt(address);
  return text;
}

const modeOf = (id: number) => {
  const status = new Uint8Array(112);
  assert.equal(c.shmctl(id, IPC_STAT, status), 0);
  return new DataView(status.buffer).getUint16(20, true) & 0o777;
};

describe("a segment of a C program's, whatever its mode,", options, () => {
  leaveNothingBehind();
  afterEach(() => {
    for (const file of files) rmSync(file, { force: true });
    files = [];
  });

  test("is there for create(), open(), createOrAttach() and attach()", () => {
    for (const mode of MODES) {
      const file = cFile();
      const id = cSegment(file, mode);
      const key = new NativeIpcKey(file, NativeIpcKeyType.SystemV);
      const what = `mode ${mode.toString(8)}`;
      try {
        const memory = new SharedMemory(key);
        assert.equal(memory.create(100), false, what);
        assert.match(memory.errorString(), /already exists/, what);
        assert.equal(segmentText(id), "kept", what);
        assert.equal(modeOf(id), mode, what);

        // Its program is attached to it: so nobody here is its last user.
        const address = c.shmat(id, 0n, 0);
        const kept = SharedMemory.open(key, { size: 100, stale: "keep" });
        assert.equal(String.fromCharCode(...kept.data()!.slice(0, 4)), "kept", what);
        kept.detach();
        assert.equal(memory.attach(), true, `${what}: ${memory.errorString()}`);
        memory.detach();
        assert.equal(memory.createOrAttach(100), true, `${what}: ${memory.errorString()}`);
        memory.detach();
        const filled = SharedMemory.open(key, { size: 100, initialize: () => assert.fail(what) });
        filled.detach();
        c.shmdt(address);
        assert.equal(segmentText(id), "kept", what);
        assert.equal(modeOf(id), mode, what);
      } finally {
        c.shmctl(id, IPC_RMID, new Uint8Array(112));
      }
      assert.ok(existsSync(file), `${what}: its file stays`);
    }
  });
});

describe("a semaphore set of a C program's, whatever its mode,", options, () => {
  leaveNothingBehind();
  afterEach(() => {
    for (const file of files) rmSync(file, { force: true });
    files = [];
  });

  const makers: [string, (key: number, count: number, mode: number) => Promise<number> | number][] =
    [["of this process", (key, count, mode) => c.semget(key, count, IPC_CREAT | mode)]];
  if (hasPython) {
    makers.push(["whose process has ended", (key, count, mode) => {
      // Used once by a process that has ended: that alone makes nothing stale.
      const code = `import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
set = libc.semget(${key}, ${count}, ${IPC_CREAT | mode})
libc.semop(set, (ctypes.c_short * 3)(0, 1, 0), 1)
print(set)`;
      return Number(spawnSync("/usr/bin/python3", ["-c", code], { encoding: "utf8" }).stdout);
    }]);
  }
  for (const [whose, make] of makers) {
    test(
      `and of any number, ${whose}, outlives whatever else this module makes`,
      isolatedOnly,
      async () => {
        const ids: number[] = [];
        const keys = MODES.flatMap((mode, i) =>
          [1, 2, 5].map((count, j) => [0x51120000 + 16 * i + j, count, mode] as const)
        );
        try {
          for (const [key, count, mode] of keys) ids.push(await make(key, count, mode));
          assert.ok(ids.every((id) => id > 0), `${ids}`);
          // In a process of its own: what a process does once only it has not done yet.
          const agent = startAgent(ownRuntime);
          await agent.run(`
          const memory = library.SharedMemory.open(${JSON.stringify(uniqueKey())}, { size: 8 });
          const semaphore = new library.SystemSemaphore(${JSON.stringify(uniqueKey())}, 1);
          semaphore.acquire();`);
          assert.equal(await agent.end(), 0);
          cleanup();
          cleanup({ orphans: true });
          for (const [i, id] of ids.entries()) {
            assert.notEqual(c.semctl(id, 0, GETVAL, 0n), -1, `${keys[i]} is there`);
          }
        } finally {
          for (const id of ids) c.semctl(id, 0, IPC_RMID, 0n);
        }
      },
    );
  }

  test("goes on when an object of this module that has opened it is disposed", () => {
    for (const mode of MODES) {
      const file = cFile("");
      const id = c.semget(ftok(file), 1, IPC_CREAT | mode);
      c.semctl(id, 0, SETVAL, 1n);
      try {
        for (let i = 0; i < 2; i++) {
          using semaphore = new SystemSemaphore(
            new NativeIpcKey(file, NativeIpcKeyType.SystemV),
            1,
          );
          assert.equal(semaphore.acquire(), true, semaphore.errorString());
          assert.equal(semaphore.release(), true, semaphore.errorString());
        }
        assert.equal(c.semctl(id, 0, GETVAL, 0n), 1, `mode ${mode.toString(8)}`);
        assert.ok(existsSync(file));
      } finally {
        c.semctl(id, 0, IPC_RMID, 0n);
      }
    }
  });
});

describe("the file of a chosen key", options, () => {
  leaveNothingBehind();
  afterEach(() => {
    for (const file of files) rmSync(file, { force: true, recursive: true });
    files = [];
  });

  /** Each kind of file that `ftok` takes. */
  const kinds: Record<string, (path: string) => void> = {
    "an empty file": (path) => writeFileSync(path, ""),
    "a file with content": (path) => writeFileSync(path, "x"),
    "a FIFO": (path) => void spawnSync("mkfifo", [path]),
    "a folder": (path) => void spawnSync("mkdir", [path]),
    "a link to an empty file": (path) => {
      writeFileSync(`${path} target`, "");
      files.push(`${path} target`);
      spawnSync("ln", ["-s", `${path} target`, path]);
    },
    "a device": (path) => void spawnSync("mknod", [path, "c", "1", "3"]),
  };
  for (const [kind, make] of Object.entries(kinds)) {
    test(`that was there stays: ${kind}`, (context) => {
      const path = `${keyFolder}${uniqueKey("somebody's")}`;
      make(path);
      files.push(path);
      if (!existsSync(path)) return context.diagnostic("it cannot be made here");
      const before = lstatSync(path);
      const key = new NativeIpcKey(path, NativeIpcKeyType.SystemV);
      const memory = new SharedMemory(key);
      assert.equal(memory.create(10), true, memory.errorString());
      assert.equal(memory.detach(), true, memory.errorString());
      for (const options of [{ size: 10 }, { size: 10, initialize: () => {} }]) {
        SharedMemory.open(key, options).detach();
      }
      new SystemSemaphore(key, 1)[Symbol.dispose]();
      assert.equal(memory.attach(), false);
      const after = lstatSync(path);
      assert.deepEqual([after.ino, after.mode], [before.ino, before.mode]);
    });
  }

  test("goes with the object whose create() made it, and no other", () => {
    const path = `${keyFolder}${uniqueKey("made here")}`;
    files.push(path);
    const key = new NativeIpcKey(path, NativeIpcKeyType.SystemV);
    const [maker, other] = [new SharedMemory(key), new SharedMemory(key)];
    assert.equal(maker.create(10), true, maker.errorString());
    assert.equal(maker.detach(), true, maker.errorString());
    assert.ok(!existsSync(path));
    assert.equal(maker.create(10), true, maker.errorString());
    assert.equal(other.attach(), true, other.errorString());
    assert.equal(maker.detach(), true, maker.errorString());
    assert.equal(other.detach(), true, other.errorString());
    assert.ok(existsSync(path));
    assert.equal(maker.attach(), false);
  });

  test("stays for those who use it with another project id, and is theirs to delete", () => {
    const path = `${keyFolder}${uniqueKey("two ids")}`;
    files.push(path);
    const [q, t] = [NativeIpcKeyType.SystemV, "T".charCodeAt(0) as NativeIpcKeyType]
      .map((type) => new SharedMemory(new NativeIpcKey(path, type))) as [
        SharedMemory,
        SharedMemory,
      ];
    assert.equal(q.create(10), true, q.errorString());
    assert.equal(t.create(10), true, t.errorString());
    assert.equal(q.detach(), true, q.errorString());
    assert.ok(existsSync(path));
    using newcomer = new SharedMemory(t.nativeIpcKey());
    assert.equal(newcomer.attach(), true, newcomer.errorString());
    assert.equal(newcomer.lock() && t.tryLock(), false, "they share the lock");
    newcomer.detach();
    assert.equal(t.detach(), true, t.errorString());
  });
});

/** A process that holds `flock` on a file as long as it lives. */
async function holdFlock(file: string, how: "--shared" | "--exclusive"): Promise<ChildProcess> {
  const child = spawn("flock", ["--no-fork", how, file, "sh", "-c", "echo held; exec sleep 100"]);
  await new Promise((resolve) => child.stdout!.once("data", resolve));
  return child;
}

/** Attaches at once, in one of several attempts: this process may stand still in some of them. */
function attachAtOnce(memory: SharedMemory): void {
  const times: number[] = [];
  while (times.length < 5 && !(times.at(-1)! < 1000)) {
    memory.detach();
    const started = performance.now();
    assert.equal(memory.attach(), true, memory.errorString());
    times.push(performance.now() - started);
  }
  assert.ok(times.at(-1)! < 1000, `${times} ms`);
}

describe("attach(), while a user holds the lock", options, () => {
  leaveNothingBehind();
  afterEach(() => {
    for (const file of files) rmSync(file, { force: true });
    files = [];
  });

  for (const how of ["--shared", "--exclusive"] as const) {
    test(`does not wait for a process that holds flock ${how} on the key file`, async () => {
      const path = `${keyFolder}${uniqueKey("flocked")}`;
      files.push(path);
      const key = new NativeIpcKey(path, NativeIpcKeyType.SystemV);
      const user = startAgent(ownRuntime);
      await user.run(`
        objects.m = new library.SharedMemory(${sourceOf(key)});
        if (!objects.m.create(10) || !objects.m.lock()) throw new Error(objects.m.errorString());`);
      const other = how === "--shared"
        ? await holdFlock(path, how)
        : spawn("flock", ["--no-fork", how, path, "sleep", "100"]); // which waits for the user
      try {
        const memory = new SharedMemory(key);
        attachAtOnce(memory);
        assert.equal(memory.detach(), true, memory.errorString());
        assert.equal(await user.end(), 0);
      } finally {
        const ended = new Promise((resolve) => other.once("exit", resolve));
        other.kill("SIGKILL");
        await ended;
      }
    });
  }

  test("does not wait where a SystemSemaphore of the same key is open", async () => {
    const path = `${keyFolder}${uniqueKey("both")}`;
    files.push(path);
    const key = new NativeIpcKey(path, NativeIpcKeyType.SystemV);
    const user = startAgent(ownRuntime);
    await user.run(`
      objects.m = new library.SharedMemory(${sourceOf(key)});
      objects.s = new library.SystemSemaphore(${sourceOf(key)}, 1);
      if (!objects.m.create(10) || !objects.m.lock()) throw new Error(objects.m.errorString());`);
    const memory = new SharedMemory(key);
    attachAtOnce(memory);
    assert.equal(memory.tryLock(), false, "it is the same lock");
    memory.detach();
    assert.equal(await user.end(), 0);
  });
});

test("a chosen file that has a purpose of its own is not under flock", options, () => {
  const path = `${keyFolder}${uniqueKey("pid file")}`;
  writeFileSync(path, "123\n");
  const key = new NativeIpcKey(path, NativeIpcKeyType.SystemV);
  const memory = new SharedMemory(key);
  const semaphore = new SystemSemaphore(key, 1);
  assert.equal(memory.create(10) && semaphore.acquire(), true, memory.errorString());
  for (const how of ["--exclusive", "--shared"]) {
    assert.equal(spawnSync("flock", [how, "--nonblock", path, "true"]).status, 0, how);
  }
  semaphore[Symbol.dispose]();
  assert.equal(memory.detach(), true, memory.errorString());
  assert.equal(readFileSync(path, "utf8"), "123\n");
  rmSync(path);
});

test("a lock whose key file was deleted is the lock of newcomers too", options, async () => {
  const key = uniqueKey();
  const user = startAgent(ownRuntime);
  await user.request("memory", "m", key);
  await expectTrue(user, "create", 10);
  await expectTrue(user, "lock");
  const names = () => readdirSync(keyFolder).filter((name) => name.includes("qipc_systemsem_"));
  rmSync(semaphoreFile(key));
  const memory = new SharedMemory(key);
  assert.equal(memory.attach(), true, memory.errorString());
  assert.equal(memory.tryLock(), false, "the user holds it");
  await expectTrue(user, "unlock");
  assert.equal(memory.tryLock(1000), true, memory.errorString());
  assert.equal(await user.call("m", "tryLock"), false);
  assert.equal(memory.unlock(), true, memory.errorString());
  assert.equal(await user.end(), 0);
  assert.equal(memory.detach(), true, memory.errorString());
  await until(() => !names().some((name) => semaphoreFile(key).endsWith(name)), "nothing is left");
});

test(
  "a lock whose key file was deleted is the lock of many newcomers at once",
  options,
  async () => {
    const key = uniqueKey();
    const user = startAgent(ownRuntime);
    await user.request("memory", "m", key);
    await expectTrue(user, "create", 10);
    await expectTrue(user, "lock");
    const newcomers = Array.from({ length: 4 }, () => startAgent(ownRuntime));
    for (const agent of newcomers) await agent.request("memory", "m", key);
    for (let round = 0; round < 10; round++) {
      rmSync(semaphoreFile(key), { force: true });
      const attached = await Promise.all(newcomers.map((agent) => agent.call("m", "attach")));
      assert.deepEqual(attached, newcomers.map(() => true));
      const locked = await Promise.all(newcomers.map((agent) => agent.call("m", "tryLock")));
      assert.deepEqual(locked, newcomers.map(() => false), "the user holds it");
      await Promise.all(newcomers.map((agent) => expectTrue(agent, "detach")));
    }
    for (const agent of newcomers) assert.equal(await agent.end(), 0);
    await expectTrue(user, "unlock");
    assert.equal(await user.end(), 0);
  },
);

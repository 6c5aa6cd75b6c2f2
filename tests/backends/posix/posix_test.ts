/** POSIX objects beside those who know nothing of this module: C programs, Python, other users, the kernel. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename } from "node:path";
import process from "node:process";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  AccessMode,
  NativeIpcKey,
  NativeIpcKeyType,
  SharedMemory,
  SharedMemoryError,
  SystemSemaphore,
  SystemSemaphoreError,
} from "../../../mod.ts";
import { chosenKey, giveMemory, sourceOf } from "../../support/key_types.ts";
import {
  compilers,
  lockKey,
  lockName,
  lockPath,
  segmentPath,
  semaphorePath,
} from "../../support/posix_names.ts";
import { expectTrue } from "../../support/qt_pairs.ts";
import {
  Agent,
  cannotBeNobody,
  endAll,
  hasPython,
  isRequired,
  leaveNothingBehind,
  needsPython,
  nobody,
  onceOnly,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  startAgentThrough,
  uniqueKey,
  until,
  withDeadline,
} from "../../support/support.ts";

const type = NativeIpcKeyType.PosixRealtime;
const { ReadOnly } = AccessMode;
const {
  AlreadyExists,
  InvalidSize,
  KeyError,
  LockError,
  NotFound,
  OutOfResources,
  PermissionDenied,
  UnknownError,
} = SharedMemoryError;

const fixtures = fileURLToPath(new URL("../../fixtures/", import.meta.url));
const isLinux = process.platform === "linux";
const linux = isLinux ? slow : { skip: "looks at /dev/shm, which only Linux has" };

/** For what should happen at once, on a machine that is busy with something else. */
const SOON_MS = 10_000;
/** For what must not happen: longer than a sleeper takes to look again. */
const NEVER_MS = 1300;

function newKey(): NativeIpcKey {
  return chosenKey({ type });
}

function create(key: NativeIpcKey, size = 64): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.create(size), true, memory.errorString());
  return memory;
}

function attach(key: NativeIpcKey, mode?: AccessMode): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.attach(mode), true, memory.errorString());
  return memory;
}

function assertFailed(memory: SharedMemory, result: boolean, code: number, says: RegExp): void {
  assert.equal(result, false);
  assert.equal(memory.error(), code, memory.errorString());
  assert.match(memory.errorString(), says);
  assert.equal(memory.isAttached(), false);
}

/** The sticky bit, others' x, and no other bit for programs. */
const MARK = 0o1001;

/** A segment of another program's, by the ways of files. */
function plant(key: NativeIpcKey, size: number, mode = 0o600): void {
  writeFileSync(segmentPath(key), new Uint8Array(size).fill(7), { flag: "wx" });
  chmodSync(segmentPath(key), mode);
}

/** Without the mark of what this module made. */
function permissionsOf(path: string): number {
  const { mode } = statSync(path);
  assert.equal(mode & 0o7111, MARK);
  return mode & 0o666;
}

function remove(...paths: string[]): void {
  for (const path of paths) rmSync(path, { recursive: true, force: true });
}

// Python

const python = "/usr/bin/python3";
const withPython = { ...needsPython, ...linux };

function startPython(): Agent {
  return new Agent("Python", python, [`${fixtures}posix_peer.py`]);
}

describe("Python's multiprocessing.shared_memory", withPython, () => {
  leaveNothingBehind();

  test("attaches to what we made, by its name without the slash", async () => {
    const key = newKey();
    const peer = startPython();
    const memory = create(key, 5000);
    assert.equal(await peer.request("attach", key.nativeKey.slice(1)), 5000);
    assert.deepEqual(await peer.request("read", 0, 5000), new Array(5000).fill(0));
    memory.data()![4999] = 5;
    await peer.request("write", 0, [1, 2, 3]);
    assert.deepEqual(await peer.request("read", 4998, 2), [0, 5]);
    assert.deepEqual([...memory.data()!.subarray(0, 4)], [1, 2, 3, 0]);
    // Python is no user that this module knows of, but what it has mapped it has.
    assert.equal(memory.detach(), true, memory.errorString());
    assert.equal(existsSync(segmentPath(key)), false);
    assert.deepEqual(await peer.request("read", 4999, 1), [5]);
    assert.equal(await peer.end(), 0);
  });

  test("that ends leaves what we made to us", async () => {
    const key = newKey();
    using memory = create(key);
    const peer = startPython();
    await peer.request("attach", key.nativeKey.slice(1));
    await peer.request("write", 0, [9]);
    assert.equal(await peer.end(), 0);
    using other = attach(key);
    assert.equal(other.data()![0], 9);
    assert.equal(memory.lock(), true, memory.errorString());
    assert.equal(other.tryLock(), false);
  });

  test("makes what we attach to and never remove", async () => {
    const key = newKey();
    const peer = startPython();
    assert.equal(await peer.request("create", key.nativeKey.slice(1), 5000), 5000);
    await peer.request("write", 4998, [8, 9]);
    for (let turn = 0; turn < 2; turn++) {
      using memory = attach(key);
      using other = SharedMemory.open(key, { size: 5000, initialize: () => assert.fail() });
      assert.equal(memory.size(), 5000);
      assert.deepEqual([...memory.data()!.subarray(4998)], [8, 9]);
      other.data()![turn] = turn + 1;
      assert.equal(memory.lock(), true, memory.errorString());
      assert.equal(other.tryLock(), false);
      assert.equal(existsSync(lockPath(key)), true);
    }
    assert.equal(existsSync(segmentPath(key)), true);
    assert.equal(existsSync(lockPath(key)), false, "the lock was ours");
    assert.deepEqual(await peer.request("read", 0, 3), [1, 2, 0]);
    const memory = new SharedMemory(key);
    assert.equal(memory.create(64), false);
    assert.equal(memory.error(), AlreadyExists, memory.errorString());
    await peer.request("unlink");
    assert.equal(memory.attach(), false);
    assert.equal(memory.error(), NotFound, memory.errorString());
    assert.equal(await peer.end(), 0);
  });

  test("makes what is not stale to us, though nobody of ours uses it", async () => {
    const key = newKey();
    const peer = startPython();
    await peer.request("create", key.nativeKey.slice(1), 64);
    await peer.request("write", 0, [3]);
    {
      using memory = SharedMemory.open(key, { size: 64, stale: "replace" });
      assert.equal(memory.data()![0], 3);
    }
    assert.throws(() => SharedMemory.open(key, { size: 64, disposition: "create" }), {
      code: "AlreadyExists",
    });
    await peer.request("unlink");
    assert.equal(await peer.end(), 0);
  });
});

// C

let folder: string | undefined;
let program: string | undefined;

/** Compiles the peer; why that cannot be, if it cannot. */
function compile(): string | undefined {
  folder = mkdtempSync(`${tmpdir()}/posix-peer-`);
  const output = `${folder}/peer`;
  const source = `${fixtures}posix_peer.c`;
  for (const compiler of compilers) {
    const { error, status, stderr } = spawnSync(
      compiler,
      ["-O1", "-o", output, source, "-pthread", "-lrt"],
      { encoding: "utf8" },
    );
    if (error !== undefined) continue;
    if (status !== 0) throw new Error(stderr);
    program = output;
    return undefined;
  }
  return `no C compiler (${compilers.join(", ")})`;
}

after(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

const noCompiler = isLinux ? compile() : "";
const withC = !isLinux || noCompiler === undefined || isRequired("c")
  ? linux
  : { skip: noCompiler };

const EAGAIN = -11;
const ETIMEDOUT = -110;

function startC(): Agent {
  return new Agent("C", program!, []);
}

/** A C program with the segment and its lock open. */
async function startCWith(key: NativeIpcKey): Promise<Agent> {
  const peer = startC();
  assert.ok(await peer.request("attach", key.nativeKey) > 0);
  assert.equal(await peer.request("sem_open", lockName(key)), 0);
  return peer;
}

/** Waits until the lock is free: the thread of an asynchronous call that is over may take it once more for a moment. */
async function untilFree(key: NativeIpcKey): Promise<void> {
  await until(() => readFileSync(lockPath(key))[0] === 1, "the lock is free");
}

describe("a C program", withC, () => {
  leaveNothingBehind();

  test("finds what we made, and we find what it made", async () => {
    const key = newKey();
    using memory = create(key, 5000);
    assert.equal(memory.lock() && memory.unlock(), true, memory.errorString());
    const peer = await startCWith(key);
    assert.equal(await peer.request("sizeof sem_t"), 32);
    memory.data()![4999] = 8;
    assert.equal(await peer.request("read", 4999), 8);
    assert.equal(await peer.request("sem_getvalue"), 1);

    const other = newKey();
    assert.equal(await peer.request("create", other.nativeKey, 3000), 3000);
    assert.equal(await peer.request("sem_create", lockName(other), 1), 0);
    {
      using found = attach(other);
      assert.equal(found.size(), 3000);
      await peer.request("write", 2999, 4);
      assert.equal(found.data()![2999], 4);
      assert.equal(found.lock(), true, found.errorString());
      assert.equal(await peer.request("sem_getvalue"), 0);
    }
    assert.equal(await peer.request("sem_getvalue"), 1);
    assert.equal(existsSync(segmentPath(other)), true, "it is not ours to remove");
    assert.equal(existsSync(lockPath(other)), true, "nor is its semaphore");
    assert.equal(await peer.request("unlink", other.nativeKey), 0);
    assert.equal(await peer.request("sem_unlink", lockName(other)), 0);
    assert.equal(await peer.end(), 0);
  });

  test("is excluded by our lock, and excludes us", async () => {
    const key = newKey();
    using memory = create(key);
    using other = attach(key);
    assert.equal(memory.lock(), true, memory.errorString());
    const peer = await startCWith(key);
    assert.equal(await peer.request("sem_trywait"), EAGAIN);
    assert.equal(await peer.request("sem_timedwait", 50), ETIMEDOUT);
    assert.equal(memory.unlock(), true, memory.errorString());
    assert.equal(await peer.request("sem_trywait"), 0);
    for (const one of [memory, other]) {
      assert.equal(one.tryLock(), false);
      assert.equal(one.error(), LockError);
      assert.match(
        one.errorString(),
        /timed out after 0 ms: the lock is held by another process or thread$/,
      );
      assert.equal(await one.lockAsync({ timeout: 50 }), false);
      assert.equal(one.tryLock(50), false);
    }
    assert.equal(await peer.request("sem_post"), 0);
    assert.equal(await memory.lockAsync({ timeout: SOON_MS }), true, memory.errorString());
    assert.equal(other.tryLock(), false);
    assert.equal(memory.unlock(), true, memory.errorString());
    await untilFree(key);
    assert.equal(await peer.end(), 0);
  });

  test("gets the lock when we give it back, and we when it does", async () => {
    const key = newKey();
    using memory = create(key);
    assert.equal(memory.lock(), true, memory.errorString());
    const peer = await startCWith(key);
    const agents = runtimes.map((runtime) => startAgent(runtime));
    await giveMemory(agents, key);
    await Promise.all(agents.map((agent) => expectTrue(agent, "attach")));
    const waited = peer.request("sem_timedwait", SOON_MS);
    assert.equal(memory.unlock(), true, memory.errorString());
    assert.equal(await waited, 0);
    const locked = agents.map((agent, index) =>
      agent.run(`
        const locked = await objects.m.lock${index === 0 ? "Async" : ""}();
        const released = objects.m.data()[0];
        objects.m.unlock();
        return [locked, released];`)
    );
    const own = memory.lockAsync();
    await new Promise((resolve) => setTimeout(resolve, 50));
    await peer.request("write", 0, 7);
    assert.equal(await peer.request("sem_post"), 0);
    assert.equal(await withDeadline(own, "the lock"), true, memory.errorString());
    assert.equal(memory.unlock(), true, memory.errorString());
    assert.deepEqual(await Promise.all(locked), agents.map(() => [true, 7]));
    await endAll([peer, ...agents]);
  });

  test("counts with processes of all runtimes, and nothing is lost", async () => {
    const key = newKey();
    using memory = create(key);
    assert.equal(memory.lock() && memory.unlock(), true, memory.errorString());
    const peers = [await startCWith(key), await startCWith(key)];
    const agents = runtimes.map((runtime) => startAgent(runtime));
    await giveMemory(agents, key);
    await Promise.all(agents.map((agent) => expectTrue(agent, "attach")));
    const [turns, ours] = [20_000, 2000];
    await Promise.all([
      ...peers.map((peer) => peer.request("increment", turns)),
      ...agents.map((agent) =>
        agent.run(`
          const counts = objects.m.view(Int32Array);
          const turn = () => {
            const before = counts[0];
            for (counts[2] = 0; counts[2] < 50; counts[2]++);
            counts[0] = before + 1;
          };
          for (let i = 0; i < ${ours}; i++) {
            if (i % 20 === 0) await objects.m.withLockAsync(turn);
            else objects.m.withLock(turn);
          }`)
      ),
    ]);
    const expected = peers.length * turns + agents.length * ours;
    assert.equal(memory.view(Int32Array)[0], expected);
    await untilFree(key);
    await endAll([...peers, ...agents]);
  });

  test("that is killed with the lock keeps it, until another program gives it back", async () => {
    const key = newKey();
    using memory = create(key);
    assert.equal(memory.lock() && memory.unlock(), true, memory.errorString());
    const [peer, helper] = [await startCWith(key), await startCWith(key)];
    assert.equal(await peer.request("sem_wait"), 0);
    await peer.kill();
    assert.equal(memory.tryLock(NEVER_MS), false, "a semaphore does not know who took it");
    assert.match(memory.errorString(), /the lock is held by another process or thread$/);
    using other = attach(key);
    const waiting = other.lockAsync();
    assert.equal(await memory.lockAsync({ timeout: 300 }), false);
    assert.equal(await helper.request("sem_post"), 0);
    assert.equal(await withDeadline(waiting, "the lock"), true, other.errorString());
    assert.equal(await helper.end(), 0);
  });

  test("that is killed with a lock of ours: that ends with the last of us", async () => {
    const key = newKey();
    const memory = create(key);
    assert.equal(memory.lock() && memory.unlock(), true, memory.errorString());
    const peer = await startCWith(key);
    assert.equal(await peer.request("sem_wait"), 0);
    await peer.kill();
    assert.equal(memory.tryLock(), false);
    assert.equal(memory.detach(), true, memory.errorString());
    using fresh = create(key);
    assert.equal(fresh.tryLock(), true, fresh.errorString());
  });

  test("that is killed with a lock of its own: that stays until it is removed", async () => {
    const key = newKey();
    const peer = startC();
    assert.equal(await peer.request("sem_create", lockName(key), 1), 0);
    assert.equal(await peer.request("sem_wait"), 0);
    await peer.kill();
    for (let turn = 0; turn < 2; turn++) {
      using memory = create(key);
      assert.equal(memory.tryLock(), false);
      assert.equal(memory.tryLock(100), false);
    }
    assert.equal(existsSync(lockPath(key)), true);
    rmSync(lockPath(key));
    using memory = create(key);
    assert.equal(memory.tryLock(), true, memory.errorString());
  });

  test("that posts too often does not let two of us in", async () => {
    const key = newKey();
    using memory = create(key);
    using other = attach(key);
    assert.equal(memory.lock() && memory.unlock(), true, memory.errorString());
    const peer = await startCWith(key);
    const agent = startAgent(ownRuntime);
    await giveMemory(agent, key);
    await expectTrue(agent, "attach");
    // While it is free, ...
    for (let post = 0; post < 2; post++) assert.equal(await peer.request("sem_post"), 0);
    assert.equal(await peer.request("sem_getvalue"), 3);
    assert.equal(memory.lock(), true, memory.errorString());
    assert.equal(await peer.request("sem_trywait"), EAGAIN, "it has been put right");
    assert.equal(other.tryLock(50), false);
    assert.equal(await agent.call("m", "tryLock", 50), false);
    // ... and while it is held.
    assert.equal(await peer.request("sem_post"), 0);
    assert.equal(other.tryLock(50), false);
    assert.equal(await agent.call("m", "tryLock", 50), false);
    assert.equal(memory.unlock(), true, memory.errorString());
    assert.equal(await peer.request("sem_getvalue"), 1);
    await expectTrue(agent, "lock");
    assert.equal(memory.tryLock(50), false);
    assert.equal(await peer.request("sem_trywait"), EAGAIN);
    await endAll([agent, peer]);
  });

  test("that unlinks the lock leaves it to those who have it; who comes, makes another", async () => {
    const key = newKey();
    using first = create(key);
    using second = attach(key);
    for (const memory of [first, second]) {
      assert.equal(memory.lock() && memory.unlock(), true, memory.errorString());
    }
    const peer = startC();
    assert.equal(await peer.request("sem_unlink", lockName(key)), 0);
    assert.equal(existsSync(lockPath(key)), false);
    assert.equal(first.lock(), true, first.errorString());
    assert.equal(second.tryLock(50), false);
    assert.equal(first.unlock(), true, first.errorString());
    assert.equal(second.tryLock(SOON_MS), true, second.errorString());
    assert.equal(second.unlock(), true, second.errorString());
    using third = attach(key);
    using fourth = attach(key);
    assert.equal(third.tryLock(SOON_MS), true, third.errorString());
    assert.equal(fourth.tryLock(50), false);
    assert.equal(existsSync(lockPath(key)), true);
    assert.equal(await peer.end(), 0);
  });

  test("shares a SystemSemaphore", async () => {
    const key = newKey();
    const peer = startC();
    {
      using semaphore = new SystemSemaphore(key, 2);
      assert.equal(semaphore.acquire(), true, semaphore.errorString());
      assert.equal(await peer.request("sem_open", key.nativeKey), 0);
      assert.equal(await peer.request("sem_getvalue"), 1);
      assert.equal(await peer.request("sem_wait"), 0);
      assert.equal(semaphore.tryAcquire(), false);
      const waiting = semaphore.acquireAsync();
      assert.equal(await peer.request("sem_post"), 0);
      assert.equal(await withDeadline(waiting, "one"), true, semaphore.errorString());
      const waited = peer.request("sem_timedwait", SOON_MS);
      assert.equal(semaphore.release(5), true, semaphore.errorString());
      assert.equal(await waited, 0);
      assert.equal(await peer.request("sem_getvalue"), 4);
      assert.equal(semaphore.release(32767), true, semaphore.errorString());
      assert.equal(await peer.request("sem_getvalue"), 4 + 32767);
    }
    assert.equal(existsSync(semaphorePath(key.nativeKey)), false, "the last of us has removed it");
    assert.equal(await peer.request("sem_create", key.nativeKey, 1), 0);
    {
      using semaphore = new SystemSemaphore(key, 9);
      assert.equal(semaphore.error(), SystemSemaphoreError.NoError, semaphore.errorString());
      assert.equal(semaphore.tryAcquire(), true);
      assert.equal(semaphore.tryAcquire(), false);
    }
    assert.equal(await peer.request("sem_getvalue"), 0, "nothing is undone");
    assert.equal(await peer.request("sem_unlink", key.nativeKey), 0, "it was not ours");
    assert.equal(await peer.end(), 0);
  });

  test("finds a sem_t with nothing in it that C would not put there", async () => {
    const [key, foreign] = [newKey(), newKey()];
    const peer = startC();
    assert.equal(await peer.request("sem_create", lockName(foreign), 1), 0);
    using memory = create(key);
    const bytes = (one: NativeIpcKey) => [...readFileSync(lockPath(one))];
    const assertSame = (what: string) => {
      assert.deepEqual(bytes(key).slice(0, 16), bytes(foreign).slice(0, 16), what);
      assert.deepEqual(bytes(key).slice(24), new Array(8).fill(0), what);
      assert.equal(bytes(key).length, bytes(foreign).length);
    };
    assert.equal(memory.lock(), true, memory.errorString());
    assert.equal(await peer.request("sem_wait"), 0);
    assertSame("taken");
    assert.notDeepEqual(bytes(key).slice(16, 24), new Array(8).fill(0));
    assert.equal(memory.unlock(), true, memory.errorString());
    assert.equal(await peer.request("sem_post"), 0);
    assertSame("free");
    assert.equal(await memory.lockAsync(), true, memory.errorString());
    using other = attach(key);
    assert.equal(other.tryLock(20), false);
    assert.equal(await other.lockAsync({ timeout: 20 }), false);
    assert.equal(memory.unlock(), true, memory.errorString());
    // The thread of the wait that timed out may take it once more at any moment, and gives it back.
    const isSame = () => {
      const [ours, theirs] = [bytes(key), bytes(foreign)];
      return String(ours.slice(0, 16)) === String(theirs.slice(0, 16)) &&
        !ours.slice(24).some(Boolean);
    };
    await until(isSame, "the end of the wait");
    // The spare bytes of C's are ours as well, and it gets the rest back as it was.
    const before = bytes(foreign).slice(0, 16);
    using found = new SharedMemory(foreign);
    assert.equal(found.create(64) && found.lock() && found.unlock(), true, found.errorString());
    assert.deepEqual(bytes(foreign).slice(0, 16), before);
    assert.equal(await peer.request("sem_getvalue"), 1);
    assert.equal(await peer.request("sem_unlink", lockName(foreign)), 0);
    assert.equal(await peer.end(), 0);
  });

  test("can hold a lock that one of ours waits for and is killed", async () => {
    const key = newKey();
    using memory = create(key);
    assert.equal(memory.lock() && memory.unlock(), true, memory.errorString());
    const peer = await startCWith(key);
    assert.equal(await peer.request("sem_wait"), 0);
    for (const call of ["lock", "lockAsync"]) {
      const agent = startAgent(ownRuntime);
      await giveMemory(agent, key);
      await expectTrue(agent, "attach");
      const killed = assert.rejects(agent.call("m", call), /SIGKILL/);
      // Its note says that it waits.
      await until(() => noteOf(key).phase === WAITING, "the wait for the C program");
      await agent.kill();
      await killed;
      assert.equal(memory.tryLock(100), false, "the C program has it");
    }
    assert.equal(await peer.request("sem_post"), 0);
    assert.equal(memory.tryLock(SOON_MS), true, memory.errorString());
    assert.equal(await peer.request("sem_trywait"), EAGAIN);
    assert.equal(await peer.end(), 0);
  });

  test("that makes a segment before it has a size makes it under the lock, or is waited for", () => {
    const key = newKey();
    writeFileSync(segmentPath(key), "", { flag: "wx" });
    const memory = new SharedMemory(key);
    assertFailed(memory, memory.attach(), InvalidSize, /the segment has 0 bytes: the program that/);
    assertFailed(memory, memory.createOrAttach(64), InvalidSize, /the segment has 0 bytes/);
    assertFailed(memory, memory.create(64), AlreadyExists, /already exists/);
    assert.equal(existsSync(segmentPath(key)), true);
    rmSync(segmentPath(key));
  });

  test("is waited for as long as it makes a segment under the lock", async () => {
    const key = newKey();
    const peer = startC();
    assert.equal(await peer.request("sem_create", lockName(key), 1), 0);
    assert.equal(await peer.request("sem_wait"), 0);
    writeFileSync(segmentPath(key), "", { flag: "wx" });
    const agent = startAgent(ownRuntime);
    await giveMemory(agent, key);
    const attached = agent.call("m", "attach");
    await until(() => noteOf(key).phase === WAITING, "the wait for the C program");
    truncateSync(segmentPath(key), 100);
    assert.equal(await peer.request("sem_post"), 0);
    assert.equal(await attached, true, await agent.call("m", "errorString"));
    assert.equal(await agent.call("m", "size"), 100);
    assert.equal(await peer.request("sem_getvalue"), 1);
    assert.equal(await peer.request("sem_unlink", lockName(key)), 0);
    rmSync(segmentPath(key));
    await endAll([agent, peer]);
  });
});

// The note

const PID = 2 ** 22 - 1;
const TRYING = 1;
const WAITING = 2;
const HOLDING = 3;

interface Note {
  readonly pid: number;
  readonly phase: number;
  /** The low bits of the number of the namespace that pids are of. */
  readonly namespace: number;
  /** The low bits of when the process started, in clock ticks. */
  readonly start: number;
}

function noteOf(key: NativeIpcKey): Note {
  const bytes = readFileSync(lockPath(key));
  const note = bytes.readUInt32LE(16);
  return {
    pid: note & PID,
    phase: note >>> 22 & 7,
    start: bytes.readUInt16LE(20),
    namespace: bytes.readUInt16LE(22),
  };
}

function areAsleep(key: NativeIpcKey): boolean {
  return (readFileSync(lockPath(key))[19]! & 0x40) !== 0;
}

/** Makes the lock taken by another process, or free with `value` 1. */
function setNote(key: NativeIpcKey, { pid, phase, namespace, start }: Note, value = 0): void {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setUint32(0, phase << 22 | pid, true);
  bytes.setUint16(4, start, true);
  bytes.setUint16(6, namespace, true);
  const file = openSync(lockPath(key), "r+");
  writeSync(file, new Uint8Array(bytes.buffer), 0, 8, 16);
  writeSync(file, new Uint8Array([value]), 0, 1, 0);
  closeSync(file);
}

function startOf(pid = process.pid): number {
  const stat = readFileSync(`/proc/${pid}/task/${pid}/stat`, "utf8");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]) & 0xffff;
}

/** A pid that nobody has. */
function deadPid(): number {
  for (let pid = PID - 1;; pid--) {
    if (!existsSync(`/proc/${pid}`)) return pid;
  }
}

describe("the note of who has the lock", linux, () => {
  leaveNothingBehind();

  /** An attached object, and what it notes of itself. */
  function start(): [NativeIpcKey, SharedMemory, Note] {
    const key = newKey();
    const memory = create(key);
    assert.equal(memory.lock(), true, memory.errorString());
    const note = noteOf(key);
    assert.deepEqual([note.pid, note.phase], [process.pid, HOLDING]);
    assert.equal(note.start, startOf());
    assert.equal(memory.unlock(), true, memory.errorString());
    assert.equal(noteOf(key).pid, 0);
    return [key, memory, note];
  }

  for (const phase of [TRYING, HOLDING]) {
    test(`of a dead process (${phase}): whoever comes takes the lock over, once`, () => {
      const [key, memory, { namespace }] = start();
      using other = attach(key);
      setNote(key, { pid: deadPid(), phase, namespace, start: 1234 });
      assert.equal(memory.tryLock(), true, memory.errorString());
      assert.equal(noteOf(key).pid, process.pid);
      assert.equal(other.tryLock(), false);
      assert.equal(memory.unlock(), true, memory.errorString());
      assert.equal(readFileSync(lockPath(key))[0], 1);
      assert.equal(other.tryLock(), true, other.errorString());
      assert.equal(memory.tryLock(), false);
      memory[Symbol.dispose]();
    });
  }

  test("of a dead process that gave the semaphore back: there is one to take", () => {
    const [key, memory, { namespace }] = start();
    for (const phase of [TRYING, WAITING, HOLDING]) {
      setNote(key, { pid: deadPid(), phase, namespace, start: 1234 }, 1);
      assert.equal(memory.tryLock(), true, memory.errorString());
      assert.equal(readFileSync(lockPath(key))[0], 0);
      assert.equal(memory.unlock(), true, memory.errorString());
      assert.equal(readFileSync(lockPath(key))[0], 1);
    }
    memory[Symbol.dispose]();
  });

  test("of a dead process that waited for another program does not free that one's lock", () => {
    const [key, memory, { namespace }] = start();
    setNote(key, { pid: deadPid(), phase: WAITING, namespace, start: 1234 });
    assert.equal(memory.tryLock(NEVER_MS), false);
    assert.equal(noteOf(key).pid, 0, "who gives up leaves no note");
    memory[Symbol.dispose]();
  });

  test("of a dead process that started in the same tick as this one is found dead", () => {
    const [key, memory, { namespace, start: ownStart }] = start();
    setNote(key, { pid: deadPid(), phase: HOLDING, namespace, start: ownStart });
    assert.equal(memory.tryLock(), true, memory.errorString());
    memory[Symbol.dispose]();
  });

  test("of a process whose pid another has got: it is found dead", async () => {
    const [key, memory, { namespace }] = start();
    const agent = startAgent(ownRuntime);
    const pid: number = await agent.run("return process.pid;");
    const living = { pid, phase: HOLDING, namespace, start: startOf(pid) };
    setNote(key, living);
    assert.equal(memory.tryLock(NEVER_MS), false, "it lives");
    assert.match(memory.errorString(), new RegExp(`process ${pid} holds the lock$`));
    setNote(key, { ...living, start: living.start ^ 1 });
    assert.equal(memory.tryLock(), true, memory.errorString());
    assert.equal(memory.unlock(), true, memory.errorString());
    // Our own pid, from before we were.
    setNote(key, { ...living, pid: process.pid, start: startOf() ^ 1 });
    assert.equal(memory.tryLock(), true, memory.errorString());
    memory[Symbol.dispose]();
    assert.equal(await agent.end(), 0);
  });

  test("of a process of another pid namespace: it is never found dead, nor named", onceOnly, () => {
    const [key, memory, { namespace }] = start();
    for (const pid of [deadPid(), process.pid]) {
      setNote(key, { pid, phase: HOLDING, namespace: namespace ^ 1, start: 1234 });
      assert.equal(memory.tryLock(NEVER_MS), false);
      assert.match(memory.errorString(), /: the lock is held by another process or thread$/);
    }
    assert.equal(memory.detach(), true, memory.errorString());
    using fresh = create(key); // a new lock, as the last one out has removed that one
    assert.equal(fresh.tryLock(), true, fresh.errorString());
  });

  test(`of ${ownRuntime.name}, that dies while others sleep: one of them takes the lock over`, async () => {
    const [key, memory] = start();
    const holder = startAgent(ownRuntime);
    const agents = [holder, ...runtimes.map((one) => startAgent(one))];
    await giveMemory(agents, key);
    for (const agent of agents) await expectTrue(agent, "attach");
    await expectTrue(holder, "lock");
    const { pid } = noteOf(key);
    assert.equal(pid, await holder.run("return process.pid;"));
    const locked = agents.slice(1).map((agent, index) =>
      agent.run(`
        const locked = await objects.m.lock${index % 2 ? "Async" : ""}();
        objects.m.unlock();
        return locked;`)
    );
    await until(() => areAsleep(key), "somebody who sleeps");
    await holder.kill();
    assert.deepEqual(await Promise.all(locked), runtimes.map(() => true));
    assert.equal(memory.tryLock(SOON_MS), true, memory.errorString());
    await endAll(agents.slice(1));
    memory[Symbol.dispose]();
  });
});

describe("who sleeps until the lock is free", linux, () => {
  leaveNothingBehind();

  /** Shorter than a sleeper takes to look again by himself. */
  const AWAKE_MS = 500;
  /** Any process may stand still meanwhile, and then it is tried again. */
  const ATTEMPTS = 10;

  for (const call of ["lock", "lockAsync"]) {
    test(`in ${ownRuntime.name} is woken by its release: ${call}()`, async () => {
      const key = newKey();
      using memory = create(key);
      const agent = startAgent(ownRuntime);
      await giveMemory(agent, key);
      await expectTrue(agent, "attach");
      // Of a release that wakes nobody, each delay would be that of a sleeper's look.
      const delays: number[] = [];
      while (delays.length < ATTEMPTS && !delays.some((ms) => ms < AWAKE_MS)) {
        assert.equal(memory.lock(), true, memory.errorString());
        const locked = agent.run(`
          if (!await objects.m.${call}()) throw new Error(objects.m.errorString());
          const time = Date.now();
          objects.m.unlock();
          return time;`);
        await until(() => areAsleep(key), "a sleeper");
        const released = Date.now();
        assert.equal(memory.unlock(), true, memory.errorString());
        delays.push(await locked - released);
      }
      // lockAsync() looks again every 200 ms, which takes no longer.
      assert.ok(delays.at(-1)! < AWAKE_MS, `after ${delays} ms`);
      assert.equal(await agent.end(), 0);
    });
  }
});

// What lies in /dev/shm

describe("an object of another program", linux, () => {
  leaveNothingBehind();

  for (const size of [1, 5000]) {
    test(`of ${size} bytes is attached to, for reading and writing, and stays`, () => {
      const key = newKey();
      plant(key, size);
      {
        using reader = attach(key, ReadOnly);
        using writer = attach(key);
        assert.deepEqual([reader.size(), writer.size()], [size, size]);
        assert.ok(reader.constData()!.subarray(0).length === size);
        assert.equal(writer.data()![size - 1], 7);
        writer.data()![0] = 1;
        assert.equal(reader.constData()![0], 1);
        assert.equal(reader.lock(), true, reader.errorString());
        assert.equal(writer.tryLock(), false);
      }
      using opened = SharedMemory.open(key, { size, stale: "replace" });
      assert.equal(opened.data()![0], 1);
      assert.equal(opened.detach(), true, opened.errorString());
      assert.equal(statSync(segmentPath(key)).size, size);
      assert.equal(existsSync(lockPath(key)), false, "the lock was ours");
      rmSync(segmentPath(key));
    });
  }

  test("stays, whatever its mode, unless that is what docs/reliability.md says of this module's", () => {
    const key = newKey();
    plant(key, 64);
    for (let mode = 0o600; mode <= 0o7777; mode++) {
      // Execute permission for the group is the mark of an object that stays until it is removed.
      if ((mode & 0o600) !== 0o600 || (mode & 0o7101) === MARK) continue;
      const what = `mode ${mode.toString(8)}`;
      chmodSync(segmentPath(key), mode);
      const memory = new SharedMemory(key);
      assert.equal(memory.attach(), true, `${what}: ${memory.errorString()}`);
      assert.equal(memory.detach(), true, `${what}: ${memory.errorString()}`);
      using opened = SharedMemory.open(key, { size: 64, stale: "replace" });
      assert.equal(opened.data()![63], 7, what);
    }
    rmSync(segmentPath(key));
  });

  test("that is sparse gets all its memory when it is attached to for writing", () => {
    const key = newKey();
    const bytes = 4 * 2 ** 20;
    writeFileSync(segmentPath(key), "", { flag: "wx" });
    truncateSync(segmentPath(key), bytes);
    {
      using reader = attach(key, ReadOnly);
      assert.equal(reader.constData()![bytes - 1], 0);
      using memory = attach(key);
      assert.ok(statSync(segmentPath(key)).blocks * 512 >= bytes);
      assert.equal(memory.data()![bytes - 1], 0);
    }
    rmSync(segmentPath(key));
  });

  test("that is no semaphore is no lock: it is a KeyError that says so", () => {
    const key = newKey();
    writeFileSync(lockPath(key), "too short", { flag: "wx", mode: 0o600 });
    using memory = create(key);
    assert.equal(memory.lock(), false);
    assert.match(memory.errorString(), /is no semaphore: it is too small; remove it/);
    using semaphore = new SystemSemaphore(lockKey(key), 1);
    assert.equal(semaphore.error(), SystemSemaphoreError.KeyError);
    assert.match(semaphore.errorString(), /is no semaphore: it is too small; remove it/);
    assert.equal(readFileSync(lockPath(key), "utf8"), "too short");
    rmSync(lockPath(key));
  });

  for (const how of ["removed", "renamed"]) {
    test(`of the name of a segment of ours that was ${how} is not what we remove`, async () => {
      const [key, another] = [newKey(), newKey()];
      const agent = startAgent(ownRuntime);
      await giveMemory(agent, key);
      await expectTrue(agent, "create", 64);
      if (how === "removed") rmSync(segmentPath(key));
      else renameSync(segmentPath(key), segmentPath(another));
      plant(key, 100);
      assert.equal(await agent.end(), 0); // the last one out of ours
      assert.equal(statSync(segmentPath(key)).size, 100);
      assert.equal(existsSync(segmentPath(another)), how === "renamed");
      remove(segmentPath(key), segmentPath(another));
    });
  }
});

describe("the names of POSIX objects", linux, () => {
  leaveNothingBehind();

  const long = (bytes: number) => `qipc_${"x".repeat(bytes - 5)}`;

  for (
    const [nativeKey, says] of [
      ["/", /is no name; use one like/],
      ["//", /is no name; use one like/],
      ["/.", /is no name; use one like/],
      ["/..", /is no name; use one like/],
      ["/a/b", /has a slash inside/],
      ["/tmp/qipc_x", /has a slash inside/],
      ["/a/", /has a slash inside/],
      ["/qipc_a\0b", /contains a NUL character/],
      [`/${long(252)}`, /is 1 bytes too long; use a shorter key/],
      [`/${long(2000)}`, /is 1749 bytes too long; use a shorter key/],
      [`/${"ü".repeat(126)}`, /is 1 bytes too long; use a shorter key/],
    ] as const
  ) {
    test(`${JSON.stringify(nativeKey).slice(0, 40)} is a KeyError that says why`, () => {
      const key = new NativeIpcKey(nativeKey, type);
      const memory = new SharedMemory(key);
      assertFailed(memory, memory.create(64), KeyError, says);
      assertFailed(memory, memory.attach(), KeyError, says);
      assertFailed(memory, memory.createOrAttach(64), KeyError, says);
      // For length it is the lock's name that counts.
      using semaphore = new SystemSemaphore(nativeKey.length > 100 ? lockKey(key) : key, 1);
      assert.equal(semaphore.error(), SystemSemaphoreError.KeyError);
    });
  }

  test("an empty one is a KeyError", () => {
    const memory = new SharedMemory(new NativeIpcKey("", type));
    assertFailed(memory, memory.create(64), KeyError, /the key is empty/);
    assertFailed(memory, memory.attach(), KeyError, /the key is empty/);
  });

  test("one without a slash, or with two, is that with one", () => {
    const { nativeKey } = newKey();
    using memory = new SharedMemory(new NativeIpcKey(nativeKey.slice(1), type));
    assert.equal(memory.create(64), true, memory.errorString());
    for (const other of [nativeKey, `/${nativeKey}`]) {
      using found = new SharedMemory(new NativeIpcKey(other, type));
      assert.equal(found.attach(), true, found.errorString());
      assert.equal(memory.lock(), true, memory.errorString());
      assert.equal(found.tryLock(), false);
      assert.equal(found.lock(), false, "it would wait for itself");
      assert.equal(memory.unlock(), true, memory.errorString());
    }
  });

  test("one may have 251 bytes, as a semaphore's gets 4 more, and so the lock of a segment", () => {
    const name = `${"ü".repeat(100)}qipc_${Date.now()}`.padStart(151, "x");
    const longest = new NativeIpcKey(`/${name}`, type);
    assert.equal(new TextEncoder().encode(name).length, 251);
    using memory = create(longest);
    assert.equal(existsSync(segmentPath(longest)), true);
    assert.equal(memory.lock(), true, memory.errorString());
    assert.equal(existsSync(lockPath(longest)), true);
    using semaphore = new SystemSemaphore(new NativeIpcKey(`/y${name.slice(1)}`, type), 1);
    assert.equal(semaphore.acquire(), true, semaphore.errorString());
  });

  test("what is made is Qt's, for this user alone", () => {
    const key = SharedMemory.legacyNativeKey(uniqueKey(), type);
    using memory = create(key);
    assert.equal(memory.lock(), true, memory.errorString());
    const lock = SystemSemaphore.legacyNativeKey(key.legacyKey, type);
    for (const path of [segmentPath(key), semaphorePath(lock.nativeKey)]) {
      assert.equal(permissionsOf(path), 0o600, path);
    }
    assert.match(key.nativeKey, /^\/qipc_sharedmemory_test[a-z]{8}[0-9a-f]{40}$/);
    assert.match(lock.nativeKey, /^\/qipc_systemsem_test[a-z]{8}[0-9a-f]{40}$/);
  });
});

// Other users

const stranger = isLinux ? cannotBeNobody() : "needs /dev/shm";
const withNobody = stranger === undefined ? slow : { skip: stranger };

function startNobody(): Agent {
  return startAgentThrough(ownRuntime, [], undefined, nobody);
}

async function assertAgentFails(
  agent: Agent,
  call: [string, ...unknown[]],
  code: number,
  says: RegExp,
): Promise<void> {
  const [method, ...args] = call;
  assert.equal(await agent.call("m", method, ...args), false);
  const text = await agent.call("m", "errorString");
  assert.match(text, says);
  assert.equal(await agent.call("m", "error"), code, text);
}

describe("what another user plants gains him nothing", withNobody, () => {
  leaveNothingBehind();

  const whose = /belongs to \w+ \(uid 65534\), another user; use a key/;

  for (const mode of [0o666, 0o1666, 0o600]) {
    test(`a segment of his, of mode ${mode.toString(8)}, is refused`, () => {
      const key = newKey();
      plant(key, 64, mode);
      chownSync(segmentPath(key), nobody.uid, nobody.gid);
      chmodSync(segmentPath(key), mode);
      const memory = new SharedMemory(key);
      assertFailed(memory, memory.attach(), PermissionDenied, whose);
      assertFailed(memory, memory.attach(ReadOnly), PermissionDenied, whose);
      assertFailed(memory, memory.create(64), AlreadyExists, /already exists/);
      assert.throws(() => SharedMemory.open(key, { size: 64, stale: "keep" }), {
        code: "PermissionDenied",
        message: whose,
      });
      remove(segmentPath(key));
    });
  }

  test("a lock of his is refused, as a lock and as a semaphore", () => {
    const key = newKey();
    const bytes = new Uint8Array(32);
    bytes[0] = 1;
    writeFileSync(lockPath(key), bytes, { flag: "wx" });
    chownSync(lockPath(key), nobody.uid, nobody.gid);
    chmodSync(lockPath(key), 0o666);
    using memory = create(key);
    assert.equal(memory.lock(), false);
    assert.equal(memory.error(), LockError);
    assert.match(memory.errorString(), whose);
    assert.equal(memory.detach(), true, memory.errorString());
    assertFailed(memory, memory.createOrAttach(64), PermissionDenied, whose);
    using semaphore = new SystemSemaphore(lockKey(key), 1);
    assert.equal(semaphore.error(), SystemSemaphoreError.PermissionDenied);
    assert.match(semaphore.errorString(), whose);
    assert.equal(semaphore.acquire(), false);
    assert.deepEqual(new Uint8Array(readFileSync(lockPath(key))), bytes, "nobody touched it");
    assert.equal(existsSync(segmentPath(key)), false);
    remove(lockPath(key));
  });

  for (const pathOf of [segmentPath, lockPath]) {
    const what = pathOf === segmentPath ? "segment" : "lock";

    const use = (key: NativeIpcKey, says: RegExp) => {
      const memory = new SharedMemory(key);
      if (pathOf === segmentPath) {
        assertFailed(memory, memory.create(64), AlreadyExists, /already exists/);
        assert.equal(memory.attach(), false);
      } else {
        assert.equal(memory.create(64), true, memory.errorString());
        assert.equal(memory.lock(), false);
      }
      assert.match(memory.errorString(), says);
      memory[Symbol.dispose]();
      assert.equal(memory.createOrAttach(64), false);
      assert.match(memory.errorString(), says);
    };

    test(`a symbolic link as a ${what} is refused, wherever it leads`, () => {
      const [key, ours] = [newKey(), newKey()];
      using other = create(ours);
      assert.equal(other.lock() && other.unlock(), true, other.errorString());
      for (const target of [pathOf(ours), "/etc/passwd", "/nonexistent/file"]) {
        symlinkSync(target, pathOf(key));
        use(key, /is a symbolic link, which no POSIX object is; remove it/);
        remove(pathOf(key));
      }
      assert.equal(other.lock(), true, other.errorString());
    });

    for (
      const [kind, make] of [
        ["FIFO", (path: string) => spawnSync("mkfifo", [path]).status],
        ["folder", (path: string) => mkdirSync(path) ?? 0],
        [
          "socket",
          (path: string) =>
            spawnSync(python, [
              "-c",
              "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])",
              path,
            ]).status,
        ],
      ] as const
    ) {
      const options = kind === "socket" && !hasPython ? { skip: "made by Python" } : {};
      test(`a ${kind} as a ${what} is refused at once`, options, () => {
        const key = newKey();
        assert.equal(make(pathOf(key)), 0);
        chmodSync(pathOf(key), 0o1777);
        const started = performance.now();
        use(key, /another kind of file; remove it/);
        assert.ok(performance.now() - started < SOON_MS / 2);
        assert.equal(existsSync(pathOf(key)), true);
        remove(pathOf(key));
      });
    }
  }

  test("an object of his that is locked for ever is refused at once", async () => {
    const key = newKey();
    plant(key, 64);
    chownSync(segmentPath(key), nobody.uid, nobody.gid);
    const script = `exec 9<${
      JSON.stringify(segmentPath(key))
    }; flock -x 9; echo '{"value": 1}'; cat`;
    const holder = new Agent("flock", "sh", ["-c", script], undefined, nobody);
    assert.equal(await holder.request("wait"), 1);
    const started = performance.now();
    const memory = new SharedMemory(key);
    assertFailed(memory, memory.attach(), PermissionDenied, whose);
    assert.ok(performance.now() - started < SOON_MS / 2);
    await holder.kill();
    remove(segmentPath(key));
  });
});

describe("what belongs to another user", withNobody, () => {
  leaveNothingBehind();

  test("is PermissionDenied to this one, both ways", async () => {
    const [key, theirs] = [newKey(), newKey()];
    using memory = create(key);
    const agent = startNobody();
    await giveMemory(agent, key);
    const says = /belongs to root \(uid 0\), another user.*\[open \/dev\/shm\/.*: EACCES 13\]$/;
    for (const call of [["attach"], ["attach", 0], ["createOrAttach", 64]] as const) {
      await assertAgentFails(agent, [...call], PermissionDenied, says);
    }
    await assertAgentFails(agent, ["create", 64], AlreadyExists, /already exists/);
    assert.equal(memory.lock(), true, memory.errorString());

    await giveMemory(agent, theirs);
    await expectTrue(agent, "create", 64);
    const own = new SharedMemory(theirs);
    const whose = /belongs to \w+ \(uid 65534\), another user/;
    assertFailed(own, own.attach(), PermissionDenied, whose);
    assertFailed(own, own.createOrAttach(64), PermissionDenied, whose);
    await expectTrue(agent, "lock");
    assert.equal(await agent.end(), 0);
  });

  test("is shared on purpose by the option permissions, with its lock", async () => {
    const key = newKey();
    const permissions = 0o666;
    using memory = SharedMemory.open(key, { size: 64, permissions });
    assert.equal(permissionsOf(segmentPath(key)), permissions, "whatever the umask");
    const agent = startNobody();
    const open = (options: string) =>
      agent.run(`objects.m = library.SharedMemory.open(${sourceOf(key)}, ${options});`);
    await assert.rejects(open("{ size: 64 }"), { code: "PermissionDenied" });
    await open("{ size: 64, permissions: 0o666 }");
    memory.data()![0] = 5;
    assert.deepEqual(await agent.request("read", "m", 0, 1), [5]);
    await agent.request("write", "m", 1, [6]);
    assert.equal(memory.data()![1], 6);
    assert.equal(memory.lock(), true, memory.errorString());
    assert.equal(await agent.call("m", "tryLock", 50), false);
    const locked = agent.call("m", "lock");
    assert.equal(memory.unlock(), true, memory.errorString());
    assert.equal(await locked, true);
    assert.equal(memory.tryLock(), false);
    // One user's process sees that another's has died.
    await agent.kill();
    assert.equal(memory.tryLock(SOON_MS), true, memory.errorString());
    assert.equal(permissionsOf(lockPath(key)), permissions);
  });

  test("stays if another user is the last one out, who may not remove it", async () => {
    const key = newKey();
    const permissions = 0o666;
    const memory = SharedMemory.open(key, { size: 64, permissions });
    assert.equal(memory.lock() && memory.unlock(), true, memory.errorString());
    const agent = startNobody();
    await agent.run(`
      objects.m = library.SharedMemory.open(${sourceOf(key)}, { permissions: 0o666 });
      if (!objects.m.lock()) throw new Error(objects.m.errorString());`);
    assert.equal(memory.detach(), true, memory.errorString());
    assert.equal(await agent.end(), 0);
    assert.equal(existsSync(segmentPath(key)), true);
    using again = SharedMemory.open(key, { size: 64, permissions, stale: "keep" });
    assert.equal(again.tryLock(SOON_MS), true, again.errorString());
  });

  test("may be for reading only, as the permissions of a foreign object say", async () => {
    const key = newKey();
    plant(key, 64, 0o400);
    chownSync(segmentPath(key), nobody.uid, nobody.gid);
    const agent = startNobody();
    await giveMemory(agent, key);
    const says = /the permissions of \/dev\/shm\/.* do not allow this mode \[open .*: EACCES 13\]$/;
    await assertAgentFails(agent, ["attach"], PermissionDenied, says);
    await expectTrue(agent, "attach", ReadOnly);
    assert.deepEqual(await agent.request("read", "m", 62, 2), [7, 7]);
    await expectTrue(agent, "lock");
    await expectTrue(agent, "detach");
    assert.equal(existsSync(segmentPath(key)), true);
    assert.equal(existsSync(lockPath(key)), false);
    assert.equal(await agent.end(), 0);
    remove(segmentPath(key));
  });
});

// Namespaces

/** Why the agents cannot have a /dev/shm and pids of their own, if they cannot. */
function cannotUnshare(): string | undefined {
  if (process.getuid?.() !== 0) return "only root can mount file systems";
  const script = "mount -t tmpfs -o size=1m tmpfs /dev/shm && command -v nsenter";
  const args = ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script];
  return spawnSync("unshare", args).status === 0 ? undefined : "cannot make namespaces here";
}

const cannot = isLinux ? cannotUnshare() : "needs /dev/shm";
const withNamespaces = cannot === undefined ? slow : { skip: cannot };

/** An agent in a mount namespace of its own, in which the script has run. */
function startInNamespace(script: string): Agent {
  const command = ["unshare", "--mount", "sh", "-c", `${script} && exec "$@"`, "sh"];
  return startAgentThrough(ownRuntime, command);
}

function mount(options: string): string {
  return `mount -t tmpfs -o ${options} tmpfs /dev/shm`;
}

/** The agent's /dev/shm. */
function folderOf(agent: Agent): string {
  return `/proc/${agent.child.pid}/root/dev/shm`;
}

function remount(agent: Agent, options: string): void {
  const args = [`--target=${agent.child.pid}`, "--mount"];
  const command = ["mount", "-o", `remount,${options}`, "/dev/shm"];
  assert.equal(spawnSync("nsenter", [...args, ...command]).status, 0);
}

describe("a /dev/shm that is full", withNamespaces, () => {
  leaveNothingBehind();

  const full = /\/dev\/shm is full; .*greater size \[(posix_fallocate|open \S+): ENOSPC 28\]$/;

  test("has no room for a segment: OutOfResources, never SIGBUS, and nothing is left", async () => {
    const agent = startInNamespace(mount("size=1m"));
    const key = newKey();
    await giveMemory(agent, key);
    for (const call of ["create", "createOrAttach"]) {
      for (const size of [2 ** 20 + 1, 2 ** 30]) {
        await assertAgentFails(agent, [call, size], OutOfResources, full);
        assert.equal(await agent.call("m", "isAttached"), false);
        assert.deepEqual(readdirSync(folderOf(agent)), []);
      }
    }
    const open = agent.run(`
      library.SharedMemory.open(${sourceOf(key)}, { size: 2 ** 21, initialize() {} });`);
    await assert.rejects(open, { code: "OutOfResources" });
    assert.deepEqual(readdirSync(folderOf(agent)), []);
    await expectTrue(agent, "create", 2 ** 19);
    await agent.run("objects.m.data().fill(1);");
    remount(agent, "size=8m");
    await expectTrue(agent, "detach");
    await expectTrue(agent, "create", 2 ** 21);
    await agent.run("objects.m.data().fill(1);");
    assert.equal(await agent.end(), 0);
  });

  test("has no room for what a foreign object has not got yet: an error, not SIGBUS", async () => {
    const agent = startInNamespace(mount("size=1m"));
    await agent.run(""); // it runs
    const key = newKey();
    const path = `${folderOf(agent)}${key.nativeKey}`;
    writeFileSync(path, "begins", { flag: "wx" });
    truncateSync(path, 4 * 2 ** 20);
    await giveMemory(agent, key);
    await assertAgentFails(agent, ["attach"], OutOfResources, full);
    await assertAgentFails(agent, ["createOrAttach", 9], OutOfResources, /\/dev\/shm is full/);
    const noRoom = /\/dev\/shm is full, and has no room for all of the segment$/;
    await assertAgentFails(agent, ["attach", ReadOnly], OutOfResources, noRoom);
    assert.equal(statSync(path).size, 4 * 2 ** 20, "it is as it was");
    remount(agent, "size=8m");
    await expectTrue(agent, "attach", ReadOnly);
    assert.equal(await agent.run("return objects.m.data().reduce((a, b) => a + b);"), 632);
    await expectTrue(agent, "detach");
    await expectTrue(agent, "attach");
    await agent.run("objects.m.data().fill(1);");
    assert.equal(await agent.end(), 0);
  });

  test("has no room for a lock: that fails, and what is attached works", async () => {
    const agent = startInNamespace(mount("size=1m"));
    const key = newKey();
    await giveMemory(agent, key);
    await expectTrue(agent, "create", 2 ** 16);
    const filler = `${folderOf(agent)}/filler`;
    writeFileSync(filler, new Uint8Array(2 ** 20 - 2 ** 16));
    await assertAgentFails(agent, ["lock"], LockError, full);
    await agent.run("objects.m.data().fill(1);");
    await expectTrue(agent, "detach");
    assert.deepEqual(readdirSync(folderOf(agent)), ["filler"]);
    // A semaphore of a foreign program, with a hole where it should be.
    await giveMemory(agent, key);
    await expectTrue(agent, "create", 2 ** 15);
    writeFileSync(`${filler}2`, new Uint8Array(2 ** 15));
    const hole = `${folderOf(agent)}/${basename(lockPath(key))}`;
    writeFileSync(hole, "");
    truncateSync(hole, 32);
    await assertAgentFails(agent, ["lock"], LockError, full);
    rmSync(`${filler}2`);
    rmSync(hole);
    await expectTrue(agent, "lock");
    assert.equal(await agent.end(), 0);
  });

  test("has no more files: OutOfResources, and nothing is left", async () => {
    const agent = startInNamespace(mount("nr_inodes=2")); // the folder is the first
    const key = newKey();
    await giveMemory(agent, key);
    await agent.run(""); // it runs
    writeFileSync(`${folderOf(agent)}/filler`, "");
    await assertAgentFails(agent, ["create", 64], OutOfResources, full);
    rmSync(`${folderOf(agent)}/filler`);
    await expectTrue(agent, "create", 64);
    await assertAgentFails(agent, ["lock"], LockError, full);
    await expectTrue(agent, "detach");
    assert.deepEqual(readdirSync(folderOf(agent)), []);
    assert.equal(await agent.end(), 0);
  });
});

describe("a /dev/shm that cannot be used", withNamespaces, () => {
  leaveNothingBehind();

  test("as it is missing: an error that says so", async () => {
    const dev = mkdtempSync(`${tmpdir()}/dev-`);
    const nodes = "null zero full random urandom tty";
    const agent = startInNamespace(`mount -t tmpfs tmpfs ${dev} &&
      for node in ${nodes}; do touch ${dev}/$node && mount --bind /dev/$node ${dev}/$node; done &&
      ln -s /proc/self/fd ${dev}/fd && mount --rbind ${dev} /dev`);
    await giveMemory(agent, newKey());
    const says = /there is no \/dev\/shm, where the system keeps POSIX objects; mount it/;
    await assertAgentFails(agent, ["create", 64], UnknownError, says);
    await assertAgentFails(agent, ["createOrAttach", 64], UnknownError, says);
    await assertAgentFails(agent, ["attach"], NotFound, /doesn't exist/);
    assert.equal(await agent.end(), 0);
    rmSync(dev, { recursive: true });
  });

  test("as it is read-only: PermissionDenied, and nothing about TMPDIR", async () => {
    const agent = startInNamespace(mount("ro"));
    await giveMemory(agent, newKey());
    const says = /read-only(?!.*TMPDIR).*: EROFS 30\]$/;
    await assertAgentFails(agent, ["create", 64], PermissionDenied, says);
    await assertAgentFails(agent, ["createOrAttach", 64], PermissionDenied, says);
    await assertAgentFails(agent, ["attach"], NotFound, /doesn't exist/);
    assert.equal(await agent.end(), 0);
  });
});

describe("processes in other pid namespaces", { ...withNamespaces, ...onceOnly }, () => {
  leaveNothingBehind();

  /** One whose pids nobody here knows; it sees the same /dev/shm. */
  function startElsewhere(): Agent {
    const command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    return startAgentThrough(ownRuntime, command);
  }

  test("share the lock, and whoever holds it is not taken for dead", async () => {
    const key = newKey();
    using memory = create(key);
    const agents = [startElsewhere(), startElsewhere()];
    await giveMemory(agents, key);
    for (const agent of agents) await expectTrue(agent, "attach");
    const [one, two] = agents as [Agent, Agent];
    // Each has the pid that the other has in its own namespace.
    assert.equal(await one.run("return process.pid;"), await two.run("return process.pid;"));
    await expectTrue(one, "lock");
    await assertAgentFails(
      two,
      ["tryLock", NEVER_MS],
      LockError,
      /the lock is held by another process or thread$/,
    );
    assert.equal(memory.tryLock(NEVER_MS), false);
    assert.match(memory.errorString(), /the lock is held by another process or thread$/);
    await expectTrue(one, "unlock");
    assert.equal(memory.lock(), true, memory.errorString());
    await assertAgentFails(
      one,
      ["tryLock", NEVER_MS],
      LockError,
      /the lock is held by another process or thread$/,
    );
    assert.equal(memory.unlock(), true, memory.errorString());
    await expectTrue(two, "lock");
    assert.equal(await one.end(), 0);
    assert.equal(memory.tryLock(), false);
    assert.equal(await two.end(), 0);
    assert.equal(memory.tryLock(), true, memory.errorString());
  });

  test("that are killed with the lock have it until everybody else has gone", async () => {
    const key = newKey();
    const memory = create(key);
    const agent = startElsewhere();
    await giveMemory(agent, key);
    await expectTrue(agent, "attach");
    await expectTrue(agent, "lock");
    await agent.kill();
    assert.equal(memory.tryLock(NEVER_MS), false);
    assert.equal(memory.detach(), true, memory.errorString());
    using fresh = create(key);
    assert.equal(fresh.tryLock(), true, fresh.errorString());
  });

  test("count without loss", async () => {
    const key = newKey();
    using memory = create(key);
    const agents = [startElsewhere(), startElsewhere(), startAgent(ownRuntime)];
    await giveMemory(agents, key);
    for (const agent of agents) await expectTrue(agent, "attach");
    await Promise.all(agents.map((agent) =>
      agent.run(`
        const counts = objects.m.view(Int32Array);
        for (let i = 0; i < 3000; i++) {
          objects.m.withLock(() => {
            const before = counts[0];
            for (counts[1] = 0; counts[1] < 30; counts[1]++);
            counts[0] = before + 1;
          });
        }`)
    ));
    assert.equal(memory.view(Int32Array)[0], 9000);
    await endAll(agents);
  });
});

describe("what runtimes leave of POSIX objects", linux, () => {
  leaveNothingBehind();

  test(`${ownRuntime.name}: descriptors and mappings end with the attachment`, async () => {
    const agent = startAgent(ownRuntime);
    const key = newKey();
    await giveMemory(agent, key);
    const use = `
      for (let i = 0; i < 50; i++) {
        if (!objects.m.createOrAttach(10_000) || !objects.m.lock()) {
          throw new Error(objects.m.errorString());
        }
        objects.m.detach();
        const semaphore = new library.SystemSemaphore(${sourceOf(newKey())}, 1);
        semaphore.acquire();
        semaphore[Symbol.dispose]();
      }`;
    const pid: number = await agent.run(`${use} return process.pid;`);
    const count = () => {
      const links = spawnSync("ls", ["-l", `/proc/${pid}/fd`], { encoding: "utf8" }).stdout;
      const maps = readFileSync(`/proc/${pid}/maps`, "utf8");
      return [links, maps].map((text) => text.match(/\/dev\/shm\b/g)?.length ?? 0);
    };
    assert.deepEqual(count(), [0, 0]);
    await expectTrue(agent, "create", 64);
    assert.deepEqual(count(), [1, 1], "this would show what is left");
    await expectTrue(agent, "detach");
    assert.equal(await agent.end(), 0);
  });

  test("a name that is taken meanwhile: create() fails, and leaves nothing", async () => {
    const key = newKey();
    assert.throws(
      () =>
        SharedMemory.open(key, {
          size: 64,
          initialize: () => plant(key, 100),
        }),
      {
        code: "AlreadyExists",
        message: /another program, for example a Qt program, created the segment/,
      },
    );
    using memory = attach(key);
    assert.equal(memory.size(), 100);
    assert.equal(memory.lock(), true, memory.errorString());
    memory[Symbol.dispose]();
    rmSync(segmentPath(key));
    await Promise.resolve();
  });
});

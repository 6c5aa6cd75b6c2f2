/** A process in which one program replaces another (`exec`), as with each save under `bun --watch`. */
import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { after, afterEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { NativeIpcKeyType, SharedMemory, SystemSemaphore, SystemSemaphoreMode } from "../../mod.ts";
import {
  ftok,
  ipcObjects,
  ipcObjectsSince,
  leaveNothingBehind,
  linuxOnly,
  onceOnly,
  ownRuntime,
  semaphoreFile,
  semaphoreValue,
  slow,
  systemLibrary,
  uniqueKey,
  withDeadline,
} from "../support/support.ts";

const GETPID = 11;
const fixture = fileURLToPath(new URL("../fixtures/replaced.ts", import.meta.url));

/** What a generation prints. */
interface Said {
  readonly pid: number;
  readonly attached: boolean;
  readonly locked: boolean;
  readonly acquired: boolean;
  readonly text: string;
  readonly unitsText: string;
  readonly unlocked: boolean;
}

/** The fixture, whose generations speak in one after the other. */
class Replaced {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  readonly ended: Promise<unknown>;
  readonly #lines: AsyncIterator<string>;

  constructor(...args: string[]) {
    const { command, args: flags } = ownRuntime;
    this.child = spawn(command, [...flags, fixture, ...args], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.ended = new Promise((resolve) => this.child.on("close", resolve));
    running.add(this);
    this.#lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async next(): Promise<Said> {
    const { value, done } = await withDeadline(this.#lines.next(), "a line of the fixture");
    assert.ok(!done, "the fixture has ended");
    return JSON.parse(value);
  }

  async tell(what: string): Promise<void> {
    await new Promise((resolve) => this.child.stdin.write(`${what}\n`, resolve));
  }

  async end(): Promise<void> {
    await this.tell("end");
    await withDeadline(this.ended, "the end of the fixture");
  }
}

/** Of a semaphore, what its maker left when it was replaced, or killed: as it is there, `Create` makes it one's own. */
function removeUnits(key: string): void {
  new SystemSemaphore(`${key} units`, 2, SystemSemaphoreMode.Create)[Symbol.dispose]();
}

const running = new Set<Replaced>();

describe("a program that another one replaced in its process", { ...linuxOnly, ...slow }, () => {
  leaveNothingBehind();
  const killAll = async () => {
    for (const { child, ended } of running) {
      child.kill("SIGKILL");
      await ended;
    }
    running.clear();
  };
  afterEach(killAll);
  after(killAll); // Node calls no afterEach() of a test that failed

  for (const peer of [true, false]) {
    test(`loses its lock to the next one, ${peer ? "beside a peer" : "alone"}`, async () => {
      const before = ipcObjects();
      const key = uniqueKey();
      using memory = new SharedMemory(key);
      if (peer) assert.equal(memory.createOrAttach(16), true, memory.errorString());
      const replaced = new Replaced(key, "systemv", "wait");
      const first = await replaced.next();
      assert.deepEqual([first.attached, first.locked, first.acquired], [true, true, true]);
      const second = await replaced.next();
      assert.equal(second.pid, first.pid);
      assert.deepEqual([second.attached, second.locked], [true, true], second.text);
      assert.equal(second.acquired, false);
      assert.match(second.unitsText, /value is 0.* this process .*bun --watch.* start it anew/);
      assert.equal(semaphoreValue(key), 0);
      if (peer) assert.equal(memory.tryLock(20), false, "two hold the lock");
      await replaced.tell("unlock");
      assert.equal((await replaced.next()).unlocked, true);
      assert.equal(semaphoreValue(key), 1);
      if (peer) assert.equal(memory.lock() && memory.unlock(), true);
      await replaced.end();
      if (peer) {
        assert.equal(semaphoreValue(key), 1, "the kernel has undone too much or too little");
      }
      assert.equal(semaphoreValue(`${key} units`), 2);
      memory[Symbol.dispose]();
      removeUnits(key);
      assert.deepEqual(ipcObjectsSince(before), []);
    });
  }

  test("gives back its lock once if the next one ends or is killed with it", onceOnly, async () => {
    for (const kill of [false, true]) {
      const key = uniqueKey();
      using memory = SharedMemory.open(key, { size: 16 });
      const replaced = new Replaced(key, "systemv", "wait");
      await replaced.next();
      assert.equal((await replaced.next()).locked, true);
      if (!kill) await replaced.end();
      else process.kill(replaced.child.pid!, "SIGKILL");
      await withDeadline(replaced.ended, "the end");
      assert.equal(semaphoreValue(key), 1);
      assert.equal(memory.lock() && memory.unlock(), true);
      removeUnits(key);
    }
  });

  test("keeps a lock that another process has taken since", onceOnly, async () => {
    const key = uniqueKey();
    using memory = SharedMemory.open(key, { size: 16 });
    const { c } = systemLibrary();
    const id = c.semget(ftok(semaphoreFile(key)), 0, 0);
    const replaced = new Replaced(key, "systemv", "wait");
    await replaced.next();
    await replaced.next();
    await replaced.tell("unlock");
    await replaced.next();
    assert.equal(memory.lock(), true);
    assert.equal(c.semctl(id, 0, GETPID, 0n), process.pid);
    await replaced.tell("replace");
    const third = await replaced.next();
    assert.equal(third.locked, false);
    assert.match(third.text, new RegExp(`process ${process.pid} holds the lock$`));
    assert.equal(memory.unlock(), true);
    await replaced.end();
    assert.equal(semaphoreValue(key), 1);
    removeUnits(key);
  });

  test(
    "is named in the error if it cannot be told from this one: of a POSIX key",
    onceOnly,
    async () => {
      const key = uniqueKey();
      const name = SharedMemory.legacyNativeKey(key, NativeIpcKeyType.PosixRealtime);
      using memory = SharedMemory.open(name, { size: 16 });
      const replaced = new Replaced(key, "posix", "wait");
      await replaced.next();
      const second = await replaced.next();
      assert.deepEqual([second.attached, second.locked], [true, false]);
      assert.match(second.text, /this process holds the lock.*bun --watch.* start it anew/);
      await replaced.end();
      assert.equal(memory.lock() && memory.unlock(), true);
      removeUnits(key);
    },
  );

  test("is named in the error if both ran in one second", onceOnly, async () => {
    const key = uniqueKey();
    const replaced = new Replaced(key, "systemv", "now");
    assert.equal((await replaced.next()).locked, true);
    const { attached, locked, text } = await replaced.next();
    // A busy machine may have taken longer.
    if (!attached || !locked) {
      assert.match(text, /held by this process.*bun --watch.* start it anew/);
    }
    await replaced.end();
    SharedMemory.open(key, { size: 16 })[Symbol.dispose]();
    removeUnits(key);
  });
});

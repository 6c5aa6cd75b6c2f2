/** A mark that outlives its object is about no other one, though that has the same key, id and number of a namespace. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import {
  NativeIpcKey,
  NativeIpcKeyType,
  SystemSemaphore,
  SystemSemaphoreMode,
} from "../../../mod.ts";
import { sourceOf } from "../../support/key_types.ts";
import {
  type Agent,
  hasPython,
  isolatedOnly,
  keyFolder,
  leaveNothingBehind,
  ownRuntime,
  semaphoreValue,
  slow,
  startAgentThrough,
  uniqueKey,
  until,
} from "../../support/support.ts";

const canUnshare = process.platform === "linux" && process.getuid?.() === 0 && hasPython &&
  spawnSync("unshare", ["--ipc", "true"]).status === 0;
const options = canUnshare
  ? { ...slow, ...isolatedOnly }
  : { skip: "only root can make namespaces, and needs Python" };

/** How many namespaces to make until one has the number of the last one. */
const NAMESPACES_MAX = 200;

/** A C program, which makes the object of a key; it ends when its input does. */
const PROGRAM = `
import ctypes, sys
c = ctypes.CDLL(None, use_errno=True)
c.shmat.restype = ctypes.c_void_p
what, path, mode = sys.argv[1:]
key, flags = c.ftok(path.encode(), ord("Q")), int(mode, 8) | 0o1000
if what == "semaphore":
    print(c.semget(key, 1, flags), flush=True)
    sys.stdin.read()
    print(c.semctl(c.semget(key, 1, 0), 0, 12), flush=True)
else:
    id = c.shmget(key, 100, flags)
    address = ctypes.c_void_p(c.shmat(id, None, 0))
    ctypes.memmove(address, b"kept", 4)
    print(id, flush=True)
    sys.stdin.read()
    print(ctypes.string_at(address, 4), flush=True)
`;

let folder: string;
/** What ends with a test. */
let children: ChildProcess[] = [];

const numberOf = (pid: number) => readlinkSync(`/proc/${pid}/ns/ipc`);

/** A process with an IPC namespace of its own. */
async function holdNamespace(): Promise<number> {
  const child = spawn("unshare", ["--ipc", "sh", "-c", "echo ready; exec sleep 100"]);
  children.push(child);
  await new Promise((resolve) => child.stdout!.once("data", resolve));
  return child.pid!;
}

/** The same, with a number that an earlier namespace had. */
async function holdAgain(number: string): Promise<number | null> {
  for (let i = 0; i < NAMESPACES_MAX; i++) {
    const pid = await holdNamespace(); // which has the least number that is free
    if (numberOf(pid) === number) return pid;
  }
  return null;
}

async function release(processes: readonly ChildProcess[]): Promise<void> {
  const running = processes.filter(({ exitCode, signalCode }) => (exitCode ?? signalCode) === null);
  const ended = running.map((child) => new Promise((resolve) => child.once("exit", resolve)));
  for (const child of running) child.kill("SIGKILL");
  await Promise.all(ended);
}

const inside = (pid: number) => ["nsenter", "--ipc", "--target", String(pid)];

function startIn(pid: number): Agent {
  return startAgentThrough(ownRuntime, inside(pid), { TMPDIR: folder });
}

/** The C program in a namespace. */
async function startProgram(pid: number, ...args: string[]) {
  const [command, ...rest] = [...inside(pid), "/usr/bin/python3", "-c", PROGRAM, ...args];
  const child = spawn(command!, rest, { stdio: ["pipe", "pipe", "inherit"] });
  children.push(child);
  let output = "";
  const ended = new Promise((resolve) => child.once("close", resolve));
  await new Promise<void>((resolve) =>
    child.stdout!.on("data", (data) => {
      output += data;
      resolve();
    })
  );
  return {
    id: Number(output),
    /** What it sees at its end. */
    async end(): Promise<string> {
      child.stdin!.end();
      await ended;
      return output.trim().split("\n")[1]!;
    },
  };
}

const marks = () =>
  readdirSync(folder).filter((name) =>
    /^qipc_(inherited|unfinished)/.test(name) && !/_next\d+$/.test(name)
  );

describe(
  "when a namespace of the same number has an object of the same key and id,",
  options,
  () => {
    leaveNothingBehind();
    beforeEach(() => folder = mkdtempSync(`${keyFolder}marks-`));
    afterEach(async () => {
      await release(children);
      children = [];
      rmSync(folder, { recursive: true });
    });

    test("a semaphore is not that which an owner left to others", options, async (context) => {
      const path = `${folder}/c file`;
      const key = new NativeIpcKey(path, NativeIpcKeyType.SystemV);
      const first = await holdNamespace();
      const number = numberOf(first);
      const before = startIn(first);
      await before.run(`
      const open = (mode) => new library.SystemSemaphore(${sourceOf(key)}, 1, mode);
      objects.owner = open(${SystemSemaphoreMode.Create});
      objects.other = open(${SystemSemaphoreMode.Open});
      objects.owner[Symbol.dispose]();`);
      assert.equal(marks().length, 1, "it is left to the other");
      await before.kill();
      await release(children.splice(0));
      const second = await holdAgain(number);
      if (second === null) return context.skip("the number did not come again");
      const program = await startProgram(second, "semaphore", path, "600");
      assert.equal(program.id, 0);
      const agent = startIn(second);
      await agent.run(`
      new library.SystemSemaphore(${sourceOf(key)}, 1, ${SystemSemaphoreMode.Open})
        [Symbol.dispose]();`);
      assert.equal(await agent.end(), 0);
      assert.equal(await program.end(), "0", "its semaphore has its value");
    });

    test(
      "a segment is not that whose creator was killed in initialize",
      options,
      async (context) => {
        const path = `${folder}/c file`;
        const key = new NativeIpcKey(path, NativeIpcKeyType.SystemV);
        const first = await holdNamespace();
        const number = numberOf(first);
        const before = startIn(first);
        before.run(`
      const forever = new Int32Array(new SharedArrayBuffer(4));
      library.SharedMemory.open(${sourceOf(key)}, {
        size: 100, initialize: () => Atomics.wait(forever, 0, 0),
      });`).catch(() => {}); // it is killed
        await until(
          () => marks().some((name) => readlinkSync(`${folder}/${name}`).startsWith("id ")),
          "it is in initialize",
        );
        await before.kill();
        await release(children.splice(0));
        const second = await holdAgain(number);
        if (second === null) return context.skip("the number did not come again");
        const program = await startProgram(second, "segment", path, "777");
        assert.equal(program.id, 0);
        const agent = startIn(second);
        await agent.run(`
      objects.m = new library.SharedMemory(${sourceOf(key)});
      objects.other = new library.SharedMemory(${sourceOf(key)}); // it stays attached until the end
      if (!objects.other.attach()) throw new Error(objects.other.errorString());`);
        assert.equal(await program.end(), "b'kept'");
        assert.equal(await agent.call("m", "create", 64), false);
        assert.equal(await agent.call("m", "attach"), true);
        assert.deepEqual(await agent.request("read", "m", 0, 4), [107, 101, 112, 116]);
        assert.equal(await agent.end(), 0);
      },
    );
  },
);

test(
  "a semaphore goes with the last of those who came after its owner had left",
  process.platform === "linux" ? {} : { skip: "is about System V" },
  () => {
    const key = uniqueKey();
    const open = (mode: SystemSemaphoreMode) => new SystemSemaphore(key, 1, mode);
    const owner = open(SystemSemaphoreMode.Create);
    let last = open(SystemSemaphoreMode.Open);
    owner[Symbol.dispose]();
    for (let i = 0; i < 3; i++) {
      const next = open(SystemSemaphoreMode.Open);
      last[Symbol.dispose]();
      assert.equal(semaphoreValue(key), 1);
      last = next;
    }
    last[Symbol.dispose]();
    assert.equal(semaphoreValue(key), -1);
  },
);

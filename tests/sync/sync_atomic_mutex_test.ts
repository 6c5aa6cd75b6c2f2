/** Mutexes of glibc that are locked and unlocked by Atomics: deaths at each moment, and other code that uses them too. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { SharedMemory } from "../../mod.ts";
import { type PthreadMutex, Pthreads } from "../../backends/mutex/pthread.ts";
import type { RobustNode } from "../../backends/mutex/robust_list.ts";
import { isGlibc, PTHREAD_LIBRARIES } from "../../backends/unix/c_variant.ts";
import { PTHREAD_MUTEX } from "../../backends/unix/linux_constants.ts";
import { selectFfi } from "../../ffi/mod.ts";
import { Mutex } from "../../sync/mod.ts";
import { MUTEX_WORDS, OUTER, SCRATCH } from "../support/mutex_victims.ts";
import { type Stepped, writeStepped } from "../support/stepped.ts";
import {
  DEADLINE_MS,
  leaveNothingBehind,
  ownRuntime,
  startAgent,
  systemLibrary,
  until,
  withDeadline,
} from "../support/support.ts";
import { compileC, cOnly } from "../support/sync_peer.ts";
import { attach, created } from "../support/sync_places.ts";
import { makeAll, numbersOf, turn } from "../support/sync_turns.ts";
import { fixture } from "../support/threads.ts";

Object.assign(selectFfi(), { hasFastCalls: false }); // in Deno too

const isSuitable = process.platform === "linux" && process.arch === "x64" &&
  isGlibc(systemLibrary());
const glibcOnly = isSuitable ? {} : { skip: "only for glibc on x64" };
const long = { timeout: 6 * DEADLINE_MS };

const victim = fileURLToPath(new URL("../fixtures/mutex_victim.ts", import.meta.url));

/** After so many turns the engines have compiled what a turn calls. */
const COMPILED = { alone: 20_000, nested: 20_000, awaited: 5000 };
const COMPILED_MS = 500;
type Scenario = keyof typeof COMPILED | "unrecoverable";

const looper = fileURLToPath(new URL("../fixtures/mutex_looper.ts", import.meta.url));

/** For how many seconds a process executes single instructions, and what the program says that may not trace it. */
const [STEPPED_S, NO_PERMISSION] = [5, 3];

/** How many threads are terminated. */
const TERMINATIONS = 12;

const ORDERS = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

function nodeOf(mutex: Mutex): RobustNode {
  return (mutex as unknown as { mutex: RobustNode }).mutex;
}

function headOf(mutex: Mutex): RobustNode {
  return (mutex as unknown as { mutexes: Pthreads }).mutexes.held.head;
}

/** Stops code just after it has exchanged a word, as a timeout of `node:vm` does. */
function stopAfterExchange(act: () => void): void {
  const { compareExchange } = Atomics;
  const stopped = new Error("stopped");
  const stop = (...args: unknown[]) => {
    Atomics.compareExchange = compareExchange;
    Reflect.apply(compareExchange, Atomics, args);
    throw stopped;
  };
  Object.assign(Atomics, { compareExchange: stop });
  try {
    assert.throws(act, (error) => error === stopped);
  } finally {
    Atomics.compareExchange = compareExchange;
  }
}

/** What other code of this thread does with mutexes, and which mutexes the kernel knows that the thread holds. */
function otherCode(head: RobustNode) {
  const { ffi } = systemLibrary();
  const { pthread_mutex_lock: lock, pthread_mutex_unlock: unlock } = ffi.load(PTHREAD_LIBRARIES, {
    pthread_mutex_lock: { args: ["u64"], returns: "i32" },
    pthread_mutex_unlock: { args: ["u64"], returns: "i32" },
  });
  const next = BigInt(PTHREAD_MUTEX.next);
  const nextOf = (at: bigint) => new BigUint64Array(ffi.arrayBuffer(at, 8))[0]!;
  const heldNow = () => {
    const found: bigint[] = [];
    const end = head.address + next;
    for (let at = nextOf(end); at !== end && found.length < 9; at = nextOf(at)) {
      found.push(at - next);
    }
    return found;
  };
  return { lock, unlock, heldNow };
}

/** Words of the segment that another process changes, that ends that, and that nobody changes. */
const [CHANGING, END, OTHER] = [512, 513, 514];

let folder = "";
let stepped: Stepped;

interface Ending {
  readonly how: number | string;
  readonly output: string;
}

async function end(memory: SharedMemory, scenario: Scenario, turns: number, at: number) {
  const flags = ownRuntime.name === "deno" ? ["--allow-read"] : [];
  const args = [memory.key()!, stepped.file, scenario, turns, at, stepped.numbers.beforeRelease];
  const child = spawn(ownRuntime.command, [
    ...ownRuntime.args,
    ...flags,
    victim,
    ...args.map(String),
  ], { timeout: DEADLINE_MS });
  let output = "";
  child.stdout.on("data", (data) => output += data);
  child.stderr.on("data", (data) => output += data);
  return await new Promise<Ending>((resolve) => {
    child.on("close", (code, signal) => resolve({ how: signal ?? code!, output }));
  });
}

/** Whether a process that dies after this statement holds the mutex. */
function isHeldAfter(number: number, reached: readonly number[]): boolean {
  const { locked, released } = stepped.numbers;
  const place = reached.indexOf(number);
  const end = reached.indexOf(released);
  return place >= reached.indexOf(locked) && (end === -1 || place < end);
}

/** The numbers of the statements that a process reaches which is not killed. */
async function reachedIn(memory: SharedMemory, scenario: Scenario): Promise<number[]> {
  const { how, output } = await end(memory, scenario, 0, -1);
  assert.equal(how, 0, output);
  return JSON.parse(output).reached;
}

function made(): { memory: SharedMemory; mutexes: Mutex[] } {
  const memory = created();
  const view = memory.view(Uint8Array);
  Mutex.create(view, SCRATCH);
  return { memory, mutexes: [0, ...OUTER].map((offset) => Mutex.create(view, offset)) };
}

describe("a mutex that is locked by Atomics", { ...glibcOnly }, () => {
  leaveNothingBehind();
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), "stepped-"));
    stepped = writeStepped(folder);
  });
  after(() => {
    if (folder !== "") rmSync(folder, { recursive: true });
  });

  /** Has a process die after each of these statements, and looks at what it leaves. */
  async function dieAfter(
    numbers: readonly number[],
    reached: readonly number[],
    scenario: Scenario,
    turns: number,
  ) {
    const { memory, mutexes: [mutex, ...outer] } = made();
    const words = memory.view(Int32Array, MUTEX_WORDS, 10);
    for (const at of numbers) {
      const { how, output } = await end(memory, scenario, turns, at);
      assert.equal(how, "SIGKILL", output);
      assert.equal(mutex!.tryLock(), true, `stuck after ${at}`);
      assert.equal(mutex!.wasAbandoned, isHeldAfter(at, reached), `after ${at}`);
      mutex!.unlock();
      const { 0: lock, 2: owner } = words;
      assert.deepEqual([lock, owner, ...words.subarray(6)], [0, 0, 0, 0, 0, 0], `after ${at}`);
      for (const each of outer) {
        assert.equal(each.tryLock(), true, `an outer one is stuck after ${at}`);
        assert.equal(each.wasAbandoned, scenario === "nested", `after ${at}`);
        each.unlock();
      }
    }
    memory.detach();
  }

  for (const scenario of ["alone", "nested", "awaited"] as const) {
    for (const [code, turns] of [["interpreted", 0], ["compiled", COMPILED[scenario]]] as const) {
      test(`is abandoned or free after each statement: ${scenario}, ${code}`, long, async () => {
        const { memory } = made();
        const reached = await reachedIn(memory, scenario);
        memory.detach();
        assert.ok(reached.includes(stepped.numbers.begin) && reached.length >= 20, String(reached));
        const lanes = [0, 1].map((lane) => reached.filter((_, i) => i % 2 === lane));
        await Promise.all(lanes.map((numbers) => dieAfter(numbers, reached, scenario, turns)));
      });
    }
  }

  test("that no thread can lock any more is left to glibc, which says so", long, async () => {
    const { memory, mutexes: [mutex] } = made();
    const words = memory.view(Int32Array, MUTEX_WORDS, 4);
    for (const at of [-1, ...await reachedIn(memory, "unrecoverable")]) {
      const { how, output } = await end(memory, "unrecoverable", 0, at);
      if (at === -1) assert.deepEqual([how, JSON.parse(output).woken], [0, 0], output);
      else assert.equal(how, "SIGKILL", output);
      // A process that dies in between lets another one lock it. So it does in glibc.
      try {
        if (mutex!.tryLock()) mutex!.unlock();
        else assert.fail(`stuck after ${at}`);
      } catch (error) {
        assert.equal((error as { code: string }).code, "Damaged", String(error));
      }
      assert.equal(words[0], 0, `after ${at}`);
      words[2] = 0;
    }
    memory.detach();
  });

  test("is seen by the kernel after each machine instruction", { ...long, ...cOnly }, async (t) => {
    const { memory, mutexes } = made();
    const stepper = compileC("mutex_stepper", folder);
    const flags = ownRuntime.name === "deno" ? ["--allow-read"] : [];
    const args = [...ownRuntime.args, ...flags, looper, memory.key()!, String(DEADLINE_MS)];
    const child = spawn(ownRuntime.command, args, { stdio: ["ignore", "pipe", "inherit"] });
    const ended = once(child, "close");
    const [line] = await withDeadline(once(createInterface(child.stdout), "line"), "a line");
    const { thread, mutex, outer, head } = JSON.parse(line);
    const stepping = spawn(stepper, [child.pid, thread, mutex, outer, head, STEPPED_S].map(String));
    let output = "";
    stepping.stdout.on("data", (data) => output += data);
    stepping.stderr.on("data", (data) => output += data);
    const [code] = await withDeadline(once(stepping, "close"), "the end of the steps");
    child.kill("SIGKILL");
    await ended;
    for (const mutex of mutexes) {
      assert.equal(mutex.tryLock(), true);
      mutex.unlock();
    }
    memory.detach();
    if (code === NO_PERMISSION) return t.skip(`no process can be traced here: ${output}`);
    assert.equal(code, 0, output);
    const { locks, held, bad } = JSON.parse(output);
    assert.equal(bad, 0, output);
    assert.ok(locks >= 5 && held > 20 * locks, output);
  });

  for (const [how, hasFastCalls] of [["by Atomics", false], ["by calls of C", true]] as const) {
    test(`leaves mutexes in the list that other code of the thread holds: ${how}`, () => {
      const { memory, mutexes } = made();
      Object.assign(selectFfi(), { hasFastCalls });
      const pthreads = new Pthreads(systemLibrary());
      Object.assign(selectFfi(), { hasFastCalls: false });
      const nodes = mutexes.map((mutex) => pthreads.join(nodeOf(mutex).address));
      const { lock, unlock, heldNow } = otherCode(pthreads.held.head);
      const held: bigint[] = [];
      const change = (node: PthreadMutex, isOther: boolean, isLocked: boolean) => {
        const { address } = node;
        if (isOther) assert.equal((isLocked ? lock : unlock)(address), 0);
        else if (isLocked) assert.equal(pthreads.lock(node, 0), "taken");
        else assert.equal(pthreads.unlock(node), true);
        if (isLocked) held.unshift(address);
        else held.splice(held.indexOf(address), 1);
        assert.deepEqual(heldNow(), held);
      };
      for (let others = 0; others < 8; others++) {
        for (const order of ORDERS) {
          for (const i of [0, 1, 2]) change(nodes[i]!, (others & 1 << i) !== 0, true);
          for (const i of order) change(nodes[i]!, (others & 1 << i) !== 0, false);
        }
      }
      for (const mutex of mutexes) {
        assert.equal(mutex.withLock((wasAbandoned) => wasAbandoned), false);
      }
      memory.detach();
    });
  }

  test("is looked at again after an operation of Atomics, in compiled code", long, async () => {
    const { memory } = made();
    const agent = startAgent(ownRuntime);
    await attach(agent, memory);
    const changing = agent.run(`
      const words = objects.m.view(Int32Array);
      for (let n = 1; Atomics.load(words, ${END}) === 0; n = n + 1 | 0) Atomics.store(words, ${CHANGING}, n);`);
    const words = memory.view(Int32Array);
    const changes = (times: number) => {
      let count = 0;
      for (let i = 0; i < times; i++) {
        const before = words[CHANGING];
        Atomics.compareExchange(words, OTHER, 0, 0);
        if (words[CHANGING] !== before) count++;
      }
      return count;
    };
    for (const end = performance.now() + COMPILED_MS; performance.now() < end;) changes(20_000);
    await until(() => changes(200_000) > 0, "a change between two plain loads");
    Atomics.store(words, END, 1);
    await changing;
    await agent.end();
    memory.detach();
  });

  test("says so if this thread has it and no object does, as if other code had locked it", () => {
    const { memory, mutexes: [mutex] } = made();
    const words = memory.view(Int32Array, MUTEX_WORDS, 4);
    mutex!.lock();
    const thread = words[0]!;
    mutex!.unlock();
    words[0] = words[2] = thread; // the word and the owner
    assert.throws(() => mutex!.lock(), { code: "Deadlock" });
    assert.equal(mutex!.tryLock(DEADLINE_MS), false);
    words[0] = words[2] = 0;
    assert.equal(mutex!.tryLock(), true);
    mutex!.unlock();
    memory.detach();
  });

  test(
    "is left to the thread that has it now if code was stopped at the end of an unlock",
    long,
    async () => {
      for (const lockedBefore of [0, 1]) {
        const { memory, mutexes: [mutex, other, before] } = made();
        const agent = startAgent(ownRuntime);
        await attach(agent, memory);
        const at = (offset: number) => `sync.Mutex.at(objects.m.data(), ${offset})`;
        if (lockedBefore === 1) before!.lock();
        mutex!.lock();
        stopAfterExchange(() => mutex!.unlock());
        assert.equal(mutex!.isHeld, true);
        await agent.run(`
        objects.other = ${at(OUTER[0]!)};
        objects.other.lock();
        objects.mutex = ${at(0)};
        objects.mutex.lock();`);
        mutex!.unlock(); // again
        assert.equal(mutex!.isHeld, false);
        assert.equal(mutex!.tryLock(), false);
        await agent.kill();
        for (const one of [mutex!, other!]) {
          assert.equal(one.tryLock(DEADLINE_MS), true);
          assert.equal(one.wasAbandoned, true);
          one.unlock();
        }
        if (lockedBefore === 1) before!.unlock();
        assert.equal(mutex!.withLock((wasAbandoned) => wasAbandoned), false);
        memory.detach();
      }
    },
  );

  test("is unlocked by the next call if code was stopped at the end of an unlock", () => {
    const { memory, mutexes } = made();
    const [mutex, other] = mutexes as [Mutex, Mutex];
    const { heldNow } = otherCode(headOf(mutex));
    mutex.lock();
    stopAfterExchange(() => mutex.unlock());
    assert.throws(() => mutex.lock(), { code: "Deadlock" });
    mutex.unlock();
    mutex.lock();
    stopAfterExchange(() => mutex.unlock());
    other.lock();
    assert.deepEqual(heldNow(), [nodeOf(other).address]);
    mutex.unlock();
    assert.deepEqual(heldNow(), [nodeOf(other).address]);
    other.unlock();
    assert.deepEqual(heldNow(), []);
    for (const one of [mutex, other]) assert.equal(one.withLock((was) => was), false);
    memory.detach();
  });

  test("is locked by the next call if code was stopped at the beginning of a lock", () => {
    const { memory, mutexes } = made();
    const [mutex, other] = mutexes as [Mutex, Mutex];
    const { heldNow } = otherCode(headOf(mutex));
    for (const between of [() => {}, () => other.withLock(() => {}), () => other.lock()]) {
      stopAfterExchange(() => mutex.lock());
      assert.equal(mutex.isHeld, false);
      between();
      mutex.lock();
      assert.equal(heldNow()[0], nodeOf(mutex).address);
      mutex.unlock();
      if (other.isHeld) other.unlock();
      assert.deepEqual(heldNow(), []);
    }
    assert.equal(mutex.withLock((wasAbandoned) => wasAbandoned), false);
    memory.detach();
  });

  test(
    "is free or abandoned when a thread is terminated while it uses the mutex",
    long,
    async () => {
      const memory = created();
      const mutex = makeAll(memory);
      const numbers = numbersOf(memory);
      const agent = startAgent(ownRuntime, {}, ownRuntime.name === "deno" ? ["--allow-read"] : []);
      const source = `
      const memory = new library.SharedMemory(${JSON.stringify(memory.key())});
      memory.attach();
      ${turn("memory")}
      turn();
      tell("begun");
      for (;;) turn();`;
      await agent.run(`
      objects.start = async () => {
        const { Worker } = process.getBuiltinModule("node:worker_threads");
        const worker = new Worker(new URL(${JSON.stringify(fixture)}), {
          workerData: ${JSON.stringify(source)},
        });
        await new Promise((resolve) => worker.once("message", resolve));
        return worker;
      };`);
      for (let i = 0; i < TERMINATIONS; i++) {
        await agent.run(`
        const worker = await objects.start();
        await new Promise((resolve) => setTimeout(resolve, ${i % 5}));
        await worker.terminate();`);
        assert.equal(mutex.tryLock(DEADLINE_MS), true, `stuck after ${i}`);
        if (mutex.wasAbandoned) numbers[1] = numbers[0]!;
        assert.equal(numbers[0], numbers[1]);
        mutex.unlock();
      }
      assert.equal(await agent.end(), 0, agent.stderr);
      memory.detach();
    },
  );
});

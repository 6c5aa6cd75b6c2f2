/**
 * A simulated Linux kernel: a pure function over plain data. It implements what the System V and POSIX backends call on
 * Linux and what tells them about other processes, and nothing else; a call that is not simulated throws. Each call is
 * one step that no other process sees half done. kernel_test.ts compares it with the real kernel.
 *
 * state.ts has the data, and each of the other files the calls of a subject: ipc.ts System V, files.ts files and their
 * locks, memory.ts mappings and futexes, proc_files.ts `/proc`.
 */
import { EPERM, ESRCH } from "../../backends/unix/errno.ts";
import { CLOCK_REALTIME } from "../../backends/unix/linux_constants.ts";
import { close, fileCalls, release } from "./files.ts";
import { ipcCalls, leaveQueue, undoAll, unmap } from "./ipc.ts";
import { endAccesses, memoryCalls } from "./memory.ts";
import {
  type Answer,
  block,
  type Caller,
  EPOCH_MS,
  type Out,
  pidFor,
  type State,
  UPTIME_MS,
} from "./state.ts";
import { endThread, threadCalls, threadsOf } from "./threads.ts";

export { endThread, interrupt, threadsOf, waitsForTime } from "./threads.ts";
export { addProcess, addState, boot, clone, EPOCH_MS, UPTIME_MS } from "./state.ts";
export { alternativesTo, fence } from "./memory.ts";
export type { BootOptions, Out, ProcessOptions, State } from "./state.ts";

/** A call by name, with plain values: numbers, texts, and arrays of them. */
export type Call = readonly [name: string, ...args: unknown[]];

/** The end of a call. `ret` is -1 if it failed; `out` is what it has written for the caller. */
export interface Result {
  readonly ret: number;
  readonly errno: number;
  readonly out: Out;
}

/**
 * A call that has to wait, for at most `wait` ms. The process is in the queue of what it waits for. The call is made
 * again with mode 1 to see whether the wait is over, and with mode 2 when the time has run out.
 */
export interface Blocked {
  readonly wait: number;
}

const otherCalls = {
  clock_gettime({ state }: Caller, clock: number): Answer {
    const ms = state.now + (clock === CLOCK_REALTIME ? EPOCH_MS : UPTIME_MS);
    const seconds = Math.floor(ms / 1000);
    return { ret: 0, out: { seconds, nanoseconds: Math.round((ms - seconds * 1000) * 1e6) } };
  },

  sleep({ state, process, mode }: Caller, ms: number): Answer {
    if (mode !== 2) return block(process, state, state.now + ms);
    process.wait = null;
    return 0;
  },

  /** Looks whether a process exists. One that has ended does until it is reaped. */
  kill({ state, process }: Caller, pid: number, signal: number): Answer {
    if (signal !== 0) {
      throw new Error("signals are not simulated: a kill is a choice of the explorer");
    }
    const found = state.processes.find(({ stage }, i) =>
      stage !== "reaped" && pidFor(state, i, process) === pid
    );
    if (found === undefined) return -ESRCH;
    return process.uid === 0 || process.uid === found.uid ? 0 : -EPERM;
  },
};

const CALLS = new Map<string, (caller: Caller, ...args: unknown[]) => Answer>(
  Object.entries({
    ...{ ...ipcCalls, ...fileCalls, ...memoryCalls, ...threadCalls },
    ...otherCalls,
  }) as [],
);

/** Makes a call of a process, which changes the state. */
export function call(
  state: State,
  index: number,
  [name, ...args]: Call,
  mode: 0 | 1 | 2 = 0,
): Result | Blocked {
  const process = state.processes[index]!;
  const run = CALLS.get(name);
  if (run === undefined) throw new Error(`no such call: ${name}`);
  if (process.stage !== "running") throw new Error(`process ${index} has ended`);
  if ((process.wait !== null) !== (mode !== 0)) throw new Error(`${name}: wrong mode ${mode}`);
  const answer = run({ state, index, process, mode }, ...args);
  if (typeof answer === "object") {
    return "wait" in answer ? answer : { ret: answer.ret, errno: 0, out: answer.out };
  }
  return answer < 0 ? { ret: -1, errno: -answer, out: null } : { ret: answer, errno: 0, out: null };
}

export function isBlocked(result: Result | Blocked): result is Blocked {
  return "wait" in result;
}

/** The first step of the end of a process, however it ends: its memory, and so the segments that it has attached. */
export function endMemory(state: State, index: number): void {
  const process = state.processes[index]!;
  endAccesses(state, index);
  for (const thread of threadsOf(state, index)) {
    leaveQueue(state, thread);
    if (thread !== index) endThread(state, thread);
  }
  for (const [address, { leader }] of state.words) {
    if (leader === index) state.words.delete(address);
  }
  for (const [address, { kind, id }] of process.maps) {
    unmap(state, index, address);
    if (kind === "file") release(state, id);
  }
  process.stage = "no memory";
}

/** The second step: the undo of what it did to semaphores. */
export function endSemaphores(state: State, index: number): void {
  undoAll(state, index);
  state.processes[index]!.stage = "no semaphores";
}

/** The third step: its descriptors, and so its file locks. The process is then a zombie. */
export function endFiles(state: State, index: number): void {
  const process = state.processes[index]!;
  for (const fd of [...process.fds.keys()]) close(state, index, fd);
  process.stage = "zombie";
}

/** The parent of a process that has ended takes notice, and its pid becomes free. */
export function reap(state: State, index: number): void {
  state.processes[index]!.stage = "reaped";
}

/** Ends a process, in all steps that it has not ended in yet. */
export function end(state: State, index: number): void {
  const { stage } = state.processes[index]!;
  if (stage === "running") endMemory(state, index);
  if (stage === "running" || stage === "no memory") endSemaphores(state, index);
  if (stage !== "zombie" && stage !== "reaped") endFiles(state, index);
  reap(state, index);
}

/**
 * What the simulated process that runs has instead of the globals of JavaScript: its functions to read the time and to
 * wait use virtual time, `Atomics` and views of its simulated memory work on that, and its workers are simulated threads.
 */
import process from "node:process";
import { replaceAtomics } from "./atomics.ts";
import type { EventLoop } from "./event_loop.ts";
import type { SimulatedFfi } from "./ffi.ts";
import { EPOCH_MS } from "./state.ts";
import { replaceViews } from "./views.ts";
import { SimulatedWorker } from "./workers.ts";

const { now } = performance;
const date = Date.now;
const { wait, notify } = Atomics;
const { setTimeout, clearTimeout, SharedArrayBuffer } = globalThis;
const { on, getBuiltinModule } = process;

/** The process that runs: how it reads its clock, in ms, how it sleeps, its FFI, by which it has its memory, and its loop. */
export const running = {
  clock: (): number => 0,
  sleep: (_ms: number): void => {},
  ffi: null as SimulatedFfi | null,
  loop: null as EventLoop | null,
};

/** The time in ms that really passes. */
export function realNow(): number {
  return now.call(performance);
}

/** Calls `body`, in which the functions of this thread use the time of the process that runs. */
export function inVirtualTime<Result>(body: () => Result): Result {
  performance.now = () => running.clock();
  Date.now = () => EPOCH_MS + running.clock();
  Object.assign(Atomics, { wait: waitVirtually, notify: notifyVirtually });
  const restoreAtomics = replaceAtomics(() => running.ffi);
  const restoreViews = replaceViews(() => running.ffi);
  const restoreLoop = replaceLoop();
  try {
    return body();
  } finally {
    restoreLoop();
    restoreViews();
    restoreAtomics();
    running.ffi = running.loop = null;
    performance.now = now;
    Date.now = date;
    Object.assign(Atomics, { wait, notify });
  }
}

/** Waits for a word of memory that threads share. Words of other memory never change, so that is a sleep. */
function waitVirtually(view: Int32Array, index: number, value: number, ms = Infinity) {
  const address = running.ffi?.addressOf(view);
  if (address !== undefined) return running.ffi!.waitForWord(address + 4 * index, value, ms);
  running.sleep(ms);
  return "timed-out";
}

function notifyVirtually(view: Int32Array, index: number, count = Infinity): number {
  const address = running.ffi?.addressOf(view);
  return address === undefined ? 0 : running.ffi!.wakeWaiters(address + 4 * index, count);
}

/** Replaces timers, workers, their memory, and the end of the process. Returns what restores them. */
function replaceLoop(): () => void {
  const replaced = {
    setTimeout: (fire: () => void, ms?: number) => running.loop!.setTimeout(fire, ms),
    clearTimeout: (timer: number | undefined) => running.loop!.clearTimeout(timer ?? 0),
    SharedArrayBuffer: function (bytes: number) {
      return running.ffi!.newWords(bytes);
    },
  };
  Object.assign(globalThis, replaced);
  const Worker = function (code: string, options: never) {
    const worker = new SimulatedWorker(running.ffi!, code, options);
    running.loop!.addWorker(worker);
    return worker;
  };
  Object.assign(process, {
    on: (_event: "exit", listener: () => void) => running.loop!.onExit(listener),
    getBuiltinModule: (name: string) =>
      name === "node:worker_threads"
        ? { isMainThread: true, Worker }
        : getBuiltinModule.call(process, name),
  });
  return () => {
    Object.assign(globalThis, { setTimeout, clearTimeout, SharedArrayBuffer });
    Object.assign(process, { on, getBuiltinModule });
  };
}

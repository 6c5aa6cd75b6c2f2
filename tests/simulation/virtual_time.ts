/**
 * What the simulated process that runs has instead of the globals of JavaScript: its functions to read the time and to
 * wait use virtual time, and `Atomics` and views of its simulated memory work on that.
 */
import { replaceAtomics } from "./atomics.ts";
import type { SimulatedFfi } from "./ffi.ts";
import { EPOCH_MS } from "./state.ts";
import { replaceViews } from "./views.ts";

const { now } = performance;
const date = Date.now;
const { wait } = Atomics;

/** The process that runs: how it reads its clock, in ms, how it sleeps, and its FFI, by which it has its memory. */
export const running = {
  clock: (): number => 0,
  sleep: (_ms: number): void => {},
  ffi: null as SimulatedFfi | null,
};

/** The time in ms that really passes. */
export function realNow(): number {
  return now.call(performance);
}

/** Calls `body`, in which the functions of this thread use the time of the process that runs. */
export function inVirtualTime<Result>(body: () => Result): Result {
  performance.now = () => running.clock();
  Date.now = () => EPOCH_MS + running.clock();
  Atomics.wait = ((...args: unknown[]) => {
    running.sleep(args[3] as number);
    return "timed-out";
  }) as typeof Atomics.wait;
  const restoreAtomics = replaceAtomics(() => running.ffi);
  const restoreViews = replaceViews(() => running.ffi);
  try {
    return body();
  } finally {
    restoreViews();
    restoreAtomics();
    running.ffi = null;
    performance.now = now;
    Date.now = date;
    Atomics.wait = wait;
  }
}

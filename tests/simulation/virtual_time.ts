/** The clock of the simulated process that runs: its functions to read the time and to wait use virtual time. */
import { EPOCH_MS } from "./state.ts";

const { now } = performance;
const date = Date.now;
const { wait } = Atomics;

/** The process that runs: how it reads its clock, in ms, and how it sleeps. */
export const running = { clock: (): number => 0, sleep: (_ms: number): void => {} };

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
  try {
    return body();
  } finally {
    performance.now = now;
    Date.now = date;
    Atomics.wait = wait;
  }
}

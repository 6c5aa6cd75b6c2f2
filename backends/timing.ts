import { setTimeout as nodeTimeout } from "node:timers";

/**
 * This module defines how long single waits last, and how long polling pauses where the kernel has no wait with a
 * timeout. All times are in ms.
 */

/**
 * The longest time that a call which blocks its thread waits. Each time it expires, the wait loses its place in the
 * kernel's queue. In return, a waiting thread notices a lock that no process holds, and a worker can be terminated.
 */
export const SLICE_MS = 1000;
/** The longest time that a call on another thread waits; the end of a Node program waits for such a call. */
export const BACKGROUND_SLICE_MS = 200;

/**
 * How long attach() waits for the lock. The sections of create, attach and detach are far shorter, so a holder that
 * takes longer is a user of the segment.
 */
export const SECTION_MS = 10;

/** The longest pause between two attempts: the polling costs almost nothing, and the delay is not noticeable. */
const PAUSE_MAX_MS = 16;

/**
 * Returns the pause that follows one of `ms`: after `nextPause(0)`, which is 1 ms, each pause is twice as long, up to a
 * limit.
 */
export function nextPause(ms: number): number {
  return Math.min(Math.max(1, 2 * ms), PAUSE_MAX_MS);
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Blocks this thread for `ms`. */
export function sleepSync(ms: number): void {
  if (ms > 0) Atomics.wait(sleeper, 0, 0, ms);
}

/**
 * Waits for `ms` without blocking this thread.
 *
 * @param keepsAlive whether the program goes on until the wait is over
 */
export function delay(ms: number, keepsAlive = true): Promise<void> {
  return new Promise((resolve) => {
    if (keepsAlive) setTimeout(resolve, ms);
    else nodeTimeout(resolve, ms).unref(); // the global function of Deno returns a number
  });
}

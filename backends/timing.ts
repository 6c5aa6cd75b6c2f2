/** How long waits last at a time, and the pauses between tries where the kernel has no wait with a timeout; in ms. */

/**
 * How long a call that blocks its thread waits at most. Each time it is over the wait loses its place in the
 * kernel's queue, but a lock that nobody holds is found, and a worker can be ended.
 */
export const SLICE_MS = 1000;
/** The same of a call on another thread, for which the end of a Node program waits. */
export const BACKGROUND_SLICE_MS = 200;

/**
 * How long attach() waits for the lock: the sections of create, attach and detach are far shorter, so
 * a holder that takes longer is a user of the segment.
 */
export const SECTION_MS = 10;

/** Rarely enough to cost nothing, and often enough that nobody notices. */
const PAUSE_MAX_MS = 16;

/** The pause after one of `ms`: none after the first try, then longer and longer ones. */
export function nextPause(ms: number): number {
  return Math.min(Math.max(1, 2 * ms), PAUSE_MAX_MS);
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Blocks this thread. */
export function sleepSync(ms: number): void {
  if (ms > 0) Atomics.wait(sleeper, 0, 0, ms);
}

/** The same without blocking this thread. */
export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

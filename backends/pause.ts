/** Where the kernel has no wait that ends after a time: pauses between one try and the next, in ms. */

/** Rarely enough to cost nothing, and often enough that nobody notices. */
const PAUSE_MAX_MS = 16;

/** The pause after one of `ms`: none after the first try, then longer and longer ones. */
export function nextPause(ms: number): number {
  return Math.min(Math.max(1, 2 * ms), PAUSE_MAX_MS);
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Blocks this thread. */
export function sleep(ms: number): void {
  if (ms > 0) Atomics.wait(sleeper, 0, 0, ms);
}

/** The same without blocking this thread. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

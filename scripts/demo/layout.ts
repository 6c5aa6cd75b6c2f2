/**
 * What is where in the segment, in 64-bit words; worker.py has the same numbers. The phase, the total
 * and each worker's slot have a cache line of their own.
 */
export const PHASE_WORD = 0;
export const TOTAL_WORD = 8;

/** The gate at which the workers wait, and the flag that stops them. */
export const Phase = { Waiting: 0n, Running: 1n, Stopping: 2n } as const;

/** A worker's process id: 0 until it is attached and ready. */
export function pidWord(slot: number): number {
  return 16 + slot * 8;
}

/** How often the worker in this slot has incremented the total. */
export function countWord(slot: number): number {
  return pidWord(slot) + 1;
}

export function segmentBytes(slots: number): number {
  return pidWord(slots) * BigUint64Array.BYTES_PER_ELEMENT;
}

import process from "node:process";
import { Count, ownWord, RECOVERED_MAX } from "./layout.ts";

/**
 * Counts one, with the lock held. A worker may be killed at any instruction, so it first writes what it is
 * about to do: the next one completes what the killed one has begun, and the counts stay exact.
 */
export function increment(words: Int32Array, slot: number): void {
  recover(words);
  Atomics.store(words, Count.NextTotal, words[Count.Total]! + 1);
  Atomics.store(words, Count.Slot, slot);
  Atomics.store(words, Count.NextOwn, words[ownWord(slot)]! + 1);
  Atomics.store(words, Count.Dirty, process.pid);
  finish(words);
}

/** Ends what another has begun, who must have been killed: with him alive, two hold the lock. */
export function recover(words: Int32Array): void {
  const pid = Atomics.load(words, Count.Dirty);
  if (pid === 0) return;
  const at = Atomics.add(words, Count.Recoveries, 1) % RECOVERED_MAX;
  Atomics.store(words, Count.Recovered + at, pid);
  finish(words);
}

function finish(words: Int32Array): void {
  Atomics.store(words, Count.Total, words[Count.NextTotal]!);
  Atomics.store(words, ownWord(words[Count.Slot]!), words[Count.NextOwn]!);
  Atomics.store(words, Count.Dirty, 0);
}

/** The sum of what all slots have counted, which the total must be. */
export function sumOfSlots(words: Int32Array, slots: number): number {
  let sum = 0;
  for (let slot = 0; slot < slots; slot++) sum = sum + words[ownWord(slot)]! | 0;
  return sum;
}

import type { Usize } from "../../ffi/types.ts";

/** Sleeps until a word of a segment is said to have changed, in whatever process. */
export interface Futex {
  /** What the other methods take for the word at `address`. */
  address(address: bigint): Usize;
  /** Sleeps until `wake`, or for no reason, at most `ms`; not if the word is not `value` any more. */
  wait(word: Usize, value: number, ms: number): void;
  /** The same without blocking this thread. */
  waitInBackground(word: Usize, value: number, ms: number): Promise<void>;
  /**
   * Wakes at least `count` of those who sleep.
   *
   * @param before what the word was for them. Without it one more is woken in place of one who was woken and
   * does not look, where there can be such
   */
  wake(word: Usize, count?: number, before?: number): unknown;
}

import type { Usize } from "../../ffi/types.ts";

/** Lets threads of any process sleep until a word of a segment is reported as changed. */
export interface Futex {
  /** Converts an address to the `word` argument of the other methods. */
  address(address: bigint): Usize;
  /**
   * Sleeps until `wake`, for at most `ms`. The sleep may also end for no reason. It does not begin if the word is no
   * longer `value`.
   */
  wait(word: Usize, value: number, ms: number): void;
  /**
   * Does what `wait` does, without blocking this thread.
   *
   * @param keepsAlive whether the program goes on until the wait is over
   */
  waitInBackground(word: Usize, value: number, ms: number, keepsAlive: boolean): Promise<void>;
  /**
   * Wakes at least `count` sleeping threads.
   *
   * @param before the value of the word for which the threads sleep. Without it, one more thread is woken in case one
   * that was already woken does not look at the word, on systems where that can happen
   */
  wake(word: Usize, count?: number, before?: number): unknown;
}

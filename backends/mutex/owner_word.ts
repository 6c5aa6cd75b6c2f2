import type { Ffi, Usize } from "../../ffi/types.ts";
import { HeldList, HeldNode } from "./held_list.ts";
import { nextPause, sleepSync } from "../timing.ts";
import { type LockOutcome, MutexAbi, type MutexBackend } from "./types.ts";
import type { Futex } from "../futex/types.ts";

/** The threads of all processes. */
export interface Threads {
  /** This one: below 2^20, and below 2^44. */
  self(): { readonly pid: number; readonly thread: bigint };
  /** Whether one has not ended. */
  isRunning(pid: number, thread: bigint): boolean;
}

const THREAD_BITS = 44n;
const THREAD = (1n << THREAD_BITS) - 1n;
/** In the block: the owner, and how many sleep, of which some may have been killed. */
const BLOCK_BYTES = 12;
const SLEEPERS_WORD = 2;

/** One of these mutexes, as one thread uses it. */
export class OwnerMutex extends HeldNode {
  readonly word: Usize;
  /** Who holds it: the pid, and in the lower 44 bits the thread; or 0. */
  readonly holder: BigUint64Array;
  readonly words: Int32Array;

  constructor(word: Usize, buffer: ArrayBuffer) {
    super();
    this.word = word;
    this.holder = new BigUint64Array(buffer, 0, 1);
    this.words = new Int32Array(buffer, 0, BLOCK_BYTES / 4);
  }
}

/**
 * Mutexes that are a word with their owner, where threads have numbers that are never used again. To take one,
 * and to give it back, is one compare-and-swap, so there is no moment in which it has no owner or a wrong one. Who
 * finds it taken looks whether the owner lives, and takes it over from a dead one by another. Nothing is
 * left in the system, whoever dies.
 */
export class OwnerMutexes implements MutexBackend<OwnerMutex> {
  readonly abi = MutexAbi.macos;
  readonly scopeName = "system";
  readonly held = new HeldList(new HeldNode());
  readonly #ffi: Ffi;
  readonly #threads: Threads;
  readonly #futex: Futex | null;
  #self = 0n;

  constructor(ffi: Ffi, threads: Threads, futex: Futex | null) {
    this.#ffi = ffi;
    this.#threads = threads;
    this.#futex = futex;
  }

  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer {
    return this.#ffi.arrayBuffer(address, byteLength);
  }

  /** There is one only. */
  scope(): number {
    return 0;
  }

  /** Zeros are one that nobody holds. */
  init(): void {}

  join(address: bigint): OwnerMutex {
    return new OwnerMutex(this.#ffi.usize(address), this.arrayBuffer(address, 16));
  }

  /** Whatever is in the word may be an owner. */
  isMutex(): boolean {
    return true;
  }

  lock(mutex: OwnerMutex, ms: number): LockOutcome {
    let outcome = this.#try(mutex);
    if (ms <= 0 || outcome !== "held") return outcome;
    const deadline = performance.now() + ms;
    for (let pause = nextPause(0);; pause = nextPause(pause)) {
      const left = deadline - performance.now();
      if (left <= 0) return "held";
      this.#sleep(mutex, Math.min(pause, left));
      outcome = this.#try(mutex);
      if (outcome !== "held") return outcome;
    }
  }

  #try(mutex: OwnerMutex): LockOutcome {
    const self = this.#own;
    const { holder } = mutex;
    const found = Atomics.compareExchange(holder, 0, 0n, self);
    if (found === self) return "own";
    if (found !== 0n) {
      if (this.#threads.isRunning(Number(found >> THREAD_BITS), found & THREAD)) return "held";
      if (Atomics.compareExchange(holder, 0, found, self) !== found) return "held";
    }
    this.held.push(mutex);
    return found === 0n ? "taken" : "abandoned";
  }

  get #own(): bigint {
    if (this.#self === 0n) {
      const { pid, thread } = this.#threads.self();
      this.#self = BigInt(pid) << THREAD_BITS | thread;
    }
    return this.#self;
  }

  /** Who gives it back wakes somebody if there are sleepers; nobody wakes for a dead one. */
  #sleep({ word, words }: OwnerMutex, ms: number): void {
    if (this.#futex === null) return sleepSync(ms);
    Atomics.add(words, SLEEPERS_WORD, 1);
    const thread = Atomics.load(words, 0); // its lower half
    if (thread !== 0) this.#futex.wait(word, thread >>> 0, ms);
    Atomics.sub(words, SLEEPERS_WORD, 1);
  }

  /** Whoever finds that the owner does not live takes it over. */
  vanishedOwner(): null {
    return null;
  }

  unlock(mutex: OwnerMutex): boolean {
    const { word, holder, words } = mutex;
    const self = this.#own;
    const after = this.held.after(mutex);
    const isUnlocked = Atomics.compareExchange(holder, 0, self, 0n) === self;
    if (after.before === mutex) after.before = mutex.before; // as remove(), which is not called: the stack may overflow
    try {
      if (Atomics.load(words, SLEEPERS_WORD) !== 0) this.#futex?.wake(word);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error; // whoever sleeps looks by itself a little later
    }
    return isUnlocked;
  }
}

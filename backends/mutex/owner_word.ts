import type { Ffi, Usize } from "../../ffi/types.ts";
import { HeldList, HeldNode } from "./held_list.ts";
import { nextPause, sleepSync } from "../timing.ts";
import { type LockOutcome, MutexAbi, type MutexBackend } from "./types.ts";
import type { Futex } from "../futex/types.ts";

/** The threads of all processes, as far as these mutexes need them. */
export interface Threads {
  /** Returns the pid (below 2^20) and the thread number (below 2^44) of this thread. */
  self(): { readonly pid: number; readonly thread: bigint };
  /** Whether a thread has not ended. */
  isRunning(pid: number, thread: bigint): boolean;
}

const THREAD_BITS = 44n;
const THREAD = (1n << THREAD_BITS) - 1n;
/** The size of the block: the owner, and the number of sleepers, some of which may have been killed. */
const BLOCK_BYTES = 12;
const SLEEPERS_WORD = 2;

/** An owner-word mutex in a segment, as one thread uses it. */
export class OwnerMutex extends HeldNode {
  readonly word: Usize;
  /** The holder of the mutex: the pid, and in the lower 44 bits the thread; 0 if the mutex is free. */
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
 * Mutexes that consist of a word with their owner, for systems where thread numbers are never reused. Locking and
 * unlocking are one compare-and-swap each, so at no moment is the owner missing or wrong. A thread that finds the mutex
 * locked checks whether the owner is alive, and takes the mutex over from a dead owner with another compare-and-swap. A
 * killed thread leaves nothing behind in the system.
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

  /** Returns the only scope, which is the whole system. */
  scope(): number {
    return 0;
  }

  init(address: bigint): void {
    new Uint8Array(this.arrayBuffer(address, BLOCK_BYTES)).fill(0);
  }

  wasHeld(address: bigint): boolean {
    return this.join(address).holder[0] !== 0n;
  }

  join(address: bigint): OwnerMutex {
    return new OwnerMutex(this.#ffi.usize(address), this.arrayBuffer(address, 16));
  }

  /** Returns `true`, because any value of the word may be an owner. */
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

  /**
   * Sleeps until the mutex may be free. The thread that unlocks it wakes one sleeper if there are any, but a dead owner
   * wakes none, so `ms` is short.
   */
  #sleep({ word, words }: OwnerMutex, ms: number): void {
    if (this.#futex === null) return sleepSync(ms);
    Atomics.add(words, SLEEPERS_WORD, 1);
    const thread = Atomics.load(words, 0); // the lower half of the owner
    if (thread !== 0) this.#futex.wait(word, thread >>> 0, ms);
    Atomics.sub(words, SLEEPERS_WORD, 1);
  }

  holder({ holder }: OwnerMutex): number | null {
    return Number(Atomics.load(holder, 0) >> THREAD_BITS) || null;
  }

  /** Returns `null`, because `lock` takes the mutex over from an owner that does not exist. */
  vanishedOwner(): null {
    return null;
  }

  unlock(mutex: OwnerMutex): boolean {
    const { word, holder, words } = mutex;
    const self = this.#own;
    const after = this.held.after(mutex);
    const isUnlocked = Atomics.compareExchange(holder, 0, self, 0n) === self;
    if (after.before === mutex) after.before = mutex.before; // remove() without the call: the stack may overflow
    try {
      if (Atomics.load(words, SLEEPERS_WORD) !== 0) this.#futex?.wake(word);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error; // sleepers soon look again by themselves
    }
    return isUnlocked;
  }
}

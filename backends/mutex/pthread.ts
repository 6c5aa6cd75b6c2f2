import { UnsupportedError } from "../../errors.ts";
import type { CFunctions, CSignatures, Ffi, Usize } from "../../ffi/types.ts";
import {
  FUTEX_OWNER_DIED,
  FUTEX_TID_MASK,
  PTHREAD_MUTEX,
  PTHREAD_MUTEX_ERRORCHECK,
  PTHREAD_MUTEX_OF,
  PTHREAD_MUTEX_ROBUST,
  PTHREAD_PROCESS_SHARED,
} from "../unix/linux_constants.ts";
import {
  EBUSY,
  EDEADLK,
  ENOTRECOVERABLE,
  EOWNERDEAD,
  errnoText,
  ETIMEDOUT,
} from "../unix/errno.ts";
import type { Libc } from "../unix/libc.ts";
import { isRunning, pidNamespace, threadId } from "../unix/processes.ts";
import { isGlibc, PTHREAD_LIBRARIES } from "../unix/c_variant.ts";
import { TimedWait } from "../unix/timed_wait.ts";
import { NEXT, PREV, RobustList, RobustNode } from "./robust_list.ts";
import { LinuxFutex } from "../futex/linux.ts";
import { atomicPthreads, type LocksAndUnlocks } from "./atomic_pthread.ts";
import { type LockOutcome, MutexAbi, type MutexBackend } from "./types.ts";

/** The C functions, each of which returns an errno. */
const SIGNATURES = {
  pthread_mutexattr_init: { args: ["u64"], returns: "i32" },
  pthread_mutexattr_setpshared: { args: ["u64", "i32"], returns: "i32" },
  pthread_mutexattr_setrobust: { args: ["u64", "i32"], returns: "i32" },
  pthread_mutexattr_settype: { args: ["u64", "i32"], returns: "i32" },
  pthread_mutex_init: { args: ["u64", "u64"], returns: "i32" }, // (mutex, attr)
  pthread_mutex_trylock: { args: ["usize"], returns: "i32" },
  pthread_mutex_unlock: { args: ["usize"], returns: "i32" },
  pthread_mutex_consistent: { args: ["u64"], returns: "i32" },
} as const satisfies CSignatures;

/** The size of the memory for the attributes, of which glibc and musl use 4 bytes. */
const ATTRIBUTES_BYTES = 64;

/** As many threads as there can be. */
const ALL = 2 ** 31 - 1;

/** A `pthread_mutex_t` in a segment, as one thread uses it. */
export class PthreadMutex extends RobustNode {
  declare readonly pointer: Usize;

  constructor(ffi: Ffi, address: bigint) {
    super(ffi, address, PTHREAD_MUTEX.bytes);
    this.pointer = ffi.usize(address);
  }
}

/**
 * The process-shared mutexes of the C library. They are robust: if a thread ends while it holds one, the kernel tells
 * the next thread that locks it. They check errors: what would be a hang is an errno.
 *
 * All processes can write to the memory of a mutex, and the C library trusts it: it follows pointers that lie in a held
 * mutex. So each call first makes sure that what the C library trusts is correct.
 */
export class Pthreads implements MutexBackend<PthreadMutex> {
  declare readonly abi: number;
  readonly scopeName = "namespace of pids (another container), whose threads have the same numbers";
  readonly #libc: Libc;
  readonly #c: CFunctions<typeof SIGNATURES>;
  readonly #tryLock: CFunctions<typeof SIGNATURES>["pthread_mutex_trylock"];
  readonly #unlock: CFunctions<typeof SIGNATURES>["pthread_mutex_unlock"];
  readonly #wait: TimedWait;
  readonly #attributes: bigint;
  // Fields that each use of a mutex reads are declared with `declare` and without `#`: see sync/slot.ts.
  /** The word of a mutex with its kind. Unless it is right, no call of the C library is safe. */
  declare private readonly kindWord: number;
  /** The word that the kernel knows: the thread that holds the mutex, and two flag bits. */
  declare private readonly holderWord: number;
  /** The value that the kind has in each of these mutexes. */
  declare private readonly kind: number;
  declare readonly held: RobustList;
  /** The number (tid) of this thread. */
  readonly #thread: number;
  declare readonly lock: (mutex: PthreadMutex, ms: number) => LockOutcome;
  /** If the stack overflows, the mutex is still held. */
  declare readonly unlock: (mutex: PthreadMutex) => boolean;

  constructor(libc: Libc) {
    this.#libc = libc;
    const { ffi } = libc;
    this.#c = ffi.load(PTHREAD_LIBRARIES, SIGNATURES);
    this.#tryLock = this.#c.pthread_mutex_trylock;
    this.#unlock = this.#c.pthread_mutex_unlock;
    const name = isGlibc(libc) ? "glibc" : "musl";
    this.abi = MutexAbi[name];
    this.kindWord = PTHREAD_MUTEX_OF[name].kind;
    this.holderWord = PTHREAD_MUTEX_OF[name].holder;
    this.#wait = new TimedWait(libc, "pthread_mutex_clocklock", "pthread_mutex_timedlock");
    this.#attributes = this.#makeAttributes();
    const { address } = libc.allocate(PTHREAD_MUTEX.bytes);
    this.init(address);
    const mutex = this.join(address);
    this.kind = mutex.words[this.kindWord]!;
    // A locked mutex contains the number of this thread and a pointer to the head of its list.
    requireSupport("pthread_mutex_trylock", this.#tryLock(mutex.pointer));
    this.#thread = mutex.words[this.holderWord]! & FUTEX_TID_MASK;
    this.held = RobustList.ofThread(ffi, mutex.pointers[PREV]!);
    const byCall = {
      lock: (mutex: PthreadMutex, ms: number) => this.lockByCall(mutex, ms),
      unlock: (mutex: PthreadMutex) => this.unlockByCall(mutex),
    };
    ({ lock: this.lock, unlock: this.unlock } = this.#atomic(mutex, byCall) ?? byCall);
    requireSupport("pthread_mutex_unlock", this.#unlock(mutex.pointer));
  }

  /**
   * Returns functions that need no call of the C library in the plain case; `null` where a call is as fast, and where
   * they have not been tested. QEMU, in which arm64 is tested, tells no thread that the holder of a mutex has ended; musl
   * has other words.
   */
  #atomic(locked: PthreadMutex, byCall: LocksAndUnlocks) {
    const { ffi, arch } = this.#libc;
    if (ffi.hasFastCalls || this.abi !== MutexAbi.glibc || arch !== "x64") return null;
    const futex = new LinuxFutex(this.#libc);
    const wakeAll = ({ address }: RobustNode) => void futex.wake(futex.address(address), ALL);
    return atomicPthreads(locked, this.held.head, threadId(this.#libc), byCall, wakeAll);
  }

  #makeAttributes(): bigint {
    const { address } = this.#libc.allocate(ATTRIBUTES_BYTES);
    const c = this.#c;
    requireSupport("pthread_mutexattr_init", c.pthread_mutexattr_init(address));
    const setShared = c.pthread_mutexattr_setpshared(address, PTHREAD_PROCESS_SHARED);
    requireSupport("pthread_mutexattr_setpshared", setShared);
    const setRobust = c.pthread_mutexattr_setrobust(address, PTHREAD_MUTEX_ROBUST);
    requireSupport("pthread_mutexattr_setrobust", setRobust);
    const setType = c.pthread_mutexattr_settype(address, PTHREAD_MUTEX_ERRORCHECK);
    requireSupport("pthread_mutexattr_settype", setType);
    return address;
  }

  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer {
    return this.#libc.ffi.arrayBuffer(address, byteLength);
  }

  /** Returns the pid namespace, because threads in different containers may have the same number. */
  scope(): number {
    return pidNamespace(this.#libc) | 0;
  }

  init(address: bigint): void {
    requireSupport("pthread_mutex_init", this.#c.pthread_mutex_init(address, this.#attributes));
  }

  wasHeld(address: bigint): boolean {
    return this.join(address).words[this.holderWord] !== 0;
  }

  join(address: bigint): PthreadMutex {
    return new PthreadMutex(this.#libc.ffi, address);
  }

  isMutex({ words }: PthreadMutex): boolean {
    return words[this.kindWord] === this.kind;
  }

  private lockByCall(mutex: PthreadMutex, ms: number): LockOutcome {
    if (!this.isMutex(mutex)) return "damaged";
    const errno = this.#tryLock(mutex.pointer);
    if (errno !== 0) return this.#lockNotFree(mutex, ms, errno);
    this.held.add(mutex);
    return "taken";
  }

  /** Continues `lock` after `trylock` has returned `errno`. */
  #lockNotFree(mutex: PthreadMutex, ms: number, errno: number): LockOutcome {
    // The EBUSY of musl does not tell whether this thread holds the mutex.
    if (errno === EBUSY && this.#holderOf(mutex) === this.#thread) return "own";
    if (errno === EBUSY && ms > 0) {
      errno = this.#wait.wait(mutex.address, ms);
    }
    if (errno === 0 || errno === EOWNERDEAD) this.held.add(mutex);
    if (errno === 0) return "taken";
    if (errno === EBUSY || errno === ETIMEDOUT) return "held";
    if (errno === ENOTRECOVERABLE) {
      // glibc's trylock returns this with the mutex locked.
      Atomics.compareExchange(mutex.words, this.holderWord, this.#thread, 0);
      return "unrecoverable";
    }
    if (errno === EDEADLK) return "own";
    if (errno !== EOWNERDEAD) return { refused: errnoText(errno) };
    this.#c.pthread_mutex_consistent(mutex.address);
    return "abandoned";
  }

  /** Returns the number of the thread that holds the mutex, or 0. */
  #holderOf({ words }: PthreadMutex): number {
    return Atomics.load(words, this.holderWord) & FUTEX_TID_MASK;
  }

  holder(mutex: PthreadMutex): number | null {
    return this.#holderOf(mutex) || null;
  }

  /**
   * Returns the thread that holds the mutex but no longer exists, so that nothing will ever release the mutex;
   * otherwise `null`. This happens because the kernel, too, follows pointers in mutexes when a thread ends, and a
   * damaged pointer keeps it from reaching this mutex.
   */
  vanishedOwner({ words }: PthreadMutex): number | null {
    const before = Atomics.load(words, this.holderWord);
    const thread = before & FUTEX_TID_MASK;
    if (thread === 0 || (before & FUTEX_OWNER_DIED) !== 0) return null;
    if (isRunning(this.#libc, thread)) return null;
    // When a thread ends, the kernel releases all its mutexes before the number of the thread is free.
    return Atomics.load(words, this.holderWord) === before ? thread : null;
  }

  private unlockByCall(mutex: PthreadMutex): boolean {
    if (!this.isMutex(mutex) || !this.held.isLast(mutex)) return this.#unlockAnyhow(mutex);
    const { pointers, before } = mutex;
    const { head } = this.held; // may be the list of another copy of this module
    pointers[PREV] = head.link;
    pointers[NEXT] = before.link;
    if (this.#unlock(mutex.pointer) !== 0) {
      this.held.cut(mutex);
      return false;
    }
    head.before = before;
    return true;
  }

  /** Unlocks a mutex that was overwritten, or that is not the last one that this thread has locked. */
  #unlockAnyhow(mutex: PthreadMutex): boolean {
    // If code was stopped at the end of an unlock, another thread may hold the mutex, with pointers of its own in it.
    if (this.#holderOf(mutex) !== this.#thread && this.held.forgetUnlinked(mutex)) return true;
    const wasIntact = this.isMutex(mutex);
    if (!wasIntact) mutex.words[this.kindWord] = this.kind;
    this.held.restore(mutex);
    const { head } = this.held;
    const after = head.before === mutex ? head : this.held.after(mutex);
    const isUnlocked = this.#unlock(mutex.pointer) === 0;
    if (!isUnlocked) this.held.cut(mutex);
    else if (after.before === mutex) { // without a call: if the stack overflows, the mutex is still held
      after.before = mutex.before;
      if (after.isLinked) {
        after.isLinked = mutex.isLinked;
        after.next = mutex.next;
      }
    }
    return isUnlocked && wasIntact;
  }
}

/** Throws for errors that only a C library without such mutexes returns. */
function requireSupport(call: string, errno: number): void {
  if (errno === 0) return;
  throw new UnsupportedError(
    `this C library has no robust mutexes that processes share [${call}: ${errnoText(errno)}]`,
  );
}

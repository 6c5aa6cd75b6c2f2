import { UnsupportedError } from "../../errors.ts";
import type { CFunctions, CSignatures, Usize } from "../../ffi/types.ts";
import {
  CLOCK_MONOTONIC,
  CLOCK_REALTIME,
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
import { CLOCK, isGlibc, PTHREAD_LIBRARIES, tryLoad } from "../unix/c_variant.ts";
import { addDuration, type Timespec, timespec } from "../unix/timespec.ts";
import { pointerOf, PREV, RobustList, RobustNode } from "./robust_list.ts";
import { type LockOutcome, MutexAbi, type MutexBackend } from "./types.ts";

/** All of them return an errno. */
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

/** glibc since 2.30 waits by the clock that nobody can set. */
const CLOCK_LOCK = {
  pthread_mutex_clocklock: { args: ["u64", "i32", "u64"], returns: "i32" }, // (mutex, clock, timespec *)
} as const satisfies CSignatures;

/** What all have waits by the other clock; that it may be set is no harm to short waits. */
const TIMED_LOCK = {
  pthread_mutex_timedlock: { args: ["u64", "u64"], returns: "i32" }, // (mutex, timespec *)
} as const satisfies CSignatures;

/** For the attributes: glibc and musl use 4 bytes of them. */
const ATTRIBUTES_BYTES = 64;

/** A `pthread_mutex_t` in a segment, as one thread uses it. */
export class PthreadMutex extends RobustNode {
  /** The word that says what kind of mutex it is, without which no call of the C library is safe. */
  declare readonly kind: Int32Array;
  /** The word that the kernel knows: the thread that holds it, and two bits. */
  declare readonly holder: Int32Array;
  declare readonly address: bigint;
  declare readonly pointer: Usize;

  constructor(pthreads: Pthreads, address: bigint) {
    // A buffer of its own: that of the segment may be transferred away while the mutex is held.
    const buffer = pthreads.arrayBuffer(address, PTHREAD_MUTEX.bytes);
    const { prev, next } = PTHREAD_MUTEX;
    super(pointerOf(address + BigInt(next)), new Float64Array(buffer, prev, 2));
    this.address = address;
    this.pointer = pthreads.pointer(address);
    this.kind = new Int32Array(buffer, pthreads.offsets.kind, 1);
    this.holder = new Int32Array(buffer, pthreads.offsets.holder, 1);
  }
}

/**
 * The C library's mutexes that processes share: robust, so that the kernel tells the next one if a thread
 * ends with one, and checking errors, so that what would be a hang is an errno.
 *
 * Their memory is everybody's, and the C library trusts it: it follows pointers that lie in a mutex that
 * is held. So each call first makes sure that what it trusts is what it should be.
 */
export class Pthreads implements MutexBackend<PthreadMutex> {
  declare readonly abi: number;
  readonly scopeName = "namespace of pids (another container), whose threads have the same numbers";
  /** Where in a mutex what is, in bytes. */
  declare readonly offsets: { readonly kind: number; readonly holder: number };
  readonly #libc: Libc;
  readonly #c: CFunctions<typeof SIGNATURES>;
  readonly #tryLock: CFunctions<typeof SIGNATURES>["pthread_mutex_trylock"];
  readonly #unlock: CFunctions<typeof SIGNATURES>["pthread_mutex_unlock"];
  readonly #wait: (mutex: bigint, until: bigint) => number;
  readonly #clock: number;
  readonly #getTime: (clock: number, time: bigint) => number;
  readonly #time: Timespec;
  readonly #attributes: bigint;
  /** What the kind of all of them is. */
  readonly #kind: number;
  declare readonly held: RobustList;
  /** The number of this thread. */
  readonly #thread: number;

  constructor(libc: Libc) {
    this.#libc = libc;
    const { ffi } = libc;
    this.#c = ffi.load(PTHREAD_LIBRARIES, SIGNATURES);
    this.#tryLock = this.#c.pthread_mutex_trylock;
    this.#unlock = this.#c.pthread_mutex_unlock;
    this.#getTime = ffi.load(PTHREAD_LIBRARIES, CLOCK).clock_gettime;
    const name = isGlibc(libc) ? "glibc" : "musl";
    this.abi = MutexAbi[name];
    this.offsets = PTHREAD_MUTEX_OF[name];
    const clockLock = tryLoad(() =>
      ffi.load(PTHREAD_LIBRARIES, CLOCK_LOCK).pthread_mutex_clocklock
    );
    if (clockLock !== undefined) {
      this.#clock = CLOCK_MONOTONIC;
      this.#wait = (mutex, until) => clockLock(mutex, CLOCK_MONOTONIC, until);
    } else {
      this.#clock = CLOCK_REALTIME;
      this.#wait = ffi.load(PTHREAD_LIBRARIES, TIMED_LOCK).pthread_mutex_timedlock;
    }
    this.#time = timespec(libc);
    this.#attributes = this.#makeAttributes();
    const { address, view } = libc.allocate(PTHREAD_MUTEX.bytes);
    this.init(address);
    this.#kind = view.getInt32(this.offsets.kind, true);
    // What is locked says who holds it, and where the list begins.
    const mutex = this.join(address);
    requireSupport("pthread_mutex_trylock", this.#tryLock(mutex.pointer));
    this.#thread = mutex.holder[0]! & FUTEX_TID_MASK;
    this.held = RobustList.ofThread(ffi, mutex.pointers[PREV]!);
    requireSupport("pthread_mutex_unlock", this.#unlock(mutex.pointer));
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

  pointer(address: bigint): Usize {
    return this.#libc.ffi.usize(address);
  }

  /** What tells the thread ids of one container from those of another. */
  scope(): number {
    return this.#libc.pidNamespace() | 0;
  }

  init(address: bigint): void {
    requireSupport("pthread_mutex_init", this.#c.pthread_mutex_init(address, this.#attributes));
  }

  join(address: bigint): PthreadMutex {
    return new PthreadMutex(this, address);
  }

  isMutex({ kind }: PthreadMutex): boolean {
    return kind[0] === this.#kind;
  }

  lock(mutex: PthreadMutex, ms: number): LockOutcome {
    if (mutex.kind[0] !== this.#kind) return "damaged";
    const errno = this.#tryLock(mutex.pointer);
    if (errno !== 0) return this.#lockNotFree(mutex, ms, errno);
    this.held.add(mutex);
    return "taken";
  }

  /** Goes on where `trylock` has returned `errno`. */
  #lockNotFree(mutex: PthreadMutex, ms: number, errno: number): LockOutcome {
    // musl's does not say whose it is.
    if (errno === EBUSY && (mutex.holder[0]! & FUTEX_TID_MASK) === this.#thread) return "own";
    if (errno === EBUSY && ms > 0) {
      this.#getTime(this.#clock, this.#time.address);
      addDuration(this.#time, ms);
      errno = this.#wait(mutex.address, this.#time.address);
    }
    if (errno === 0 || errno === EOWNERDEAD) this.held.add(mutex);
    if (errno === 0) return "taken";
    if (errno === EBUSY || errno === ETIMEDOUT) return "held";
    if (errno === ENOTRECOVERABLE) return "unrecoverable";
    if (errno === EDEADLK) return "own";
    if (errno !== EOWNERDEAD) return { refused: errnoText(errno) };
    this.#c.pthread_mutex_consistent(mutex.address);
    return "abandoned";
  }

  /**
   * The thread that holds one and does not exist, or `null`: nobody will ever give it back. The kernel, which
   * follows pointers in a mutex too when a thread ends, has not come as far as this one.
   */
  vanishedOwner({ holder }: PthreadMutex): number | null {
    const before = Atomics.load(holder, 0);
    const thread = before & FUTEX_TID_MASK;
    if (thread === 0 || (before & FUTEX_OWNER_DIED) !== 0) return null;
    if (this.#libc.isRunning(thread)) return null;
    // Of a thread that ends, the kernel gives back everything before its number is free.
    return Atomics.load(holder, 0) === before ? thread : null;
  }

  /** `false` if somebody has overwritten it. If the stack overflows it is held still: see what follows the call. */
  unlock(mutex: PthreadMutex): boolean {
    const wasIntact = this.isMutex(mutex);
    if (!wasIntact) mutex.kind[0] = this.#kind;
    this.held.restore(mutex);
    const { head } = this.held; // the list may be that of another copy of this module
    const after = head.before === mutex ? head : this.held.after(mutex);
    const isUnlocked = this.#unlock(mutex.pointer) === 0;
    if (!isUnlocked) this.held.cut(mutex);
    else if (after.before === mutex) after.before = mutex.before; // as remove(), which is not called here
    return isUnlocked && wasIntact;
  }
}

/** Of errors that only a C library without such mutexes has. */
function requireSupport(call: string, errno: number): void {
  if (errno === 0) return;
  throw new UnsupportedError(
    `this C library has no robust mutexes that processes share [${call}: ${errnoText(errno)}]`,
  );
}

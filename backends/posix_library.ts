import type { AsyncCFunctions, CFunctions, CSignatures } from "../ffi/types.ts";
import { CLOCK_MONOTONIC, CLOCK_REALTIME, FUTEX_WAIT, FUTEX_WAKE, SYS_FUTEX } from "./constants.ts";
import type { Libc } from "./libc.ts";

/** Before glibc 2.34 the semaphores were in a library of their own; musl answers to the first name. */
export const PTHREAD_LIBRARIES: readonly string[] = ["libc.so.6", "libpthread.so.0", "libc.so"];

const SIGNATURES = {
  sem_init: { args: ["u64", "i32", "u32"], returns: "i32" }, // (sem, pshared, value)
  sem_trywait: { args: ["u64"], returns: "i32" },
  sem_post: { args: ["u64"], returns: "i32" },
} as const satisfies CSignatures;

/** glibc waits by the clock that nobody can set. */
const CLOCK_WAIT = {
  sem_clockwait: { args: ["u64", "i32", "u64"], returns: "i32" }, // (sem, clock, timespec *)
} as const satisfies CSignatures;

/** musl does not have that, but it looks at the clock only as it starts to wait. */
const TIMED_WAIT = {
  sem_timedwait: { args: ["u64", "u64"], returns: "i32" }, // (sem, timespec *)
} as const satisfies CSignatures;

export const CLOCK = {
  clock_gettime: { args: ["i32", "u64"], returns: "i32" }, // (clock, timespec *)
} as const satisfies CSignatures;

const FUTEX = {
  // (SYS_futex, int *, operation, value, timespec *); what it returns, as a long, fits an int
  syscall: { args: ["u64", "u64", "i32", "u32", "u64"], returns: "i32" },
} as const satisfies CSignatures;

const TIMESPEC_BYTES = 16;

export interface Timespec {
  readonly address: bigint;
  readonly view: DataView;
}

/** What the C library has for semaphores in shared memory, beside what every backend uses. */
export class PosixLibrary {
  readonly libc: Libc;
  readonly c: CFunctions<typeof SIGNATURES>;
  /** In `/dev/shm`, what stands before the name of a semaphore. */
  readonly semaphorePrefix: string;
  readonly #clock: number;
  readonly #wait: (semaphore: bigint, until: bigint) => number;
  readonly #getTime: (clock: number, time: bigint) => number;
  readonly #futex: CFunctions<typeof FUTEX>["syscall"];
  #background: {
    readonly wait: (semaphore: bigint, until: bigint) => Promise<number>;
    readonly futex: AsyncCFunctions<typeof FUTEX>["syscall"];
  } | undefined;
  readonly #futexNumber: bigint;
  readonly #idle: Timespec[] = [];
  /** As a rule they have the duration that is needed next, too. */
  readonly #idleDurations: (Timespec & { ms: number })[] = [];

  constructor(libc: Libc) {
    this.libc = libc;
    const { ffi } = libc;
    this.c = ffi.load(PTHREAD_LIBRARIES, SIGNATURES);
    this.#futexNumber = BigInt(SYS_FUTEX[libc.arch] ?? 0);
    this.#futex = ffi.load(PTHREAD_LIBRARIES, FUTEX).syscall;
    this.#getTime = ffi.load(PTHREAD_LIBRARIES, CLOCK).clock_gettime;
    this.semaphorePrefix = isGlibc(libc) ? "sem." : "";
    const clockWait = tryLoad(() => ffi.load(PTHREAD_LIBRARIES, CLOCK_WAIT).sem_clockwait);
    if (clockWait !== undefined) {
      this.#clock = CLOCK_MONOTONIC;
      this.#wait = (semaphore, until) => clockWait(semaphore, CLOCK_MONOTONIC, until);
    } else {
      this.#clock = CLOCK_REALTIME;
      this.#wait = ffi.load(PTHREAD_LIBRARIES, TIMED_WAIT).sem_timedwait;
    }
  }

  /** `sem_wait` for at most `ms`; 0, or -1 and `errno`. */
  wait(semaphore: bigint, ms: number): number {
    const time = this.#timespec();
    this.#setTime(time, ms);
    const result = this.#wait(semaphore, time.address);
    this.#idle.push(time);
    return result;
  }

  /** The same on another thread, whose `errno` is not known here. */
  async waitInBackground(semaphore: bigint, ms: number): Promise<number> {
    const { wait } = this.#inBackground;
    const time = this.#timespec();
    this.#setTime(time, ms);
    try {
      return await wait(semaphore, time.address);
    } finally {
      this.#idle.push(time);
    }
  }

  /** Sleeps until `wake` is called for the word, at most `ms`; not if it is not `value` any more. */
  sleep(word: bigint, value: number, ms: number): void {
    const time = this.#duration(ms);
    this.#futex(this.#futexNumber, word, FUTEX_WAIT, value, time.address);
    this.#idleDurations.push(time);
  }

  /** The same without blocking this thread. */
  async sleepInBackground(word: bigint, value: number, ms: number): Promise<void> {
    const { futex } = this.#inBackground;
    const time = this.#duration(ms);
    try {
      await futex(this.#futexNumber, word, FUTEX_WAIT, value, time.address);
    } finally {
      this.#idleDurations.push(time);
    }
  }

  /** Wakes `count` of those who sleep at the word, in whatever process; returns how many there were. */
  wake(word: bigint, count = 1): number {
    return this.#futex(this.#futexNumber, word, FUTEX_WAKE, count, 0n);
  }

  get #inBackground() {
    if (this.#background !== undefined) return this.#background;
    const { ffi } = this.libc;
    const { syscall } = ffi.background(PTHREAD_LIBRARIES, FUTEX);
    if (this.#clock === CLOCK_REALTIME) {
      const wait = ffi.background(PTHREAD_LIBRARIES, TIMED_WAIT).sem_timedwait;
      return this.#background = { wait, futex: syscall };
    }
    const { sem_clockwait } = ffi.background(PTHREAD_LIBRARIES, CLOCK_WAIT);
    const wait = (semaphore: bigint, until: bigint) =>
      sem_clockwait(semaphore, CLOCK_MONOTONIC, until);
    return this.#background = { wait, futex: syscall };
  }

  /** A structure for one call: calls on other threads may read theirs late. */
  #timespec(): Timespec {
    return this.#idle.pop() ?? timespec(this.libc);
  }

  #duration(ms: number): Timespec & { ms: number } {
    const time = this.#idleDurations.pop() ?? { ...timespec(this.libc), ms: NaN };
    if (time.ms !== ms) setDuration(time, 0n, time.ms = ms);
    return time;
  }

  #setTime(time: Timespec, ms: number): void {
    this.#getTime(this.#clock, time.address);
    addDuration(time, ms);
  }
}

export function timespec(libc: Libc): Timespec {
  return libc.allocate(TIMESPEC_BYTES);
}

/** Makes of the present the time in `ms`. */
export function addDuration(time: Timespec, ms: number): void {
  const seconds = time.view.getBigInt64(0, true);
  setDuration(time, seconds, ms + Number(time.view.getBigInt64(8, true)) / 1e6);
}

/** `struct timespec` */
function setDuration({ view }: Timespec, seconds: bigint, ms: number): void {
  const whole = Math.trunc(ms / 1000);
  view.setBigInt64(0, seconds + BigInt(whole), true);
  view.setBigInt64(8, BigInt(Math.trunc((ms - whole * 1000) * 1e6)), true);
}

export function isGlibc({ ffi }: Libc): boolean {
  const signature = { gnu_get_libc_version: { args: [], returns: "u64" } } as const;
  return tryLoad(() => ffi.load(PTHREAD_LIBRARIES, signature)) !== undefined;
}

/** `undefined` if the C library has no such function. */
export function tryLoad<Result>(load: () => Result): Result | undefined {
  try {
    return load();
  } catch {
    return undefined;
  }
}

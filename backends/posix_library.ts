import type { CFunctions, CSignatures } from "../ffi/types.ts";
import { CLOCK_MONOTONIC, CLOCK_REALTIME } from "./constants.ts";
import { Futex } from "./futex.ts";
import type { Libc } from "./libc.ts";
import { addDuration, type Timespec, timespec } from "./timespec.ts";

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

/** What the C library has for semaphores in shared memory, beside what every backend uses. */
export class PosixLibrary {
  readonly libc: Libc;
  readonly c: CFunctions<typeof SIGNATURES>;
  readonly futex: Futex;
  /** In `/dev/shm`, what stands before the name of a semaphore. */
  readonly semaphorePrefix: string;
  readonly #clock: number;
  readonly #wait: (semaphore: bigint, until: bigint) => number;
  readonly #getTime: (clock: number, time: bigint) => number;
  #background: ((semaphore: bigint, until: bigint) => Promise<number>) | undefined;
  readonly #idle: Timespec[] = [];

  constructor(libc: Libc) {
    this.libc = libc;
    const { ffi } = libc;
    this.c = ffi.load(PTHREAD_LIBRARIES, SIGNATURES);
    this.futex = new Futex(libc);
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
    const wait = this.#background ??= this.#loadBackground();
    const time = this.#timespec();
    this.#setTime(time, ms);
    try {
      return await wait(semaphore, time.address);
    } finally {
      this.#idle.push(time);
    }
  }

  #loadBackground(): (semaphore: bigint, until: bigint) => Promise<number> {
    const { ffi } = this.libc;
    if (this.#clock === CLOCK_REALTIME) {
      return ffi.background(PTHREAD_LIBRARIES, TIMED_WAIT).sem_timedwait;
    }
    const { sem_clockwait } = ffi.background(PTHREAD_LIBRARIES, CLOCK_WAIT);
    return (semaphore, until) => sem_clockwait(semaphore, CLOCK_MONOTONIC, until);
  }

  /** A structure for one call: calls on other threads may read theirs late. */
  #timespec(): Timespec {
    return this.#idle.pop() ?? timespec(this.libc);
  }

  #setTime(time: Timespec, ms: number): void {
    this.#getTime(this.#clock, time.address);
    addDuration(time, ms);
  }
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

import type { Background, CFunctions, CSignatures, ThreadCode } from "../../ffi/types.ts";
import { CLOCK_MONOTONIC, CLOCK_REALTIME } from "../unix/linux_constants.ts";
import { CLOCK as THREAD_CLOCK } from "../unix/deadline.ts";
import { LinuxFutex } from "../futex/linux.ts";
import { CLOCK, isGlibc, PTHREAD_LIBRARIES, tryLoad } from "../unix/c_variant.ts";
import type { Libc } from "../unix/libc.ts";
import { addDuration, type Timespec, timespec } from "../unix/timespec.ts";

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

/** What waits on another thread, with structures of its own. */
const BACKGROUND = {
  ...THREAD_CLOCK,
  sem_trywait: SIGNATURES.sem_trywait,
  sem_post: SIGNATURES.sem_post,
  syscall: { args: ["usize", "usize", "i32", "u32", "buffer"], returns: "i32" }, // as futex.ts has it
} as const satisfies CSignatures;
const BACKGROUND_CLOCK_WAIT = {
  sem_clockwait: { args: ["u64", "i32", "buffer"], returns: "i32" },
} as const satisfies CSignatures;
const BACKGROUND_TIMED_WAIT = {
  sem_timedwait: { args: ["u64", "buffer"], returns: "i32" },
} as const satisfies CSignatures;

/**
 * Source text for other threads: `(c, semaphore, until) => boolean` waits until a deadline. The clock that may be set is
 * looked at as the wait begins.
 */
export const TAKE_UNTIL = `(c, semaphore, until) => {
    const time = new BigInt64Array(2);
    const bytes = new Uint8Array(time.buffer);
    const now = (clock) => {
      c.clock_gettime(clock, bytes);
      return time[0] * 1_000_000_000n + time[1];
    };
    const left = until - now(${CLOCK_MONOTONIC});
    if (left <= 0n) return false;
    const end = left + now(c.sem_clockwait ? ${CLOCK_MONOTONIC} : ${CLOCK_REALTIME});
    time[0] = end / 1_000_000_000n;
    time[1] = end % 1_000_000_000n;
    if (c.sem_clockwait) return c.sem_clockwait(semaphore, ${CLOCK_MONOTONIC}, bytes) === 0;
    return c.sem_timedwait(semaphore, bytes) === 0;
  }`;

/** What the C library has for semaphores in shared memory, beside what every backend uses. */
export class PosixLibrary {
  readonly libc: Libc;
  readonly c: CFunctions<typeof SIGNATURES>;
  readonly futex: LinuxFutex;
  /** In `/dev/shm`, what stands before the name of a semaphore. */
  readonly semaphorePrefix: string;
  readonly #clock: number;
  readonly #wait: (semaphore: bigint, until: bigint) => number;
  readonly #getTime: (clock: number, time: bigint) => number;
  readonly #backgrounds = new Map<ThreadCode, Background>();
  readonly #idle: Timespec[] = [];

  constructor(libc: Libc) {
    this.libc = libc;
    const { ffi } = libc;
    this.c = ffi.load(PTHREAD_LIBRARIES, SIGNATURES);
    this.futex = new LinuxFutex(libc);
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

  /** A wait on other threads, whose code gets the functions of {@linkcode BACKGROUND} and those that wait. */
  background(code: ThreadCode): Background {
    let background = this.#backgrounds.get(code);
    if (background === undefined) {
      const isTimed = this.#clock === CLOCK_REALTIME;
      const wait = isTimed ? BACKGROUND_TIMED_WAIT : BACKGROUND_CLOCK_WAIT;
      const signatures = { ...BACKGROUND, ...wait };
      background = this.libc.ffi.background(PTHREAD_LIBRARIES, signatures, code);
      this.#backgrounds.set(code, background);
    }
    return background;
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

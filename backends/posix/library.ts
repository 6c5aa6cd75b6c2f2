import type { Background, CFunctions, CSignatures, ThreadCode } from "../../ffi/types.ts";
import { CLOCK_MONOTONIC, CLOCK_REALTIME } from "../unix/linux_constants.ts";
import { CLOCK } from "../unix/deadline.ts";
import { LinuxFutex } from "../futex/linux.ts";
import { isGlibc, PTHREAD_LIBRARIES } from "../unix/c_variant.ts";
import type { Libc } from "../unix/libc.ts";
import { TimedWait } from "../unix/timed_wait.ts";

const SIGNATURES = {
  sem_init: { args: ["u64", "i32", "u32"], returns: "i32" }, // (sem, pshared, value)
  sem_trywait: { args: ["u64"], returns: "i32" },
  sem_post: { args: ["u64"], returns: "i32" },
} as const satisfies CSignatures;

/** The C functions for waits on other threads, where `buffer` arguments are structures of the thread itself. */
const BACKGROUND = {
  ...CLOCK,
  sem_trywait: SIGNATURES.sem_trywait,
  sem_post: SIGNATURES.sem_post,
  syscall: { args: ["usize", "usize", "i32", "u32", "buffer"], returns: "i32" }, // as in futex/linux.ts
} as const satisfies CSignatures;
const BACKGROUND_CLOCK_WAIT = {
  sem_clockwait: { args: ["u64", "i32", "buffer"], returns: "i32" },
} as const satisfies CSignatures;
const BACKGROUND_TIMED_WAIT = {
  sem_timedwait: { args: ["u64", "buffer"], returns: "i32" },
} as const satisfies CSignatures;

/**
 * Source text for other threads: `(c, semaphore, until) => boolean` waits for a semaphore until a deadline. If the C
 * library waits by the real-time clock, which may be set, that clock is read when the wait begins.
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

/** The functions of the C library for semaphores in shared memory, in addition to those that every backend uses. */
export class PosixLibrary {
  readonly libc: Libc;
  readonly c: CFunctions<typeof SIGNATURES>;
  readonly futex: LinuxFutex;
  /** The prefix of the file name of a semaphore in `/dev/shm`. */
  readonly semaphorePrefix: string;
  readonly #wait: TimedWait;
  readonly #backgrounds = new Map<ThreadCode, Background>();

  constructor(libc: Libc) {
    this.libc = libc;
    const { ffi } = libc;
    this.c = ffi.load(PTHREAD_LIBRARIES, SIGNATURES);
    this.futex = new LinuxFutex(libc);
    this.semaphorePrefix = isGlibc(libc) ? "sem." : "";
    this.#wait = new TimedWait(libc, "sem_clockwait", "sem_timedwait");
  }

  /** Waits for a semaphore for at most `ms`, as `sem_wait` does. Returns 0, or -1 with `errno` set. */
  wait(semaphore: bigint, ms: number): number {
    return this.#wait.wait(semaphore, ms);
  }

  /** Creates a wait on other threads. Its code can use the functions of {@linkcode BACKGROUND} and one timed wait. */
  background(code: ThreadCode): Background {
    let background = this.#backgrounds.get(code);
    if (background === undefined) {
      const wait = this.#wait.isMonotonic ? BACKGROUND_CLOCK_WAIT : BACKGROUND_TIMED_WAIT;
      const signatures = { ...BACKGROUND, ...wait };
      background = this.libc.ffi.background(PTHREAD_LIBRARIES, signatures, code);
      this.#backgrounds.set(code, background);
    }
    return background;
  }
}

import type { Background, CFunctions, CSignatures, Usize } from "../../ffi/types.ts";
import { FUTEX_WAIT, FUTEX_WAKE, SYS_FUTEX } from "../unix/linux_constants.ts";
import { CLOCK, deadline, LEFT } from "../unix/deadline.ts";
import type { Libc } from "../unix/libc.ts";
import { LINUX_LIBRARIES } from "../unix/signatures.ts";
import { SLICE_MS } from "../timing.ts";
import { setDuration, type Timespec, timespec } from "../unix/timespec.ts";
import type { Futex } from "./types.ts";

const SIGNATURES = {
  // (SYS_futex, int *, operation, value, timespec *); what it returns, as a long, fits an int
  syscall: { args: ["usize", "usize", "i32", "u32", "usize"], returns: "i32" },
} as const satisfies CSignatures;

const BACKGROUND = {
  ...CLOCK,
  syscall: { args: ["usize", "usize", "i32", "u32", "buffer"], returns: "i32" },
} as const satisfies CSignatures;
const SLEEP = `({ syscall, clock_gettime }, _memory, number, word, value, until) => {
  const left = (${LEFT})(clock_gettime, until);
  return left !== null && syscall(number, word, ${FUTEX_WAIT}, value, left) === 0;
}`;

/** The futex of Linux. */
export class LinuxFutex implements Futex {
  // Fields that each use of an event reads are declared with `declare` and without `#`: see sync/slot.ts.

  declare private readonly syscall: CFunctions<typeof SIGNATURES>["syscall"];
  /** The number of the system call. */
  declare readonly number: Usize;
  declare private readonly nothing: Usize;
  /** The duration of `SLICE_MS`, which most waits have. It never changes, so calls may share it. */
  declare private readonly slice: Usize;
  readonly #libc: Libc;
  /** The duration of any other wait of this thread. */
  readonly #time: Timespec;
  #background: Background | undefined;

  constructor(libc: Libc) {
    const { ffi, arch } = libc;
    this.#libc = libc;
    this.syscall = ffi.load(LINUX_LIBRARIES, SIGNATURES).syscall;
    this.number = ffi.usize(BigInt(SYS_FUTEX[arch] ?? 0));
    this.nothing = ffi.usize(0n);
    const slice = timespec(libc);
    setDuration(slice, 0n, SLICE_MS);
    this.slice = slice.usize;
    this.#time = timespec(libc);
  }

  address(address: bigint): Usize {
    return this.#libc.ffi.usize(address);
  }

  wait(word: Usize, value: number, ms: number): void {
    if (ms === SLICE_MS) this.syscall(this.number, word, FUTEX_WAIT, value, this.slice);
    else this.#waitFor(word, value, ms);
  }

  #waitFor(word: Usize, value: number, ms: number): void {
    setDuration(this.#time, 0n, ms);
    this.syscall(this.number, word, FUTEX_WAIT, value, this.#time.usize);
  }

  async waitInBackground(
    word: Usize,
    value: number,
    ms: number,
    keepsAlive: boolean,
  ): Promise<void> {
    this.#background ??= this.#libc.ffi.background(LINUX_LIBRARIES, BACKGROUND, { take: SLEEP });
    const call = this.#background(this.number, word, value, deadline(this.#libc, ms));
    if (!keepsAlive) call.unref();
    await call.over;
  }

  /** Wakes up to `count` threads; returns how many were woken. */
  wake(word: Usize, count = 1): number {
    return this.syscall(this.number, word, FUTEX_WAKE, count, this.nothing);
  }
}

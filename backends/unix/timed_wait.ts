import type { CSignatures } from "../../ffi/types.ts";
import { CLOCK, PTHREAD_LIBRARIES, tryLoad } from "./c_variant.ts";
import type { Libc } from "./libc.ts";
import { CLOCK_MONOTONIC, CLOCK_REALTIME } from "./linux_constants.ts";
import { addDuration, type Timespec, timespec } from "./timespec.ts";

const SIGNATURES = {
  byClock: { args: ["u64", "i32", "u64"], returns: "i32" }, // (object, clock, timespec *)
  byRealTime: { args: ["u64", "u64"], returns: "i32" }, // (object, timespec *)
} as const satisfies CSignatures;

/**
 * A C function that waits for an object until a time. glibc since 2.30 waits by the monotonic clock, which cannot be
 * set. Other C libraries wait by the real-time clock. It may be set, which does no harm to short waits.
 */
export class TimedWait {
  readonly isMonotonic: boolean;
  readonly #getTime: (clock: number, time: bigint) => number;
  readonly #wait: (object: bigint, until: bigint) => number;
  readonly #time: Timespec;

  /**
   * @param byClock the name of the function that gets a clock
   * @param byRealTime the name of the function that uses the real-time clock
   */
  constructor(libc: Libc, byClock: string, byRealTime: string) {
    const { ffi } = libc;
    this.#getTime = ffi.load(PTHREAD_LIBRARIES, CLOCK).clock_gettime;
    const wait = tryLoad(() =>
      ffi.load(PTHREAD_LIBRARIES, { [byClock]: SIGNATURES.byClock })[byClock]!
    );
    this.isMonotonic = wait !== undefined;
    this.#wait = wait === undefined
      ? ffi.load(PTHREAD_LIBRARIES, { [byRealTime]: SIGNATURES.byRealTime })[byRealTime]!
      : (object, until) => wait(object, CLOCK_MONOTONIC, until);
    this.#time = timespec(libc);
  }

  /** Waits for at most `ms`; returns what the C function returns. */
  wait(object: bigint, ms: number): number {
    this.#getTime(this.isMonotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME, this.#time.address);
    addDuration(this.#time, ms);
    return this.#wait(object, this.#time.address);
  }
}

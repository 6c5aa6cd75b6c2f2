import type { CSignatures } from "../../ffi/types.ts";
import { CLOCK_MONOTONIC } from "./linux_constants.ts";
import type { Libc } from "./libc.ts";
import { once } from "./once.ts";
import { LINUX_LIBRARIES } from "./signatures.ts";

/** The C function that {@linkcode LEFT} calls on another thread. */
export const CLOCK = {
  clock_gettime: { args: ["i32", "buffer"], returns: "i32" }, // (clock, timespec *)
} as const satisfies CSignatures;

/**
 * Source text for other threads: `(clock_gettime, until) => timespec` returns the time left until a deadline, or `null`
 * if none is left. It reads the clock of the system, because the JavaScript clock of a thread starts with that thread.
 */
export const LEFT = `(clock_gettime, until) => {
    const time = new BigInt64Array(2);
    const bytes = new Uint8Array(time.buffer);
    clock_gettime(${CLOCK_MONOTONIC}, bytes);
    const left = until - time[0] * 1_000_000_000n - time[1];
    if (left <= 0n) return null;
    time[0] = left / 1_000_000_000n;
    time[1] = left % 1_000_000_000n;
    return bytes;
  }`;

const clockOf = once((libc: Libc) => libc.ffi.load(LINUX_LIBRARIES, CLOCK));
const time = new BigInt64Array(2);
const bytes = new Uint8Array(time.buffer);

/**
 * Returns the deadline that is `ms` from now, in a form that other threads understand: nanoseconds of the monotonic
 * clock, which cannot be set.
 */
export function deadline(libc: Libc, ms: number): bigint {
  clockOf(libc).clock_gettime(CLOCK_MONOTONIC, bytes);
  return time[0]! * 1_000_000_000n + time[1]! + BigInt(Math.ceil(ms * 1e6));
}

import type { CFunctions, CSignatures } from "../../ffi/types.ts";
import { CLOCK_MONOTONIC } from "./linux_constants.ts";
import { type Libc, LINUX_LIBRARIES } from "./libc.ts";

/** What a thread needs for {@linkcode LEFT}. */
export const CLOCK = {
  clock_gettime: { args: ["i32", "buffer"], returns: "i32" }, // (clock, timespec *)
} as const satisfies CSignatures;

/**
 * Source text for other threads, whose own clocks of JavaScript begin when they do: `(clock_gettime, until) => timespec`,
 * the time that is left, `null` if none is.
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

const clocks = new WeakMap<Libc, CFunctions<typeof CLOCK>>();
const time = new BigInt64Array(2);
const bytes = new Uint8Array(time.buffer);

/** The time in `ms`, as other threads understand it: in nanoseconds of the clock that nobody can set. */
export function deadline(libc: Libc, ms: number): bigint {
  let clock = clocks.get(libc);
  if (clock === undefined) clocks.set(libc, clock = libc.ffi.load(LINUX_LIBRARIES, CLOCK));
  clock.clock_gettime(CLOCK_MONOTONIC, bytes);
  return time[0]! * 1_000_000_000n + time[1]! + BigInt(Math.ceil(ms * 1e6));
}

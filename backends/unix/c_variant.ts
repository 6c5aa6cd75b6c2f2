import type { CSignatures } from "../../ffi/types.ts";
import type { Libc } from "./libc.ts";

/**
 * The libraries with the pthread and semaphore functions. Before glibc 2.34 these were in a separate library. musl can
 * be loaded under the first name.
 */
export const PTHREAD_LIBRARIES: readonly string[] = ["libc.so.6", "libpthread.so.0", "libc.so"];

/** The function that reads a clock, called on the current thread. */
export const CLOCK = {
  clock_gettime: { args: ["i32", "u64"], returns: "i32" }, // (clock, timespec *)
} as const satisfies CSignatures;

/** Whether the C library is glibc; otherwise it is musl. */
export function isGlibc({ ffi }: Libc): boolean {
  const signature = { gnu_get_libc_version: { args: [], returns: "u64" } } as const;
  return tryLoad(() => ffi.load(PTHREAD_LIBRARIES, signature)) !== undefined;
}

/** Returns the result of `load`, or `undefined` if the C library does not have the function. */
export function tryLoad<Result>(load: () => Result): Result | undefined {
  try {
    return load();
  } catch {
    return undefined;
  }
}

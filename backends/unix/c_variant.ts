import type { CSignatures } from "../../ffi/types.ts";
import type { Libc } from "./libc.ts";

/** Before glibc 2.34 the semaphores were in a library of their own; musl answers to the first name. */
export const PTHREAD_LIBRARIES: readonly string[] = ["libc.so.6", "libpthread.so.0", "libc.so"];

/** The clock, read on the thread that calls. */
export const CLOCK = {
  clock_gettime: { args: ["i32", "u64"], returns: "i32" }, // (clock, timespec *)
} as const satisfies CSignatures;

/** Whether the C library is glibc; otherwise it is musl. */
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

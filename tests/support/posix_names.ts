/** Where the C library of the runtime under test keeps POSIX objects, and the compiler for programs that share them. */
import process from "node:process";
import { isGlibc } from "../../backends/unix/c_variant.ts";
import { NativeIpcKey } from "../../mod.ts";
import { systemLibrary } from "./support.ts";

const isMusl = process.platform === "linux" && !isGlibc(systemLibrary());

/** Compilers to try, best first. */
export const compilers: readonly string[] = isMusl ? ["musl-gcc"] : ["cc", "gcc"];

export function segmentPath({ nativeKey }: NativeIpcKey): string {
  return `/dev/shm${nativeKey}`;
}

/** What C programs call the lock of a segment: musl has one set of names for segments and semaphores. */
export function lockName({ nativeKey }: NativeIpcKey): string {
  return isMusl ? `${nativeKey}_sem` : nativeKey;
}

/** The lock of a segment as the semaphore that it is. */
export function lockKey(key: NativeIpcKey): NativeIpcKey {
  return new NativeIpcKey(lockName(key), key.type);
}

export function lockPath(key: NativeIpcKey): string {
  return semaphorePath(lockName(key));
}

/** Of a semaphore's own key, also of the lock of a segment whose key was made from a string. */
export function semaphorePath(nativeKey: string): string {
  return isMusl ? `/dev/shm${nativeKey}` : `/dev/shm/sem.${nativeKey.slice(1)}`;
}

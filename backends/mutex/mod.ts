import process from "node:process";
import { sharedDarwinFutex } from "../futex/mod.ts";
import { sharedLibrary } from "../unix/shared_libc.ts";
import { sharedKernel } from "../win32/shared_kernel.ts";
import { DarwinThreads } from "./darwin_threads.ts";
import { OwnerMutexes } from "./owner_word.ts";
import { Pthreads } from "./pthread.ts";
import type { MutexBackend } from "./types.ts";
import { WindowsMutexes } from "./windows.ts";

let mutexes: MutexBackend | undefined;

/**
 * Returns the mutexes of this system, loaded on first use.
 *
 * @throws {UnsupportedError} on other systems, and where the C library has no robust mutexes
 */
export function sharedMutexBackend(): MutexBackend {
  return mutexes ??= loadMutexes();
}

function loadMutexes(): MutexBackend {
  if (process.platform === "win32") return new WindowsMutexes(sharedKernel());
  const library = sharedLibrary();
  if (process.platform !== "darwin") return new Pthreads(library);
  const { ffi } = library;
  return new OwnerMutexes(ffi, new DarwinThreads(library), sharedDarwinFutex());
}

import { perProcess } from "../../context.ts";
import { sharedDarwinFutex } from "../futex/mod.ts";
import { thisPlatform } from "../platform.ts";
import { sharedLibrary } from "../unix/shared_libc.ts";
import { sharedKernel } from "../win32/shared_kernel.ts";
import { DarwinThreads } from "./darwin_threads.ts";
import { OwnerMutexes } from "./owner_word.ts";
import { Pthreads } from "./pthread.ts";
import type { MutexBackend } from "./types.ts";
import { WindowsMutexes } from "./windows.ts";

/**
 * Returns the mutexes of this system, loaded on first use.
 *
 * @throws {UnsupportedError} on other systems, and where the C library has no robust mutexes
 */
export const sharedMutexBackend: () => MutexBackend = perProcess(loadMutexes);

function loadMutexes(): MutexBackend {
  const { os } = thisPlatform();
  if (os === "win32") return new WindowsMutexes(sharedKernel());
  const library = sharedLibrary();
  if (os !== "darwin") return new Pthreads(library);
  const { ffi } = library;
  return new OwnerMutexes(ffi, new DarwinThreads(library), sharedDarwinFutex());
}

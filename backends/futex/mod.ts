import { perProcess } from "../../context.ts";
import { thisPlatform } from "../platform.ts";
import { sharedLibrary } from "../unix/shared_libc.ts";
import { sharedKernel } from "../win32/shared_kernel.ts";
import { DarwinFutex } from "./darwin.ts";
import { LinuxFutex } from "./linux.ts";
import type { Futex } from "./types.ts";
import { WindowsFutex } from "./windows.ts";

const linuxFutex = perProcess(() => new LinuxFutex(sharedLibrary()));

/**
 * Returns a futex for a word of a segment; `null` where no system call waits for a change between processes.
 *
 * @param id a number that distinguishes the word from others, where its address does not
 * @param read returns the current value of the word
 */
export function futexFor(id: number, read: () => number | undefined): Futex | null {
  const { os } = thisPlatform();
  if (os === "win32") return new WindowsFutex(sharedKernel(), id, read);
  if (os === "darwin") return sharedDarwinFutex();
  return linuxFutex();
}

/** Returns the futex of macOS; `null` before macOS 14.4, which has no such system call. */
export const sharedDarwinFutex: () => DarwinFutex | null = perProcess(() =>
  DarwinFutex.load(sharedLibrary())
);

/** Returns a new random id for `futexFor`; 0 where it needs none. */
export function futexId(): number {
  if (thisPlatform().os !== "win32") return 0;
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}

import process from "node:process";
import { sharedLibrary } from "../unix/shared_libc.ts";
import { sharedKernel } from "../win32/shared_kernel.ts";
import { DarwinFutex } from "./darwin.ts";
import { LinuxFutex } from "./linux.ts";
import type { Futex } from "./types.ts";
import { WindowsFutex } from "./windows.ts";

let linux: LinuxFutex | undefined;
let darwin: DarwinFutex | null | undefined;

/**
 * Returns a futex for a word of a segment; `null` where no system call waits for a change between processes.
 *
 * @param id a number that distinguishes the word from others, where its address does not
 * @param read returns the current value of the word
 */
export function futexFor(id: number, read: () => number | undefined): Futex | null {
  if (process.platform === "win32") return new WindowsFutex(sharedKernel(), id, read);
  if (process.platform === "darwin") return sharedDarwinFutex();
  return linux ??= new LinuxFutex(sharedLibrary());
}

/** Returns the futex of macOS; `null` before macOS 14.4, which has no such system call. */
export function sharedDarwinFutex(): DarwinFutex | null {
  if (darwin === undefined) darwin = DarwinFutex.load(sharedLibrary());
  return darwin;
}

/** Returns a new random id for `futexFor`; 0 where it needs none. */
export function futexId(): number {
  if (process.platform !== "win32") return 0;
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}

import process from "node:process";
import { sharedLibrary } from "../unix/shared_libc.ts";
import { sharedKernel } from "../win32/shared_kernel.ts";
import { DarwinSleeper } from "./darwin.ts";
import { Futex } from "./linux.ts";
import type { WordSleeper } from "./types.ts";
import { WindowsEvents } from "./windows.ts";

let linux: Futex | undefined;
let darwin: DarwinSleeper | null | undefined;

/**
 * What sleeps until a word of a segment changes; `null` where no system call does that between processes.
 *
 * @param id what tells the word from others where its address does not
 * @param read what the word is now
 */
export function wordSleeper(id: number, read: () => number | undefined): WordSleeper | null {
  if (process.platform === "win32") return new WindowsEvents(sharedKernel(), id, read);
  if (process.platform === "darwin") return sharedDarwinSleeper();
  return linux ??= new Futex(sharedLibrary());
}

/** What sleeps on macOS; `null` before macOS 14.4, which has no such call. */
export function sharedDarwinSleeper(): DarwinSleeper | null {
  if (darwin === undefined) darwin = DarwinSleeper.load(sharedLibrary());
  return darwin;
}

/** A number for `wordSleeper`; 0 where it needs none. */
export function wordId(): number {
  if (process.platform !== "win32") return 0;
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}

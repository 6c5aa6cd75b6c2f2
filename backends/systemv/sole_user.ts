import type { Libc } from "../unix/libc.ts";
import { SECTION_MS, sleepSync } from "../timing.ts";
import type { KeyFile } from "./key_file.ts";
import { isSharedByEnding } from "../unix/proc_locks.ts";

/** The time in ms that an ending process may take to close its files on a busy machine. */
const ENDING_MS = 2000;

/**
 * Calls `KeyFile.isSole()` until it succeeds, and waits for processes that are ending: the kernel first removes their
 * memory, and closes their files last.
 *
 * @param grace how long, in ms, other processes may take to release the file
 */
export function isSoleSoon(libc: Libc, file: KeyFile, grace = SECTION_MS): boolean {
  for (let waited = 0; waited < ENDING_MS; waited++) {
    if (file.isSole()) return true;
    if (waited >= grace && !isSharedByEnding(libc, file.inode)) break;
    sleepSync(1);
  }
  return false;
}

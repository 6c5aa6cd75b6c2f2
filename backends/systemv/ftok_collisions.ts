import type { Libc } from "../unix/libc.ts";
import type { KeyFile } from "./key_file.ts";
import { changeTimeOf } from "./proc_tables.ts";

/** How long one who finds a file in doubt waits before he looks again, in ms. */
export const DOUBT_MS = 5;
/** More than that is no chance. */
const TAKEN_MAX = 100;

/**
 * New key files whose number another file's segment or semaphore has: `ftok` keeps 16 bits of an inode's
 * number. They are deleted, and kept open until the next file has another number.
 */
export class FtokCollisions {
  readonly #libc: Libc;
  readonly #files: KeyFile[] = [];

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /**
   * Whether what has the number of `file`, though that was just made, is another file's, so that another
   * is to be made: it is older. Otherwise somebody has found the new file and used it at once.
   */
  add(file: KeyFile, table: "shm" | "sem"): boolean {
    if (!file.created || this.#files.length >= TAKEN_MAX) return false;
    const changed = changeTimeOf(this.#libc, table, file.key);
    if (changed === undefined || !file.isLaterThan(changed)) return false;
    file.unlink();
    this.#files.push(file);
    return true;
  }

  close(): void {
    for (const file of this.#files) file.close();
  }
}

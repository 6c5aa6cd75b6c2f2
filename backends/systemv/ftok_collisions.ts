import type { Libc } from "../unix/libc.ts";
import type { KeyFile } from "./key_file.ts";
import { changeTimeOf } from "./proc_tables.ts";

/** The time in ms that a process which finds a file in doubt waits before it looks again. */
export const DOUBT_MS = 5;
/** The maximum number of collisions in a row; more of them cannot be chance. */
const TAKEN_MAX = 100;

/**
 * The new key files whose System V key already belongs to the segment or semaphore of another file: `ftok` uses only
 * 16 bits of an inode's number. These files are deleted, but kept open until the next file has another number.
 */
export class FtokCollisions {
  readonly #libc: Libc;
  readonly #files: KeyFile[] = [];

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /**
   * Deletes `file`, but keeps it open, if its System V key belongs to another file's object. Returns whether that is
   * so, and the caller must create another file. It is so if this call created the file and the object is older. A
   * younger object was created by a process that has found the new file.
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

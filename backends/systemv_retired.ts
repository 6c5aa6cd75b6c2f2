import { IPC_RMID } from "./constants.ts";
import type { Libc } from "./libc.ts";
import { KeyFile, keyFilePath, removingPath } from "./systemv_key_file.ts";
import { isSoleSoon } from "./systemv_sole.ts";
import { changeTimeOf } from "./systemv_tables.ts";

/**
 * Removes the semaphore of a key file that was retired, by a process that was killed before it could remove the
 * semaphore: the name of the file is this module's, and shows that the semaphore is of no more use to anybody.
 */
export function removeRetired(libc: Libc, path: string): void {
  const file = KeyFile.open(libc, keyFilePath(removingPath(path)));
  if (file === null) return;
  // Whoever is about to remove it has LOCK_EX, also if it is ending: what is left then would be forgotten.
  if (isSoleSoon(libc, file)) {
    const id = libc.c.semget(file.key, 1, 0);
    const changed = changeTimeOf(libc, "sem", file.key);
    // A younger one is another file's of the same number. Without one this may be another container's file.
    const isOlder = libc.os !== "linux" || changed !== undefined && file.mayBeLaterThan(changed);
    if (id !== -1 && isOlder) {
      libc.c.semctl(id, 0, IPC_RMID, 0n);
      file.unlink();
    }
  }
  file.close();
}

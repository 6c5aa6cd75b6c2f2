import { IPC_RMID } from "../unix/linux_constants.ts";
import type { Libc } from "../unix/libc.ts";
import { isRunning } from "../unix/processes.ts";
import { ownUid } from "../unix/users.ts";
import { REMOVED_GID } from "./semop_arrays.ts";
import { readTableIfAny, type Row } from "./proc_tables.ts";

/** Whether a row of `/proc/sysvipc/sem` says that a process of this module was about to remove the semaphore. */
export function isMarkedRemoved(row: Row): boolean {
  return row["gid"] === REMOVED_GID;
}

/**
 * Removes the semaphores of this user that a process was about to remove when it was killed. Their key files may be
 * deleted, and then no file leads to them. A semaphore that is in use after all was last used by a living process,
 * and stays.
 */
export function removeOrphanSemaphores(libc: Libc): void {
  for (const row of readTableIfAny(libc, "sem")) {
    if (!isMarkedRemoved(row) || row["uid"] !== ownUid(libc)) continue;
    const id = row["semid"]!;
    const user = libc.c.semctl(id, 0, libc.constants.GETPID, 0n);
    if (user > 0 && !isRunning(libc, user)) libc.c.semctl(id, 0, IPC_RMID, 0n);
  }
}

const swept = new WeakSet<Libc>();

/** Calls {@linkcode removeOrphanSemaphores} once per process. */
export function removeOrphansOnce(libc: Libc): void {
  if (swept.has(libc)) return;
  swept.add(libc);
  removeOrphanSemaphores(libc);
}

import { IPC_RMID } from "./constants.ts";
import type { Libc } from "./libc.ts";
import { isQtKey, readTableIfAny, wasNeverUsed } from "./systemv_tables.ts";

/**
 * A mode bit that means nothing to the kernel: whoever used the semaphore last deletes the key file, then
 * the semaphore; or he made it, and has yet to see that its key file is there still.
 */
export const REMOVING = 0o010;

/** How long making a semaphore takes at most, in seconds, between its first two system calls. */
const MAKING_SECONDS = 2;

const swept = new WeakSet<Libc>();

/**
 * Removes semaphores whose remover was killed when he had deleted the key file, or whose
 * maker when another had, after which nobody finds them. One that is in use after all is made again by
 * its users, as when Qt removes it.
 */
export function sweep(libc: Libc): void {
  const { GETPID } = libc.constants;
  const owner = libc.c.geteuid();
  for (const { key, semid, perms, uid, cuid, otime, ctime } of readTableIfAny(libc, "sem")) {
    const isOurs = isQtKey(key!) && uid === owner && cuid === owner;
    if (!isOurs || (perms! & REMOVING) === 0) continue;
    const user = libc.c.semctl(semid!, 0, GETPID, 0n);
    const isOld = Date.now() / 1000 - ctime! > MAKING_SECONDS;
    const isLeft = user > 0
      ? !libc.isRunning(user)
      : user === 0 && isOld && wasNeverUsed(libc, otime !== 0);
    if (isLeft) libc.c.semctl(semid!, 0, IPC_RMID, 0n);
  }
}

/** The same, once per process. */
export function sweepOnce(libc: Libc): void {
  if (swept.has(libc)) return;
  swept.add(libc);
  sweep(libc);
}

import { IPC_RMID } from "./constants.ts";
import type { Libc } from "./libc.ts";
import { isQtKey, readTableIfAny } from "./systemv_tables.ts";

/**
 * A mode bit that means nothing to the kernel: whoever used the semaphore last deletes the key file, then
 * the semaphore.
 */
export const REMOVING = 0o010;

const swept = new WeakSet<Libc>();

/**
 * Once per process: removes semaphores whose remover was killed when he had deleted the key file, after
 * which nobody finds them. One that is in use after all is made again by its users, as when Qt removes it.
 */
export function sweepOnce(libc: Libc): void {
  if (swept.has(libc)) return;
  swept.add(libc);
  const { GETPID } = libc.constants;
  const user = libc.c.geteuid();
  for (const { key, semid, perms, uid, cuid } of readTableIfAny(libc, "sem")) {
    const isOurs = isQtKey(key!) && uid === user && cuid === user;
    if (!isOurs || (perms! & REMOVING) === 0) continue;
    const remover = libc.c.semctl(semid!, 0, GETPID, 0n);
    if (remover > 0 && !libc.isRunning(remover)) libc.c.semctl(semid!, 0, IPC_RMID, 0n);
  }
}

import { readFolder, readLink } from "../unix/files.ts";
import type { Libc } from "../unix/libc.ts";
import { KeyFile, type KeyPath, segmentPath } from "./key_file.ts";
import { readSharedLocks } from "../unix/proc_locks.ts";

/**
 * Finds the deleted key file of a lock that the processes attached to the segment still use. If a new process created
 * another lock, that lock would not exclude them. Returns `null` if no process is known to have such a file open.
 */
export function lostLockFile(libc: Libc, lock: KeyPath): KeyFile | null {
  if (libc.os !== "linux") return null;
  const segment = lock.isExplicit ? lock.path : segmentPath(lock.path);
  const status = KeyFile.statusAt(libc, { ...lock, path: segment });
  if (status === null) return null;
  for (const { pid } of readSharedLocks(libc).get(status.inode) ?? []) {
    const descriptors = readFolder(libc, `/proc/${pid}/fd`);
    if (typeof descriptors === "number") continue;
    for (const descriptor of descriptors) {
      const link = `/proc/${pid}/fd/${descriptor}`;
      if (readLink(libc, link) !== `${lock.path} (deleted)`) continue;
      const file = KeyFile.openDeleted(libc, lock, link);
      if (file === null) continue;
      if (libc.c.semget(file.key, 1, 0) !== -1) return file;
      file.close();
    }
  }
  return null;
}

import type { LockInfo, SegmentGlance } from "../inventory.ts";
import type { Libc } from "../unix/libc.ts";
import { sharedLocksInSteps } from "../unix/proc_locks.ts";
import { seesAllProcesses } from "../unix/processes.ts";
import { ownUid } from "../unix/users.ts";
import { isMarkedPersistent, lockPath } from "./key_file.ts";
import { holderOf, keyFilesInSteps, semaphoreState, tableInSteps } from "./proc_tables.ts";

/**
 * Lists the System V segments of this user that have a key file in a folder. It yields after each piece of work, which
 * takes some dozen microseconds.
 */
export function* glanceAtSystemV(
  libc: Libc,
  folder: string,
): Generator<undefined, SegmentGlance[]> {
  const user = ownUid(libc);
  const segments = (yield* tableInSteps(libc, "shm")).filter((row) => row["uid"] === user);
  yield;
  const semaphores = new Map((yield* tableInSteps(libc, "sem")).map((row) => [row["key"]!, row]));
  yield;
  const files = segments.length === 0 ? [] : yield* keyFilesInSteps(libc, folder);
  const named = files.filter(({ kind, status }) => kind !== "systemsem" && status.uid === user);
  const byKey = new Map(named.map((file) => [file.key, file]));
  const byPath = new Map(files.map((file) => [file.path, file]));
  // A look attaches, which the table shows. Cleanup concludes from that which lock is that of a segment whose key file
  // was deleted, if the processes of the segment say nothing of it, as those of Qt. So only what this module uses is
  // looked into.
  yield;
  const locks = seesAllProcesses(libc) && named.length > 0 ? yield* sharedLocksInSteps(libc) : null;
  yield;
  const found: SegmentGlance[] = [];
  for (const row of segments) {
    const file = byKey.get(row["key"]!);
    if (file === undefined) continue;
    const { path, kind, status } = file;
    const lockFile = byPath.get(lockPath(path));
    const semaphore = lockFile && semaphores.get(lockFile.key);
    const unfinished = kind === "creating";
    found.push({
      type: "systemv",
      nativeKey: unfinished ? null : path,
      keyFile: path,
      id: row["shmid"]!,
      size: row["size"]!,
      isOwn: true,
      mode: row["perms"]! & 0o777,
      isLookedInto: locks?.has(status.inode) ?? true,
      attached: row["nattch"]!,
      persistent: isMarkedPersistent(libc, status, row["ctime"]!),
      unfinished,
      lock: semaphore === undefined ? null : lockOf(libc, semaphore, lockFile!.path),
    });
    yield;
  }
  return found;
}

function lockOf(
  libc: Libc,
  row: Readonly<Record<string, number>>,
  keyFile: string,
): LockInfo | null {
  const id = row["semid"]!;
  const state = semaphoreState(libc, id);
  if (state === null) return null;
  const { value, waiting, last } = state;
  return { id, keyFile, value, waiting, holder: value === 0 ? holderOf(libc, row, last) : null };
}

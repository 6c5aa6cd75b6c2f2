import { ENOENT, failure } from "../unix/errno.ts";
import type { SegmentGlance } from "../inventory.ts";
import { folderInSteps, pathStatus } from "../unix/files.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { S_IFMT, S_IFREG } from "../unix/linux_constants.ts";
import { sharedLocksInSteps } from "../unix/proc_locks.ts";
import { ownUid } from "../unix/users.ts";
import { lockNameOf, QT_SEGMENT, QT_SEMAPHORE, semaphoreState } from "./inspection.ts";
import { SEM_BYTES } from "./mapped_semaphore.ts";
import { FOLDER, isMarked, isPersistent } from "./object_file.ts";

/** The number of files after which other code may run. */
const FILES_AT_ONCE = 16;

/**
 * Lists the POSIX segments of this user, as far as this module has created them or they have Qt's names. It yields after
 * each piece of work, which takes some dozen microseconds.
 *
 * @param prefix the prefix of the file names of semaphores
 */
export function* glanceAtPosix(libc: Libc, prefix: string): Generator<undefined, SegmentGlance[]> {
  const names = yield* folderInSteps(libc, FOLDER);
  if (names === ENOENT) return [];
  if (typeof names === "number") throw failure("open", names, {}, FOLDER);
  yield;
  const user = ownUid(libc);
  const files = [];
  for (const [i, name] of names.entries()) {
    if (i % FILES_AT_ONCE === FILES_AT_ONCE - 1) yield;
    const status = pathStatus(libc, cString(FOLDER + name), false);
    if (typeof status === "number" || (status.mode & S_IFMT) !== S_IFREG) continue;
    const isSemaphore = prefix === "" ? status.bytes === SEM_BYTES : name.startsWith(prefix);
    const isListed = isMarked(status) || name.includes(QT_SEGMENT) || name.includes(QT_SEMAPHORE);
    if (status.uid === user && !isSemaphore && isListed) files.push({ name, status });
  }
  yield;
  const locks = yield* sharedLocksInSteps(libc);
  const found: SegmentGlance[] = [];
  for (const { name, status } of files) {
    yield;
    const users = (locks.get(status.inode) ?? []).filter(({ device }) => device === status.device);
    const ours = isMarked(status);
    const lockFile = FOLDER + prefix + lockNameOf(name, prefix);
    const lockStatus = pathStatus(libc, cString(lockFile), false);
    found.push({
      type: "posix",
      nativeKey: `/${name}`,
      keyFile: FOLDER + name,
      id: status.inode,
      size: status.bytes,
      isOwn: true,
      mode: status.mode & (ours ? 0o666 : 0o777),
      isLookedInto: true,
      attached: new Set(users.map(({ pid }) => pid)).size,
      persistent: isPersistent(status),
      unfinished: false,
      lock: typeof lockStatus === "number"
        ? null
        : { id: lockStatus.inode, keyFile: lockFile, ...semaphoreState(libc, lockFile) },
    });
  }
  return found;
}

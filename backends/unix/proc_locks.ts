import { allAtOnce, readFile } from "./files.ts";
import type { Libc } from "./libc.ts";

/** A process that has locked a file with `flock(LOCK_SH)`. */
export interface SharedLock {
  readonly pid: number;
  /** The low byte of the file's device number. On some file systems, such as btrfs, it differs from that of `stat`. */
  readonly device: number;
}

/**
 * Returns, by inode, the processes that have locked a file with `flock(LOCK_SH)`. This module locks a file like that to
 * say that it uses the object.
 */
export function readSharedLocks(libc: Libc): Map<number, SharedLock[]> {
  return allAtOnce(fileLocks(libc, "READ"));
}

/** Does what {@linkcode readSharedLocks} does, and yields after some locks. */
export function sharedLocksInSteps(
  libc: Libc,
): Generator<undefined, Map<number, SharedLock[]>> {
  return fileLocks(libc, "READ");
}

/** The number of locks after which other code may run. */
const LOCKS_AT_ONCE = 32;

function* fileLocks(libc: Libc, kind: string): Generator<undefined, Map<number, SharedLock[]>> {
  const holders = new Map<number, SharedLock[]>();
  // A line looks like this: `1: FLOCK  ADVISORY  READ 5571 fe:00:2179096 0 EOF`
  const lock = new RegExp(`^\\d+: FLOCK +\\S+ +${kind} +(\\d+) \\w+:(\\w+):(\\d+) `, "gm");
  const text = readFile(libc, "/proc/locks");
  if (typeof text === "number") return holders; // a removal checks the file itself
  yield;
  let count = 0;
  for (const [, pid, minor, inode] of text.matchAll(lock)) {
    if (++count % LOCKS_AT_ONCE === 0) yield;
    const low = Number(BigInt.asUintN(32, BigInt(inode!))); // as in FileStatus
    const holder = { pid: Number(pid), device: parseInt(minor!, 16) & 0xff };
    const found = holders.get(low);
    if (found === undefined) holders.set(low, [holder]);
    else found.push(holder);
  }
  return holders;
}

/**
 * Whether a process that is ending has locked the file with `flock`. Such a process has no memory any more, and its
 * files are closed next.
 */
export function isSharedByEnding(libc: Libc, inode: number): boolean {
  const holders = allAtOnce(fileLocks(libc, "\\w+")).get(inode) ?? [];
  return holders.some(({ pid }) => readFile(libc, `/proc/${pid}/maps`) === "");
}

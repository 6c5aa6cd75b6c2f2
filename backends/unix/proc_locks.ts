import type { Libc } from "./libc.ts";

/** Somebody who has a file under `flock(LOCK_SH)`. */
export interface SharedLock {
  readonly pid: number;
  /** The low byte of the file's device: on some file systems, as btrfs, another one than `stat` says. */
  readonly device: number;
}

/** By inode, who has a file under `flock(LOCK_SH)`, which is how we say that a semaphore is in use. */
export function readSharedLocks(libc: Libc): Map<number, SharedLock[]> {
  return readFileLocks(libc, "READ");
}

function readFileLocks(libc: Libc, kind: string): Map<number, SharedLock[]> {
  const holders = new Map<number, SharedLock[]>();
  // 1: FLOCK  ADVISORY  READ 5571 fe:00:2179096 0 EOF
  const lock = new RegExp(`^\\d+: FLOCK +\\S+ +${kind} +(\\d+) \\w+:(\\w+):(\\d+) `, "gm");
  const text = libc.readFile("/proc/locks");
  if (typeof text === "number") return holders; // who removes it asks the file itself
  for (const [, pid, minor, inode] of text.matchAll(lock)) {
    const low = Number(BigInt.asUintN(32, BigInt(inode!))); // what FileStatus has of it
    const holder = { pid: Number(pid), device: parseInt(minor!, 16) & 0xff };
    const found = holders.get(low);
    if (found === undefined) holders.set(low, [holder]);
    else found.push(holder);
  }
  return holders;
}

/** Whether a process that is ending has the file under `flock`: it has no memory any more, and its files are closed next. */
export function isSharedByEnding(libc: Libc, inode: number): boolean {
  const holders = readFileLocks(libc, "\\w+").get(inode) ?? [];
  return holders.some(({ pid }) => libc.readFile(`/proc/${pid}/maps`) === "");
}

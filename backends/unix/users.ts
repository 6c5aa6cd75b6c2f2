import { BackendError } from "../failure.ts";
import { readFile } from "./files.ts";
import type { Libc } from "./libc.ts";
import { once } from "./once.ts";

/** The default value of `/proc/sys/kernel/overflowuid`. */
const OVERFLOW_UID = 65534;
/** The number of possible uids; -1 stands for no user. */
const ALL_USERS = 2 ** 32 - 1;

/**
 * Returns the effective user of this process. An object belongs to the process if it belongs to this user.
 *
 * In a user namespace every user without a number there appears as the overflow uid. If this process does too, its
 * objects cannot be distinguished from those of strangers.
 *
 * @throws {BackendError} `PermissionDenied` in that case
 */
export function ownUid(libc: Libc): number {
  const uid = libc.lastUid = libc.currentUid();
  if (!looksLikeOthers(libc, uid)) return uid;
  throw new BackendError(
    "PermissionDenied",
    `permission denied: this process runs as uid ${uid}, which its user namespace shows for every user that it has ` +
      "no number for, so that other users cannot be told from this one; map this user (`unshare " +
      "--map-current-user`, the uid map of the container), or run as a user that is mapped",
    "geteuid",
  );
}

/** Whether a user is the effective user of this process, and can be distinguished from others. */
export function isOwnUid(libc: Libc, uid: number): boolean {
  return uid === libc.currentUid() && !looksLikeOthers(libc, uid);
}

/** The libraries of processes whose user namespace has a number for every user. */
const mapped = new WeakSet<Libc>();

function looksLikeOthers(libc: Libc, uid: number): boolean {
  if (libc.os !== "linux" || uid !== overflowUid(libc)) return false;
  if (!mapped.has(libc)) {
    const map = readFile(libc, "/proc/self/uid_map");
    if (typeof map === "number" || !mapsAllUsers(map)) return true;
    mapped.add(libc);
  }
  return false;
}

/** Returns the uid that stands for every user without a number in this user namespace. */
const overflowUid = once((libc: Libc): number => {
  const text = readFile(libc, "/proc/sys/kernel/overflowuid");
  return typeof text === "number" ? OVERFLOW_UID : Number(text);
});

/** Whether a user namespace has a number for every user; `map` is its `/proc/self/uid_map`. */
export function mapsAllUsers(map: string): boolean {
  const counts = [...map.matchAll(/^ *\d+ +\d+ +(\d+) *$/gm)].map(([, count]) => Number(count));
  return counts.reduce((sum, count) => sum + count, 0) >= ALL_USERS;
}

/** Returns the name of a user, `null` if the system does not know it. */
export function loginName(libc: Libc, uid: number): string | null {
  const entry = libc.c.getpwuid(uid);
  if (entry === 0n) return null;
  return libc.text(new DataView(libc.ffi.arrayBuffer(entry, 8)).getBigUint64(0, true));
}

/** Returns a user as texts show it: the name if the system knows it, and the number. */
export function userName(libc: Libc, uid: number): string {
  const name = loginName(libc, uid);
  return name === null ? `uid ${uid}` : `${name} (uid ${uid})`;
}

import { F_OFD_GETLK, F_OFD_SETLK, F_RDLCK, F_UNLCK, F_WRLCK, FLOCK } from "./linux_constants.ts";
import type { Libc } from "./libc.ts";

/**
 * This module locks single bytes of a file. The locks belong to the open file description and end with it at the latest
 * (fcntl(2), "Open file description locks"). They are independent of `flock` and of the locks of other bytes. Only
 * Linux has them; on other systems no lock can be acquired and none is found.
 */

/** Locks a byte together with other descriptors that share it; returns `false` if that is not possible. */
export function shareByte(libc: Libc, fd: number, byte: number): boolean {
  return libc.os === "linux" && apply(libc, fd, F_OFD_SETLK, F_RDLCK, byte) !== null;
}

/**
 * Locks a byte for this descriptor alone, which must be open for writing. Returns `false` if another descriptor has
 * locked the byte or the call fails.
 */
export function claimByte(libc: Libc, fd: number, byte: number): boolean {
  return libc.os === "linux" && apply(libc, fd, F_OFD_SETLK, F_WRLCK, byte) !== null;
}

/** Releases a byte that this descriptor has shared or claimed. */
export function releaseByte(libc: Libc, fd: number, byte: number): void {
  if (libc.os === "linux") apply(libc, fd, F_OFD_SETLK, F_UNLCK, byte);
}

/** Whether another descriptor shares or claims a byte. */
export function isByteLocked(libc: Libc, fd: number, byte: number): boolean {
  if (libc.os !== "linux") return false;
  const type = apply(libc, fd, F_OFD_GETLK, F_WRLCK, byte);
  return type !== null && type !== F_UNLCK;
}

const lock = new Uint8Array(FLOCK.bytes);
const view = new DataView(lock.buffer);

/** Makes an fcntl call. Returns the type of lock that the call has written, or `null` if the call failed. */
function apply(libc: Libc, fd: number, command: number, type: number, byte: number): number | null {
  lock.fill(0);
  view.setInt16(FLOCK.type, type, true);
  view.setBigInt64(FLOCK.start, BigInt(byte), true);
  view.setBigInt64(FLOCK.len, 1n, true);
  return libc.c.fcntl(fd, command, lock) === 0 ? view.getInt16(FLOCK.type, true) : null;
}

import { _CS_DARWIN_USER_TEMP_DIR, STAT } from "./darwin_constants.ts";
import { EAGAIN, EINTR, ENOENT } from "./errno.ts";
import { cString, decoder, FOREIGN_ATTEMPTS, type Libc } from "./libc.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_STATX_DONT_SYNC,
  AT_SYMLINK_NOFOLLOW,
  DIRENT,
  O_RDONLY,
  S_IFMT,
  S_IFREG,
  STATX,
  STATX_BASIC_STATS,
} from "./linux_constants.ts";

/** The buffer size of the first read of a file, because files of `/proc` do not tell their size. */
const READ_BYTES = 65536;
/** The buffer of the first read of a file. Nothing else runs while it is in use. */
const firstBytes = new Uint8Array(READ_BYTES);
/** The `ssize_t` -1. */
const FAILED = 0xffff_ffff_ffff_ffffn;
/** The empty C string, where a call takes a path but needs none. */
export const NO_PATH = new Uint8Array(1);

/** The memory for a `struct statx`. A `struct stat` of macOS is smaller and is put at its beginning. */
const statBytes = new Uint8Array(STATX.bytes);
const darwinStatBytes = statBytes.subarray(0, STAT.bytes);
const statView = new DataView(statBytes.buffer);

/** The properties of a file that the backends need. */
export interface FileStatus {
  /** The low byte of `st_dev`. */
  readonly device: number;
  /** The low bytes of `st_ino`. */
  readonly inode: number;
  readonly uid: number;
  /** The number of hard links, 0 after the file is deleted. */
  readonly links: number;
  /** The size of the file. */
  readonly bytes: number;
  /** The number of bytes for which the file system has already allocated memory. */
  readonly reserved: number;
  /** The value of `st_mode`: the kind of the file and its permissions. */
  readonly mode: number;
  /** The value of `st_ctime`: when the file was created, renamed, linked or marked last, in seconds since 1970. */
  readonly changed: number;
  /** The value of `st_mtime`: for a file that nobody writes to, when it was created, in seconds since 1970. */
  readonly modified: number;
}

/** Returns the name of the C function that returns the status of a file, for texts. */
export function statCall({ darwin }: Libc): string {
  return darwin === null ? "statx" : "stat";
}

/** Returns the status of the file of a descriptor, or the errno. */
export function fileStatus(libc: Libc, fd: number): FileStatus | number {
  if (libc.darwin === null) return statx(libc, fd, NO_PATH, AT_EMPTY_PATH);
  return darwinStatus(libc, libc.darwin.fstat(fd, darwinStatBytes));
}

/** Returns the status of the file at `path`, or the errno. */
export function pathStatus(
  libc: Libc,
  path: Uint8Array,
  followLinks: boolean,
): FileStatus | number {
  if (libc.darwin === null) {
    return statx(libc, AT_FDCWD, path, followLinks ? 0 : AT_SYMLINK_NOFOLLOW);
  }
  const { lstat, stat } = libc.darwin;
  return darwinStatus(libc, (followLinks ? stat : lstat)(path, darwinStatBytes));
}

/**
 * Returns the status of the file that a link of `/proc/PID/fd` leads to, or the errno. It makes no request to the
 * file system, because another user may run that file system and need not answer.
 */
export function linkStatus(libc: Libc, path: string): FileStatus | number {
  return statx(libc, AT_FDCWD, cString(path), AT_STATX_DONT_SYNC);
}

function statx(libc: Libc, fd: number, path: Uint8Array, flags: number): FileStatus | number {
  const { c: { syscall }, statxNumber } = libc;
  for (let attempt = 0;; attempt++) {
    const result = syscall(statxNumber, fd, path, flags, STATX_BASIC_STATS, statBytes);
    if (result === 0) break;
    const errno = libc.errno();
    if (errno !== EAGAIN || attempt === FOREIGN_ATTEMPTS) return errno;
  }
  return {
    device: statView.getUint32(STATX.devMinor, true) & 0xff,
    inode: statView.getUint32(STATX.ino, true),
    uid: statView.getUint32(STATX.uid, true),
    links: statView.getUint32(STATX.nlink, true),
    bytes: number64(STATX.size),
    reserved: number64(STATX.blocks) * 512,
    mode: statView.getUint16(STATX.mode, true),
    changed: number64(STATX.ctime),
    modified: number64(STATX.mtime),
  };
}

function darwinStatus(libc: Libc, result: number): FileStatus | number {
  if (result !== 0) return libc.errno();
  return {
    device: statView.getUint32(STAT.dev, true) & 0xff,
    inode: statView.getUint32(STAT.ino, true),
    uid: statView.getUint32(STAT.uid, true),
    links: statView.getUint16(STAT.nlink, true),
    bytes: number64(STAT.size),
    reserved: number64(STAT.blocks) * 512,
    mode: statView.getUint16(STAT.mode, true),
    changed: number64(STAT.ctime),
    modified: number64(STAT.mtime),
  };
}

/** Reads an `int64_t` of the status, exact up to 2^53 and without the cost of a BigInt. */
function number64(offset: number): number {
  return statView.getUint32(offset, true) + statView.getInt32(offset + 4, true) * 2 ** 32;
}

/**
 * Opens a file; returns a file descriptor, or the negative errno. EAGAIN comes from the runtime, if it waits for one
 * of its own locks between the call and the reading of errno.
 */
export function openFile(libc: Libc, path: Uint8Array, flags: number, mode = 0): number {
  for (let attempt = 0;; attempt++) {
    const fd = libc.c.open(path, flags, mode);
    if (fd >= 0) return fd;
    const errno = libc.errno();
    const isForeign = errno === EAGAIN && attempt < FOREIGN_ATTEMPTS;
    if (errno !== EINTR && !isForeign) return -errno;
  }
}

/** Returns the text of a file, which may be in `/proc`, or the errno. */
export function readFile(libc: Libc, path: string): string | number {
  const bytes = readBytes(libc, path);
  return typeof bytes === "number" ? bytes : decoder.decode(bytes);
}

/** Returns the content of a kernel file, or the errno. */
function readBytes(libc: Libc, path: string): Uint8Array<ArrayBuffer> | number {
  const fd = openFile(libc, cString(path), O_RDONLY | libc.constants.O_CLOEXEC);
  if (fd < 0) return -fd;
  try {
    let bytes = firstBytes;
    for (let length = 0;;) {
      const count = libc.c.read(fd, bytes.subarray(length), BigInt(bytes.length - length));
      if (count === FAILED) {
        const errno = libc.errno();
        if (errno === EINTR) continue;
        return errno;
      }
      if (count === 0n) return bytes.slice(0, length);
      length += Number(count);
      if (length === bytes.length) {
        const more = new Uint8Array(2 * length);
        more.set(bytes);
        bytes = more;
      }
    }
  } finally {
    libc.c.close(fd);
  }
}

/**
 * Returns the first bytes of a regular file that any user may have created, or the errno; ENOENT if the file is of
 * another kind.
 */
export function readStart(
  libc: Libc,
  path: string,
  bytes: number,
): Uint8Array<ArrayBuffer> | number {
  const { O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK } = libc.constants;
  const flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW[libc.arch]!;
  const fd = openFile(libc, cString(path), flags);
  if (fd < 0) return -fd;
  try {
    const status = fileStatus(libc, fd);
    if (typeof status === "number") return status;
    if ((status.mode & S_IFMT) !== S_IFREG) return ENOENT;
    const found = new Uint8Array(bytes);
    const count = libc.c.read(fd, found, BigInt(bytes));
    return count === FAILED ? libc.errno() : found.slice(0, Number(count));
  } finally {
    libc.c.close(fd);
  }
}

/** Returns the names in a folder, or the errno. */
export function readFolder(libc: Libc, path: string): string[] | number {
  return allAtOnce(folderInSteps(libc, path));
}

/** Does all steps of a piece of work, and returns its result. */
export function allAtOnce<Result>(steps: Generator<undefined, Result>): Result {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** The number of names after which {@linkcode folderInSteps} yields. */
const NAMES_AT_ONCE = 32;

/** Does what {@linkcode readFolder} does, and yields after some names. */
export function* folderInSteps(
  libc: Libc,
  path: string,
): Generator<undefined, string[] | number> {
  const folder = libc.c.opendir(cString(path));
  if (folder === 0n) return libc.errno();
  try {
    const names: string[] = [];
    for (;;) {
      const entry = libc.c.readdir(folder);
      if (entry === 0n) return names;
      const name = libc.text(entry + BigInt(DIRENT.name));
      if (name === "." || name === "..") continue;
      names.push(name);
      if (names.length % NAMES_AT_ONCE === 0) yield;
    }
  } finally {
    libc.c.closedir(folder);
  }
}

/** Returns the text of a symbolic link, or the errno. */
export function readLink(libc: Libc, path: string): string | number {
  const text = new Uint8Array(libc.constants.PATH_MAX);
  const length = libc.c.readlink(cString(path), text, BigInt(text.length));
  return length === FAILED ? libc.errno() : decoder.decode(text.subarray(0, Number(length)));
}

/** Returns `path` without symbolic links, or the errno. */
export function realpath(libc: Libc, path: string): string | number {
  const resolved = new Uint8Array(libc.constants.PATH_MAX);
  if (libc.c.realpath(cString(path), resolved) === 0n) return libc.errno();
  return decoder.decode(resolved.subarray(0, resolved.indexOf(0)));
}

/** Returns the folder of this user's temporary files that the system itself defines, `""` if it defines none. */
export function userTemporaryFolder({ constants: { PATH_MAX }, darwin }: Libc): string {
  const path = new Uint8Array(PATH_MAX);
  const length = darwin?.confstr(_CS_DARWIN_USER_TEMP_DIR, path, BigInt(PATH_MAX)) ?? 0n;
  return length === 0n ? "" : decoder.decode(path.subarray(0, path.indexOf(0)));
}

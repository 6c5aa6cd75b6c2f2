import {
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  NAME_MAX,
  O_CLOEXEC,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  RLIMIT,
  RLIMIT_FSIZE,
  S_IFMT,
  S_IFREG,
  S_ISVTX,
  S_IXGRP,
  S_IXOTH,
} from "../unix/linux_constants.ts";
import { BackendError, type ErrnoTable, type IpcObjectKind, othersText } from "../failure.ts";
import {
  EACCES,
  EEXIST,
  EFBIG,
  EINTR,
  ELOOP,
  ENOENT,
  ENOSPC,
  EOPNOTSUPP,
  EPERM,
  EROFS,
  failure,
} from "../unix/errno.ts";
import { type FileStatus, fileStatus, openFile, pathStatus, readFile } from "../unix/files.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { ownUid, userName } from "../unix/users.ts";
import { memoryRoom } from "../unix/memory_limit.ts";
import { nextPause, sleepSync } from "../timing.ts";
import { isShared } from "../types.ts";

/** The folder in which `shm_open` and `sem_open` of every Linux C library keep their objects. */
export const FOLDER = "/dev/shm/";
/**
 * The mode bits with which this module marks the objects that it creates: the sticky bit, and execute permission for
 * others, who may not read the object. Neither bit means anything for an object, and no program sets both by accident
 * without the other program bits: `chmod +t`, 1777 and the decimal 644 look different. The set-user-ID and set-group-ID
 * bits would be worse: a service may not set them (systemd's `RestrictSUIDSGID`, `DynamicUser`), and the `ftruncate` of
 * a peer clears them.
 */
const MARK = S_ISVTX | S_IXOTH;
/** Added to the mark of an object that stays until it is removed on purpose. */
const PERSISTENT = S_IXGRP;
/** The mode bits that matter only for programs. */
const PROGRAM_BITS = 0o7111;
/** The size from which free memory is checked. For smaller objects the check costs more than the reservation. */
const CHECKED_BYTES = 2 ** 20;
/** How long to wait for a process that is removing an object with the same name. */
const OPEN_MS = 5000;

const ERRORS: ErrnoTable = {
  [ENOENT]: ["System", "there is no /dev/shm, where the system keeps POSIX objects; mount it"],
  [EOPNOTSUPP]: ["System", "/dev/shm is not a tmpfs; mount one there"],
  [ENOSPC]: [
    "OutOfResources",
    "/dev/shm is full; remove unused objects, or mount it with a greater size",
  ],
  [EROFS]: ["PermissionDenied", "/dev/shm is read-only; mount it for writing"],
  [ELOOP]: ["PermissionDenied", "the name is a symbolic link, which no POSIX object is; remove it"],
};

const LIFETIME_ERRORS: ErrnoTable = {
  [EPERM]: [
    "PermissionDenied",
    "permission denied: only the user who created the segment may change its lifetime",
  ],
};

const RESERVE_ERRORS: ErrnoTable = {
  ...ERRORS,
  [EFBIG]: ["InvalidSize", "/dev/shm can have no file of this size"],
};

const PUBLISH_ERRORS: ErrnoTable = {
  ...ERRORS,
  [ENOENT]: ["System", "there is no /proc, through which an object gets its name; mount it"],
};

/** The name of an object, and which users it may belong to. */
export interface PosixName {
  readonly what: IpcObjectKind;
  readonly nativeKey: string;
  /** The path of the object in {@linkcode FOLDER}. */
  readonly path: string;
  /** The permissions of a new object. They also decide whether an object of another user may be used. */
  readonly permissions: number;
}

/**
 * Converts a native key to the name of an object. `prefix` stands before the name in the folder.
 *
 * @throws {BackendError} `KeyError` if the native key is not a valid name
 */
export function posixName(
  what: IpcObjectKind,
  nativeKey: string,
  prefix: string,
  permissions: number,
): PosixName {
  const name = nativeKey.replace(/^\/+/, "");
  const refuse = (why: string): never => {
    throw new BackendError("KeyError", `the native key ${JSON.stringify(nativeKey)} ${why}`);
  };
  if (name === "" || name === "." || name === "..") refuse('is no name; use one like "/name"');
  if (name.includes("/")) refuse("has a slash inside, which no POSIX name can; leave it out");
  if (name.includes("\0")) refuse("contains a NUL character, which no name can have; leave it out");
  const excess = new TextEncoder().encode(prefix + name).length - NAME_MAX;
  if (excess > 0) refuse(`is ${excess} bytes too long; use a shorter key`);
  return { what, nativeKey, path: FOLDER + prefix + name, permissions };
}

/**
 * An open file that is a POSIX object. Each user of an object holds `flock(LOCK_SH)` on it, which ends with the process
 * at the latest, so the last user is known. This module marks the objects that it creates with mode bits that mean
 * nothing to the kernel. Only marked objects are removed with their last user, because other programs have their own
 * rules.
 */
export class PosixFile {
  readonly fd: number;
  readonly #libc: Libc;
  readonly #name: PosixName;
  #status: FileStatus;
  /** Whether `leave()` leaves the object in place as long as it is persistent. */
  #isToStay = false;

  private constructor(libc: Libc, name: PosixName, fd: number, status: FileStatus) {
    this.#libc = libc;
    this.#name = name;
    this.fd = fd;
    this.#status = status;
  }

  /** The size in bytes. */
  get size(): number {
    return this.#status.bytes;
  }

  /** Whether the file system has reserved memory for the whole object, so that no access to it can fail. */
  get isReserved(): boolean {
    return this.#status.reserved >= this.#status.bytes;
  }

  /**
   * Opens the object; `null` if it does not exist. The object is checked before this process becomes a user of it,
   * because a use, however short, keeps the last user from removing it. The check fails if `check` throws, or if the
   * file is of another kind or belongs to another user.
   */
  static open(
    libc: Libc,
    name: PosixName,
    flags: number,
    check: (bytes: number) => void = () => {},
  ): PosixFile | null {
    const path = cString(name.path);
    const deadline = performance.now() + OPEN_MS;
    for (let pause = 1;; pause = nextPause(pause)) {
      const fd = openPath(libc, path, flags);
      if (fd === -ENOENT) return null;
      if (fd < 0) throw openFailure(libc, name, path, -fd);
      let isKept = false;
      try {
        const found = statusOf(libc, fd, name);
        checkKind(libc, name, found);
        check(found.bytes);
        const isUsed = flock(libc, fd, LOCK_SH | LOCK_NB);
        const status = statusOf(libc, fd, name);
        isKept = isUsed && status.links > 0; // otherwise another process is removing the object or has just removed it
        if (isKept) return new PosixFile(libc, name, fd, status);
      } finally {
        if (!isKept) libc.c.close(fd);
      }
      if (performance.now() > deadline) {
        throw new BackendError("Busy", `the ${name.what} is removed again and again`);
      }
      sleepSync(pause); // a process holds LOCK_EX for only some microseconds
    }
  }

  /** Whether an object with this name exists, whichever user owns it. */
  static exists(libc: Libc, { path }: PosixName): boolean {
    return typeof pathStatus(libc, cString(path), false) === "object";
  }

  /**
   * Creates an object that no other process finds before it is published. A process that is killed before that leaves
   * nothing behind.
   */
  static make(libc: Libc, name: PosixName, bytes: number): PosixFile {
    const { permissions } = name;
    const flags = O_TMPFILE[libc.arch]! | O_RDWR | O_CLOEXEC;
    const fd = openFile(libc, cString(FOLDER), flags, permissions);
    if (fd < 0) throw failure("open", -fd, ERRORS, FOLDER);
    try {
      requireFileSize(libc, bytes);
      reserve(libc, fd, bytes);
      flock(libc, fd, LOCK_SH | LOCK_NB);
      libc.c.fchmod(fd, permissions | MARK); // independent of the umask
      return new PosixFile(libc, name, fd, statusOf(libc, fd, name));
    } catch (error) {
      libc.c.close(fd);
      throw error;
    }
  }

  /** Gives the object its name; returns `false` if another object has that name. */
  publish(): boolean {
    const source = cString(`/proc/self/fd/${this.fd}`);
    const path = cString(this.#name.path);
    if (this.#libc.c.linkat(AT_FDCWD, source, AT_FDCWD, path, AT_SYMLINK_FOLLOW) === 0) return true;
    const errno = this.#libc.errno();
    if (errno === EEXIST) return false;
    throw failure("linkat", errno, PUBLISH_ERRORS, this.#name.path);
  }

  /**
   * Reserves memory in the file system for the whole object. Otherwise an access to it would kill the process if the
   * file system is full.
   */
  reserve(): void {
    reserve(this.#libc, this.fd, this.size, this.size - this.#status.reserved);
    this.#status = statusOf(this.#libc, this.fd, this.#name);
  }

  /** Updates the size. */
  refresh(): void {
    this.#status = statusOf(this.#libc, this.fd, this.#name);
  }

  /** Whether the object still has its name. */
  isLinked(): boolean {
    const status = fileStatus(this.#libc, this.fd);
    return typeof status === "object" && status.links > 0;
  }

  /**
   * Makes the object persistent, or takes that back: {@linkcode isPersistent}.
   *
   * @throws {BackendError} `Unsupported` if another program created an object that is to become persistent,
   * `PermissionDenied` if another user created it
   */
  setPersistent(isIt: boolean): void {
    this.refresh();
    if (!isIt && !isMarked(this.#status)) return;
    this.#requireMarked();
    if (isPersistent(this.#status) !== isIt) this.#setBits(isIt ? PERSISTENT : 0);
    this.#isToStay = isIt;
  }

  /** Has `leave()` leave the object in place as long as it is persistent, whichever object has made it so. */
  respectPersistence(): void {
    this.#isToStay = true;
  }

  /** Changes nothing. @throws {BackendError} if `setPersistent(true)` would */
  requirePersistable(): void {
    this.refresh();
    this.#requireMarked();
    if (!isPersistent(this.#status)) this.#setBits(0); // as they are: only the owner may do that
  }

  #requireMarked(): void {
    if (isMarked(this.#status)) return;
    throw new BackendError(
      "Unsupported",
      `another program created the ${this.#name.what}, so its lifetime is not this module's to change`,
    );
  }

  #setBits(bits: number): void {
    if (this.#libc.c.fchmod(this.fd, this.#status.mode & 0o666 | MARK | bits) === 0) return;
    throw failure("fchmod", this.#libc.errno(), LIFETIME_ERRORS, this.#name.path);
  }

  /**
   * Whether no other process or object uses the object; `null` if it has been removed meanwhile. No other object begins to
   * use it if the caller holds the lock that all must acquire first.
   */
  isSole(): boolean | null {
    const isSole = flock(this.#libc, this.fd, LOCK_EX | LOCK_NB);
    // Another process may be trying to acquire LOCK_EX at this moment. If it keeps that, the next attempt to open fails.
    const deadline = performance.now() + OPEN_MS;
    while (!flock(this.#libc, this.fd, LOCK_SH | LOCK_NB)) {
      if (!this.isLinked() || performance.now() > deadline) return null;
      sleepSync(1);
    }
    return this.isLinked() ? isSole : null;
  }

  #mustStay(): boolean {
    const status = this.#isToStay ? fileStatus(this.#libc, this.fd) : null;
    return status !== null && typeof status === "object" && isPersistent(status);
  }

  /** Closes the object, and removes it if this module created it, no other process uses it, and it need not stay. */
  leave(): void {
    // This object is no user any more before it looks again: another one that ends the lifetime then finds itself the last.
    if (this.#mustStay()) flock(this.#libc, this.fd, LOCK_UN);
    if (!this.#mustStay() && flock(this.#libc, this.fd, LOCK_EX | LOCK_NB)) {
      removeIfOurs(this.#libc, this.#name, this.fd);
    }
    this.#libc.c.close(this.fd);
  }

  /** Closes the object without checking whether other processes use it. */
  close(): void {
    this.#libc.c.close(this.fd);
  }

  /**
   * Whether any process uses the object through this module, visible from here or not; `null` if this user may not
   * check.
   */
  static isUsed(libc: Libc, path: string): boolean | null {
    const fd = openPath(libc, cString(path), O_RDONLY);
    if (fd < 0) return fd === -ENOENT ? false : null;
    const isFree = flock(libc, fd, LOCK_EX | LOCK_NB);
    libc.c.close(fd);
    return !isFree;
  }

  /**
   * Removes an unused object if this module created it, or with `anyones` also if another program did. Returns `false`
   * if the object was not removed. Objects of other users are removed only if the permissions of `name` are shared, and
   * persistent ones not if `respectsPersistence`.
   */
  static removeUnused(
    libc: Libc,
    name: PosixName,
    { anyones = false, respectsPersistence = false } = {},
  ): boolean {
    const fd = openPath(libc, cString(name.path), O_RDONLY);
    if (fd < 0) return false;
    try {
      if (!flock(libc, fd, LOCK_EX | LOCK_NB)) return false;
      const status = fileStatus(libc, fd);
      const isMeant = typeof status === "object" && mayUse(libc, name, status);
      if (!isMeant || respectsPersistence && isPersistent(status)) return false;
      return removeIfOurs(libc, name, fd, anyones);
    } finally {
      libc.c.close(fd);
    }
  }
}

/** Opens a path with the flags that glibc's `shm_open` uses. */
function openPath(libc: Libc, path: Uint8Array, flags: number): number {
  return openFile(libc, path, flags | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW[libc.arch]!);
}

/** Removes the object. The caller holds LOCK_EX, so no other process can start to use it. */
function removeIfOurs(libc: Libc, name: PosixName, fd: number, anyones = false): boolean {
  const status = fileStatus(libc, fd);
  if (typeof status === "number" || status.links === 0) return false;
  if (!isMarked(status) && !anyones) return false;
  const path = cString(name.path);
  const found = pathStatus(libc, path, false);
  if (typeof found === "number" || found.inode !== status.inode) return false; // the object was renamed or replaced
  return libc.c.unlink(path) === 0;
}

/** Whether this module created the object. */
export function isMarked({ mode }: FileStatus): boolean {
  return (mode & PROGRAM_BITS & ~PERSISTENT) === MARK;
}

/** Whether this module created the object, which stays until it is removed on purpose. */
export function isPersistent(status: FileStatus): boolean {
  return isMarked(status) && (status.mode & PERSISTENT) !== 0;
}

function statusOf(libc: Libc, fd: number, { path }: PosixName): FileStatus {
  const status = fileStatus(libc, fd);
  if (typeof status === "number") throw failure("statx", status, ERRORS, path);
  return status;
}

function isFile({ mode }: FileStatus): boolean {
  return (mode & S_IFMT) === S_IFREG;
}

/** Whether the file is a regular one that belongs to this user, or to any user if the permissions are shared. */
function mayUse(libc: Libc, { permissions }: PosixName, status: FileStatus): boolean {
  return isFile(status) && (isShared(permissions) || status.uid === ownUid(libc));
}

function checkKind(libc: Libc, name: PosixName, status: FileStatus): void {
  if (mayUse(libc, name, status)) return;
  if (!isFile(status)) throw kindFailure(name);
  throw new BackendError(
    "PermissionDenied",
    othersText(name.what, userName(libc, status.uid)),
    "statx",
  );
}

function kindFailure({ what, path }: PosixName): BackendError {
  return new BackendError(
    "WrongKind",
    `${path} is no ${what}, but another kind of file; remove it`,
  );
}

function openFailure(libc: Libc, name: PosixName, path: Uint8Array, errno: number): BackendError {
  const status = pathStatus(libc, path, false);
  // For a folder or a socket, the error number only says that it cannot be opened.
  const isOther = typeof status === "object" && !isFile(status);
  if (isOther && errno !== ELOOP && errno !== EACCES) return kindFailure(name);
  if (errno !== EACCES) return failure("open", errno, ERRORS, name.path);
  const isOthers = typeof status === "object" && status.uid !== ownUid(libc);
  const text = isOthers
    ? othersText(name.what, userName(libc, status.uid))
    : `permission denied: the permissions of ${name.path} do not allow this mode`;
  return failure("open", errno, { [EACCES]: ["PermissionDenied", text] }, name.path);
}

/**
 * Reserves memory in the file system for a file.
 *
 * @param missing how many of its bytes are not reserved yet
 */
function reserve(libc: Libc, fd: number, bytes: number, missing = bytes): void {
  requireMemory(libc, missing);
  for (;;) {
    const errno = libc.c.posix_fallocate(fd, 0n, BigInt(bytes));
    if (errno === 0) return;
    if (errno !== EINTR) throw failure("posix_fallocate", errno, RESERVE_ERRORS);
  }
}

/**
 * Checks the file size against `ulimit -f`. The kernel answers a larger file with SIGXFSZ, which kills a Deno process.
 */
function requireFileSize(libc: Libc, bytes: number): void {
  const limits = new Uint8Array(RLIMIT.bytes);
  if (libc.c.getrlimit(RLIMIT_FSIZE, limits) !== 0) return;
  const limit = new DataView(limits.buffer).getBigUint64(RLIMIT.current, true);
  if (BigInt(bytes) <= limit) return;
  throw new BackendError(
    "OutOfResources",
    `${bytes} bytes are more than a file of this process may have, ${limit}: raise \`ulimit -f\` ` +
      "[getrlimit: RLIMIT_FSIZE]",
    "getrlimit",
  );
}

/** Checks the limit of the memory cgroup. Beyond that limit the kernel kills the process. */
function requireMemory(libc: Libc, bytes: number): void {
  if (bytes < CHECKED_BYTES) return;
  const room = memoryRoom((path) => {
    const text = readFile(libc, path);
    return typeof text === "string" ? text : null;
  });
  if (room === null || bytes <= room.bytes) return;
  throw new BackendError(
    "OutOfResources",
    `${bytes} bytes are more than the memory cgroup of this process has left, ${room.bytes}: raise ${room.file}, ` +
      "the memory limit of the container or service",
  );
}

function flock(libc: Libc, fd: number, operation: number): boolean {
  for (;;) {
    if (libc.c.flock(fd, operation) === 0) return true;
    if (libc.errno() !== EINTR) return false;
  }
}

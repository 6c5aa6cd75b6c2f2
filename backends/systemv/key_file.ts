import { claimByte, isByteLocked, shareByte } from "../unix/byte_locks.ts";
import {
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  NAME_MAX,
  O_RDONLY,
  O_RDWR,
  S_IFMT,
  S_IFREG,
} from "../unix/linux_constants.ts";
import { BackendError, type ErrnoTable } from "../failure.ts";
import {
  EACCES,
  EAGAIN,
  EEXIST,
  EINTR,
  ELOOP,
  ENOENT,
  ENOTDIR,
  errnoFailure,
  errnoText,
  failure,
} from "../unix/errno.ts";
import { SHARED_MEMORY_PREFIX, SYSTEM_SEMAPHORE_PREFIX } from "../../native_ipc_key.ts";
import { cString, type FileStatus, type Libc } from "../unix/libc.ts";
import { sleepSync } from "../timing.ts";
import { isShared, PRIVATE } from "../types.ts";

/** Qt's `ftok` project id, unless another one was chosen. */
export const PROJECT_ID = "Q".charCodeAt(0);
/** How long a file that was found counts as new. */
const NEW_SECONDS = 2;
/** A race with somebody who makes and removes the file is lost only so often in a row. */
const CREATE_ATTEMPTS = 1000;
/** How long whoever has LOCK_EX of a file may take to delete it; another program may have it for ever. */
const DELETION_MS = 50;

const ERRORS: ErrnoTable = {
  [EACCES]: [
    "PermissionDenied",
    "permission denied: this user may not make or look up files there; use a TMPDIR of your own",
  ],
};

/** The same for files in the folder of the key files. */
export const FOLDER_ERRORS: ErrnoTable = {
  ...ERRORS,
  [ENOTDIR]: ["KeyError", "the folder of the key files is no folder; set TMPDIR to one"],
};

function errorsOf({ isExplicit }: KeyPath): ErrnoTable {
  return isExplicit ? ERRORS : FOLDER_ERRORS;
}

/** Which key file, and whom it may belong to. */
export interface KeyPath {
  readonly path: string;
  /** Of what is made: 0o600, or more for users who share on purpose. */
  readonly permissions: number;
  /**
   * Named by the user, who answers for it. Otherwise it lies in a folder where everybody may make
   * files, and must be a plain file of this user's.
   */
  readonly isExplicit: boolean;
  /** The number that `ftok` puts in front. */
  readonly projectId: number;
}

/** A key file of the kind that keys without a choice of their own have. */
export function keyFilePath(path: string): KeyPath {
  return { path, permissions: PRIVATE, isExplicit: false, projectId: PROJECT_ID };
}

/** What `ftok` makes of a file. */
export function keyOf({ device, inode }: FileStatus, projectId = PROJECT_ID): number {
  return projectId << 24 | device << 16 | inode & 0xffff;
}

/** Among the bytes of a file that can be locked, those for claims; below are those for semaphores. */
const CLAIM = 0x100;

/** The key file of a lock's segment, and that of a segment's lock: they differ in the prefix of the name. */
export function segmentPath(path: string): string {
  return withPrefix(path, SYSTEM_SEMAPHORE_PREFIX, SHARED_MEMORY_PREFIX);
}

export function lockPath(path: string): string {
  return withPrefix(path, SHARED_MEMORY_PREFIX, SYSTEM_SEMAPHORE_PREFIX);
}

function withPrefix(path: string, from: string, to: string): string {
  return path.replace(/[^/]*$/, (name) => name.replace(from, to));
}

/**
 * The empty file whose inode is the System V key. It is kept open: as long as somebody uses the key,
 * the inode of a deleted file is not given to the file of another key.
 *
 * Whoever relies on the file, being attached to its segment or using its semaphore, holds `flock(LOCK_SH)` on
 * it, which other namespaces and users of other keys with the same file see too. It is deleted only under
 * LOCK_EX.
 */
export class KeyFile {
  readonly key: number;
  /** Whether this call made it. */
  readonly created: boolean;
  /** Since when it may be there, in ms since 1970 by this system's clock, if this call made it. */
  readonly #since: number;
  readonly inode: number;
  readonly #device: number;
  /** When it was made or linked last, in seconds since 1970 by the clock of the file system. */
  readonly #changed: number;
  /** The semaphore that was found to be this user's, so that it is not looked at again. */
  checkedId = -1;
  readonly #libc: Libc;
  #path: Uint8Array;
  #fd: number;
  /** The path as text. */
  readonly name: string;
  /** Whether the user has chosen it. */
  readonly isExplicit: boolean;
  readonly #projectId: number;
  #isKeepable: boolean;
  /** A file with a purpose of its own is never deleted, so that nobody need rely on it: its `flock` is its owner's. */
  readonly #hasPurpose: boolean;
  /** Whether the path led to it when it was opened. */
  #wasChecked = true;
  /** Whether it may be under `flock`. */
  #isLocked = false;
  /** Whether it had LOCK_SH when the path was seen to lead to it last, and has it since. */
  #isShared = false;

  private constructor(
    libc: Libc,
    path: Uint8Array,
    fd: number,
    status: FileStatus,
    created: boolean,
    since: number,
    { path: name, isExplicit, permissions, projectId }: KeyPath,
  ) {
    this.#libc = libc;
    this.#path = path;
    this.#fd = fd;
    this.key = keyOf(status, projectId);
    this.inode = status.inode;
    this.#device = status.device;
    this.#changed = status.changed;
    this.#since = since;
    this.created = created;
    this.name = name;
    this.isExplicit = isExplicit;
    this.#projectId = projectId;
    this.#isKeepable = !created && !isShared(permissions);
    this.#hasPurpose = !isEmptyFile(status);
  }

  /** The key of the file at `path` for a look at what has it, or `null` if there is no file. */
  static keyAt(libc: Libc, path: KeyPath): number | null {
    const status = KeyFile.statusAt(libc, path);
    return status && keyOf(status, path.projectId);
  }

  /** About the file at `path`, or `null` if there is none. */
  static statusAt(libc: Libc, keyPath: KeyPath): FileStatus | null {
    const { path, isExplicit } = keyPath;
    const status = libc.pathStatus(pathBytes(path), isExplicit);
    if (typeof status === "object") return status;
    if (status === ENOENT) return null;
    throw failure(libc.statCall, status, errorsOf(keyPath), path);
  }

  /**
   * The key file at `path`, or `null` if there is none.
   *
   * @param isChecked whether the path must still lead to it; otherwise that shows when it is relied on
   */
  static open(libc: Libc, path: KeyPath, isChecked = true): KeyFile | null {
    const bytes = pathBytes(path.path);
    return KeyFile.#takeKept(libc, bytes, path, isChecked) ?? KeyFile.#open(libc, path, bytes);
  }

  static #open(libc: Libc, keyPath: KeyPath, bytes: Uint8Array): KeyFile | null {
    const { path, isExplicit } = keyPath;
    const { O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_PATH } = libc.constants;
    const follow = isExplicit ? 0 : O_NOFOLLOW[libc.arch]!;
    let fd = libc.open(bytes, O_RDONLY | O_CLOEXEC | O_NONBLOCK | follow);
    // The key needs no permission for the file; what else the user may not do shows where it matters.
    if (fd === -EACCES && O_PATH !== 0) fd = libc.open(bytes, O_PATH | O_CLOEXEC | follow);
    if (fd === -ENOENT) return null;
    if (fd === -ELOOP && !isExplicit) {
      throw errnoFailure(
        "PermissionDenied",
        `the key file ${path} is a symbolic link, which a program that looks for harm may have put ` +
          `there; remove it, or use a TMPDIR of your own [open: ${errnoText(ELOOP)}]`,
        "open",
        ELOOP,
      );
    }
    if (fd < 0) throw failure("open", -fd, errorsOf(keyPath), path);
    return KeyFile.#checked(libc, keyPath, bytes, fd, false, 0);
  }

  /** The deleted key file that another process has open at a path under /proc; `null` if it has not any more. */
  static openDeleted(libc: Libc, keyPath: KeyPath, link: string): KeyFile | null {
    const { O_CLOEXEC, O_NONBLOCK } = libc.constants;
    const fd = libc.open(cString(link), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return null;
    try {
      return KeyFile.#checked(libc, keyPath, pathBytes(keyPath.path), fd, false, 0);
    } catch (error) {
      if (error instanceof BackendError) return null; // it is another user's
      throw error;
    }
  }

  /** The path, for others to look at it. */
  get keyPath(): KeyPath {
    const { name: path, isExplicit } = this;
    return { path, permissions: PRIVATE, isExplicit, projectId: this.#projectId };
  }

  /** The key file at `path`, made if it was not there. */
  static create(libc: Libc, keyPath: KeyPath): KeyFile {
    const { path, permissions } = keyPath;
    const { O_CLOEXEC, O_CREAT, O_EXCL } = libc.constants;
    const bytes = pathBytes(path);
    const kept = KeyFile.#takeKept(libc, bytes, keyPath, true);
    if (kept !== null) return kept;
    const mode = 0o640 | permissions & 0o066; // others lock it as well, for which some locks want to write
    for (let attempt = 0; attempt < CREATE_ATTEMPTS; attempt++) {
      const since = Date.now();
      const fd = libc.open(bytes, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
      if (fd >= 0) {
        if (isShared(permissions)) libc.c.fchmod(fd, mode); // whatever the umask
        return KeyFile.#checked(libc, keyPath, bytes, fd, true, since);
      }
      if (fd === -EEXIST) {
        const file = KeyFile.#open(libc, keyPath, bytes);
        if (file !== null) return file;
      } else if (fd === -ENOENT) {
        throw errnoFailure(
          "KeyError",
          `the folder of the key file ${path} doesn't exist; create the folder` +
            `${keyPath.isExplicit ? "" : " or set TMPDIR to another"} [open: ENOENT ${ENOENT}]`,
          "open",
          ENOENT,
        );
      } else {
        throw failure("open", -fd, errorsOf(keyPath), path);
      }
    }
    throw new BackendError(
      "KeyError",
      `the key file ${path} can be neither made nor opened: it is removed again and again, or it is ` +
        "a symbolic link that leads nowhere; remove it",
    );
  }

  /** The file that was closed last with this path; if it is to be checked, only if the path still leads to it. */
  static #takeKept(
    libc: Libc,
    path: Uint8Array,
    { isExplicit, projectId }: KeyPath,
    isChecked: boolean,
  ): KeyFile | null {
    const kept = keptFiles(libc);
    const file = kept.get(path);
    if (file === undefined) return null;
    kept.delete(path);
    const isSame = file.isExplicit === isExplicit && file.#projectId === projectId;
    if (isSame && (!isChecked || file.isCurrent())) {
      file.#wasChecked = isChecked;
      return file;
    }
    libc.c.close(file.#fd);
    return null;
  }

  static #checked(
    libc: Libc,
    keyPath: KeyPath,
    bytes: Uint8Array,
    fd: number,
    created: boolean,
    since: number,
  ): KeyFile {
    const { path, permissions, isExplicit } = keyPath;
    // Whoever makes a file relies on it. After LOCK_SH, one look says both what it is and that nobody deleted it.
    const isLocked = created && libc.c.flock(fd, LOCK_SH | LOCK_NB) === 0;
    const status = libc.fileStatus(fd);
    if (typeof status === "number") {
      libc.c.close(fd);
      throw failure(libc.statCall, status, ERRORS, path);
    }
    const mayBeOthers = !created && !isExplicit && !isShared(permissions);
    if (mayBeOthers && status.uid !== libc.ownUid()) {
      libc.c.close(fd);
      throw new BackendError(
        "PermissionDenied",
        `the key file ${path} belongs to ${
          libc.userName(status.uid)
        }, another user; use a key or ` +
          "a TMPDIR of your own, or share with others on purpose (the option permissions)",
      );
    }
    const file = new KeyFile(libc, bytes, fd, status, created, since, keyPath);
    file.#isLocked = isLocked;
    file.#isShared = isLocked && status.links > 0;
    return file;
  }

  /** Whether what has this key's number, made at `ctime` in s, was there before the file that this call made. */
  isLaterThan(ctime: number): boolean {
    return this.created && ctime < Math.floor(this.#since / 1000) - 1;
  }

  /**
   * Whether what has this key's number, made at `ctime` in s, was there before the file that was found, and
   * that so lately that whoever made it may be about to see it too, and to make another one.
   */
  isInDoubt(ctime: number): boolean {
    return this.isNew && ctime < this.#changed - 1;
  }

  /** Whether somebody else made it just now, unless the file system goes by another clock. */
  get isNew(): boolean {
    return !this.created && Math.abs(Date.now() / 1000 - this.#changed) < NEW_SECONDS;
  }

  /** Whether the path still leads to this file, and so newcomers find what we use. */
  isCurrent(): boolean {
    if (this.#hasPath()) return true;
    this.#isKeepable = false;
    return false;
  }

  #hasPath(): boolean {
    // A file of this user's is deleted by many, and given another name by nobody. It has a second name while it gets
    // its own, or if a process was killed at that.
    if (!this.isExplicit) {
      const status = this.#libc.fileStatus(this.#fd);
      if (typeof status === "object" && status.links < 2) return status.links === 1;
    }
    return this.#currentStatus() !== null;
  }

  /** The same for the moment at which it was opened. */
  wasCurrent(): boolean {
    return this.#wasChecked || this.isCurrent();
  }

  /** About the file, `null` if the path does not lead to it any more: it was deleted, or retired. */
  #currentStatus(): FileStatus | null {
    const status = this.#libc.pathStatus(this.#path, this.isExplicit);
    return typeof status === "object" && this.#isIt(status) ? status : null;
  }

  #isIt({ inode, device }: FileStatus): boolean {
    return inode === this.inode && device === this.#device;
  }

  /**
   * Deletes the file, unless another one has taken its place, which is what it returns. What is no empty file
   * has a purpose of its own, and stays. It is closed later: whoever opens it before it is deleted sees LOCK_EX.
   */
  unlink(): "unlinked" | "missing" | "replaced" {
    const status = this.#libc.pathStatus(this.#path, this.isExplicit);
    if (typeof status === "number") return "missing";
    if (!this.#isIt(status)) return "replaced";
    if (!isEmptyFile(status)) return "unlinked";
    this.#isKeepable = false;
    this.#libc.c.unlink(this.#path);
    return "unlinked";
  }

  /** Gives the file another name in the same folder; `false` if another file has that, or this one was deleted. */
  rename(path: string): boolean {
    const bytes = pathBytes(path);
    if (this.#libc.c.link(this.#path, bytes) !== 0) {
      const errno = this.#libc.errno();
      if (errno === EEXIST || errno === ENOENT) return false;
      throw failure("link", errno, ERRORS, path);
    }
    this.#libc.c.unlink(this.#path);
    this.#path = bytes;
    return true;
  }

  /** Holds LOCK_SH of the file from now on, if that can be had; `false` if the file has been deleted. */
  share(): boolean {
    if (this.#isShared) return true; // it is deleted under LOCK_EX only
    this.hold();
    return this.isCurrent();
  }

  /** The same where it is looked at later whether the file has been deleted. */
  hold(): void {
    for (let waited = 0; !this.#flock(LOCK_SH | LOCK_NB) && waited < DELETION_MS; waited++) {
      if (this.#libc.errno() !== EAGAIN) break; // a file that may not be read cannot be locked at all
      sleepSync(1);
    }
  }

  /**
   * Whether nobody else relies on the file. If so, nobody else comes to rely on it before this object lets go of
   * it; if not, this object relies on it no more.
   */
  isSole(): boolean {
    if (this.#hasPurpose) return !this.isSemaphoreUsed();
    return this.#flock(LOCK_EX | LOCK_NB);
  }

  /** The opposite of {@linkcode KeyFile.share}, and of {@linkcode KeyFile.isSole}. */
  unshare(): void {
    if (this.#isLocked) this.#flock(LOCK_UN);
    this.#isLocked = this.#isShared = false;
  }

  #flock(operation: number): boolean {
    if (this.#hasPurpose) return true;
    this.#isLocked = true;
    this.#isShared = false;
    for (;;) {
      if (this.#libc.c.flock(this.#fd, operation) === 0) return true;
      if (this.#libc.errno() !== EINTR) return false;
    }
  }

  /** Says that this object uses the semaphore of the key, until it is closed. */
  noteSemaphoreUse(): void {
    this.#isKeepable = false; // closing it ends that
    shareByte(this.#libc, this.#fd, this.#projectId);
  }

  /** Whether an object of this module says so. */
  isSemaphoreUsed(): boolean {
    return isByteLocked(this.#libc, this.#fd, this.#projectId);
  }

  /**
   * Calls `act` while no other process is in such a call for the key: `"busy"` if one is, and `"unavailable"` if this
   * cannot be known, as the system has no such locks, or the file is another user's.
   */
  claiming<Result>(act: () => Result): Result | "busy" | "unavailable" {
    const libc = this.#libc;
    const fd = libc.os === "linux" ? this.#openForWriting() : -1;
    if (fd < 0) return "unavailable";
    try {
      return claimByte(libc, fd, CLAIM + this.#projectId) ? act() : "busy";
    } finally {
      libc.c.close(fd);
    }
  }

  /** Another descriptor of the file. Of a deleted one there is none without a /proc. */
  #openForWriting(): number {
    const libc = this.#libc;
    const { O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK } = libc.constants;
    const fd = libc.open(cString(`/proc/self/fd/${this.#fd}`), O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 || !this.isCurrent()) return fd;
    const follow = this.isExplicit ? 0 : O_NOFOLLOW[libc.arch]!;
    return libc.open(this.#path, O_RDWR | O_CLOEXEC | O_NONBLOCK | follow);
  }

  /** Closes it, sooner or later: whoever used it often uses it again. */
  close(): void {
    const kept = keptFiles(this.#libc);
    if (!this.#isKeepable || kept.has(this.#path)) {
      this.#libc.c.close(this.#fd); // which ends its locks
      return;
    }
    this.unshare();
    kept.set(this.#path, this);
    const [oldest] = kept.values();
    if (kept.size <= KEPT_MAX || oldest === undefined) return;
    kept.delete(oldest.#path);
    this.#libc.c.close(oldest.#fd);
  }
}

function isEmptyFile({ mode, bytes }: FileStatus): boolean {
  return (mode & S_IFMT) === S_IFREG && bytes === 0;
}

/** Files that were closed but are kept open for the next use, by path: at most so many. */
const kept = new WeakMap<Libc, Map<Uint8Array, KeyFile>>();
const KEPT_MAX = 16;

function keptFiles(libc: Libc): Map<Uint8Array, KeyFile> {
  let files = kept.get(libc);
  if (files === undefined) kept.set(libc, files = new Map());
  return files;
}

/** The paths of late as C strings: an object that attaches again and again uses the same two. */
const encoded = new Map<string, Uint8Array>();
const ENCODED_MAX = 100;

function pathBytes(path: string): Uint8Array {
  let bytes = encoded.get(path);
  if (bytes === undefined) {
    bytes = checkedPath(path);
    if (encoded.size >= ENCODED_MAX) encoded.clear();
    encoded.set(path, bytes);
  }
  return bytes;
}

function checkedPath(path: string): Uint8Array {
  const bytes = cString(path);
  if (bytes.indexOf(0) !== bytes.length - 1) {
    throw new BackendError(
      "KeyError",
      "the native key contains a NUL character, which no path can have; leave it out",
    );
  }
  const name = path.slice(path.lastIndexOf("/") + 1);
  const excess = new TextEncoder().encode(name).length - NAME_MAX;
  if (excess > 0) {
    throw new BackendError(
      "KeyError",
      `the key is too long: its key file's name is ${excess} bytes over the ${NAME_MAX} that a ` +
        "file name may have; use fewer ASCII letters (digits and other characters cost nothing)",
    );
  }
  return bytes;
}

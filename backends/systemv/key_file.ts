import { claimByte, isByteLocked, releaseByte, shareByte } from "../unix/byte_locks.ts";
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
  S_ISVTX,
  S_IXUSR,
} from "../unix/linux_constants.ts";
import { BackendError, type ErrnoTable, orElse } from "../failure.ts";
import {
  EACCES,
  EAGAIN,
  EEXIST,
  EINTR,
  ELOOP,
  ENOENT,
  ENOTDIR,
  EPERM,
  failure,
} from "../unix/errno.ts";
import { SHARED_MEMORY_PREFIX, SYSTEM_SEMAPHORE_PREFIX } from "../native_key.ts";
import {
  type FileStatus,
  fileStatus,
  openFile,
  pathStatus,
  readFile,
  statCall,
} from "../unix/files.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { ownUid, userName } from "../unix/users.ts";
import { sleepSync } from "../timing.ts";
import { isShared, PRIVATE } from "../types.ts";

/** The default `ftok` project id, which is Qt's. */
export const PROJECT_ID = "Q".charCodeAt(0);
/** The number of seconds after its last change for which a file of another process counts as new. */
const NEW_SECONDS = 2;
/** The times that the kernel notes in segments and in files differ by less than this number of seconds. */
const CLOCKS_SECONDS = 5;
/** The maximum number of attempts to create or open a key file; an attempt fails if the file is removed meanwhile. */
const CREATE_ATTEMPTS = 1000;
/**
 * The time in ms that `share()` waits while another process holds LOCK_EX of a file, usually to delete it. The wait is
 * bounded, as another program may hold LOCK_EX for ever.
 */
const DELETION_MS = 50;

const ERRORS: ErrnoTable = {
  [EACCES]: [
    "PermissionDenied",
    "permission denied: this user may not create or look up files there; use a TMPDIR of your own",
  ],
};

const LIFETIME_ERRORS: ErrnoTable = {
  [EPERM]: [
    "PermissionDenied",
    "permission denied: only the user who created the key file may change the lifetime of its segment",
  ],
};

/** The error texts for files in the folder of the key files. */
export const FOLDER_ERRORS: ErrnoTable = {
  ...ERRORS,
  [ENOTDIR]: ["KeyError", "the folder of the key files is no folder; set TMPDIR to one"],
};

function errorsOf({ isExplicit }: KeyPath): ErrnoTable {
  return isExplicit ? ERRORS : FOLDER_ERRORS;
}

/** The path of a key file, and the rules for its owner and permissions. */
export interface KeyPath {
  readonly path: string;
  /** The permissions of the objects that are created: 0o600, or more for users who share on purpose. */
  readonly permissions: number;
  /**
   * Whether the user has chosen the path, and so answers for the file. Any other key file lies in a folder where
   * every user may create files. So it must not be a symbolic link and, unless it is shared, must belong to this
   * user.
   */
  readonly isExplicit: boolean;
  /** The project id, which `ftok` puts into the top byte of the key. */
  readonly projectId: number;
}

/**
 * Returns the path of a key file with the usual rules: private permissions, not chosen by the user, and Qt's project
 * id.
 */
export function keyFilePath(path: string): KeyPath {
  return { path, permissions: PRIVATE, isExplicit: false, projectId: PROJECT_ID };
}

/**
 * Computes the System V key of a file as `ftok` does, from the project id, the device and 16 bits of the inode
 * number.
 */
export function keyOf({ device, inode }: FileStatus, projectId = PROJECT_ID): number {
  return projectId << 24 | device << 16 | inode & 0xffff;
}

/**
 * The offset in a key file of the bytes that are locked for claims, and of those that are locked while a semaphore is
 * created. The bytes below are locked for semaphores in use. In each range there is one byte for each project id.
 */
const CLAIM = 0x100;
const CREATION = 0x200;

/** Returns the path of the key file of a lock's segment. The names of the two files differ in their prefixes. */
export function segmentPath(path: string): string {
  return withPrefix(path, SYSTEM_SEMAPHORE_PREFIX, SHARED_MEMORY_PREFIX);
}

/** Returns the path of the key file of a segment's lock. */
export function lockPath(path: string): string {
  return withPrefix(path, SHARED_MEMORY_PREFIX, SYSTEM_SEMAPHORE_PREFIX);
}

function withPrefix(path: string, from: string, to: string): string {
  return path.replace(/[^/]*$/, (name) => name.replace(from, to));
}

/**
 * The empty file from whose inode number the System V key is computed. The file is kept open as long as an object
 * uses the key: that way the file of another key cannot get the inode number of a deleted file.
 *
 * A process that relies on the file, because it is attached to the segment or uses the semaphore, holds
 * `flock(LOCK_SH)` on it. Processes of other namespaces, and users of other keys with the same file, see that lock
 * too. The file is deleted only under LOCK_EX.
 */
export class KeyFile {
  readonly key: number;
  /** Whether this object created the file. */
  readonly created: boolean;
  /**
   * The earliest time at which the file can have been created, in ms since 1970 by this system's clock; 0 if this
   * object did not create it.
   */
  readonly #since: number;
  readonly inode: number;
  readonly #device: number;
  /** The time at which the file was created, in seconds since 1970 by the clock of the file system. */
  readonly #made: number;
  /** The id of the semaphore that was found to belong to this user, so that it is not checked again. */
  checkedId = -1;
  readonly #libc: Libc;
  #path: Uint8Array;
  #fd: number;
  /** The path of the file as text. */
  #name: string;
  /** Whether the user has chosen the path. */
  readonly isExplicit: boolean;
  readonly #projectId: number;
  #isKeepable: boolean;
  /**
   * Whether the file is anything but an empty plain file, and so has a purpose of its own. Such a file is never
   * deleted, so that no process needs to rely on it, and its `flock` is left to its owner.
   */
  readonly #hasPurpose: boolean;
  /** Whether the path was known to lead to the file when this object opened it. */
  #wasChecked = true;
  /** Whether this object may hold a `flock` on the file. */
  #isLocked = false;
  /** Whether this object has held LOCK_SH continuously since the path was known to lead to the file. */
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
    this.#made = status.modified;
    this.#since = since;
    this.created = created;
    this.#name = name;
    this.isExplicit = isExplicit;
    this.#projectId = projectId;
    this.#isKeepable = !created && !isShared(permissions);
    this.#hasPurpose = !isEmptyFile(status);
  }

  /** Returns the System V key of the file at `path` without opening the file, or `null` if there is no file. */
  static keyAt(libc: Libc, path: KeyPath): number | null {
    const status = KeyFile.statusAt(libc, path);
    return status && keyOf(status, path.projectId);
  }

  /** Returns the status of the file at `path`, or `null` if there is no file. */
  static statusAt(libc: Libc, keyPath: KeyPath): FileStatus | null {
    const { path, isExplicit } = keyPath;
    const status = pathStatus(libc, pathBytes(path), isExplicit);
    if (typeof status === "object") return status;
    if (status === ENOENT) return null;
    throw failure(statCall(libc), status, errorsOf(keyPath), path);
  }

  /**
   * Opens the key file at `path`; returns `null` if there is none.
   *
   * @param isChecked whether a file that was kept open is used only if the path still leads to it; without this
   *   check, `share()` or `wasCurrent()` must be called before the file is relied on
   */
  static open(libc: Libc, path: KeyPath, isChecked = true): KeyFile | null {
    const bytes = pathBytes(path.path);
    return KeyFile.#takeKept(libc, bytes, path, isChecked) ?? KeyFile.#open(libc, path, bytes);
  }

  static #open(libc: Libc, keyPath: KeyPath, bytes: Uint8Array): KeyFile | null {
    const { path, isExplicit } = keyPath;
    const { O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_PATH } = libc.constants;
    const follow = isExplicit ? 0 : O_NOFOLLOW[libc.arch]!;
    let fd = openFile(libc, bytes, O_RDONLY | O_CLOEXEC | O_NONBLOCK | follow);
    // The key can be computed without any permission for the file. If anything else is not permitted, the call that
    // needs it fails.
    if (fd === -EACCES && O_PATH !== 0) fd = openFile(libc, bytes, O_PATH | O_CLOEXEC | follow);
    if (fd === -ENOENT) return null;
    if (fd === -ELOOP && !isExplicit) {
      const text =
        `the key file ${path} is a symbolic link, which a hostile program may have put there; remove it, ` +
        "or use a TMPDIR of your own";
      throw failure("open", ELOOP, { [ELOOP]: ["PermissionDenied", text] });
    }
    if (fd < 0) throw failure("open", -fd, errorsOf(keyPath), path);
    return KeyFile.#checked(libc, keyPath, bytes, fd, false, 0);
  }

  /**
   * Opens a deleted key file through the link under `/proc` to another process's descriptor. Returns `null` if that
   * process has closed the file, or if the file belongs to another user.
   */
  static openDeleted(libc: Libc, keyPath: KeyPath, link: string): KeyFile | null {
    const { O_CLOEXEC, O_NONBLOCK } = libc.constants;
    const fd = openFile(libc, cString(link), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return null;
    const checked = () => KeyFile.#checked(libc, keyPath, pathBytes(keyPath.path), fd, false, 0);
    return orElse(checked, () => null); // the file belongs to another user
  }

  /** The path of the file, for a new lookup. */
  get keyPath(): KeyPath {
    const { isExplicit } = this;
    return { path: this.#name, permissions: PRIVATE, isExplicit, projectId: this.#projectId };
  }

  /** Opens the key file at `keyPath`, and creates it if there is none. */
  static create(libc: Libc, keyPath: KeyPath): KeyFile {
    const { path, permissions } = keyPath;
    const { O_CLOEXEC, O_CREAT, O_EXCL } = libc.constants;
    const bytes = pathBytes(path);
    const kept = KeyFile.#takeKept(libc, bytes, keyPath, true);
    if (kept !== null) return kept;
    const mode = 0o640 | permissions & 0o066; // other users lock the file too, and some locks need write permission
    for (let attempt = 0; attempt < CREATE_ATTEMPTS; attempt++) {
      const since = Date.now();
      const fd = openFile(libc, bytes, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
      if (fd >= 0) {
        if (isShared(permissions)) libc.c.fchmod(fd, mode); // the umask does not apply here
        return KeyFile.#checked(libc, keyPath, bytes, fd, true, since);
      }
      if (fd === -EEXIST) {
        const file = KeyFile.#open(libc, keyPath, bytes);
        if (file !== null) return file;
      } else if (fd === -ENOENT) {
        const other = keyPath.isExplicit ? "" : " or set TMPDIR to another";
        const text = `the folder of the key file ${path} doesn't exist; create the folder${other}`;
        throw failure("open", ENOENT, { [ENOENT]: ["KeyError", text] });
      } else {
        throw failure("open", -fd, errorsOf(keyPath), path);
      }
    }
    throw new BackendError(
      "KeyError",
      `the key file ${path} can be neither created nor opened: it is removed again and again, or it is ` +
        "a symbolic link that leads nowhere; remove it",
    );
  }

  /**
   * Returns the kept file that was last closed with this path, or `null`. If `isChecked`, the file is returned only
   * if the path still leads to it.
   */
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
    // The creator of a file relies on it. Once LOCK_SH is held, a single status call tells both what the file is and
    // whether it has been deleted.
    const isLocked = created && libc.c.flock(fd, LOCK_SH | LOCK_NB) === 0;
    const status = fileStatus(libc, fd);
    if (typeof status === "number") {
      libc.c.close(fd);
      throw failure(statCall(libc), status, ERRORS, path);
    }
    const mayBeOthers = !created && !isExplicit && !isShared(permissions);
    if (mayBeOthers && status.uid !== ownUid(libc)) {
      libc.c.close(fd);
      throw new BackendError(
        "PermissionDenied",
        `the key file ${path} belongs to ${
          userName(libc, status.uid)
        }, another user; use a key or ` +
          "a TMPDIR of your own, or share with others on purpose (the option permissions)",
      );
    }
    const file = new KeyFile(libc, bytes, fd, status, created, since, keyPath);
    file.#isLocked = isLocked;
    file.#isShared = isLocked && status.links > 0;
    return file;
  }

  /**
   * Whether this object created the file after the System V object with the same key, which was created at `ctime` in
   * seconds. That object then belongs to another file.
   */
  isLaterThan(ctime: number): boolean {
    return this.created && ctime < Math.floor(this.#since / 1000) - 1;
  }

  /**
   * Whether another process created the file after the System V object with the same key, which was created at
   * `ctime` in seconds, and so recently that the creator of the file may be about to notice this and create another
   * file.
   */
  isInDoubt(ctime: number): boolean {
    return this.isNew && ctime < this.#made - 1;
  }

  /**
   * Whether another process created the file just now. The answer is reliable only if the file system uses this
   * system's clock.
   */
  get isNew(): boolean {
    return !this.created && Math.abs(Date.now() / 1000 - this.#made) < NEW_SECONDS;
  }

  /**
   * Whether the segment of the file, which was created at `since` in seconds, is persistent: the file is marked as
   * executable for its owner, which means nothing for an empty file. The mark ends with the file, so a segment whose file
   * was deleted is not persistent.
   */
  isPersistent(since: number): boolean {
    const status = this.isExplicit ? null : fileStatus(this.#libc, this.#fd);
    return status !== null && typeof status === "object" && status.links > 0 &&
      isMarkedPersistent(this.#libc, status, since);
  }

  /**
   * Marks the file, or removes the mark, as {@linkcode KeyFile.isPersistent} describes. A segment that is created
   * afterwards has been created at `Infinity`, so that an old mark is renewed.
   *
   * @throws {BackendError} `Unsupported` for a file that the user has chosen, `PermissionDenied` if it is another user's
   */
  setPersistent(isPersistent: boolean, since: number): void {
    if (this.isPersistent(since) === isPersistent) return;
    requireOwnFile(this.isExplicit);
    this.#setBits(isPersistent ? persistentBits(this.#libc) : 0);
  }

  /** Changes nothing. @throws {BackendError} if `setPersistent(true, since)` would */
  requirePersistable(since: number): void {
    if (this.isPersistent(since)) return;
    requireOwnFile(this.isExplicit);
    const bits = this.isPersistent(0) ? persistentBits(this.#libc) : 0;
    this.#setBits(bits); // as they are: only the owner may do that
  }

  #setBits(bits: number): void {
    const status = fileStatus(this.#libc, this.#fd);
    if (typeof status === "number") throw failure(statCall(this.#libc), status, ERRORS, this.#name);
    if (this.#libc.c.fchmod(this.#fd, status.mode & 0o666 | bits) === 0) return;
    throw failure("fchmod", this.#libc.errno(), LIFETIME_ERRORS, this.#name);
  }

  /** Whether the path still leads to this file, so that new processes find the objects that this process uses. */
  isCurrent(): boolean {
    if (this.#hasPath()) return true;
    this.#isKeepable = false;
    return false;
  }

  #hasPath(): boolean {
    // Any process of this user may delete the file, but no other process renames it, so the number of links usually
    // suffices. The file has two links while `rename()` runs, or after a process was killed during `rename()`.
    if (!this.isExplicit) {
      const status = fileStatus(this.#libc, this.#fd);
      if (typeof status === "object" && status.links < 2) return status.links === 1;
    }
    return this.#currentStatus() !== null;
  }

  /** Whether the path led to this file when it was opened. If that was not checked then, it is checked now. */
  wasCurrent(): boolean {
    return this.#wasChecked || this.isCurrent();
  }

  /**
   * Returns the status of the file, or `null` if the path no longer leads to it, because it was deleted or replaced.
   */
  #currentStatus(): FileStatus | null {
    const status = pathStatus(this.#libc, this.#path, this.isExplicit);
    return typeof status === "object" && this.#isIt(status) ? status : null;
  }

  #isIt({ inode, device }: FileStatus): boolean {
    return inode === this.inode && device === this.#device;
  }

  /**
   * Deletes the file if the path still leads to it, and returns what happened. A file that is not an empty plain file
   * has a purpose of its own and stays. The descriptor is closed later, so that a process which opened the file
   * before the deletion sees LOCK_EX.
   */
  unlink(): "unlinked" | "missing" | "replaced" {
    const status = pathStatus(this.#libc, this.#path, this.isExplicit);
    if (typeof status === "number") return "missing";
    if (!this.#isIt(status)) return "replaced";
    if (!isEmptyFile(status)) return "unlinked";
    this.#isKeepable = false;
    this.#libc.c.unlink(this.#path);
    return "unlinked";
  }

  /**
   * Gives the file another name in the same folder. Returns `false` if another file has that name, or if this file
   * was deleted.
   */
  rename(path: string): boolean {
    const bytes = pathBytes(path);
    if (this.#libc.c.link(this.#path, bytes) !== 0) {
      const errno = this.#libc.errno();
      if (errno === EEXIST || errno === ENOENT) return false;
      throw failure("link", errno, ERRORS, path);
    }
    this.#libc.c.unlink(this.#path);
    this.#path = bytes;
    this.#name = path;
    return true;
  }

  /**
   * Acquires LOCK_SH of the file, if possible, to rely on it. Returns `false` if the path no longer leads to the
   * file.
   */
  share(): boolean {
    if (this.#isShared) return true; // the file is deleted only under LOCK_EX
    for (let waited = 0; !this.#flock(LOCK_SH | LOCK_NB) && waited < DELETION_MS; waited++) {
      if (this.#libc.errno() !== EAGAIN) break; // a file that this user may not read cannot be locked
      sleepSync(1);
    }
    return this.isCurrent();
  }

  /**
   * Whether no other object relies on the file. If so, this object holds LOCK_EX, and no other object can begin to
   * rely on the file until the lock is released. If not, this object no longer relies on the file either. A file with
   * a purpose of its own is not locked: for such a file, only the use of its semaphore counts.
   */
  isSole(): boolean {
    if (this.#hasPurpose) return !this.isSemaphoreUsed();
    return this.#flock(LOCK_EX | LOCK_NB);
  }

  /** Releases the `flock` that {@linkcode KeyFile.share} or {@linkcode KeyFile.isSole} acquired. */
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

  /**
   * Declares, by a shared lock on a byte of the file, that this object uses the semaphore of the key until the file
   * is closed.
   */
  noteSemaphoreUse(): void {
    this.#isKeepable = false; // the byte lock ends when the file is closed
    shareByte(this.#libc, this.#fd, this.#projectId);
  }

  /** Whether another object of this module has declared that it uses the semaphore of the key. */
  isSemaphoreUsed(): boolean {
    return isByteLocked(this.#libc, this.#fd, this.#projectId);
  }

  /**
   * Calls `act`, which creates the semaphore of the key, and returns its result. Meanwhile other processes see that a
   * living process is about to give the semaphore its first value.
   */
  creating<Result>(act: () => Result): Result {
    const byte = CREATION + this.#projectId;
    shareByte(this.#libc, this.#fd, byte);
    try {
      return act();
    } finally {
      releaseByte(this.#libc, this.#fd, byte);
    }
  }

  /** Whether a process of this module is about to give the semaphore of the key its first value. */
  isBeingCreated(): boolean {
    return isByteLocked(this.#libc, this.#fd, CREATION + this.#projectId);
  }

  /**
   * Calls `act` under an exclusive claim for the key, and returns its result. Returns `"busy"` if another process
   * holds the claim, and `"unavailable"` if there can be no claim, because the system has no such locks or the file
   * cannot be opened for writing.
   */
  claiming<Result>(act: () => Result): Result | "busy" | "unavailable" {
    const claim = this.claim();
    if (typeof claim === "string") return claim;
    try {
      return act();
    } finally {
      claim();
    }
  }

  /** Acquires the claim of {@linkcode KeyFile.claiming}; returns a function that releases it, or why it has not. */
  claim(): (() => void) | "busy" | "unavailable" {
    const libc = this.#libc;
    const fd = libc.os === "linux" ? this.#openForWriting() : -1;
    if (fd < 0) return "unavailable";
    if (claimByte(libc, fd, CLAIM + this.#projectId)) return () => void libc.c.close(fd);
    libc.c.close(fd);
    return "busy";
  }

  /** Opens another descriptor of the file, for writing. A deleted file can be opened again only through `/proc`. */
  #openForWriting(): number {
    const libc = this.#libc;
    const { O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK } = libc.constants;
    const flags = O_RDWR | O_CLOEXEC | O_NONBLOCK;
    const fd = openFile(libc, cString(`/proc/self/fd/${this.#fd}`), flags);
    if (fd >= 0 || !this.isCurrent()) return fd;
    const follow = this.isExplicit ? 0 : O_NOFOLLOW[libc.arch]!;
    return openFile(libc, this.#path, flags | follow);
  }

  /** Closes the file at once, or keeps it open for a while, as the same path is often used again. */
  close(): void {
    const kept = keptFiles(this.#libc);
    if (!this.#isKeepable || kept.has(this.#path)) {
      this.#libc.c.close(this.#fd); // this releases its locks too
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

/** @throws {BackendError} `Unsupported` for a key file that the user has chosen, which this module does not change */
export function requireOwnFile(isExplicit: boolean): void {
  if (!isExplicit) return;
  throw new BackendError(
    "Unsupported",
    "the lifetime of a segment cannot be noted on a key file of your own choice, as this module does not " +
      "change such files; use a plain key or a POSIX key",
  );
}

/** The mark of a persistent segment. `systemd-tmpfiles` deletes old files of `/tmp`, but none with the sticky bit. */
function persistentBits({ os }: Libc): number {
  return os === "linux" ? S_IXUSR | S_ISVTX : S_IXUSR;
}

/**
 * Whether a key file says that its segment, which was created at `since` in seconds, is persistent:
 * {@linkcode KeyFile.isPersistent}. In a folder on a disk, a file may have the mark of a segment that was there before the
 * system was started. If the folder is shared by containers, a mark that is younger may be another container's.
 */
export function isMarkedPersistent(libc: Libc, status: FileStatus, since: number): boolean {
  if (!isEmptyFile(status) || (status.mode & S_IXUSR) === 0) return false;
  const isOlder = status.changed < since - CLOCKS_SECONDS;
  return !isOlder || status.changed >= startOfSystem(libc) - CLOCKS_SECONDS;
}

/** Returns when the system was started, in seconds since 1970; 0 if that is not known. */
function startOfSystem(libc: Libc): number {
  const text = libc.os === "linux" ? readFile(libc, "/proc/uptime") : "";
  const uptime = typeof text === "string" ? parseFloat(text) : NaN;
  return Number.isNaN(uptime) ? 0 : Date.now() / 1000 - uptime;
}

function isEmptyFile({ mode, bytes }: FileStatus): boolean {
  return (mode & S_IFMT) === S_IFREG && bytes === 0;
}

/** The files that were closed by their objects but are kept open for the next use, by path; at most `KEPT_MAX`. */
const kept = new WeakMap<Libc, Map<Uint8Array, KeyFile>>();
const KEPT_MAX = 16;

function keptFiles(libc: Libc): Map<Uint8Array, KeyFile> {
  let files = kept.get(libc);
  if (files === undefined) kept.set(libc, files = new Map());
  return files;
}

/** The most recent paths as C strings: an object that attaches again and again uses the same two. */
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

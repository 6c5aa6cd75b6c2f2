import { AccessMode } from "../../errors.ts";
import { FAILED_ADDRESS, IPC_CREAT, IPC_EXCL, SHM_RDONLY } from "../unix/linux_constants.ts";
import { BackendError, checkSegmentSize, type ErrnoTable, orElse, othersText } from "../failure.ts";
import { EACCES, EEXIST, EIDRM, EINVAL, ENOENT, failure } from "../unix/errno.ts";
import type { Libc } from "../unix/libc.ts";
import { ownUid, userName } from "../unix/users.ts";
import { Mappings } from "../unix/mappings.ts";
import { KeyFile, type KeyPath, PROJECT_ID, requireOwnFile } from "./key_file.ts";
import { makerText, Mark, segmentText } from "./marks.ts";
import { BACKGROUND_SLICE_MS, nextPause, sleepSync } from "../timing.ts";
import { DOUBT_MS, FtokCollisions } from "./ftok_collisions.ts";
import { limitsOf } from "./limits.ts";
import { ownerOf } from "./proc_tables.ts";
import { rangeOf } from "./address_range.ts";
import { enterLock } from "./lock_section.ts";
import { Shm, type Status, UNFINISHED_MODE } from "./shm.ts";
import { SegmentResources, SystemVSegment } from "./segment.ts";
import {
  isShared,
  type Lock,
  type OpenRequest,
  PRIVATE,
  type Segment,
  type SegmentBackend,
} from "../types.ts";

const ATTACH_ATTEMPTS = 1000;
/**
 * The time in ms that a process which attaches without the lock waits for others that do the same: they take
 * microseconds.
 */
const CLAIM_MS = 20;
/**
 * The time in ms to wait for the lock of a segment that its users have left. A process that is ending may hold the
 * lock until its threads have ended.
 */
const LEFT_MS = 2 * BACKGROUND_SLICE_MS;

const CREATE_ERRORS: ErrnoTable = {
  [EEXIST]: [
    "AlreadyExists",
    "already exists: attach() to it; if a crashed program of this user left it, attach() and detach() " +
    "removes it, and SharedMemory.open() replaces it",
  ],
};

const ATTACH_ERRORS: ErrnoTable = {
  [ENOENT]: ["NotFound", "doesn't exist: some process must create() it first"],
};

/** An existing segment. */
interface Found {
  readonly id: number;
  readonly status: Status;
}

/** What is noted about a new segment before other processes can find it. */
interface NewSegment {
  /** Whether the segment is filled where other processes can find it, so that it must be marked as unfinished. */
  readonly isMarked?: boolean;
  readonly isPersistent?: boolean;
}

interface EnterOptions {
  readonly deadline?: number;
  /** Whether the path led to no file a moment ago. */
  readonly isNew?: boolean;
  /** Whether a holder of the lock that is attached must release it in time too, as it may be adopting the segment. */
  readonly mustEnter?: boolean;
}

/** The access requested to read and write. The kernel checks it against the permissions that apply to this user. */
const ACCESS = 0o600;

/** The result of an attempt to open: a segment, or `"again"` if there must be another attempt. */
type Opened = Segment | "again";

/**
 * Returns the path of the key file of a segment that its creator is still filling. Both names end with the same SHA-1
 * in hex.
 */
function unfinishedPath(keyPath: KeyPath): KeyPath {
  const { path } = keyPath;
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  return { ...keyPath, path: `${folder}qipc_creating_${path.slice(-40)}` };
}

/** Creates System V segments and attaches to them, by Qt's rules. */
export class SystemVSegments implements SegmentBackend {
  readonly #libc: Libc;
  readonly #maxBytes: number;
  readonly #mappings: Mappings;
  readonly #shm: Shm;
  readonly #createErrors: ErrnoTable;
  readonly #attachErrors: ErrnoTable;

  readonly #projectId: number;

  constructor(libc: Libc, maxBytes: number, pageBytes: number, projectId = PROJECT_ID) {
    this.#libc = libc;
    this.#shm = new Shm(libc);
    const { create, attach } = limitsOf(libc.os);
    this.#createErrors = { ...CREATE_ERRORS, ...create };
    this.#attachErrors = { ...ATTACH_ERRORS, ...attach };
    this.#projectId = projectId;
    this.#maxBytes = maxBytes;
    this.#mappings = new Mappings(libc, pageBytes);
  }

  #keyPath(path: string, lock: Lock | null, permissions = PRIVATE): KeyPath {
    const isExplicit = lock === null || lock.nativeKey === path;
    return { path, permissions, isExplicit, projectId: this.#projectId };
  }

  requirePersistable(path: string, lock: Lock | null): void {
    requireOwnFile(this.#keyPath(path, lock).isExplicit);
  }

  create(path: string, size: number, mode: AccessMode, lock: Lock | null): Segment {
    checkSegmentSize(size, 1, this.#maxBytes);
    const keyPath = this.#keyPath(path, lock);
    // The segment is looked up before the wait for the lock, so that an existing segment is reported at any time.
    const key = KeyFile.keyAt(this.#libc, keyPath);
    if (key !== null) {
      const id = this.#libc.c.shmget(key, 0n, ACCESS);
      const errno = id !== -1 ? EEXIST : this.#libc.errno();
      const isUnfinished = id !== -1 && this.#shm.isUnfinished(key, id);
      if (errno !== ENOENT && !isUnfinished) throw this.#failure(errno, this.#createErrors, key);
    }
    if (lock !== null && !this.#enterAt(keyPath, lock, { isNew: key === null })) {
      throw failure("shmget", EEXIST, CREATE_ERRORS);
    }
    let segment: Segment | undefined;
    try {
      return segment = this.#createLocked(keyPath, size, mode, lock);
    } finally {
      if (segment !== undefined) lock?.release();
      else if (lock !== null) this.abandon(keyPath, lock);
    }
  }

  /** Creates a segment and attaches to it, under the lock if there is one. */
  #createLocked(
    path: KeyPath,
    size: number,
    mode: AccessMode,
    lock: Lock | null,
    how: NewSegment = {},
  ): SystemVSegment {
    const numbers = new FtokCollisions(this.#libc);
    try {
      for (let attempt = 0; attempt < ATTACH_ATTEMPTS; attempt++) {
        const segment = this.#tryCreate(path, size, mode, lock, how, numbers);
        if (segment !== null) return segment;
      }
    } finally {
      numbers.close();
    }
    throw new BackendError("Busy", "the segment is created and removed again and again");
  }

  /**
   * Tries once to create a segment. Returns `null` if there must be another attempt: the key of the new file belongs
   * to another file's segment, the file was deleted, or another program removed the segment before this process could
   * attach.
   */
  #tryCreate(
    path: KeyPath,
    size: number,
    mode: AccessMode,
    lock: Lock | null,
    { isMarked = false, isPersistent = false }: NewSegment,
    numbers: FtokCollisions,
  ): SystemVSegment | null {
    const { c } = this.#libc;
    const file = KeyFile.create(this.#libc, path);
    if (!file.share()) {
      file.close();
      return null;
    }
    if (lock !== null && !file.created) this.#removeIfUnfinished(file);
    const mark = isMarked ? new Mark(this.#libc, "unfinished", file.key) : null;
    const wasPersistent = isPersistent && file.isPersistent(0);
    let id = -1;
    let isKept = false;
    try {
      mark?.set(makerText(this.#libc));
      if (isPersistent) file.setPersistent(true, Infinity);
      const permissions = isMarked ? UNFINISHED_MODE : path.permissions;
      id = c.shmget(file.key, BigInt(size), permissions | IPC_CREAT | IPC_EXCL);
      const errno = id === -1 ? this.#libc.errno() : 0;
      if (errno === EEXIST) {
        isKept = numbers.add(file, "shm");
        if (isKept) return null;
      }
      if (errno !== 0) throw this.#failure(errno, this.#createErrors, file.key);
      // A program such as Qt may have deleted the file since it was opened. No other process would find the segment.
      if (!file.isCurrent()) return null;
      mark?.set(segmentText(id, this.#shm.status(id)?.changed ?? 0));
      const address = this.#map(id, mode);
      if (address === null) return null;
      isKept = true;
      return this.#segment(id, address, size, file, lock, mark);
    } finally {
      if (!isKept) {
        if (id !== -1) this.#shm.remove(id);
        mark?.clear();
        if (isPersistent && !wasPersistent) file.setPersistent(false, 0);
        const isOthers = id === -1 && this.#shm.idOf(file) !== -1;
        if (file.created && !isOthers && file.isSole()) file.unlink();
        file.close();
      }
    }
  }

  attach(
    path: string,
    mode: AccessMode,
    lock: Lock | null,
    permissions = PRIVATE,
    minBytes = 0,
  ): Segment {
    return this.#attach(this.#keyPath(path, lock, permissions), mode, lock, minBytes);
  }

  #attach(path: KeyPath, mode: AccessMode, lock: Lock | null, minBytes: number): Segment {
    let hasRelied = false;
    for (let attempt = 0; attempt < ATTACH_ATTEMPTS; attempt++) {
      const file = KeyFile.open(this.#libc, path, false);
      let segment: Segment | "gone" | null = null;
      try {
        if (file !== null) segment = this.#tryAttach(file, path, mode, lock, minBytes);
      } finally {
        if (segment === null || segment === "gone") file?.close();
      }
      if (segment === null) {
        if (hasRelied && lock !== null && lock.acquire(0)) this.abandon(path, lock, false, true);
        const call = file === null ? "open" : "shmget";
        throw failure(call, ENOENT, ATTACH_ERRORS, file === null ? path.path : "");
      }
      if (segment !== "gone") return segment;
      hasRelied = true;
    }
    throw new BackendError("Busy", "the segment is removed again and again");
  }

  /**
   * Tries once to attach to the segment of `file`. Returns `null` if there is no segment, and `"gone"` if there must
   * be another attempt, because the segment was removed meanwhile or may belong to another file.
   */
  #tryAttach(
    file: KeyFile,
    path: KeyPath,
    mode: AccessMode,
    lock: Lock | null,
    minBytes: number,
  ): Segment | "gone" | null {
    // A segment is refused before this process attaches, as other processes would count it as a user and leave the
    // removal to it.
    const found = this.#find(file, mode);
    if (found === null) return file.wasCurrent() ? null : "gone";
    if (file.isInDoubt(found.status.changed)) {
      sleepSync(DOUBT_MS);
      return "gone";
    }
    try {
      this.#checkUsers(found.status, path);
      checkSegmentSize(found.status.size, minBytes, this.#maxBytes);
    } catch (error) {
      if (!file.wasCurrent()) return "gone";
      throw error;
    }
    const locked = lock !== null && this.#enterAt(path, lock);
    if (lock !== null && !locked) return this.#attachUnguarded(found.id, file, mode, lock);
    let segment: Segment | "gone" = "gone";
    let hadUsers = false;
    try {
      if (locked) hadUsers = this.#hasUsers(file, found.status);
      if (!file.share()) return "gone";
      return segment = this.#mapFound(found.id, found.status.size, file, mode, lock) ?? "gone";
    } finally {
      if (locked && segment === "gone") this.abandon(path, lock, hadUsers);
      else if (locked) lock.release();
    }
  }

  /**
   * Attaches while a user of the segment holds the lock, which it may do for as long as it likes. The last user
   * removes the segment under the lock. If other processes are attached both before and after this process attaches,
   * the holder of the lock is not about to remove the segment. The claim prevents processes that attach in this way
   * at the same time from counting each other as users.
   */
  #attachUnguarded(id: number, file: KeyFile, mode: AccessMode, lock: Lock): Segment | "gone" {
    const attach = (): Segment | "gone" => {
      const before = this.#shm.status(id);
      if (before === null || before.attached === 0) return "gone";
      if (!file.share()) return "gone";
      return this.#mapFound(id, before.size, file, mode, lock, 2) ?? "gone";
    };
    for (let waited = 0; waited < CLAIM_MS; waited++) {
      const segment = file.claiming(attach);
      if (segment === "unavailable") break;
      if (segment !== "busy") return segment;
      sleepSync(1);
    }
    return attach();
  }

  /** Finds the segment of a key file. Returns `null` if there is none, or if it is unfinished. */
  #find(file: KeyFile, mode: AccessMode): Found | null {
    const id = this.#libc.c.shmget(file.key, 0n, mode === AccessMode.ReadOnly ? 0o400 : ACCESS);
    if (id === -1) {
      const errno = this.#libc.errno();
      // If the file has been deleted, its key may now belong to another user's file.
      if (errno === ENOENT || !file.wasCurrent()) return null;
      throw this.#failure(errno, this.#attachErrors, file.key);
    }
    const status = this.#shm.status(id);
    const isUnfinished = status?.mayBeUnfinished === true && this.#shm.isUnfinished(file.key, id);
    return status === null || isUnfinished ? null : { id, status };
  }

  /**
   * Attaches to a segment that was found. Returns `null` if the segment was removed, or if it then has fewer than
   * `users` attachments, including this one.
   */
  #mapFound(
    id: number,
    size: number,
    file: KeyFile,
    mode: AccessMode,
    lock: Lock | null,
    users = 0,
  ): Segment | null {
    const address = this.#map(id, mode);
    if (address === null) return null;
    // Under the lock no other process removes the segment, and its file stays if others are attached or LOCK_SH was
    // acquired first.
    const status = users > 0 || lock === null ? this.#shm.status(id) : undefined;
    const isThere = status === undefined ||
      status !== null && !status.removed && status.attached >= users;
    if (isThere) return this.#segment(id, address, size, file, lock);
    this.#libc.c.shmdt(address);
    return null;
  }

  open(path: string, request: OpenRequest, lock: Lock, permissions = PRIVATE): Segment {
    checkSegmentSize(request.size, 1, this.#maxBytes);
    const keyPath = this.#keyPath(path, lock, permissions);
    const deadline = performance.now() + request.timeoutMs;
    let pause = 0;
    let paused = 0;
    let attempts = 0;
    while (attempts++ < ATTACH_ATTEMPTS && paused <= request.timeoutMs) {
      if (this.#enterAt(keyPath, lock, { deadline, mustEnter: request.adopt !== undefined })) {
        const opened = this.#openLocked(keyPath, request, lock);
        if (opened !== "again") return opened;
        if (this.#waitForCreator(keyPath, deadline)) attempts--;
        else {
          sleepSync(pause = nextPause(pause));
          paused += pause;
        }
        continue;
      }
      if (request.existing === "refuse") throw failure("shmget", EEXIST, CREATE_ERRORS);
      try {
        return this.#attach(keyPath, request.mode, lock, request.size);
      } catch (error) {
        if (!(error instanceof BackendError) || error.reason !== "NotFound") throw error;
      }
    }
    throw new BackendError("Busy", "the segment is created and removed again and again");
  }

  /**
   * Waits until no process fills the segment. A process may still do so although this one had the lock, if the key file of
   * its lock was deleted. Returns whether there was such a process.
   *
   * @throws {BackendError} if it does not come to an end before the deadline
   */
  #waitForCreator(path: KeyPath, deadline: number): boolean {
    let pid = this.#creatorAt(path);
    if (pid === null) return false;
    for (let pause = 0; pid !== null; pid = this.#creatorAt(path)) {
      if (performance.now() >= deadline) {
        const creator = pid === 0 ? "another process" : `process ${pid}`;
        throw new BackendError(
          "Timeout",
          `timed out: ${creator} is still filling the segment (initialize), with a lock whose key file ` +
            `was deleted meanwhile; wait for longer (the option timeout), or end that process`,
        );
      }
      sleepSync(pause = nextPause(pause));
    }
    return true;
  }

  /**
   * Returns the living process that is filling the segment of a path; `null` if there is none, and 0 if it belongs to
   * another pid namespace.
   */
  #creatorAt(path: KeyPath): number | null {
    const places = path.isExplicit ? [path] : [path, unfinishedPath(path)];
    for (const place of places) {
      const id = this.#shm.idAt(place);
      const status = id === -1 ? null : this.#shm.status(id);
      if (status === null || status.attached === 0) continue;
      const isUnfinished = place !== path ||
        status.mayBeUnfinished && this.#shm.isUnfinishedAt(path, id);
      if (isUnfinished) return status.creator;
    }
    return null;
  }

  /**
   * Opens the segment under the lock, and releases the lock. Returns `"again"` if a program that does not respect the
   * lock, such as Qt after a reset, has created a segment meanwhile, or if another process is creating it under another
   * lock.
   */
  #openLocked(path: KeyPath, request: OpenRequest, lock: Lock): Opened {
    let segment: Segment | null = null;
    let isLeft = false;
    const seen = { users: false };
    try {
      segment = this.#attachLocked(path, request, lock, seen, (isIt) => isLeft = isIt);
      if (segment !== null) return segment;
      const made = this.#makeLocked(path, request, lock, (isIt) => isLeft = isIt);
      if (made === "again") return made;
      return segment = made;
    } catch (error) {
      const isTaken = error instanceof BackendError && error.code === "AlreadyExists";
      if (isTaken && !isLeft && request.existing === "attach") return "again";
      throw error;
    } finally {
      if (segment !== null) lock.release();
      else if (!isLeft) this.abandon(path, lock, seen.users);
    }
  }

  /**
   * Creates the segment under the lock, and has it filled.
   *
   * @param leave is told whether `initialize` releases the lock if it fails
   */
  #makeLocked(
    path: KeyPath,
    { size, mode, initialize, discard, isPersistent = false }: OpenRequest,
    lock: Lock,
    leave: (isIt: boolean) => void,
  ): SystemVSegment | "again" {
    if (!path.isExplicit) this.#removeUnfinished(unfinishedPath(path));
    if (initialize === null) return this.#createLocked(path, size, mode, lock, { isPersistent });
    // The segment is filled under a path where no process finds it until it is complete. If the file already has its
    // final name, because the user has chosen it or processes of other containers rely on it, the segment is marked
    // instead, so that no process attaches to it.
    const isMarked = path.isExplicit || !this.#removeUnusedFile(path);
    const place = isMarked ? path : unfinishedPath(path);
    const made = this.#createLocked(place, size, mode, lock, { isMarked });
    leave(true);
    initialize(made);
    leave(false);
    if (isPersistent) made.beginPersistent();
    if (isMarked) {
      made.finish(path.permissions);
    } else if (!made.publish(path)) {
      made.discard();
      discard?.();
      return "again";
    }
    return made;
  }

  /**
   * Deletes the key file of a segment that does not exist. Returns `false` if other processes rely on the file, or if a
   * program that does not respect the lock has created the segment meanwhile. The instant between the last look and the
   * deletion remains.
   */
  #removeUnusedFile(path: KeyPath): boolean {
    const file = KeyFile.open(this.#libc, path);
    if (file === null) return true;
    const isUnused = file.isSole() && this.#shm.idOf(file) === -1;
    if (isUnused) file.unlink();
    file.close();
    return isUnused;
  }

  /**
   * Attaches to the existing segment under the lock. Returns `null` if there is none, or if it is stale and has been
   * removed to be replaced.
   *
   * @param adopt is told whether `request.adopt` releases the lock if it fails
   */
  #attachLocked(
    path: KeyPath,
    request: OpenRequest,
    lock: Lock,
    seen: { users: boolean },
    adopt: (isIt: boolean) => void,
  ): Segment | null {
    const file = KeyFile.open(this.#libc, path);
    if (file === null) return null;
    let segment: Segment | null = null;
    try {
      const found = this.#find(file, request.mode);
      if (found === null) return null;
      const { id, status } = found;
      seen.users = this.#hasUsers(file, status);
      this.#checkUsers(status, path);
      // A segment of another user is kept, even if this user may remove it.
      const isStale = status.attached === 0 && this.#isOwn(status);
      if (isStale && request.stale === "replace" && this.#shm.remove(id)) {
        if (!path.isExplicit && file.isSole()) file.unlink(); // a chosen file is the lock's too
        return null;
      }
      if (request.existing === "refuse") throw failure("shmget", EEXIST, CREATE_ERRORS);
      checkSegmentSize(status.size, request.size, this.#maxBytes);
      if (!file.share()) return null; // the last user, in another container, has just deleted the file
      segment = this.#mapFound(id, status.size, file, request.mode, lock);
      if (segment === null || status.attached > 0 || request.adopt === undefined) return segment;
      adopt(true);
      request.adopt(segment);
      adopt(false);
      return segment;
    } finally {
      if (segment === null) file.close();
    }
  }

  /**
   * Whether processes are attached that rely on the holder of the lock to remove the segment when they end. A segment of
   * a chosen key file may be another program's, whose processes do not hold LOCK_SH. If the chosen file is not empty, no
   * process locks it, and a process of this module cannot be told from another program's: the segment then stays.
   */
  #hasUsers(file: KeyFile, { attached }: Status): boolean {
    if (attached === 0 || !file.isExplicit) return attached > 0;
    const isSole = file.isSole();
    if (isSole) file.unshare();
    return !isSole;
  }

  #isOwn({ users }: Status): boolean {
    const user = ownUid(this.#libc);
    return users.every((uid) => uid === user);
  }

  #mayUse(status: Status, { permissions }: KeyPath): boolean {
    return isShared(permissions) || this.#isOwn(status);
  }

  #checkUsers(status: Status, path: KeyPath): void {
    if (this.#mayUse(status, path)) return;
    const user = ownUid(this.#libc);
    const other = status.users.find((uid) => uid !== user)!;
    const text = othersText("segment", userName(this.#libc, other), "key or a TMPDIR");
    throw new BackendError("PermissionDenied", text, "shmctl");
  }

  /** Removes the unfinished segment of a creator that was killed, and its key file. */
  #removeUnfinished(path: KeyPath): void {
    const file = KeyFile.open(this.#libc, path);
    if (file === null) return;
    if (file.isSole()) {
      const id = this.#shm.idOf(file);
      const status = id === -1 ? null : this.#shm.status(id);
      if (status?.attached === 0 && this.#isOwn(status)) this.#shm.remove(id);
      file.unlink();
    }
    file.close();
  }

  /**
   * Removes the segment of `file` if it is marked as unfinished. The caller holds the lock, so the creator no longer
   * does and cannot finish the segment.
   */
  #removeIfUnfinished(file: KeyFile): void {
    const id = this.#shm.idOf(file);
    if (
      id === -1 || !this.#shm.isUnfinished(file.key, id) || this.#shm.status(id)?.attached !== 0
    ) return;
    this.#shm.remove(id);
    new Mark(this.#libc, "unfinished", file.key).clear();
  }

  /**
   * Calls {@linkcode enterLock} for the segment at a path. The lock is not taken over while a segment is being
   * created there.
   */
  #enterAt(
    path: KeyPath,
    lock: Lock,
    { deadline, isNew = false, mustEnter = false }: EnterOptions = {},
  ): boolean {
    const isUsed = () => this.#isUsed(path);
    const isBeingMade = () =>
      this.#isUsed(path, true) || !path.isExplicit && this.#isUsed(unfinishedPath(path));
    lock.isSegmentUsed = isNew ? null : isUsed;
    try {
      return enterLock(lock, mustEnter ? () => false : isUsed, deadline, isBeingMade);
    } finally {
      lock.isSegmentUsed = isUsed;
    }
  }

  /**
   * Gives up under the lock, and releases it. If there is no segment, the lock is removed, as it has no use then.
   *
   * @param hadUsers whether processes that rely on the holder of the lock to remove the segment were attached while this
   * process already held it
   * @param hasRelied whether this process relied on the key file, so that the last user may have left the file behind
   */
  abandon(path: KeyPath, lock: Lock, hadUsers = false, hasRelied = false): void {
    let id: number | null = null;
    let isUsed = false;
    try {
      id = this.#shm.idAt(path);
      isUsed = !hadUsers && id !== -1 && (this.#shm.status(id)?.attached ?? 0) > 0;
    } finally {
      const file = id === null ? undefined : this.#fileAt(path);
      // A file that cannot be opened belongs to another user or is a link; no process of this user relies on it.
      const isSole = id !== null && (file?.isSole() ?? true);
      hadUsers ||= isUsed && !(path.isExplicit && isSole);
      if (id === -1) {
        if (isSole && hasRelied && !path.isExplicit) file?.unlink();
        lock.remove?.(isSole);
      } else {
        lock.handOver?.(true, isSole);
      }
      file?.close();
    }
    if (hadUsers && id !== null) this.#removeLeft(id, path, lock);
  }

  /** Opens the key file at a path. Returns `null` if there is none, and `undefined` if that cannot be determined. */
  #fileAt(path: KeyPath): KeyFile | null | undefined {
    return orElse(() => KeyFile.open(this.#libc, path), () => undefined);
  }

  /** Does what its last user has left to this process, which was attached to the segment for a moment. */
  removeLeft(id: number, path: string, lock: Lock, permissions: number): void {
    this.#removeLeft(id, this.#keyPath(path, lock, permissions), lock);
  }

  /** Removes a segment whose last user could not acquire the lock while it left. */
  #removeLeft(id: number, path: KeyPath, lock: Lock): void {
    const status = this.#shm.status(id);
    if (status === null || status.attached > 0 || !this.#mayUse(status, path)) return;
    try {
      const file = KeyFile.open(this.#libc, path);
      if (file === null) return;
      let isLocked = false;
      try {
        const isUsed = () => this.#shm.status(id)?.attached !== 0;
        const isIts = this.#shm.idOf(file) === id;
        isLocked = isIts && enterLock(lock, isUsed, performance.now() + LEFT_MS);
      } finally {
        if (!isLocked) file.close();
      }
      if (isLocked) {
        const left = new SegmentResources(this.#libc, this.#shm, id, file, lock);
        left.respectPersistence(); // its users may have left in order, and have kept it
        left.release({ lockHeld: true, wait: false });
      }
    } catch (error) {
      if (!(error instanceof BackendError)) throw error; // the caller is to learn why the attempt failed, and not this
    }
  }

  #isUsed(path: KeyPath, orUnfinished = false): boolean {
    const id = this.#shm.idAt(path);
    const status = id === -1 ? null : this.#shm.status(id);
    if (status === null || status.attached === 0) return false;
    return orUnfinished || !status.mayBeUnfinished || !this.#shm.isUnfinishedAt(path, id);
  }

  /** Attaches and returns the address, or `null` if the segment no longer exists. */
  #map(id: number, mode: AccessMode): bigint | null {
    const address = this.#libc.c.shmat(id, 0n, mode === AccessMode.ReadOnly ? SHM_RDONLY : 0);
    if (address !== FAILED_ADDRESS) return address;
    const errno = this.#libc.errno();
    if (errno === EINVAL || errno === EIDRM) return null;
    throw failure("shmat", errno, this.#attachErrors);
  }

  #failure(errno: number, errors: ErrnoTable, key: number): BackendError {
    if (errno !== EACCES) return failure("shmget", errno, errors);
    const text = othersText("segment", ownerOf(this.#libc, "shm", key), "key or a TMPDIR");
    return failure("shmget", errno, { [EACCES]: ["PermissionDenied", text] });
  }

  /** Returns the object for a segment that `shmat` has attached at `address`. */
  #segment(
    id: number,
    address: bigint,
    size: number,
    file: KeyFile,
    lock: Lock | null,
    mark: Mark | null = null,
  ) {
    const range = rangeOf(this.#libc, this.#mappings, address, size);
    return new SystemVSegment(
      new SegmentResources(this.#libc, this.#shm, id, file, lock, mark),
      range,
      size,
    );
  }
}

import { AccessMode } from "../errors.ts";
import {
  FAILED_ADDRESS,
  IPC_CREAT,
  IPC_EXCL,
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  LOCK_EX,
  LOCK_NB,
  LOCK_UN,
  SHM_RDONLY,
} from "./constants.ts";
import {
  EACCES,
  EEXIST,
  EIDRM,
  EINVAL,
  ENOENT,
  EPERM,
  type ErrnoTable,
  errnoText,
  Failure,
  failure,
  othersText,
  tooSmall,
} from "./errno.ts";
import type { Libc } from "./libc.ts";
import { Mappings } from "./mapping.ts";
import { KeyFile, type KeyPath, PROJECT_ID } from "./systemv_key_file.ts";
import { BACKGROUND_SLICE_MS, SECTION_MS, sleep } from "./pause.ts";
import { DOUBT_MS, TakenNumbers } from "./systemv_taken_numbers.ts";
import { limitsOf } from "./systemv_limits.ts";
import { ownerOf } from "./systemv_owner.ts";
import { type Range, rangeOf } from "./systemv_range.ts";
import { Traces } from "./systemv_traces.ts";
import {
  isShared,
  type Lock,
  type OpenRequest,
  PRIVATE,
  type Segment,
  type SegmentBackend,
} from "./types.ts";

const ATTACH_ATTEMPTS = 1000;
/** How long a lock is waited for that is held by somebody who is not attached. */
const ENTER_MS = 5000;
/** The same for one that was left: the last user who ended may have it until his threads have ended. */
const LEFT_MS = 2 * BACKGROUND_SLICE_MS;

const CREATE_ERRORS: ErrnoTable = {
  [EEXIST]: [
    "AlreadyExists",
    "already exists: attach() to it; if it is left from a crash of this user's, attach() and detach() " +
    "removes it, and SharedMemory.open() replaces it",
  ],
};

const ATTACH_ERRORS: ErrnoTable = {
  [ENOENT]: ["NotFound", "doesn't exist: some process must create() it first"],
};

interface Status {
  readonly size: number;
  readonly attached: number;
  /** Removed already; it goes with its last user. */
  readonly removed: boolean;
  readonly users: readonly [uid: number, cuid: number];
  /** When it was made or its owner was last set, in seconds since 1970. */
  readonly changed: number;
  /** Of a chosen key, and its creator is still filling it, or was killed at that. */
  readonly unfinished: boolean;
  readonly left: boolean;
}

/** A segment that there is. */
interface Found {
  readonly id: number;
  readonly status: Status;
}

/** To read and write, whichever class of user this one is. */
const ACCESS = 0o600;

/**
 * A bit of the mode, without a meaning to the kernel, of a segment of a chosen key that its creator is still
 * filling. Its key file is its lock's too, and has its name already.
 */
const UNFINISHED = 0o100;

/** Another one: its last user could not have the lock, and relies on who had it. */
const LEFT = 0o010;

/** The key file of a segment that its creator is still filling; Qt's names end with a SHA-1 in hex. */
function unfinishedPath(keyPath: KeyPath): KeyPath {
  const { path } = keyPath;
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  return { ...keyPath, path: `${folder}qipc_creating_${path.slice(-40)}` };
}

/** Whether a segment of a chosen key has a lock, so that it may be unfinished. */
function isGuarded({ isNative }: KeyPath, lock: Lock | null): boolean {
  return isNative && lock !== null;
}

/** A process for texts. */
function processText(pid: number | null): string {
  return pid === null ? "a process" : `process ${pid}`;
}

/** A segment of System V, attached. */
class SystemVSegment implements Segment {
  readonly size: number;
  readonly #system: SystemVSegments;
  readonly #traces: Traces;
  readonly #range: Range;

  constructor(system: SystemVSegments, traces: Traces, range: Range, size: number) {
    this.#system = system;
    this.#traces = traces;
    this.#range = range;
    this.size = size;
  }

  get address(): bigint {
    return this.#range.address;
  }

  /** Lets others attach to it. */
  finish(permissions: number): void {
    this.#system.finish(this.#traces.id, permissions);
  }

  /** Lets others find it under `path`. */
  publish(path: KeyPath): void {
    this.#traces.file.rename(path.path, () => this.#system.isThere(path));
  }

  unmap(): boolean {
    return this.#range.bury();
  }

  free(): void {
    this.#range.free();
  }

  leave(held: boolean, wait: boolean, ending = false): void {
    this.#traces.leave(held, wait, ending);
  }
}

/** Qt's System V segments. */
export class SystemVSegments implements SegmentBackend {
  readonly #libc: Libc;
  readonly #maxBytes: number;
  readonly #mappings: Mappings;
  readonly #statusBuffer: Uint8Array;
  readonly #statusView: DataView;
  readonly #createErrors: ErrnoTable;
  readonly #attachErrors: ErrnoTable;

  readonly #projectId: number;

  constructor(libc: Libc, maxBytes: number, pageBytes: number, projectId = PROJECT_ID) {
    this.#libc = libc;
    this.#statusBuffer = new Uint8Array(libc.constants.SHMID_DS.bytes);
    this.#statusView = new DataView(this.#statusBuffer.buffer);
    const { create, attach } = limitsOf(libc.os);
    this.#createErrors = { ...CREATE_ERRORS, ...create };
    this.#attachErrors = { ...ATTACH_ERRORS, ...attach };
    this.#projectId = projectId;
    this.#maxBytes = maxBytes;
    this.#mappings = new Mappings(libc, pageBytes);
  }

  #keyPath(path: string, lock: Lock | null, permissions = PRIVATE): KeyPath {
    const isNative = lock === null || lock.nativeKey === path;
    return { path, permissions, isNative, projectId: this.#projectId };
  }

  create(path: string, size: number, mode: AccessMode, lock: Lock | null): Segment {
    if (size > this.#maxBytes) throw this.#oversize("the size is", size);
    const keyPath = this.#keyPath(path, lock);
    // Looked up before the lock is waited for: a segment that exists is an answer at any time.
    const key = KeyFile.keyAt(this.#libc, keyPath);
    if (key !== null) {
      const id = this.#libc.c.shmget(key, 0n, ACCESS);
      const errno = id !== -1 ? EEXIST : this.#libc.errno();
      const isUnfinished = id !== -1 && isGuarded(keyPath, lock) &&
        this.status(id)?.unfinished === true;
      if (errno !== ENOENT && !isUnfinished) throw this.#failure(errno, this.#createErrors, key);
    }
    if (lock !== null && !this.#enterAt(keyPath, lock)) {
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

  #createLocked(
    path: KeyPath,
    size: number,
    mode: AccessMode,
    lock: Lock | null,
    bits = 0,
  ): SystemVSegment {
    const numbers = new TakenNumbers(this.#libc);
    try {
      for (;;) {
        const segment = this.#tryCreate(path, size, mode, lock, bits, numbers);
        if (segment !== null) return segment;
      }
    } finally {
      numbers.close();
    }
  }

  /** `null` if a file was made whose number another file's segment has. */
  #tryCreate(
    path: KeyPath,
    size: number,
    mode: AccessMode,
    lock: Lock | null,
    bits: number,
    numbers: TakenNumbers,
  ): SystemVSegment | null {
    const { c } = this.#libc;
    const file = KeyFile.create(this.#libc, path);
    if (isGuarded(path, lock)) this.#removeIfUnfinished(this.#idOf(file));
    const flags = path.permissions | bits | IPC_CREAT | IPC_EXCL;
    const id = c.shmget(file.key, BigInt(size), flags);
    const errno = id === -1 ? this.#libc.errno() : 0;
    if (errno === EEXIST && numbers.add(file, "shm")) return null;
    try {
      if (errno !== 0) throw this.#failure(errno, this.#createErrors, file.key);
      const address = this.#map(id, mode);
      if (address === null) throw failure("shmat", EIDRM);
      return this.#segment(id, address, size, file, lock);
    } catch (error) {
      if (id !== -1) this.remove(id);
      if (file.created && errno !== EEXIST) file.unlink();
      file.close();
      throw error;
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
    for (let attempt = 0; attempt < ATTACH_ATTEMPTS; attempt++) {
      const file = KeyFile.open(this.#libc, path);
      if (file === null) throw failure("open", ENOENT, ATTACH_ERRORS, path.path);
      let segment: Segment | null = null;
      try {
        segment = this.#tryAttach(file, path, mode, lock, minBytes);
      } finally {
        if (segment === null) file.close();
      }
      if (segment !== null) return segment;
    }
    throw new Failure("UnknownError", "the segment is removed again and again");
  }

  /** `null` if the segment was removed while we attached. */
  #tryAttach(
    file: KeyFile,
    path: KeyPath,
    mode: AccessMode,
    lock: Lock | null,
    minBytes: number,
  ): Segment | null {
    // Refused before it is attached to: others take whoever is attached for a user, and leave it to him.
    const found = this.#find(file, mode, isGuarded(path, lock));
    if (found === null) throw failure("shmget", ENOENT, ATTACH_ERRORS);
    if (file.isInDoubt(found.status.changed)) {
      sleep(DOUBT_MS);
      return null;
    }
    this.#checkUsers(found.status, path);
    this.#checkSize(found.status, minBytes);
    const locked = lock !== null && this.#enterAt(path, lock);
    // Only one at a time attaches without the lock, so that the others it sees are users.
    const unguarded = lock !== null && !locked;
    if (unguarded && !file.flock(LOCK_EX | LOCK_NB)) return null;
    let segment: Segment | null = null;
    try {
      // The last user removes under the lock. Without it, that somebody else is attached shows that
      // its holder is a user, and not the last one about to remove what we just attached.
      return segment = this.#mapFound(found.id, file, mode, lock, unguarded ? 2 : 1);
    } finally {
      if (unguarded) file.flock(LOCK_UN);
      if (locked) {
        if (segment !== null) lock.release();
        else this.abandon(path, lock);
      }
    }
  }

  /** The segment of a key file, `null` if there is none. */
  #find(file: KeyFile, mode: AccessMode, isGuarded: boolean): Found | null {
    const id = this.#libc.c.shmget(file.key, 0n, mode === AccessMode.ReadOnly ? 0o400 : ACCESS);
    if (id === -1) {
      const errno = this.#libc.errno();
      if (errno === ENOENT) return null;
      throw this.#failure(errno, this.#attachErrors, file.key);
    }
    const status = this.status(id);
    return status === null || isGuarded && status.unfinished ? null : { id, status };
  }

  /** Attaches; `null` if it was removed, or fewer than `users` are attached then, us included. */
  #mapFound(
    id: number,
    file: KeyFile,
    mode: AccessMode,
    lock: Lock | null,
    users: number,
  ): Segment | null {
    const address = this.#map(id, mode);
    if (address === null) return null;
    const status = this.status(id);
    if (status !== null && !status.removed && status.attached >= users) {
      if (status.left) this.#setMode(id, this.#mode & ~LEFT);
      return this.#segment(id, address, status.size, file, lock);
    }
    this.#libc.c.shmdt(address);
    return null;
  }

  open(path: string, request: OpenRequest, lock: Lock, permissions = PRIVATE): Segment {
    if (request.size > this.#maxBytes) throw this.#oversize("the size is", request.size);
    const keyPath = this.#keyPath(path, lock, permissions);
    const deadline = performance.now() + request.timeoutMs;
    for (let attempt = 0; attempt < ATTACH_ATTEMPTS; attempt++) {
      if (this.#enterAt(keyPath, lock, deadline)) {
        return this.#openLocked(keyPath, request, lock);
      }
      if (request.existing === "refuse") throw failure("shmget", EEXIST, CREATE_ERRORS);
      try {
        return this.#attach(keyPath, request.mode, lock, request.size);
      } catch (error) {
        if (!(error instanceof Failure) || error.code !== "NotFound") throw error;
      }
    }
    throw new Failure("UnknownError", "the segment is made and removed again and again");
  }

  #openLocked(path: KeyPath, request: OpenRequest, lock: Lock): Segment {
    let segment: Segment | null = null;
    let isLeft = false;
    try {
      segment = this.#attachLocked(path, request, lock);
      if (segment !== null) return segment;
      const { size, mode, initialize } = request;
      const unfinished = path.isNative ? path : unfinishedPath(path);
      if (!path.isNative) this.#removeUnfinished(unfinished);
      if (initialize === null) return segment = this.#createLocked(path, size, mode, lock);
      // Where nobody finds it, or marked so that nobody attaches to it, until it is complete.
      const bits = path.isNative ? UNFINISHED : 0;
      const made = this.#createLocked(unfinished, size, mode, lock, bits);
      isLeft = true;
      initialize(made);
      isLeft = false;
      if (path.isNative) made.finish(path.permissions);
      else made.publish(path);
      return segment = made;
    } finally {
      if (segment !== null) lock.release();
      else if (!isLeft) this.abandon(path, lock);
    }
  }

  /** Attaches to the segment that there is; `null` if there is none or none that is to be kept. */
  #attachLocked(path: KeyPath, request: OpenRequest, lock: Lock): Segment | null {
    const file = KeyFile.open(this.#libc, path);
    if (file === null) return null;
    let segment: Segment | null = null;
    try {
      const found = this.#find(file, request.mode, isGuarded(path, lock));
      if (found === null) return null;
      const { id, status } = found;
      this.#checkUsers(status, path);
      // Another user's cannot be replaced, so it is kept.
      if (status.attached === 0 && request.stale === "replace" && this.remove(id)) {
        if (!path.isNative) file.unlink(); // that is the file of the lock too
        return null;
      }
      if (request.existing === "refuse") throw failure("shmget", EEXIST, CREATE_ERRORS);
      this.#checkSize(status, request.size);
      return segment = this.#mapFound(id, file, request.mode, lock, 1);
    } finally {
      if (segment === null) file.close();
    }
  }

  #checkSize({ size }: Status, minBytes: number): void {
    if (size < minBytes) throw tooSmall(size, minBytes);
    if (size > this.#maxBytes) throw this.#oversize("the segment has", size);
  }

  #isOwn({ users }: Status): boolean {
    const user = this.#libc.c.geteuid();
    return users.every((uid) => uid === user);
  }

  #mayUse(status: Status, { permissions }: KeyPath): boolean {
    return isShared(permissions) || this.#isOwn(status);
  }

  #checkUsers(status: Status, path: KeyPath): void {
    if (this.#mayUse(status, path)) return;
    const user = this.#libc.c.geteuid();
    const other = status.users.find((uid) => uid !== user)!;
    const text = othersText("segment", this.#libc.userName(other), "key or a TMPDIR");
    throw new Failure("PermissionDenied", text, "shmctl");
  }

  /** What a creator left that was killed before it was complete. */
  #removeUnfinished(path: KeyPath): void {
    const file = KeyFile.open(this.#libc, path);
    if (file === null) return;
    const id = this.#idOf(file);
    const status = id === -1 ? null : this.status(id);
    if (status?.attached === 0 && this.#isOwn(status)) this.remove(id);
    file.unlink();
    file.close();
  }

  /** The same for a chosen key: who has the lock knows that its creator does not. */
  #removeIfUnfinished(id: number): void {
    const status = id === -1 ? null : this.status(id);
    if (status?.unfinished === true && status.attached === 0) this.remove(id);
  }

  #oversize(what: string, size: number): Failure {
    return new Failure(
      "InvalidSize",
      `${what} ${size} bytes; this runtime can make a view of at most ${this.#maxBytes}`,
    );
  }

  /** {@linkcode SystemVSegments.enter} for a path, at which a segment may be in the making too. */
  #enterAt(path: KeyPath, lock: Lock, deadline?: number): boolean {
    const isUsed = () => this.#isUsed(path);
    const isBeingMade = () =>
      path.isNative ? this.#isUsed(path, true) : this.#isUsed(unfinishedPath(path));
    return this.enter(lock, isUsed, deadline, () => isUsed() || isBeingMade());
  }

  /**
   * Takes the lock for a section of create, attach or detach. `false` if a user of the segment holds
   * it, who may do so for as long as he likes; a lock that nobody can hold is taken over, unless it
   * `mayBeHeld`.
   */
  enter(
    lock: Lock,
    isUsed: () => boolean,
    deadline?: number,
    mayBeHeld = isUsed,
  ): boolean {
    for (let end = deadline;;) {
      if (lock.acquire(SECTION_MS)) return true;
      if (isUsed()) return false;
      if (lock.mayBePending()) {
        throw new Failure(
          "LockError",
          "the lock was just taken for a lockAsync() of this thread that has been given up, and is " +
            "free when the event loop has turned; await something, and try again",
        );
      }
      const now = performance.now();
      end ??= now + ENTER_MS - SECTION_MS; // the clock is not read by those who need not wait
      const left = end - now;
      if (left <= 0) break;
      if (lock.recover(() => !mayBeHeld(), left)) return true;
    }
    const holder = lock.isHeldHere() ? "this process, which" : `${processText(lock.holder())} that`;
    throw new Failure(
      "LockError",
      `timed out: the lock is held by ${holder} is not attached to the segment`,
    );
  }

  /** Gives up under the lock. Where there is no segment there is no use for its lock either. */
  abandon(path: KeyPath, lock: Lock): void {
    let id: number | null = null;
    try {
      id = this.#idAt(path);
    } finally {
      if (id === -1) lock.remove();
      else lock.bequeath(true);
    }
    if (id !== -1) this.#removeLeft(id, path, lock);
  }

  /** Removes a segment whose last user could not have the lock meanwhile. */
  #removeLeft(id: number, path: KeyPath, lock: Lock): void {
    const status = this.status(id);
    if (!status?.left || status.attached > 0 || !this.#mayUse(status, path)) return;
    try {
      const file = KeyFile.open(this.#libc, path);
      if (file === null) return;
      let isLocked = false;
      try {
        const isUsed = () => this.status(id)?.attached !== 0;
        const isIts = this.#idOf(file) === id;
        isLocked = isIts && this.enter(lock, isUsed, performance.now() + LEFT_MS);
      } finally {
        if (!isLocked) file.close();
      }
      if (isLocked) new Traces(this, id, file, lock).leave(true, false);
    } catch (error) {
      if (!(error instanceof Failure)) throw error; // why it gave up is what is to be told
    }
  }

  /** Whether the key of a key file has a segment. */
  exists(file: KeyFile): boolean {
    return this.#idOf(file) !== -1;
  }

  /** Whether a path leads to a segment, whoever's it is. */
  isThere(path: KeyPath): boolean {
    return this.#idAt(path) !== -1;
  }

  /** Whether the name of a chosen lock leads to a segment too. */
  hasSegment(lock: Lock): boolean {
    return this.isThere(this.#keyPath(lock.nativeKey, lock));
  }

  #isUsed(path: KeyPath, orUnfinished = false): boolean {
    const id = this.#idAt(path);
    const status = id === -1 ? null : this.status(id);
    return status !== null && status.attached > 0 && (orUnfinished || !status.unfinished);
  }

  /** The id of the segment that a path leads to, -1 if there is none. */
  #idAt(path: KeyPath): number {
    const key = KeyFile.keyAt(this.#libc, path);
    return key === null ? -1 : this.#idOf({ key });
  }

  /** The same of a key, whoever may use the segment. */
  #idOf({ key }: { readonly key: number }): number {
    return this.#libc.c.shmget(key, 0n, 0);
  }

  /** `null` if there is no such segment any more. */
  #map(id: number, mode: AccessMode): bigint | null {
    const address = this.#libc.c.shmat(id, 0n, mode === AccessMode.ReadOnly ? SHM_RDONLY : 0);
    if (address !== FAILED_ADDRESS) return address;
    const errno = this.#libc.errno();
    if (errno === EINVAL || errno === EIDRM) return null;
    throw failure("shmat", errno, this.#attachErrors);
  }

  /** `null` if there is no such segment, or it is none of this user's. */
  status(id: number): Status | null {
    if (this.#libc.c.shmctl(id, IPC_STAT, this.#statusBuffer) === -1) return null;
    const { SHM_DEST, SHMID_DS } = this.#libc.constants;
    const view = this.#statusView;
    const attached = SHMID_DS.nattchBytes === 2
      ? view.getUint16(SHMID_DS.nattch, true)
      : Number(view.getBigUint64(SHMID_DS.nattch, true));
    const mode = this.#mode;
    return {
      size: Number(view.getBigUint64(SHMID_DS.segsz, true)),
      attached,
      changed: Number(view.getBigInt64(SHMID_DS.ctime, true)),
      removed: (mode & SHM_DEST) !== 0,
      unfinished: (mode & UNFINISHED) !== 0,
      left: (mode & LEFT) !== 0,
      users: [view.getUint32(SHMID_DS.uid, true), view.getUint32(SHMID_DS.cuid, true)],
    };
  }

  #failure(errno: number, errors: ErrnoTable, key: number): Failure {
    if (errno !== EACCES) return failure("shmget", errno, errors);
    const text = othersText("segment", ownerOf(this.#libc, "shm", key), "key or a TMPDIR");
    return new Failure(
      "PermissionDenied",
      `${text} [shmget: ${errnoText(errno)}]`,
      "shmget",
      errno,
    );
  }

  /** Lets others attach to it. */
  finish(id: number, permissions: number): void {
    if (this.status(id) === null || !this.#setMode(id, permissions)) {
      throw failure("shmctl", this.#libc.errno());
    }
  }

  /** Notes that its last user has left it to who holds the lock, if it is his to do so. */
  markLeft(id: number): void {
    const isUnused = this.status(id)?.attached === 0;
    if (!isUnused || !this.#setMode(id, this.#mode | LEFT)) return;
    // Who attaches takes the mark away, or is seen here.
    const status = this.status(id);
    if (status !== null && status.attached > 0) this.#setMode(id, this.#mode & ~LEFT);
  }

  /** Of the segment whose status was just read. */
  get #mode(): number {
    return this.#statusView.getUint16(this.#libc.constants.SHMID_DS.mode, true);
  }

  /** Of that one too; `false` if this user may not or it is gone. */
  #setMode(id: number, mode: number): boolean {
    this.#statusView.setUint16(this.#libc.constants.SHMID_DS.mode, mode, true);
    return this.#libc.c.shmctl(id, IPC_SET, this.#statusBuffer) === 0;
  }

  /** `false` if this user may not. */
  remove(id: number): boolean {
    return this.#libc.c.shmctl(id, IPC_RMID, this.#statusBuffer) === 0 ||
      this.#libc.errno() !== EPERM;
  }

  /** One that `shmat` has attached at `address`. */
  #segment(id: number, address: bigint, size: number, file: KeyFile, lock: Lock | null) {
    const range = rangeOf(this.#libc, this.#mappings, address, size);
    return new SystemVSegment(this, new Traces(this, id, file, lock), range, size);
  }
}

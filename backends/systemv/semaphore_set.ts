import { SystemSemaphoreMode } from "../../errors.ts";
import { isHeldByThread } from "../../registry.ts";
import { BackendError, type ErrnoTable, orElse, othersText } from "../failure.ts";
import { sleepSync } from "../timing.ts";
import { type BackgroundWait, isShared, type Semaphore, waitOf } from "../types.ts";
import {
  EACCES,
  EAGAIN,
  EEXIST,
  EFBIG,
  EIDRM,
  EINTR,
  EINVAL,
  ENOENT,
  ENOMEM,
  ENOSPC,
  ERANGE,
  failure,
} from "../unix/errno.ts";
import { FOREIGN_ATTEMPTS, type Libc } from "../unix/libc.ts";
import { isRunning } from "../unix/processes.ts";
import { ownUid, userName } from "../unix/users.ts";
import { IPC_CREAT, IPC_EXCL, IPC_RMID, IPC_STAT, SEM_UNDO } from "../unix/linux_constants.ts";
import { DOUBT_MS, FtokCollisions } from "./ftok_collisions.ts";
import { KeyFile, type KeyPath } from "./key_file.ts";
import { hasPidOfAnother, isOfReplacedProgram, isOlderThanProgram } from "./last_user.ts";
import { Mark, semaphoreText } from "./marks.ts";
import { removeOrphansOnce } from "./orphan_semaphores.ts";
import { changeTimeOf, lastChange, ownerOf, wasNeverUsed } from "./proc_tables.ts";
import type { Operation, Operations } from "./semop_arrays.ts";
import type { Waits } from "./semop_wait.ts";

/** The access requested to read and change. The kernel checks it against the permissions that apply to this user. */
const ACCESS = 0o600;
/**
 * The maximum number of attempts to open a semaphore; an attempt fails if another process creates or removes it
 * meanwhile.
 */
const OPEN_ATTEMPTS = 1000;
/**
 * The time in ms for which a living process that was found to be the last user is not checked again for a reused pid.
 */
const LIVING_MS = 500;

/**
 * The errors of `semop` that are thrown at once, unless they are handled before. Any other error is first assumed to
 * come from the runtime.
 */
const OWN_ERRORS = new Set([ENOMEM, EACCES, EINVAL, EFBIG, ENOSPC, ERANGE, EIDRM]);

/** The time in ms for which a semaphore must seem abandoned before another process does what its last user should. */
const ABANDONED_MS = 1000;

/** The state of a semaphore that was just opened: a new lock is acquired by its creation. */
export type Opened = "open" | "acquired";

/** What all semaphores of a backend use. */
export interface SemaphoreTools {
  readonly libc: Libc;
  readonly operations: Operations;
  readonly waits: Waits;
  readonly errors: ErrnoTable;
}

/** The operations by which a semaphore is acquired and released. */
export type Steps = Pick<Operations, "tryDown" | "down" | "up">;

/**
 * A System V set of one semaphore, found through its key file by Qt's rules: it is opened, created, acquired, and
 * created again if another process has removed it. The subclasses decide who removes it.
 */
export abstract class SemaphoreSet implements Semaphore {
  // The fields that each lock and unlock reads are declared with `declare` instead of `#`: see sync/slot.ts. Both
  // methods call `semop` directly, as engines inline calls only about five levels deep.

  readonly identity: string;
  protected readonly libc: Libc;
  declare protected readonly semop: Libc["c"]["semop"];
  declare protected readonly operations: Operations;
  /** The operation that acquires the semaphore if that is possible at once. */
  declare private readonly tryDown: Operation;
  protected readonly steps: Steps;
  readonly #waits: Waits;
  protected readonly path: KeyPath;
  protected readonly errors: ErrnoTable;
  protected file: KeyFile | null = null;
  protected id = -1;
  isOwner = false;
  /** The process that last changed the semaphore, if it was found alive, and the time until which that is assumed. */
  #living = { pid: 0, until: 0 };
  /** The process that last changed a semaphore which seems to be abandoned, and the time since when it seems so. */
  #suspect = { id: -1, pid: 0, since: 0 };

  constructor({ libc, operations, waits, errors }: SemaphoreTools, path: KeyPath, steps: Steps) {
    this.libc = libc;
    this.semop = libc.c.semop;
    this.operations = operations;
    this.tryDown = steps.tryDown;
    this.steps = steps;
    this.#waits = waits;
    this.path = path;
    this.identity = `${path.projectId} ${path.path}`;
    this.errors = errors;
  }

  /** Whether this is the lock of a segment. */
  protected abstract readonly isLock: boolean;

  abstract release(count?: number): void;
  abstract close(): void;

  /** Prepares a key file before its semaphore is looked up. Returns `false` if the file is being deleted. */
  protected abstract beforeLookup(file: KeyFile, mode: SystemSemaphoreMode): boolean;
  /** Prepares the creation of a semaphore. Returns another result than `"create"` if none is to be created now. */
  protected abstract beforeCreation(
    file: KeyFile,
    mode: SystemSemaphoreMode,
  ): Opened | "create" | null;
  /** Sets the initial value; returns what the system call returns. */
  protected abstract setInitialValue(id: number): number;
  protected abstract afterOpening(file: KeyFile): void;
  /** Handles a wait that has lasted a while: repairs what peers or crashes did to the value. */
  protected abstract repair(): "held" | "repaired" | "acquired";

  get nativeKey(): string {
    return this.path.path;
  }

  /** Opens the semaphore. Returns whether it is acquired too: a lock that did not exist is created in that state. */
  open(mode: SystemSemaphoreMode): boolean {
    const collisions = new FtokCollisions(this.libc);
    try {
      for (let attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
        const result = this.#tryOpen(mode, collisions);
        if (result !== null) return result === "acquired";
      }
    } finally {
      collisions.close();
    }
    throw new BackendError(
      "Busy",
      `the semaphore of ${this.nativeKey} is removed again and again`,
    );
  }

  /** Tries once to open the semaphore. Returns `null` if there must be another attempt. */
  #tryOpen(mode: SystemSemaphoreMode, collisions: FtokCollisions): Opened | null {
    const file = KeyFile.create(this.libc, this.path);
    let isKept = false;
    try {
      const result = this.openAt(file, mode);
      isKept = result === null ? collisions.add(file, "sem") : this.file === file;
      return result;
    } catch (error) {
      if (file.created) this.unlinkUnused(file);
      throw error;
    } finally {
      if (!isKept) file.close();
    }
  }

  /**
   * Opens the semaphore of a key file, or creates it. Returns `null` if another process created or removed it at the
   * same time.
   */
  protected openAt(file: KeyFile, mode: SystemSemaphoreMode, isLost = false): Opened | null {
    if (!this.beforeLookup(file, mode)) return null;
    // A file that was just created has no semaphore, unless another process found the file between these two steps.
    const id = file.created ? -1 : this.libc.c.semget(file.key, 1, ACCESS);
    const errno = file.created ? ENOENT : id === -1 ? this.libc.errno() : 0;
    if (errno === ENOENT) return isLost ? null : this.#create(file, mode);
    if (errno !== 0) throw this.#refused(errno, file);
    if (file.checkedId !== id) {
      if (!isLost && this.#isInDoubt(file)) {
        sleepSync(DOUBT_MS);
        return null;
      }
      if (!this.#check(id, file)) return null;
    }
    const isOwner = mode === SystemSemaphoreMode.Create;
    const result = isOwner ? this.#initialize(id, false) : "open";
    return result === null ? null : this.#use(file, id, isOwner, result);
  }

  /** Creates the semaphore of a key file, unless another process has done so meanwhile. */
  #create(file: KeyFile, mode: SystemSemaphoreMode): Opened | null {
    const opened = this.beforeCreation(file, mode);
    if (opened !== "create") return opened;
    const { c } = this.libc;
    removeOrphansOnce(this.libc);
    return file.creating(() => {
      const id = c.semget(file.key, 1, this.path.permissions | IPC_CREAT | IPC_EXCL);
      if (id === -1) {
        const errno = this.libc.errno();
        if (errno === EEXIST) return null;
        throw this.#refused(errno, file);
      }
      const result = this.#initialize(id, true);
      if (result === null) return null;
      if (!file.isCurrent()) {
        // The key file was deleted after the lookup, so that no other process would find this semaphore.
        c.semctl(id, 0, IPC_RMID, 0n);
        return null;
      }
      return this.#use(file, id, true, result);
    });
  }

  #use(file: KeyFile, id: number, isOwner: boolean, result: Opened): Opened {
    this.file = file;
    this.id = id;
    this.isOwner = isOwner;
    this.afterOpening(file);
    return result;
  }

  #refused(errno: number, file: KeyFile): BackendError {
    if (errno !== EACCES) return failure("semget", errno, this.errors, this.nativeKey);
    const text = this.#othersText(ownerOf(this.libc, "sem", file.key));
    return failure("semget", errno, { [EACCES]: ["PermissionDenied", text] }, this.nativeKey);
  }

  /**
   * Whether the creator of the file may be about to replace it, because the key belongs to another file's semaphore.
   */
  #isInDoubt(file: KeyFile): boolean {
    if (!file.isNew) return false;
    return file.isInDoubt(changeTimeOf(this.libc, "sem", file.key) ?? Infinity);
  }

  /** Sets the initial value. Until then a new semaphore has the value 0, so that other processes wait for it. */
  #initialize(id: number, isNew: boolean): Opened | null {
    if (this.setInitialValue(id) === 0) return this.isLock ? "acquired" : "open";
    const errno = this.libc.errno();
    if (errno === EAGAIN) return "open"; // another process has set the value since
    if (this.#saysRemoved(errno, id)) return null;
    if (isNew) this.libc.c.semctl(id, 0, IPC_RMID, 0n);
    throw failure(this.isLock ? "semop" : "semctl", errno, this.errors, this.nativeKey);
  }

  /**
   * Whether an error says that the semaphore was removed. macOS also reports EINVAL if it has no room to note what is
   * to be undone, as in sysv_sem.c.
   */
  #saysRemoved(errno: number, id = this.id): boolean {
    if (errno !== EINVAL || this.libc.os !== "darwin") return errno === EINVAL || errno === EIDRM;
    return this.get("GETPID", id) === -1;
  }

  protected get(command: "GETPID" | "GETVAL", id = this.id): number {
    return this.libc.c.semctl(id, 0, this.libc.constants[command], 0n);
  }

  /** Checks that no other user may change the semaphore. Returns `false` if the semaphore no longer exists. */
  #check(id: number, file: KeyFile): boolean {
    if (isShared(this.path.permissions)) return true;
    if (this.libc.c.semctl(id, 0, IPC_STAT, this.operations.status) === -1) {
      const errno = this.libc.errno();
      if (errno === EINVAL || errno === EIDRM) return false;
      throw failure("semctl", errno, this.errors, this.nativeKey);
    }
    const user = ownUid(this.libc);
    const other = this.operations.users.find((uid) => uid !== user);
    if (other !== undefined) {
      const text = this.#othersText(userName(this.libc, other));
      throw new BackendError("PermissionDenied", text, "semget");
    }
    if (this.operations.isRemoved) {
      this.libc.c.semctl(id, 0, IPC_RMID, 0n); // this completes the removal by a process that was killed
      return false;
    }
    file.checkedId = id;
    return true;
  }

  #othersText(owner: string): string {
    return othersText(this.isLock ? "lock" : "semaphore", owner, "key or a TMPDIR");
  }

  acquire(timeoutMs = Infinity): boolean {
    const { id, tryDown } = this;
    if (id !== -1 && this.semop(id, tryDown.steps, tryDown.count) === 0) return true;
    return this.modify(-1, timeoutMs);
  }

  acquireSlice(timeoutMs: number, pauseMs: number): BackgroundWait {
    const { id } = this;
    const { down, up } = this.steps;
    const wait = this.#waits.inBackground(id, down, up, timeoutMs, pauseMs);
    return waitOf(wait, wait.over, () => {
      if (!wait.claim()) return false;
      if (this.id === id) return true;
      up.apply(id); // the semaphore was closed or created again meanwhile
      return false;
    });
  }

  /** Changes the value by `step`, and handles every error of `semop`. Returns `false` after the timeout. */
  protected modify(step: number, timeoutMs = Infinity): boolean {
    if (this.id === -1 && this.open(SystemSemaphoreMode.Open)) return true; // this path does not read the clock
    let looked = performance.now();
    const deadline = looked + timeoutMs;
    let flags = SEM_UNDO;
    let foreign = 0;
    for (let slice = this.#waits.next();; slice = this.#waits.next(slice)) {
      if (this.id === -1 && this.open(SystemSemaphoreMode.Open)) return true;
      const left = deadline - performance.now();
      const ms = this.#mayBlock(left, slice) ? Infinity : Math.min(Math.max(0, left), slice);
      const errno = this.#waits.change(this.id, { step, flags, takesLock: this.isLock }, ms);
      if (errno === 0) return true;
      // Signals may interrupt each wait before its end, as those of a profiler do, or a process that is often stopped.
      const isDue = errno === EINTR && performance.now() - looked >= slice;
      if (errno === EAGAIN || isDue) {
        looked = performance.now();
        foreign = 0;
        const state = this.repair();
        if (state === "acquired") return true;
        if (state === "held" && left <= slice && !isDue) return false;
      } else if (this.#saysRemoved(errno)) {
        this.drop(); // the semaphore was removed: like Qt, this module creates it again
      } else if (errno === ERANGE && flags === SEM_UNDO) {
        // The kernel records only a limited number of unmatched steps of a process. Beyond that the semaphore is
        // changed without undo. If it is the value that has reached its limit, the next attempt fails with the same
        // error.
        flags = 0;
      } else if (errno !== EINTR && (OWN_ERRORS.has(errno) || ++foreign > FOREIGN_ATTEMPTS)) {
        throw failure("semop", errno, this.errors, this.nativeKey);
      }
    }
  }

  /**
   * Whether a polled wait may block in the kernel for as long as it takes. It may if it has no timeout, after a first
   * attempt, unless it waits for a lock that seems to be abandoned.
   */
  #mayBlock(left: number, slice: number): boolean {
    const { arePolled } = this.#waits;
    return arePolled && left === Infinity && slice > 0 && this.#suspect.id === -1;
  }

  /** Returns the process that changed the value last; 0 if there is none, or if it belongs to another pid namespace. */
  protected lastUser(): number {
    return Math.max(0, this.get("GETPID"));
  }

  /**
   * Returns whether the process that changed the value last can still hold what it took. `"gone"`: that process has
   * ended, or another one has its pid. `"replaced"`: it is this process, before `exec` replaced its program.
   */
  protected stateOf(pid: number): "alive" | "gone" | "replaced" {
    if (pid === 0) return this.#isUnused() ? "gone" : "alive";
    if (!isRunning(this.libc, pid)) return "gone";
    const now = performance.now();
    if (this.#living.pid === pid && now < this.#living.until) return "alive";
    const time = lastChange(this.libc, this.id);
    if (time !== null && pid === this.libc.c.getpid()) {
      const isHeld = isHeldByThread(this.identity);
      if (!isHeld && isOfReplacedProgram(this.libc, time)) return "replaced";
    } else if (time !== null && hasPidOfAnother(this.libc, pid, time)) {
      return "gone";
    }
    this.#living = { pid, until: now + LIVING_MS };
    return "alive";
  }

  /**
   * Whether the semaphore, which the process `pid` has changed last, has seemed abandoned for a while.
   *
   * @param isSo whether it seems so now
   */
  protected isAbandonedFor(pid: number, isSo: boolean): boolean {
    const { id, pid: suspect, since } = this.#suspect;
    if (isSo && id === this.id && suspect === pid) {
      return performance.now() - since >= ABANDONED_MS;
    }
    this.#suspect = { id: isSo ? this.id : -1, pid, since: performance.now() };
    return false;
  }

  #isUnused(): boolean {
    return this.readStatus() && wasNeverUsed(this.libc, this.operations.hasTimeOfUse);
  }

  holder(): number | null {
    if (this.id === -1 || this.get("GETVAL") !== 0) return null;
    const pid = this.lastUser();
    return pid !== 0 && this.stateOf(pid) === "alive" ? pid : null;
  }

  isHeldHere(): boolean {
    return this.holder() === this.libc.c.getpid();
  }

  mayBeOfReplaced(): boolean {
    const { c, os } = this.libc;
    if (os !== "linux" || this.id === -1 || isHeldByThread(this.identity)) return false;
    if (this.get("GETVAL") !== 0 || this.lastUser() !== c.getpid()) return false;
    const time = lastChange(this.libc, this.id);
    return time !== null && isOlderThanProgram(time); // the kernel rounds the time down, so the change may be later
  }

  /**
   * Notes in the semaphore that it is being removed. Returns `false` if another program has removed it, and a third one
   * has created another for the same key.
   */
  protected markForRemoval(file: KeyFile): boolean {
    const { operations, libc, path } = this;
    if (operations.markRemoved(this.id, ownUid(libc), path.permissions)) return true;
    const found = libc.c.semget(file.key, 1, 0);
    return found === -1 || found === this.id;
  }

  protected mark(file: KeyFile): Mark {
    return new Mark(this.libc, "inherited", file.key);
  }

  /**
   * Sets the mark that passes the removal to the last user. If the mark cannot be set, for example because the disk
   * is full, the semaphore stays.
   */
  protected offer(mark: Mark): void {
    orElse(() => mark.set(semaphoreText(this.libc, this.id)), () => {});
  }

  /** Reads the status of the semaphore. Returns `false` if the semaphore no longer exists. */
  protected readStatus(): boolean {
    return this.libc.c.semctl(this.id, 0, IPC_STAT, this.operations.status) === 0;
  }

  /** Deletes a key file that has no semaphore, if no other process relies on it. */
  protected unlinkUnused(file: KeyFile): void {
    if (file.isSole() && this.libc.c.semget(file.key, 1, 0) === -1) file.unlink();
  }

  protected drop(): void {
    this.file?.close();
    this.file = null;
    this.id = -1;
  }
}

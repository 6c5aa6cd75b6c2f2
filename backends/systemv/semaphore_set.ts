import { SystemSemaphoreMode } from "../../errors.ts";
import { IPC_CREAT, IPC_EXCL, IPC_RMID, IPC_STAT, SEM_UNDO } from "../unix/linux_constants.ts";
import { BackendError, type ErrnoTable, othersText } from "../failure.ts";
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
  errnoFailure,
  errnoText,
  failure,
} from "../unix/errno.ts";
import { FOREIGN_ATTEMPTS, type Libc } from "../unix/libc.ts";
import { KeyFile, type KeyPath, PROJECT_ID, segmentPath } from "./key_file.ts";
import { sleepSync, SLICE_MS } from "../timing.ts";
import { hasPidOfAnother, isOfReplacedProgram, isOlderThanProgram } from "./last_user.ts";
import { limitsOf } from "./limits.ts";
import { type Operation, Operations } from "./semop_arrays.ts";
import { lostLockFile } from "./lost_lock_file.ts";
import { isSemaphoreText, Mark, semaphoreText } from "./marks.ts";
import { isSoleSoon } from "./sole_user.ts";
import { removeOrphansOnce } from "./orphan_semaphores.ts";
import { changeTimeOf, lastChange, ownerOf, wasNeverUsed } from "./proc_tables.ts";
import { DOUBT_MS, FtokCollisions } from "./ftok_collisions.ts";
import { type Waits, waitsOf } from "./semop_wait.ts";
import { isHeldByThread } from "../../registry.ts";
import {
  type BackgroundWait,
  isShared,
  type Lock,
  PRIVATE,
  type Semaphore,
  type SemaphoreBackend,
  waitOf,
} from "../types.ts";

/** The largest value, and the largest step, of a System V semaphore. */
const SEMVMX = 32767;

/** The access requested to read and change. The kernel checks it against the permissions that apply to this user. */
const ACCESS = 0o600;
/**
 * The maximum number of attempts to open a semaphore; an attempt fails if another process creates or removes it
 * meanwhile.
 */
const OPEN_ATTEMPTS = 1000;
/** The time in ms for which a lock must seem abandoned before it is taken over. */
const ABANDONED_MS = 1000;
/**
 * The time in ms for which a living process that was found to be the last user is not checked again for a reused pid.
 */
const LIVING_MS = 500;
/**
 * The time in ms for which another process may hold LOCK_EX of a key file to check whether the file is in use: it
 * takes microseconds.
 */
const LOOK_MS = 1;
/** The time in ms within which a wait finds out that a lock is abandoned. */
const RECOVERY_MS = 2 * SLICE_MS + 100;

/**
 * The errors of `semop` that are thrown at once, unless they are handled before. Any other error is first assumed to
 * come from the runtime.
 */
const OWN_ERRORS = new Set([ENOMEM, EACCES, EINVAL, EFBIG, ENOSPC, ERANGE, EIDRM]);

const ERRORS: ErrnoTable = {
  [ERANGE]: [
    "OutOfResources",
    `the semaphore's value would pass its maximum of ${SEMVMX}`,
  ],
};

/** A System V set of one semaphore, found through its key file by Qt's rules. */
class SystemVSemaphore implements Lock {
  // The fields that each lock and unlock reads are declared with `declare` instead of `#`: see sync/slot.ts. Both
  // methods call `semop` directly, as engines inline calls only about five levels deep.

  readonly identity: string;
  readonly #libc: Libc;
  declare private readonly semop: Libc["c"]["semop"];
  declare private readonly operations: Operations;
  /** The operation that takes 1 from the semaphore if that is possible at once. */
  declare private readonly tryDown: Operation;
  readonly #waits: Waits;
  readonly #path: KeyPath;
  readonly #initialValue: number;
  /** Whether this is the lock of a segment, which is removed together with the segment and not by its owner. */
  declare private readonly isSegmentLock: boolean;
  readonly #errors: ErrnoTable;
  #file: KeyFile | null = null;
  private id = -1;
  isOwner = false;
  /** The text that the mark had before this object used the semaphore; it does not concern this object. */
  #oldMark: string | null = null;
  isSegmentUsed: (() => boolean) | null = null;
  #hasLookedForLost = false;
  /** The process that last changed a lock which seems to be abandoned, and the time since when it seems so. */
  #suspect = { id: -1, pid: 0, since: 0 };
  /** The process that last changed the semaphore, if it was found alive, and the time until which that is assumed. */
  #living = { pid: 0, until: 0 };

  constructor(
    libc: Libc,
    operations: Operations,
    waits: Waits,
    path: KeyPath,
    value: number,
    isSegmentLock: boolean,
    errors: ErrnoTable,
  ) {
    this.#libc = libc;
    this.semop = libc.c.semop;
    this.operations = operations;
    this.#waits = waits;
    this.#path = path;
    this.#initialValue = value;
    this.isSegmentLock = isSegmentLock;
    this.tryDown = isSegmentLock ? operations.tryLock : operations.tryDown;
    this.identity = `${path.projectId} ${path.path}`;
    this.#errors = errors;
  }

  get nativeKey(): string {
    return this.#path.path;
  }

  /** Opens the semaphore. Returns whether it is taken too: a lock that did not exist is created in the taken state. */
  open(mode: SystemSemaphoreMode): boolean {
    this.#hasLookedForLost = false;
    const numbers = new FtokCollisions(this.#libc);
    try {
      for (let attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
        const result = this.#tryOpen(mode, numbers);
        if (result !== null) return result === "taken";
      }
    } finally {
      numbers.close();
    }
    throw new BackendError(
      "Busy",
      `the semaphore of ${this.nativeKey} is removed again and again`,
    );
  }

  /** Tries once to open the semaphore. Returns `null` if there must be another attempt. */
  #tryOpen(mode: SystemSemaphoreMode, numbers: FtokCollisions): "open" | "taken" | null {
    const file = KeyFile.create(this.#libc, this.#path);
    if (file.created) removeOrphansOnce(this.#libc);
    let isKept = false;
    try {
      const result = this.#openAt(file, mode);
      isKept = result === null ? numbers.add(file, "sem") : this.#file === file;
      return result;
    } catch (error) {
      if (file.created) file.unlink();
      throw error;
    } finally {
      if (!isKept) file.close();
    }
  }

  /**
   * Opens the semaphore that the processes attached to the segment still use, although its key file was deleted.
   * Returns `undefined` if there is none.
   */
  #openLost(file: KeyFile, mode: SystemSemaphoreMode): "open" | "taken" | null | undefined {
    // The search runs only once per `open()`. It takes so long that a program which creates and removes the key file
    // all the time would always be faster.
    if (this.#hasLookedForLost) return undefined;
    this.#hasLookedForLost = true;
    const lost = this.isSegmentUsed?.() ? lostLockFile(this.#libc, this.#path) : null;
    if (lost === null) return undefined;
    // The new file is deleted, unless another process has found it and may have created a semaphore for it.
    const isUnused = file.created && file.isSole() && this.#libc.c.semget(file.key, 1, 0) === -1;
    if (isUnused) file.unlink();
    try {
      return this.#openAt(lost, mode, true);
    } finally {
      if (this.#file !== lost) lost.close();
    }
  }

  /**
   * Opens the semaphore of a key file, or creates it. Returns `null` if another process created or removed it at the
   * same time.
   */
  #openAt(file: KeyFile, mode: SystemSemaphoreMode, isLost = false): "open" | "taken" | null {
    const { c } = this.#libc;
    const mayInherit = !this.isSegmentLock && !file.created && mode === SystemSemaphoreMode.Open;
    if (mayInherit) this.#oldMark = this.#mark(file).read();
    // A process that deletes the file holds LOCK_EX of it: one that uses this module only for a moment, another
    // program perhaps longer.
    if (!this.isSegmentLock && !file.share()) return null;
    // A file that was just created has no semaphore, unless another process found the file between these two steps.
    let id = file.created ? -1 : c.semget(file.key, 1, ACCESS);
    let errno = file.created ? ENOENT : id === -1 ? this.#libc.errno() : 0;
    const make = errno === ENOENT;
    if (make) {
      if (isLost) return null;
      const opened = this.#openLost(file, mode);
      if (opened !== undefined) return opened;
      // The creator of a lock relies on the lock's file before it relies on the segment's.
      if (this.isSegmentLock && !file.share()) return null;
      id = c.semget(file.key, 1, this.#path.permissions | IPC_CREAT | IPC_EXCL);
      errno = id === -1 ? this.#libc.errno() : 0;
      if (errno === EEXIST) return null;
    }
    if (errno === EACCES) throw this.#othersFailure(ownerOf(this.#libc, "sem", file.key), errno);
    if (errno !== 0) throw failure("semget", errno, this.#errors, this.nativeKey);
    if (!make && file.checkedId !== id) {
      if (!isLost && this.#isInDoubt(file)) {
        sleepSync(DOUBT_MS);
        return null;
      }
      if (!this.#check(id, file)) return null;
    }
    const owner = make || mode === SystemSemaphoreMode.Create;
    const result = owner ? this.#initialize(id, make) : "open";
    if (result === null) return null;
    if (make && !file.created && !file.isCurrent()) {
      // The key file was deleted after the lookup, so that no other process would find this semaphore.
      c.semctl(id, 0, IPC_RMID, 0n);
      return null;
    }
    this.#file = file;
    this.id = id;
    this.isOwner = owner;
    if (!this.isSegmentLock) file.noteSemaphoreUse();
    else if (this.#path.isExplicit) file.unshare(); // the file is the segment's too
    return result;
  }

  /**
   * Whether the creator of the file may be about to replace it, because the key belongs to another file's semaphore.
   */
  #isInDoubt(file: KeyFile): boolean {
    if (!file.isNew) return false;
    return file.isInDoubt(changeTimeOf(this.#libc, "sem", file.key) ?? Infinity);
  }

  /**
   * Sets the initial value, or takes a new lock. Until then a new semaphore has the value 0, so that other processes
   * wait for it.
   */
  #initialize(id: number, isNew: boolean): "open" | "taken" | null {
    const { c } = this.#libc;
    const take = isNew && this.isSegmentLock;
    const result = take
      ? this.operations.takeOver.apply(id)
      : c.semctl(id, 0, this.#libc.constants.SETVAL, BigInt(this.#initialValue));
    if (result === 0) return take ? "taken" : "open";
    const errno = this.#libc.errno();
    if (errno === EAGAIN) return "open"; // another process has set the value since
    if (this.#saysRemoved(errno, id)) return null;
    if (isNew) c.semctl(id, 0, IPC_RMID, 0n);
    throw failure(take ? "semop" : "semctl", errno, this.#errors, this.nativeKey);
  }

  /**
   * Whether an error says that the semaphore was removed. macOS also reports EINVAL if it has no room to note what is
   * to be undone, as in sysv_sem.c.
   */
  #saysRemoved(errno: number, id = this.id): boolean {
    if (errno !== EINVAL || this.#libc.os !== "darwin") return errno === EINVAL || errno === EIDRM;
    return this.#get("GETPID", id) === -1;
  }

  #get(command: "GETPID" | "GETVAL", id = this.id): number {
    return this.#libc.c.semctl(id, 0, this.#libc.constants[command], 0n);
  }

  /** Checks that no other user may change the semaphore. Returns `false` if the semaphore no longer exists. */
  #check(id: number, file: KeyFile): boolean {
    if (isShared(this.#path.permissions)) return true;
    if (this.#libc.c.semctl(id, 0, IPC_STAT, this.operations.status) === -1) {
      const errno = this.#libc.errno();
      if (errno === EINVAL || errno === EIDRM) return false;
      throw failure("semctl", errno, this.#errors, this.nativeKey);
    }
    const user = this.#libc.ownUid();
    const other = this.operations.users.find((uid) => uid !== user);
    if (other !== undefined) throw this.#othersFailure(this.#libc.userName(other));
    if (this.operations.isRemoved) {
      this.#libc.c.semctl(id, 0, IPC_RMID, 0n); // this completes the removal by a process that was killed
      return false;
    }
    file.checkedId = id;
    return true;
  }

  #othersFailure(owner: string, errno?: number): BackendError {
    const call = errno === undefined ? "" : ` [semget ${this.nativeKey}: ${errnoText(errno)}]`;
    const text = othersText(this.isSegmentLock ? "lock" : "semaphore", owner, "key or a TMPDIR");
    return errnoFailure("PermissionDenied", text + call, "semget", errno);
  }

  acquire(timeoutMs = Infinity): boolean {
    const { id, tryDown } = this;
    if (id !== -1 && this.semop(id, tryDown.steps, tryDown.count) === 0) return true;
    return this.#modify(-1, timeoutMs);
  }

  acquireSlice(timeoutMs: number, pauseMs: number): BackgroundWait {
    const { id } = this;
    const { lock, unlock, down, up } = this.operations;
    const [take, giveBack] = this.isSegmentLock ? [lock, unlock] : [down, up];
    const wait = this.#waits.inBackground(id, take, giveBack, timeoutMs, pauseMs);
    return waitOf(wait, wait.over, () => {
      if (!wait.claim()) return false;
      if (this.id === id) return true;
      giveBack.apply(id); // the semaphore was closed or created again meanwhile
      return false;
    });
  }

  release(count = 1): void {
    if (!this.isSegmentLock) return this.#add(count);
    const { unlock } = this.operations;
    if (this.semop(this.id, unlock.steps, unlock.count) !== 0) this.#unlockFailed();
  }

  #add(count: number): void {
    if (count > this.#room()) throw failure("semop", ERANGE, this.#errors, this.nativeKey);
    this.#modify(count);
  }

  /** Returns how far the value may rise, where the system does not check this itself: macOS would continue from 0. */
  #room(): number {
    if (this.#libc.os !== "darwin") return SEMVMX;
    return SEMVMX - Math.max(0, this.#get("GETVAL"));
  }

  /**
   * Handles a failed unlock. A lock that another process has reset or removed is no longer held by this object:
   * adding 1 would let two processes in.
   */
  #unlockFailed(): void {
    const errno = this.#libc.errno();
    if (errno === EINVAL || errno === EIDRM) return;
    if (errno !== EAGAIN) throw failure("semop", errno, this.#errors, this.nativeKey);
    const value = this.#get("GETVAL");
    if (value > 0 && this.#repairValue(value)) {
      this.operations.unlock.apply(this.id);
    }
  }

  /**
   * Takes a lock whose value a peer has reset, and makes the kernel forget every process's undo for it. Otherwise the
   * undo of a process that ends would affect a lock that another process holds.
   */
  #repairValue(value: number): boolean {
    if (this.operations.repairValue(value).apply(this.id) !== 0) return false;
    this.#libc.c.semctl(this.id, 0, this.#libc.constants.SETVAL, 0n);
    return this.operations.takeOver.apply(this.id) === 0;
  }

  /** Changes the value by `step`, and handles every error of `semop`. Returns `false` after the timeout. */
  #modify(step: number, timeoutMs = Infinity): boolean {
    if (this.id === -1 && this.open(SystemSemaphoreMode.Open)) return true; // this path does not read the clock
    const deadline = performance.now() + timeoutMs;
    const takesLock = this.isSegmentLock;
    let flags = SEM_UNDO;
    let foreign = 0;
    for (let slice = this.#waits.next();; slice = this.#waits.next(slice)) {
      if (this.id === -1 && this.open(SystemSemaphoreMode.Open)) return true;
      const left = deadline - performance.now();
      const ms = this.#mayBlock(left, slice) ? Infinity : Math.min(Math.max(0, left), slice);
      const errno = this.#waits.change(this.id, { step, flags, takesLock }, ms);
      if (errno === 0) return true;
      if (errno === EAGAIN) {
        foreign = 0;
        const state = this.isSegmentLock ? this.#repair() : "held";
        if (state === "taken") return true;
        if (state === "held" && left <= slice) return false;
      } else if (this.#saysRemoved(errno)) {
        this.#drop(); // the semaphore was removed: like Qt, this module creates it again
      } else if (errno === ERANGE && flags === SEM_UNDO) {
        // The kernel records only a limited number of unmatched steps of a process. Beyond that the semaphore is
        // changed without undo. If it is the value that has reached its limit, the next attempt fails with the same
        // error.
        flags = 0;
      } else if (errno !== EINTR && (OWN_ERRORS.has(errno) || ++foreign > FOREIGN_ATTEMPTS)) {
        throw failure("semop", errno, this.#errors, this.nativeKey);
      }
    }
  }

  /**
   * Whether a polled wait may block in the kernel for as long as it takes. It may if it has no timeout, after a first
   * attempt, unless it waits for a lock that seems to be abandoned.
   */
  #mayBlock(left: number, slice: number): boolean {
    return this.#waits.arePolled && left === Infinity && slice > 0 && this.#suspect.id === -1;
  }

  /** Repairs a lock whose value was damaged by peers or crashes. */
  #repair(): "held" | "repaired" | "taken" {
    const value = this.#get("GETVAL");
    if (value > 1) {
      // Qt's create() sets the value to 1 while another process holds the lock, and that process then adds 1.
      if (this.#file?.isCurrent()) return this.#repairValue(value) ? "taken" : "repaired";
      this.#libc.c.semctl(this.id, 0, IPC_RMID, 0n); // this completes the removal by a process that was killed
      return "repaired";
    }
    if (value < 0) return this.#libc.errno() === EACCES ? "held" : "repaired"; // otherwise the lock was removed
    if (value !== 0 || !this.#isAbandoned()) return "held";
    return this.#takeAbandoned(() => this.#isAbandoned() && this.#forgetOwn()) ? "taken" : "held";
  }

  /**
   * Whether the lock is abandoned: the value has been 0 for a while, although no process can hold the lock. Either
   * the lock was never taken since its creation, or the process that changed it last is dead. The kernel releases
   * what a dead process held, unless a reset by another process made it forget. A lock that was left by the program
   * which `exec` replaced in this process counts as abandoned at once.
   */
  #isAbandoned(): boolean {
    const pid = this.#lastUser();
    const state = this.#stateOf(pid);
    if (state === "replaced") return true;
    const alive = state === "alive";
    const { id, pid: suspect, since } = this.#suspect;
    if (!alive && id === this.id && suspect === pid) {
      return performance.now() - since >= ABANDONED_MS;
    }
    this.#suspect = { id: alive ? -1 : this.id, pid, since: performance.now() };
    return false;
  }

  /**
   * Returns whether the process that changed the value last can still hold what it took. `"gone"`: that process has
   * ended, or another one has its pid. `"replaced"`: it is this process, before `exec` replaced its program.
   */
  #stateOf(pid: number): "alive" | "gone" | "replaced" {
    if (pid === 0) return this.#isUnused() ? "gone" : "alive";
    if (!this.#libc.isRunning(pid)) return "gone";
    const now = performance.now();
    if (this.#living.pid === pid && now < this.#living.until) return "alive";
    const time = lastChange(this.#libc, this.id);
    if (time !== null && pid === this.#libc.c.getpid()) {
      const isHeld = isHeldByThread(this.identity);
      if (!isHeld && isOfReplacedProgram(this.#libc, time)) return "replaced";
    } else if (time !== null && hasPidOfAnother(this.#libc, pid, time)) {
      return "gone";
    }
    this.#living = { pid, until: now + LIVING_MS };
    return "alive";
  }

  /**
   * Makes the kernel forget this process's undo, before the process takes over what it took as another program.
   * Otherwise the kernel would undo twice at the end of the process. Returns `true`.
   */
  #forgetOwn(): true {
    const { c, constants } = this.#libc;
    if (this.#lastUser() === c.getpid()) c.semctl(this.id, 0, constants.SETVAL, 0n);
    return true;
  }

  /** Returns the process that changed the value last; 0 if there is none, or if it belongs to another pid namespace. */
  #lastUser(): number {
    return Math.max(0, this.#get("GETPID"));
  }

  #isUnused(): boolean {
    return this.#readStatus() && wasNeverUsed(this.#libc, this.operations.hasTimeOfUse);
  }

  /** Takes an abandoned lock, so that only one of several processes that find it abandoned succeeds. */
  #takeAbandoned(mayTake: () => boolean): boolean {
    const take = () => mayTake() && this.operations.takeOver.apply(this.id) === 0;
    const file = this.#file;
    if (file === null) return false;
    const result = file.claiming(take);
    if (result !== "unavailable") return result === true;
    const isTaken = file.isSole() && take();
    file.unshare();
    return isTaken;
  }

  takeOver(stale: () => boolean, timeoutMs: number): boolean {
    if (this.acquire(Math.min(RECOVERY_MS, timeoutMs))) return true;
    if (timeoutMs < RECOVERY_MS) return false;
    // It cannot be determined whether a process of another pid namespace is alive.
    return this.#takeAbandoned(() => this.#lastUser() === 0 && stale());
  }

  holder(): number | null {
    if (this.id === -1 || this.#get("GETVAL") !== 0) return null;
    const pid = this.#lastUser();
    return pid !== 0 && this.#stateOf(pid) === "alive" ? pid : null;
  }

  isHeldHere(): boolean {
    return this.holder() === this.#libc.c.getpid();
  }

  mayBeOfReplaced(): boolean {
    const { c, os } = this.#libc;
    if (os !== "linux" || this.id === -1 || isHeldByThread(this.identity)) return false;
    if (this.#get("GETVAL") !== 0 || this.#lastUser() !== c.getpid()) return false;
    const time = lastChange(this.#libc, this.id);
    return time !== null && isOlderThanProgram(time); // the kernel rounds the time down, so the change may be later
  }

  letGo(): void {
    this.#file?.unshare();
  }

  handOver(held: boolean, isSole = false): void {
    if (this.isOwner && (held || this.acquire(0))) this.#remove(isSole);
    else if (held) this.release();
  }

  remove(isSole = false): void {
    this.#remove(isSole);
  }

  /**
   * Removes the semaphore, and its key file too if no other process relies on the file. The file is deleted first, so
   * that a process which still finds the file also finds the semaphore, and learns of its removal. If this process is
   * killed in between, the semaphore has a mark by which it can be found, and a lock has a value that tells its users
   * to create another lock.
   *
   * @param mark the mark that may exist for the semaphore
   */
  #remove(isSole: boolean, mark?: Mark): void {
    const { c } = this.#libc;
    const file = this.#file!;
    const { isExplicit } = this.#path;
    // A chosen key file is the segment's too. Other programs may use the lock as a semaphore.
    let isAlone = this.isSegmentLock && !isExplicit ? file.isSole() : isSole;
    const isUsed = this.isSegmentLock && !isAlone && file.isSemaphoreUsed();
    if (isSole && !isAlone && !isUsed) isAlone = isSoleSoon(this.#libc, file, LOOK_MS);
    if (isUsed) this.#offer(this.#mark(file));
    const mayUnlink = isSole && isAlone && (!isExplicit || file.created);
    const mayRemove = !isUsed && (!this.isSegmentLock || this.#isOwn());
    if (!mayRemove || mayUnlink && !this.#markRemoved() && this.#isReplaced(file)) {
      if (this.isSegmentLock) this.release();
      mark?.clear();
      return this.#drop();
    }
    if (isSole && isAlone && this.isSegmentLock) this.operations.undoTwice.apply(this.id);
    if (mayUnlink) file.unlink();
    const isRemoved = c.semctl(this.id, 0, IPC_RMID, 0n) === 0;
    if (!isRemoved && this.isSegmentLock) this.release();
    if (isRemoved && isExplicit) mark ??= this.#mark(file); // the lock of a chosen key may be a semaphore too
    mark?.clear(); // last: if this process is killed before, the mark still leads to the semaphore
    this.#drop();
  }

  #markRemoved(): boolean {
    return this.operations.markRemoved(this.id, this.#libc.ownUid(), this.#path.permissions);
  }

  /** Whether another program has removed the semaphore, and a third one has created another for the same key. */
  #isReplaced(file: KeyFile): boolean {
    const found = this.#libc.c.semget(file.key, 1, 0);
    return found !== -1 && found !== this.id;
  }

  /** Whether this user may remove the semaphore. This is certain for a semaphore that is not shared on purpose. */
  #isOwn(): boolean {
    if (!isShared(this.#path.permissions) || !this.#readStatus()) return true;
    const user = this.#libc.currentUid();
    return user === 0 || this.operations.users.includes(user);
  }

  /**
   * Closes the semaphore, and removes it if this object is its owner or inherits that task, and no other object uses
   * it. In Qt the owner removes the semaphore even while others use it. Here the task passes to the last user: the
   * object that releases LOCK_SH after the mark was set, and then acquires LOCK_EX. LOCK_EX is held only to remove
   * the semaphore or to check whether it is in use; an object that opens the semaphore at that moment waits for
   * LOCK_SH.
   *
   * Only a mark set since this object opened the semaphore passes the task on, as an older mark may come from another
   * namespace that no longer exists. So each object that inherits the task but is not the last user sets the mark
   * again, for the objects that have opened the semaphore since.
   */
  close(): void {
    const file = this.isSegmentLock ? null : this.#file;
    if (file !== null) this.#leave(file);
    this.#drop();
  }

  #leave(file: KeyFile): void {
    const mark = this.#mark(file);
    if (!this.isOwner) {
      file.unshare();
      const text = mark.read();
      if (text === this.#oldMark || !isSemaphoreText(text, this.id)) return;
    }
    if (!file.isSole()) {
      this.#offer(mark);
      // The other users may have left before they could see the mark.
      if (!file.isSole()) {
        if (!this.#readStatus()) mark.clear(); // the last user has just removed the semaphore
        return;
      }
    }
    this.#remove(this.#isSegmentUnused(), mark);
  }

  #mark(file: KeyFile): Mark {
    return new Mark(this.#libc, "inherited", file.key);
  }

  /**
   * Sets the mark that passes the removal to the last user. If the mark cannot be set, for example because the disk
   * is full, the semaphore stays.
   */
  #offer(mark: Mark): void {
    try {
      mark.set(semaphoreText(this.id));
    } catch (error) {
      if (!(error instanceof BackendError)) throw error;
    }
  }

  /** Whether no process relies on the key file of the segment whose lock this semaphore may be. */
  #isSegmentUnused(): boolean {
    if (this.#path.isExplicit) return true; // the segment has the same key file
    try {
      const path = { ...this.#path, path: segmentPath(this.nativeKey) };
      const segment = KeyFile.open(this.#libc, path);
      const isUnused = segment === null || segment.isSole();
      segment?.close();
      return isUnused;
    } catch (error) {
      // The name is too long for a segment, or the file belongs to another user.
      if (error instanceof BackendError) return error.code === "KeyError";
      throw error;
    }
  }

  /** Reads the status of the semaphore. Returns `false` if the semaphore no longer exists. */
  #readStatus(id = this.id): boolean {
    return this.#libc.c.semctl(id, 0, IPC_STAT, this.operations.status) === 0;
  }

  #drop(): void {
    this.#file?.close();
    this.#file = null;
    this.id = -1;
  }
}

export class SystemVSemaphores implements SemaphoreBackend {
  readonly #libc: Libc;
  readonly #operations: Operations;
  readonly #waits: Waits;
  readonly #errors: ErrnoTable;
  readonly #projectId: number;

  constructor(libc: Libc, projectId = PROJECT_ID) {
    this.#libc = libc;
    this.#projectId = projectId;
    this.#operations = new Operations(libc);
    this.#waits = waitsOf(libc, this.#operations);
    this.#errors = { ...ERRORS, ...limitsOf(libc.os).semaphores };
  }

  open(
    path: string,
    initialValue: number,
    mode: SystemSemaphoreMode,
    isExplicit = false,
  ): Semaphore {
    const keyPath = { path, permissions: PRIVATE, isExplicit, projectId: this.#projectId };
    const semaphore = this.#semaphore(keyPath, initialValue, false);
    semaphore.open(mode);
    return semaphore;
  }

  /** Removes a semaphore that no process uses, and its key file, in the same way as its last user would. */
  remove(id: number, file: KeyFile): void {
    const { c } = this.#libc;
    this.#operations.markRemoved(id, this.#libc.ownUid(), PRIVATE);
    file.unlink();
    c.semctl(id, 0, IPC_RMID, 0n);
  }

  lock(path: string, permissions = PRIVATE, isExplicit = false): Lock {
    return this.#semaphore({ path, permissions, isExplicit, projectId: this.#projectId }, 1, true);
  }

  #semaphore(path: KeyPath, value: number, isSegmentLock: boolean): SystemVSemaphore {
    return new SystemVSemaphore(
      this.#libc,
      this.#operations,
      this.#waits,
      path,
      value,
      isSegmentLock,
      this.#errors,
    );
  }
}

import type { SystemSemaphoreMode } from "../../errors.ts";
import { SLICE_MS } from "../timing.ts";
import { isShared, type Lock } from "../types.ts";
import { EACCES, EAGAIN, EIDRM, EINVAL, failure } from "../unix/errno.ts";
import { IPC_RMID } from "../unix/linux_constants.ts";
import type { KeyFile, KeyPath } from "./key_file.ts";
import { lostLockFile } from "./lost_lock_file.ts";
import { type Opened, SemaphoreSet, type SemaphoreTools } from "./semaphore_set.ts";
import { isSoleSoon } from "./sole_user.ts";

/**
 * The time in ms for which another process may hold LOCK_EX of a key file to check whether the file is in use: it
 * takes microseconds.
 */
const LOOK_MS = 1;
/** The time in ms within which a wait finds out that a lock is abandoned. */
const RECOVERY_MS = 2 * SLICE_MS + 100;

/** The lock of a System V segment, which is removed together with the segment and not by its owner. */
export class SystemVLock extends SemaphoreSet implements Lock {
  protected readonly isLock = true;
  isSegmentUsed: (() => boolean) | null = null;
  #hasLookedForLost = false;

  constructor(tools: SemaphoreTools, path: KeyPath) {
    const { tryLock, lock, unlock } = tools.operations;
    super(tools, path, { tryDown: tryLock, down: lock, up: unlock });
  }

  override open(mode: SystemSemaphoreMode): boolean {
    this.#hasLookedForLost = false;
    return super.open(mode);
  }

  protected beforeLookup(): boolean {
    return true;
  }

  protected beforeCreation(file: KeyFile, mode: SystemSemaphoreMode): Opened | "create" | null {
    const opened = this.#openLost(file, mode);
    if (opened !== undefined) return opened;
    // The creator of a lock relies on the lock's file before it relies on the segment's.
    return file.share() ? "create" : null;
  }

  /**
   * Opens the semaphore that the processes attached to the segment still use, although its key file was deleted.
   * Returns `undefined` if there is none.
   */
  #openLost(file: KeyFile, mode: SystemSemaphoreMode): Opened | null | undefined {
    // The search runs only once per `open()`. It takes so long that a program which creates and removes the key file
    // all the time would always be faster.
    if (this.#hasLookedForLost || !this.isSegmentUsed?.()) return undefined;
    this.#hasLookedForLost = true;
    const lost = lostLockFile(this.libc, this.path);
    if (lost === null) return undefined;
    // The new file is deleted, unless another process has found it and may have created a semaphore for it.
    const isUnused = file.created && file.isSole() && this.libc.c.semget(file.key, 1, 0) === -1;
    if (isUnused) file.unlink();
    try {
      return this.openAt(lost, mode, true);
    } finally {
      if (this.file !== lost) lost.close();
    }
  }

  /** Acquires the new lock, whose value is 0. */
  protected setInitialValue(id: number): number {
    return this.operations.takeOver.apply(id);
  }

  protected afterOpening(file: KeyFile): void {
    if (this.path.isExplicit) file.unshare(); // the file is the segment's too
  }

  release(): void {
    const { unlock } = this.operations;
    if (this.semop(this.id, unlock.steps, unlock.count) !== 0) this.#unlockFailed();
  }

  /**
   * Handles a failed unlock. A lock that another process has reset or removed is no longer held by this object:
   * adding 1 would let two processes in.
   */
  #unlockFailed(): void {
    const errno = this.libc.errno();
    if (errno === EINVAL || errno === EIDRM) return;
    if (errno !== EAGAIN) throw failure("semop", errno, this.errors, this.nativeKey);
    const value = this.get("GETVAL");
    if (value > 0) this.#repairValue(value);
  }

  /**
   * Releases a lock whose value a peer has reset, and makes the kernel forget every process's undo for it. Otherwise the
   * undo of a process that ends would affect a lock that another process holds. The lock is taken first, so that no
   * process holds it meanwhile; if this process is killed then, the kernel restores the value.
   */
  #repairValue(value: number): void {
    if (this.operations.repairValue(value).apply(this.id) !== 0) return;
    this.libc.c.semctl(this.id, 0, this.libc.constants.SETVAL, 1n);
  }

  /** Repairs a lock whose value was damaged by peers or crashes. */
  protected repair(): "held" | "repaired" | "acquired" {
    const value = this.get("GETVAL");
    if (value > 1) {
      // Qt's create() sets the value to 1 while another process holds the lock, and that process then adds 1.
      if (this.file?.isCurrent()) this.#repairValue(value);
      else this.libc.c.semctl(this.id, 0, IPC_RMID, 0n); // this completes the removal by a process that was killed
      return "repaired";
    }
    if (value < 0) return this.libc.errno() === EACCES ? "held" : "repaired"; // otherwise the lock was removed
    if (value !== 0 || !this.#isAbandoned()) return "held";
    return this.#takeAbandoned(() => this.#isAbandoned() && this.#forgetOwn())
      ? "acquired"
      : "held";
  }

  /**
   * Whether the lock is abandoned: the value has been 0 for a while, although no process can hold the lock. Either
   * the lock was never taken since its creation, or the process that changed it last is dead. The kernel releases
   * what a dead process held, unless a reset by another process made it forget. A lock that was left by the program
   * which `exec` replaced in this process counts as abandoned at once.
   */
  #isAbandoned(): boolean {
    const pid = this.lastUser();
    const state = this.stateOf(pid);
    if (state === "replaced") return true;
    return this.isAbandonedFor(pid, state === "gone");
  }

  /**
   * Makes the kernel forget this process's undo, before the process takes over what it took as another program.
   * Otherwise the kernel would undo twice at the end of the process. Returns `true`.
   */
  #forgetOwn(): true {
    const { c, constants } = this.libc;
    if (this.lastUser() === c.getpid()) c.semctl(this.id, 0, constants.SETVAL, 0n);
    return true;
  }

  /** Takes an abandoned lock, so that only one of several processes that find it abandoned succeeds. */
  #takeAbandoned(mayTake: () => boolean): boolean {
    const file = this.file;
    if (file === null) return false;
    const take = () =>
      !file.isBeingCreated() && mayTake() && this.operations.takeOver.apply(this.id) === 0;
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
    return this.#takeAbandoned(() => this.lastUser() === 0 && stale());
  }

  letGo(): void {
    this.file?.unshare();
  }

  handOver(held: boolean, isSole = false): void {
    if (this.isOwner && (held || this.acquire(0))) this.remove(isSole);
    else if (held) this.release();
  }

  /**
   * Removes the lock, and its key file too if no other process relies on the file. The file is deleted first, so that
   * a process which still finds the file also finds the lock, and learns of its removal. If this process is killed in
   * between, the lock has a mark by which it can be found, and a value that tells its users to create another lock.
   */
  remove(isSole = false): void {
    const file = this.file!;
    const { isExplicit } = this.path;
    // A chosen key file is the segment's too. Other programs may use the lock as a semaphore.
    let isAlone = isExplicit ? isSole : file.isSole();
    const isUsed = !isAlone && file.isSemaphoreUsed();
    if (isSole && !isAlone && !isUsed) isAlone = isSoleSoon(this.libc, file, LOOK_MS);
    if (isUsed) this.offer(this.mark(file));
    const isLast = isSole && isAlone;
    const mayUnlink = isLast && (!isExplicit || file.created);
    if (isUsed || !this.#isOwn() || mayUnlink && !this.markForRemoval(file)) {
      this.release();
      return this.drop();
    }
    if (isLast) this.operations.undoTwice.apply(this.id);
    else file.unshare(); // whoever learns of the removal below may be the last one, and must not find the file relied on
    if (mayUnlink) file.unlink();
    if (this.libc.c.semctl(this.id, 0, IPC_RMID, 0n) !== 0) this.release();
    else if (isExplicit) this.mark(file).clear(); // the lock of a chosen key may be a semaphore too
    else if (isSole && !isLast) this.unlinkUnused(file); // who relied on it may have left, unable to acquire the lock
    this.drop();
  }

  /** Whether this user may remove the semaphore. This is certain for a semaphore that is not shared on purpose. */
  #isOwn(): boolean {
    if (!isShared(this.path.permissions) || !this.readStatus()) return true;
    const user = this.libc.currentUid();
    return user === 0 || this.operations.users.includes(user);
  }

  close(): void {
    this.drop();
  }
}

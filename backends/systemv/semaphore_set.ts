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
import { ownerOf } from "./owner.ts";
import { isSoleSoon } from "./sole_user.ts";
import { removeOrphansOnce } from "./orphan_semaphores.ts";
import { changeTimeOf, lastChange, wasNeverUsed } from "./proc_tables.ts";
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

/** To open, read and change, whichever class of user this one is. */
const ACCESS = 0o600;
/** A race with somebody who removes and makes the semaphore is lost only so often in a row. */
const OPEN_ATTEMPTS = 1000;
/** How long a lock is nobody's before it is taken over. */
const ABANDONED_MS = 1000;
/** How long it is not asked again whether a pid is still that of the same process. */
const LIVING_MS = 500;
/** How long a process that looks whether a key file is in use has LOCK_EX of it: microseconds. */
const LOOK_MS = 1;
/** Long enough to find that out. */
const RECOVERY_MS = 2 * SLICE_MS + 100;

/** What `semop` fails with, besides what it is made again for. Any other error is first taken for one of the runtime. */
const OWN_ERRORS = new Set([ENOMEM, EACCES, EINVAL, EFBIG, ENOSPC, ERANGE, EIDRM]);

const ERRORS: ErrnoTable = {
  [ERANGE]: [
    "OutOfResources",
    `the semaphore's value would pass its maximum of ${SEMVMX}`,
  ],
};

/** A set of one semaphore, found by Qt's rules through its key file. */
class SystemVSemaphore implements Lock {
  // `declare` and no `#` for what each lock and unlock reads: see sync/slot.ts. They call `semop` themselves, as
  // engines inline calls only five deep or so.

  readonly identity: string;
  readonly #libc: Libc;
  declare private readonly semop: Libc["c"]["semop"];
  declare private readonly operations: Operations;
  /** Takes it, if that can be had at once. */
  declare private readonly tryDown: Operation;
  readonly #waits: Waits;
  readonly #path: KeyPath;
  readonly #initialValue: number;
  /** The lock of a segment: removed together with the segment, not by its owner. */
  declare private readonly isSegmentLock: boolean;
  readonly #errors: ErrnoTable;
  #file: KeyFile | null = null;
  private id = -1;
  isOwner = false;
  /** What a mark said before this object used the semaphore: it cannot mean that. */
  #oldMark: string | null = null;
  isSegmentUsed: (() => boolean) | null = null;
  #hasLookedForLost = false;
  /** The process that last changed a lock which seems to be nobody's, and since when it does. */
  #suspect = { id: -1, pid: 0, since: 0 };
  /** The process that last changed it, if it was found to be alive, and until when that is believed. */
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

  /** Returns whether it is taken too: a lock that did not exist is made so. */
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

  /** `null` if it has to be tried again. */
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
   * The same for the semaphore that those who are attached to the segment go on with, though its key file was deleted;
   * `undefined` if there is none.
   */
  #openLost(file: KeyFile, mode: SystemSemaphoreMode): "open" | "taken" | null | undefined {
    // Once: it takes so long that a program that makes and removes the key file all the time would always be faster.
    if (this.#hasLookedForLost) return undefined;
    this.#hasLookedForLost = true;
    const lost = this.isSegmentUsed?.() ? lostLockFile(this.#libc, this.#path) : null;
    if (lost === null) return undefined;
    // Another process may have found the new file, and have made a semaphore for it.
    const isUnused = file.created && file.isSole() && this.#libc.c.semget(file.key, 1, 0) === -1;
    if (isUnused) file.unlink();
    try {
      return this.#openAt(lost, mode, true);
    } finally {
      if (this.#file !== lost) lost.close();
    }
  }

  /** `null` if somebody made or removed the semaphore at the same time. */
  #openAt(file: KeyFile, mode: SystemSemaphoreMode, isLost = false): "open" | "taken" | null {
    const { c } = this.#libc;
    const mayInherit = !this.isSegmentLock && !file.created && mode === SystemSemaphoreMode.Open;
    if (mayInherit) this.#oldMark = this.#mark(file).read();
    // Whoever deletes the file has LOCK_EX of it; only for a moment, but if it is another program.
    if (!this.isSegmentLock && !file.share()) return null;
    // A file that was just made has none, unless it was found between these two steps.
    let id = file.created ? -1 : c.semget(file.key, 1, ACCESS);
    let errno = file.created ? ENOENT : id === -1 ? this.#libc.errno() : 0;
    const make = errno === ENOENT;
    if (make) {
      if (isLost) return null;
      const opened = this.#openLost(file, mode);
      if (opened !== undefined) return opened;
      // Its maker relies on it before it relies on the segment's.
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
      // The key file was deleted after we looked it up: nobody else will find this one.
      c.semctl(id, 0, IPC_RMID, 0n);
      return null;
    }
    this.#file = file;
    this.id = id;
    this.isOwner = owner;
    if (!this.isSegmentLock) file.noteSemaphoreUse();
    else if (this.#path.isExplicit) file.unshare(); // it is the segment's too
    return result;
  }

  /** Whether the file may be replaced, as its number is that of another key. */
  #isInDoubt(file: KeyFile): boolean {
    if (!file.isNew) return false;
    return file.isInDoubt(changeTimeOf(this.#libc, "sem", file.key) ?? Infinity);
  }

  /** Sets the value. Until then that of a new one is 0, and whoever comes in between waits for it. */
  #initialize(id: number, isNew: boolean): "open" | "taken" | null {
    const { c } = this.#libc;
    const take = isNew && this.isSegmentLock;
    const result = take
      ? this.operations.takeOver.apply(id)
      : c.semctl(id, 0, this.#libc.constants.SETVAL, BigInt(this.#initialValue));
    if (result === 0) return take ? "taken" : "open";
    const errno = this.#libc.errno();
    if (errno === EAGAIN) return "open"; // somebody set it since
    if (this.#saysRemoved(errno, id)) return null;
    if (isNew) c.semctl(id, 0, IPC_RMID, 0n);
    throw failure(take ? "semop" : "semctl", errno, this.#errors, this.nativeKey);
  }

  /** macOS says EINVAL too if there is no room to note what is to be undone, as in sysv_sem.c. */
  #saysRemoved(errno: number, id = this.id): boolean {
    if (errno !== EINVAL || this.#libc.os !== "darwin") return errno === EINVAL || errno === EIDRM;
    return this.#get("GETPID", id) === -1;
  }

  #get(command: "GETPID" | "GETVAL", id = this.id): number {
    return this.#libc.c.semctl(id, 0, this.#libc.constants[command], 0n);
  }

  /** That nobody else may change it; `false` if it is gone. */
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
      this.#libc.c.semctl(id, 0, IPC_RMID, 0n); // as who was killed was about to
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
      giveBack.apply(id); // closed or made again meanwhile
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

  /** How many there may be more, as far as the system does not see to it: macOS would go on from 0. */
  #room(): number {
    if (this.#libc.os !== "darwin") return SEMVMX;
    return SEMVMX - Math.max(0, this.#get("GETVAL"));
  }

  /** A lock that somebody reset or removed is not ours any more: adding 1 would let two in. */
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
   * Takes a lock whose value a peer has reset, and makes the kernel forget whatever the processes did to
   * it: what it would take back from them, when they end, would be taken from another holder.
   */
  #repairValue(value: number): boolean {
    if (this.operations.repairValue(value).apply(this.id) !== 0) return false;
    this.#libc.c.semctl(this.id, 0, this.#libc.constants.SETVAL, 0n);
    return this.operations.takeOver.apply(this.id) === 0;
  }

  /** `semop` with everything that can happen to it; `false` after the timeout. */
  #modify(step: number, timeoutMs = Infinity): boolean {
    if (this.id === -1 && this.open(SystemSemaphoreMode.Open)) return true; // without a look at the clock
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
        this.#drop(); // removed: Qt's answer, and ours, is to make it again
      } else if (errno === ERANGE && flags === SEM_UNDO) {
        // The kernel counts only so many unmatched steps of a process; past that the semaphore goes
        // on without undoing them. If the value itself is at its end, the next try says so again.
        flags = 0;
      } else if (errno !== EINTR && (OWN_ERRORS.has(errno) || ++foreign > FOREIGN_ATTEMPTS)) {
        throw failure("semop", errno, this.#errors, this.nativeKey);
      }
    }
  }

  /**
   * Whether a wait without a timeout may last in the kernel for as long as it takes, where others are a
   * row of tries: after a first try, and not for a lock that nobody who lives gives back.
   */
  #mayBlock(left: number, slice: number): boolean {
    return this.#waits.arePolled && left === Infinity && slice > 0 && this.#suspect.id === -1;
  }

  /** Puts a lock right whose value peers or crashes have wrecked. */
  #repair(): "held" | "repaired" | "taken" {
    const value = this.#get("GETVAL");
    if (value > 1) {
      // Qt's create() sets 1 while somebody holds the lock, who then adds 1.
      if (this.#file?.isCurrent()) return this.#repairValue(value) ? "taken" : "repaired";
      this.#libc.c.semctl(this.id, 0, IPC_RMID, 0n); // as who was killed was about to
      return "repaired";
    }
    if (value < 0) return this.#libc.errno() === EACCES ? "held" : "repaired"; // else it is removed
    if (value !== 0 || !this.#isAbandoned()) return "held";
    return this.#takeAbandoned(() => this.#isAbandoned() && this.#forgetOwn()) ? "taken" : "held";
  }

  /**
   * Whether the value has been 0 for a while though nobody can hold the lock: it was never taken since
   * it was made, or whoever changed it last is dead, which gives back what he held; unless another's
   * reset made the kernel forget. What the program that this process was before has left is so at once.
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
   * Whether the process that changed the value last can have what it took. `"gone"`: it has ended, or another has
   * its pid. `"replaced"`: it is this one, before `exec` replaced the program in it.
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
   * Before this process takes over what it took as another program: makes the kernel forget that it is to give that
   * back at the end, which it would do twice then. Returns `true`.
   */
  #forgetOwn(): true {
    const { c, constants } = this.#libc;
    if (this.#lastUser() === c.getpid()) c.semctl(this.id, 0, constants.SETVAL, 0n);
    return true;
  }

  /** The process that changed the value last; 0 if nobody did or he is of another pid namespace. */
  #lastUser(): number {
    return Math.max(0, this.#get("GETPID"));
  }

  #isUnused(): boolean {
    return this.#readStatus() && wasNeverUsed(this.#libc, this.operations.hasTimeOfUse);
  }

  /** Of several that find the lock nobody's only one takes it. */
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
    // Of a process in another pid namespace it is not known whether it lives.
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
    return time !== null && isOlderThanProgram(time); // the kernel rounds it down: it may also have been later
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
   * Removes the semaphore, and the key file with it if nobody else relies on that: the file first, so that whoever
   * still finds it finds the semaphore, and learns that it is gone. If this process is killed in between, the
   * semaphore has a mark by which it is found, and a lock a value at which its users see that they are to make
   * another one.
   *
   * @param mark what may be noted about it
   */
  #remove(isSole: boolean, mark?: Mark): void {
    const { c } = this.#libc;
    const file = this.#file!;
    const { isExplicit } = this.#path;
    // The file of a chosen key is the segment's too. Others may use the lock as a semaphore.
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
    mark?.clear(); // last: whoever is killed before leaves the semaphore to those who find the mark, or a mark alone
    this.#drop();
  }

  #markRemoved(): boolean {
    return this.operations.markRemoved(this.id, this.#libc.ownUid(), this.#path.permissions);
  }

  /** Whether another program removed it, and a third made one. */
  #isReplaced(file: KeyFile): boolean {
    const found = this.#libc.c.semget(file.key, 1, 0);
    return found !== -1 && found !== this.id;
  }

  /** Whether this user may remove it, which is known of what is not shared on purpose. */
  #isOwn(): boolean {
    if (!isShared(this.#path.permissions) || !this.#readStatus()) return true;
    const user = this.#libc.currentUid();
    return user === 0 || this.operations.users.includes(user);
  }

  /**
   * Qt's owner removes it whoever uses it. Ours leaves that to the last of us: whoever lets go of LOCK_SH
   * after the mark was set, and then gets LOCK_EX. Nobody takes LOCK_EX but to remove: whoever opens it
   * at that moment waits for LOCK_SH.
   *
   * Only a mark that was set since this object opened the semaphore can mean that: an older one may be of another
   * namespace that is gone. So who leaves and is not the last sets it anew, for those who have come since.
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
      // The others may have left before they could see it.
      if (!file.isSole()) {
        if (!this.#readStatus()) mark.clear(); // the last one has just removed it
        return;
      }
    }
    this.#remove(this.#isSegmentUnused(), mark);
  }

  #mark(file: KeyFile): Mark {
    return new Mark(this.#libc, "inherited", file.key);
  }

  /** Sets the mark for the last of us; without one, which a full disk can prevent, the semaphore stays. */
  #offer(mark: Mark): void {
    try {
      mark.set(semaphoreText(this.id));
    } catch (error) {
      if (!(error instanceof BackendError)) throw error;
    }
  }

  /** Whether nobody relies on the key file of the segment whose lock this may be. */
  #isSegmentUnused(): boolean {
    if (this.#path.isExplicit) return true; // it is the same
    try {
      const path = { ...this.#path, path: segmentPath(this.nativeKey) };
      const segment = KeyFile.open(this.#libc, path);
      const isUnused = segment === null || segment.isSole();
      segment?.close();
      return isUnused;
    } catch (error) {
      // A name that is too long for a segment, or a file that is another user's.
      if (error instanceof BackendError) return error.code === "KeyError";
      throw error;
    }
  }

  /** `false` if there is no such semaphore any more. */
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

  /** Removes a semaphore that nobody uses, and its key file, as its last user would. */
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

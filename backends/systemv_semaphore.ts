import { SystemSemaphoreMode } from "../errors.ts";
import {
  IPC_CREAT,
  IPC_EXCL,
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  SEM_UNDO,
} from "./constants.ts";
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
  EPERM,
  ERANGE,
  type ErrnoTable,
  errnoText,
  Failure,
  failure,
  othersText,
} from "./errno.ts";
import { FOREIGN_ATTEMPTS, type Libc } from "./libc.ts";
import { KeyFile, type KeyPath, PROJECT_ID } from "./systemv_key_file.ts";
import { BACKGROUND_SLICE_MS, nextPause, pause, sleep, SLICE_MS } from "./pause.ts";
import { limitsOf } from "./systemv_limits.ts";
import { type Operation, Operations } from "./systemv_operations.ts";
import { ownerOf } from "./systemv_owner.ts";
import { REMOVING, sweepOnce } from "./systemv_sweep.ts";
import { changeTimeOf, wasNeverUsed } from "./systemv_tables.ts";
import { DOUBT_MS, TakenNumbers } from "./systemv_taken_numbers.ts";
import { type Waits, waitsOf } from "./systemv_wait.ts";
import { isShared, type Lock, PRIVATE, type Semaphore, type SemaphoreBackend } from "./types.ts";

/** The largest value, and the largest step, of a System V semaphore. */
const SEMVMX = 32767;

/** To open, read and change, whichever class of user this one is. */
const ACCESS = 0o600;
/** A mode bit that means nothing to the kernel: whoever is the last of us removes the semaphore. */
const INHERITED = 0o100;
/** A race with somebody who removes and makes the semaphore is lost only so often in a row. */
const OPEN_ATTEMPTS = 1000;
/** How long a lock is nobody's before it is taken over. */
const ABANDONED_MS = 1000;
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
  // `declare` and no `#` for what each lock and unlock reads: see sync/place.ts. They call `semop` themselves, as
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
  declare private readonly guard: boolean;
  /** How many calls on other threads wait, by identity. */
  readonly #inFlight: Map<string, number>;
  readonly #errors: ErrnoTable;
  #file: KeyFile | null = null;
  private id = -1;
  isOwner = false;
  /** The process that last changed a lock which seems to be nobody's, and since when it does. */
  #suspect = { id: -1, pid: 0, since: 0 };
  /** How long an asynchronous wait pauses next, in ms. */
  #pauseMs = 0;

  constructor(
    libc: Libc,
    operations: Operations,
    waits: Waits,
    inFlight: Map<string, number>,
    path: KeyPath,
    value: number,
    guard: boolean,
    errors: ErrnoTable,
  ) {
    this.#libc = libc;
    this.semop = libc.c.semop;
    this.#inFlight = inFlight;
    this.operations = operations;
    this.#waits = waits;
    this.#path = path;
    this.#initialValue = value;
    this.guard = guard;
    this.tryDown = guard ? operations.tryLock : operations.tryDown;
    this.identity = `${path.projectId} ${path.path}`;
    this.#errors = errors;
  }

  get nativeKey(): string {
    return this.#path.path;
  }

  /** Returns whether it is taken too: a lock that did not exist is made so. */
  open(mode: SystemSemaphoreMode): boolean {
    const numbers = new TakenNumbers(this.#libc);
    try {
      for (let attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
        const result = this.#tryOpen(mode, numbers);
        if (result !== null) return result === "taken";
      }
    } finally {
      numbers.close();
    }
    throw new Failure(
      "UnknownError",
      `the semaphore of ${this.nativeKey} is removed again and again`,
    );
  }

  /** `null` if it has to be tried again. */
  #tryOpen(mode: SystemSemaphoreMode, numbers: TakenNumbers): "open" | "taken" | null {
    const file = KeyFile.create(this.#libc, this.#path);
    let isKept = false;
    try {
      const result = this.#openAt(file, mode);
      isKept = result === null ? numbers.add(file, "sem") : true;
      return result;
    } catch (error) {
      if (file.created) file.unlink();
      throw error;
    } finally {
      if (!isKept) file.close();
    }
  }

  /** `null` if somebody made or removed the semaphore at the same time. */
  #openAt(file: KeyFile, mode: SystemSemaphoreMode): "open" | "taken" | null {
    const { c } = this.#libc;
    // A file that was just made has none, unless it was found between these two steps.
    let id = file.created ? -1 : c.semget(file.key, 1, ACCESS);
    let errno = file.created ? ENOENT : id === -1 ? this.#libc.errno() : 0;
    const make = errno === ENOENT;
    if (make) {
      sweepOnce(this.#libc);
      // The file may be deleted by now, even if it was just made: who is killed before he knows leaves the mark.
      id = c.semget(file.key, 1, this.#path.permissions | REMOVING | IPC_CREAT | IPC_EXCL);
      errno = id === -1 ? this.#libc.errno() : 0;
      if (errno === EEXIST) return null;
    }
    if (errno === EACCES) throw this.#othersFailure(ownerOf(this.#libc, "sem", file.key), errno);
    if (errno !== 0) throw failure("semget", errno, this.#errors, this.nativeKey);
    if (!make && file.checkedId !== id) {
      if (this.#isInDoubt(file)) {
        sleep(DOUBT_MS);
        return null;
      }
      if (!this.#check(id, file)) return null;
    }
    const owner = make || mode === SystemSemaphoreMode.Create;
    const result = owner ? this.#initialize(id, make) : "open";
    if (result === null) return null;
    if (make && !this.#unmark(id, file, file.created && result === "taken")) {
      // Somebody deleted the key file after we looked it up: nobody else will find this one.
      c.semctl(id, 0, IPC_RMID, 0n);
      return null;
    }
    this.#file = file;
    this.id = id;
    this.isOwner = owner;
    // The flock tells the others of us that it is in use, and ends with the process at the latest.
    if (!this.guard) file.flock(LOCK_SH | LOCK_NB);
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
    const take = isNew && this.guard;
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
    const user = this.#libc.c.geteuid();
    const other = this.operations.users.find((uid) => uid !== user);
    if (other !== undefined) throw this.#othersFailure(this.#libc.userName(other));
    // Who marked it was killed before he could delete the file; or he is about to, and it is left to him.
    const isMarked = (this.operations.mode & REMOVING) !== 0;
    if (!isMarked || this.#unmark(id, file)) file.checkedId = id;
    return true;
  }

  #othersFailure(owner: string, errno?: number): Failure {
    const call = errno === undefined ? "" : ` [semget ${this.nativeKey}: ${errnoText(errno)}]`;
    const text = othersText(this.guard ? "lock" : "semaphore", owner, "key or a TMPDIR");
    return new Failure("PermissionDenied", text + call, "semget", errno);
  }

  acquire(timeoutMs = Infinity): boolean {
    const { id, tryDown } = this;
    if (id !== -1 && this.semop(id, tryDown.steps, tryDown.count) === 0) return true;
    return this.#modify(-1, timeoutMs);
  }

  async acquireInBackground(): Promise<boolean> {
    if (this.acquire(0)) {
      this.#pauseMs = 0;
      return true;
    }
    if (this.#waits.arePolled) {
      this.#pauseMs = nextPause(this.#pauseMs);
      await pause(this.#pauseMs);
      return false;
    }
    const id = this.id;
    const { lock, down, slice } = this.operations;
    const { steps, count } = this.guard ? lock : down;
    const { semtimedop } = this.#libc.background;
    const inFlight = this.#inFlight;
    inFlight.set(this.identity, (inFlight.get(this.identity) ?? 0) + 1);
    let result: number;
    try {
      result = await semtimedop(id, steps, count, slice);
    } finally {
      const others = inFlight.get(this.identity)! - 1;
      if (others > 0) inFlight.set(this.identity, others);
      else inFlight.delete(this.identity);
    }
    if (this.id === id) return result === 0 || this.acquire(0); // which meets what went wrong
    // Closed or made again meanwhile: what was taken is given back.
    if (result === 0 && this.guard) this.operations.unlock.apply(id);
    else if (result === 0) this.operations.step(1, SEM_UNDO).apply(id);
    return false;
  }

  release(count = 1): void {
    if (!this.guard) return this.#add(count);
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
    if (value > 0 && this.#settle(value)) {
      this.operations.unlock.apply(this.id);
    }
  }

  /**
   * Takes a lock whose value a peer has reset, and makes the kernel forget whatever the processes did to
   * it: what it would take back from them, when they end, would be taken from another holder.
   */
  #settle(value: number): boolean {
    if (this.operations.settle(value).apply(this.id) !== 0) return false;
    this.#libc.c.semctl(this.id, 0, this.#libc.constants.SETVAL, 0n);
    return this.operations.takeOver.apply(this.id) === 0;
  }

  /** `semop` with everything that can happen to it; `false` after the timeout. */
  #modify(step: number, timeoutMs = Infinity): boolean {
    if (this.id === -1 && this.open(SystemSemaphoreMode.Open)) return true; // without a look at the clock
    const deadline = performance.now() + timeoutMs;
    const takesLock = this.guard;
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
        const state = this.guard ? this.#mend() : "held";
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
  #mend(): "held" | "mended" | "taken" {
    const value = this.#get("GETVAL");
    if (value > 1) {
      // Qt's create() sets 1 while somebody holds the lock, who then adds 1.
      if (this.#file?.isCurrent()) return this.#settle(value) ? "taken" : "mended";
      this.#libc.c.semctl(this.id, 0, IPC_RMID, 0n); // as who was killed was about to
      return "mended";
    }
    if (value < 0) return this.#libc.errno() === EACCES ? "held" : "mended"; // else it is removed
    const abandoned = () => this.#isAbandoned();
    return value === 0 && abandoned() && this.#takeOver(abandoned) ? "taken" : "held";
  }

  /**
   * Whether the value has been 0 for a while though nobody can hold the lock: it was never taken since
   * it was made, or whoever changed it last is dead, which gives back what he held; unless another's
   * reset made the kernel forget.
   */
  #isAbandoned(): boolean {
    const pid = this.#lastUser();
    const alive = pid === 0 ? !this.#isUnused() : this.#libc.isRunning(pid);
    const { id, pid: suspect, since } = this.#suspect;
    if (!alive && id === this.id && suspect === pid) {
      return performance.now() - since >= ABANDONED_MS;
    }
    this.#suspect = { id: alive ? -1 : this.id, pid, since: performance.now() };
    return false;
  }

  /** The process that changed the value last; 0 if nobody did or he is of another pid namespace. */
  #lastUser(): number {
    return Math.max(0, this.#get("GETPID"));
  }

  #isUnused(): boolean {
    return this.#readStatus() && wasNeverUsed(this.#libc, this.operations.hasTimeOfUse);
  }

  /** Of several that find the lock nobody's only one takes it. */
  #takeOver(mayTake: () => boolean): boolean {
    const file = this.#file;
    if (file === null || !file.flock(LOCK_EX | LOCK_NB)) return false;
    try {
      return mayTake() && this.operations.takeOver.apply(this.id) === 0;
    } finally {
      file.flock(LOCK_UN);
    }
  }

  recover(stale: () => boolean, timeoutMs: number): boolean {
    if (this.acquire(Math.min(RECOVERY_MS, timeoutMs))) return true;
    if (timeoutMs < RECOVERY_MS) return false;
    // Of a process in another pid namespace it is not known whether it lives.
    return this.#takeOver(() => this.#lastUser() === 0 && stale());
  }

  holder(): number | null {
    if (this.id === -1 || this.#get("GETVAL") !== 0) return null;
    return this.#lastUser() || null;
  }

  isHeldHere(): boolean {
    return this.holder() === this.#libc.c.getpid();
  }

  mayBePending(): boolean {
    return (this.#inFlight.get(this.identity) ?? 0) > 0 && this.isHeldHere();
  }

  bequeath(held: boolean): void {
    // The key file of a chosen key is the segment's too.
    if (this.isOwner && (held || this.acquire(0))) this.#remove(!this.#path.isNative);
    else if (held) this.release();
  }

  remove(): void {
    this.#remove(true);
  }

  /**
   * In this order: whoever still finds the file finds the semaphore, and learns that it is gone. Who is
   * killed in between leaves a semaphore that nobody finds, but marked; and the lock that it was with a
   * value at which its users see that they are to make another one.
   */
  #remove(withFile: boolean): void {
    const { c } = this.#libc;
    const file = this.#file!;
    if (!this.guard) this.operations.touch.apply(this.id);
    const exists = this.#readStatus();
    const isAlone = this.#isAlone(file);
    const isMarked = !exists || this.#mark(isAlone ? REMOVING : INHERITED);
    if (!isAlone || !isMarked) {
      if (this.guard) this.release(); // another user's can only be left
    } else {
      if (this.guard) this.operations.undoTwice.apply(this.id);
      // If somebody else removed it, the file may have got another one since.
      if (withFile && (exists || c.semget(file.key, 0, 0) === -1)) file.unlink();
      if (c.semctl(this.id, 0, IPC_RMID, 0n) === -1 && this.guard) this.release();
    }
    this.#drop();
  }

  /**
   * Who deletes the file holds LOCK_EX of it, as the last one of a semaphore does already. Who wants it to stay
   * holds LOCK_SH: for a moment, and then he will be the last one, or since he uses the lock as a semaphore.
   */
  #isAlone(file: KeyFile): boolean {
    return !this.guard || file.flock(LOCK_EX | LOCK_NB);
  }

  /**
   * Qt's owner removes it whoever uses it. Ours leaves that to the last of us: whoever lets go of LOCK_SH
   * after the mark was made, and then gets LOCK_EX. Nobody takes LOCK_EX but to remove: who opens it
   * at that moment would be without LOCK_SH.
   */
  close(): void {
    const file = this.guard ? null : this.#file;
    const isToRemove = file !== null && (this.isOwner ? this.#offer() : this.#isOffered(file));
    if (isToRemove && file.flock(LOCK_EX | LOCK_NB)) this.remove();
    else this.#drop();
  }

  /** Marks it, for the last of us to remove; if somebody else removed it, the file is to go still. */
  #offer(): boolean {
    if (this.#readStatus()) this.#mark(INHERITED);
    return true;
  }

  /**
   * Clears the mark, as the file is there; `false` if it is not, or is just being deleted.
   *
   * @param isLocked whether this one has the lock, which whoever deletes the file has too
   */
  #unmark(id: number, file: KeyFile, isLocked = false): boolean {
    if (!isLocked && !file.flock(LOCK_SH | LOCK_NB)) return false;
    // A process that was stopped for long may find that it was swept.
    const isFound = file.isCurrent() && this.#readStatus(id);
    if (isFound) {
      this.operations.mode &= ~REMOVING;
      this.#libc.c.semctl(id, 0, IPC_SET, this.operations.status);
    }
    if (!isLocked) file.flock(LOCK_UN);
    return isFound;
  }

  /** Sets a mode bit in the status that was just read; `false` if this user may not. */
  #mark(bit: number): boolean {
    if ((this.operations.mode & bit) !== 0) return true;
    this.operations.mode |= bit;
    if (this.#libc.c.semctl(this.id, 0, IPC_SET, this.operations.status) === 0) return true;
    return this.#libc.errno() !== EPERM;
  }

  #isOffered(file: KeyFile): boolean {
    file.flock(LOCK_UN);
    return this.#readStatus() && (this.operations.mode & INHERITED) !== 0;
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
  readonly #inFlight = new Map<string, number>();
  readonly #errors: ErrnoTable;
  readonly #projectId: number;

  constructor(libc: Libc, projectId = PROJECT_ID) {
    this.#libc = libc;
    this.#projectId = projectId;
    this.#operations = new Operations(libc, BACKGROUND_SLICE_MS);
    this.#waits = waitsOf(libc, this.#operations);
    this.#errors = { ...ERRORS, ...limitsOf(libc.os).semaphores };
  }

  open(
    path: string,
    initialValue: number,
    mode: SystemSemaphoreMode,
    isNative = false,
  ): Semaphore {
    const keyPath = { path, permissions: PRIVATE, isNative, projectId: this.#projectId };
    const semaphore = this.#semaphore(keyPath, initialValue, false);
    semaphore.open(mode);
    return semaphore;
  }

  lock(path: string, permissions = PRIVATE, isNative = false): Lock {
    return this.#semaphore({ path, permissions, isNative, projectId: this.#projectId }, 1, true);
  }

  #semaphore(path: KeyPath, value: number, guard: boolean): SystemVSemaphore {
    return new SystemVSemaphore(
      this.#libc,
      this.#operations,
      this.#waits,
      this.#inFlight,
      path,
      value,
      guard,
      this.#errors,
    );
  }
}

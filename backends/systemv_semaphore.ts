import { SystemSemaphoreMode } from "../errors.ts";
import {
  IPC_CREAT,
  IPC_EXCL,
  IPC_NOWAIT,
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  SEM_UNDO,
  SEMID_DS,
  SETVAL,
} from "./constants.ts";
import {
  EACCES,
  EAGAIN,
  EEXIST,
  EIDRM,
  EINTR,
  EINVAL,
  ENOENT,
  ENOSPC,
  ERANGE,
  type ErrnoTable,
  Failure,
  failure,
} from "./errno.ts";
import type { Libc } from "./libc.ts";
import { KeyFile } from "./systemv_key_file.ts";
import type { Lock, Semaphore, SemaphoreBackend } from "./types.ts";

/** SEMVMX: the largest value, and the largest step, of a System V semaphore. */
export const SEMAPHORE_VALUE_MAX = 32767;

const MODE = 0o600;
/** A mode bit that means nothing to the kernel: whoever is the last of us removes the semaphore. */
const INHERITED = 0o100;
/** A race with somebody who removes and makes the semaphore is lost only so often in a row. */
const OPEN_ATTEMPTS = 1000;
/** How long a lock that nobody can hold is waited for before it is taken over. */
const RECOVERY_MS = 1000;

const ERRORS: ErrnoTable = {
  [EACCES]: [
    "PermissionDenied",
    "permission denied: the semaphore belongs to another user; use a key or a TMPDIR of your own",
  ],
  [ENOSPC]: [
    "OutOfResources",
    "the system's limit of semaphores is reached; raise kernel.sem (its 4th and 2nd number), or " +
    "look for stale ones with `ipcs -s` and remove them with `ipcrm -s ID`",
  ],
  [ERANGE]: [
    "OutOfResources",
    `the semaphore's value would pass its maximum of ${SEMAPHORE_VALUE_MAX}`,
  ],
};

const STEP_OFFSET = 6;
const TIMESPEC_OFFSET = 48;
const STATUS_OFFSET = 64;

/** The structures that calls point to, in C memory, as that is the fastest. */
class Operations {
  readonly down: bigint;
  readonly unlock: bigint;
  readonly takeOver: bigint;
  readonly timespec: bigint;
  readonly status: bigint;
  readonly #step: bigint;
  readonly #view: DataView;

  constructor(libc: Libc) {
    const { address, view } = libc.allocate(STATUS_OFFSET + SEMID_DS.bytes);
    this.#view = view;
    this.down = this.#sembuf(address, 0, -1, SEM_UNDO);
    this.#step = address + BigInt(STEP_OFFSET);
    // As one atomic call: if the value is 0 still, add 1.
    this.unlock = this.#sembuf(address, 12, 0, IPC_NOWAIT);
    this.#sembuf(address, 18, 1, SEM_UNDO);
    // As one atomic call: if the value is 0, be the one for whom it is 0, with the kernel's undo.
    this.takeOver = this.#sembuf(address, 24, 0, IPC_NOWAIT);
    this.#sembuf(address, 30, 1, 0);
    this.#sembuf(address, 36, -1, SEM_UNDO);
    this.timespec = address + BigInt(TIMESPEC_OFFSET);
    this.status = address + BigInt(STATUS_OFFSET);
  }

  /** A step that is not the usual one. */
  step(count: number, flags: number): bigint {
    this.#sembuf(0n, STEP_OFFSET, count, flags);
    return this.#step;
  }

  setTimeout(ms: number): void {
    const seconds = Math.trunc(ms / 1000);
    this.#view.setBigInt64(TIMESPEC_OFFSET, BigInt(seconds), true);
    this.#view.setBigInt64(
      TIMESPEC_OFFSET + 8,
      BigInt(Math.trunc((ms - seconds * 1000) * 1e6)),
      true,
    );
  }

  /** `sem_perm.mode` of what IPC_STAT wrote to `status`. */
  get mode(): number {
    return this.#view.getUint16(STATUS_OFFSET + SEMID_DS.mode, true);
  }

  set mode(mode: number) {
    this.#view.setUint16(STATUS_OFFSET + SEMID_DS.mode, mode, true);
  }

  /** `{ sem_num: 0, sem_op, sem_flg }` at `offset`. */
  #sembuf(base: bigint, offset: number, op: number, flags: number): bigint {
    this.#view.setUint16(offset, 0, true);
    this.#view.setInt16(offset + 2, op, true);
    this.#view.setInt16(offset + 4, flags, true);
    return base + BigInt(offset);
  }
}

/** A set of one semaphore, found by Qt's rules through its key file. */
class SystemVSemaphore implements Lock {
  readonly #libc: Libc;
  readonly #operations: Operations;
  readonly #path: string;
  readonly #initialValue: number;
  /** The lock of a segment: removed together with the segment, not by its owner. */
  readonly #guard: boolean;
  #file: KeyFile | null = null;
  #id = -1;
  #owner = false;

  constructor(libc: Libc, operations: Operations, path: string, value: number, guard: boolean) {
    this.#libc = libc;
    this.#operations = operations;
    this.#path = path;
    this.#initialValue = value;
    this.#guard = guard;
  }

  open(mode: SystemSemaphoreMode): void {
    for (let attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
      const file = KeyFile.open(this.#libc, this.#path) ?? KeyFile.create(this.#libc, this.#path);
      try {
        if (this.#tryOpen(file, mode)) return;
      } catch (error) {
        if (file.created) file.unlink();
        throw error;
      } finally {
        if (this.#file !== file) file.close();
      }
    }
    throw new Failure("UnknownError", `the semaphore of ${this.#path} is removed again and again`);
  }

  /** `false` if somebody made or removed the semaphore at the same time. */
  #tryOpen(file: KeyFile, mode: SystemSemaphoreMode): boolean {
    const { c } = this.#libc;
    let id = c.semget(file.key, 1, MODE);
    let errno = id === -1 ? this.#libc.errno() : 0;
    const make = errno === ENOENT;
    if (make) {
      id = c.semget(file.key, 1, MODE | IPC_CREAT | IPC_EXCL);
      errno = id === -1 ? this.#libc.errno() : 0;
      if (errno === EEXIST) return false;
    }
    if (errno !== 0) throw failure("semget", errno, ERRORS, this.#path);
    const owner = make || mode === SystemSemaphoreMode.Create;
    // Until it is set the value of a new one is 0, and whoever comes in between waits for it.
    if (owner && c.semctl(id, 0, SETVAL, BigInt(this.#initialValue)) === -1) {
      errno = this.#libc.errno();
      if (errno === EINVAL || errno === EIDRM) return false;
      if (make) c.semctl(id, 0, IPC_RMID, 0n);
      throw failure("semctl", errno, ERRORS, this.#path);
    }
    if (make && !file.isCurrent()) {
      // The last user deleted the key file after we looked it up: nobody else will find this one.
      c.semctl(id, 0, IPC_RMID, 0n);
      return false;
    }
    this.#file = file;
    this.#id = id;
    this.#owner = owner;
    // The flock tells the others of us that it is in use, and ends with the process at the latest.
    if (!this.#guard) file.flock(LOCK_SH | LOCK_NB);
    return true;
  }

  acquire(timeoutMs?: number): boolean {
    if (timeoutMs === undefined && this.#libc.c.semop(this.#id, this.#operations.down, 1n) === 0) {
      return true;
    }
    return this.#modify(-1, timeoutMs);
  }

  release(count = 1): void {
    if (count > SEMAPHORE_VALUE_MAX) throw failure("semop", ERANGE, ERRORS, this.#path);
    if (this.#guard) this.#unlock();
    else this.#modify(count);
  }

  /** A lock that somebody reset or removed is not ours any more: adding 1 would let two in. */
  #unlock(): void {
    if (this.#libc.c.semop(this.#id, this.#operations.unlock, 2n) === 0) return;
    const errno = this.#libc.errno();
    if (errno === EAGAIN || errno === EINVAL || errno === EIDRM) return;
    throw failure("semop", errno, ERRORS, this.#path);
  }

  /** `semop` with everything that can happen to it; `false` after the timeout. */
  #modify(step: number, timeoutMs = Infinity): boolean {
    const { c } = this.#libc;
    const deadline = performance.now() + timeoutMs;
    let flags = SEM_UNDO;
    for (;;) {
      if (this.#id === -1) this.open(SystemSemaphoreMode.Open);
      const operation = this.#operations.step(step, flags);
      let result: number;
      if (deadline === Infinity) {
        result = c.semop(this.#id, operation, 1n);
      } else {
        this.#operations.setTimeout(Math.max(0, deadline - performance.now()));
        result = c.semtimedop(this.#id, operation, 1n, this.#operations.timespec);
      }
      if (result === 0) return true;
      const errno = this.#libc.errno();
      if (errno === EAGAIN) return false;
      if (errno === EINVAL || errno === EIDRM) {
        this.#drop(); // removed: Qt's answer, and ours, is to make it again
      } else if (errno === ERANGE && flags === SEM_UNDO) {
        // The kernel counts only so many unmatched steps of a process; past that the semaphore goes
        // on without undoing them. If the value itself is at its end, the next try says so again.
        flags = 0;
      } else if (errno !== EINTR) {
        throw failure("semop", errno, ERRORS, this.#path);
      }
    }
  }

  recover(stale: () => boolean): boolean {
    if (this.#id === -1) this.open(SystemSemaphoreMode.Open);
    // Of several that find the lock stale only one may take it over; the others wait for that one.
    const alone = this.#file!.flock(LOCK_EX | LOCK_NB);
    try {
      if (this.acquire(RECOVERY_MS)) return true;
      if (!alone || !stale()) return false;
      return this.#libc.c.semop(this.#id, this.#operations.takeOver, 3n) === 0 || this.acquire(0);
    } finally {
      if (alone) this.#file?.flock(LOCK_UN);
    }
  }

  bequeath(held: boolean): void {
    if (this.#owner && (held || this.acquire(0))) this.remove();
    else if (held) this.#unlock();
  }

  remove(): void {
    // In this order: whoever still finds the file finds the semaphore, and learns that it is gone.
    this.#file?.unlink();
    if (this.#id !== -1) this.#libc.c.semctl(this.#id, 0, IPC_RMID, 0n);
    this.#drop();
  }

  /**
   * Qt's owner removes it whoever uses it. Ours leaves that to the last of us: whoever lets go of LOCK_SH
   * after the mark was made, and then gets LOCK_EX. Nobody takes LOCK_EX but to remove: who opens it
   * at that moment would be without LOCK_SH.
   */
  close(): void {
    const file = this.#guard ? null : this.#file;
    const isToRemove = file !== null && (this.#owner ? this.#offer(file) : this.#isOffered(file));
    if (isToRemove && file.flock(LOCK_EX | LOCK_NB)) this.remove();
    else this.#drop();
  }

  /** Marks it, for the last of us to remove. */
  #offer(file: KeyFile): boolean {
    // Somebody else removed it: then the file is to go, unless it has got another semaphore since.
    if (!this.#readMode()) return this.#libc.c.semget(file.key, 0, 0) === -1;
    if ((this.#operations.mode & INHERITED) === 0) {
      this.#operations.mode |= INHERITED;
      this.#libc.c.semctl(this.#id, 0, IPC_SET, this.#operations.status);
    }
    return true;
  }

  #isOffered(file: KeyFile): boolean {
    file.flock(LOCK_UN);
    return this.#readMode() && (this.#operations.mode & INHERITED) !== 0;
  }

  /** `false` if there is no such semaphore any more. */
  #readMode(): boolean {
    return this.#libc.c.semctl(this.#id, 0, IPC_STAT, this.#operations.status) === 0;
  }

  #drop(): void {
    this.#file?.close();
    this.#file = null;
    this.#id = -1;
  }
}

export class SystemVSemaphores implements SemaphoreBackend {
  readonly #libc: Libc;
  readonly #operations: Operations;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#operations = new Operations(libc);
  }

  open(nativeKey: string, initialValue: number, mode: SystemSemaphoreMode): Semaphore {
    const semaphore = new SystemVSemaphore(
      this.#libc,
      this.#operations,
      nativeKey,
      initialValue,
      false,
    );
    semaphore.open(mode);
    return semaphore;
  }

  lock(nativeKey: string): Lock {
    return new SystemVSemaphore(this.#libc, this.#operations, nativeKey, 1, true);
  }
}

import { IPC_NOWAIT, IPC_SET, SEM_UNDO } from "../unix/linux_constants.ts";
import type { Usize } from "../../ffi/types.ts";
import type { Libc } from "../unix/libc.ts";
import type { SystemConstants } from "../unix/constants.ts";
import { type Timespec, timespec } from "../unix/timespec.ts";

const SEMBUF_BYTES = 6;

/** The positions of the arrays of `struct sembuf`, counted in `sembuf`s. */
const DOWN = 0;
const TRY_DOWN = 2;
const UNLOCK = 4;
const TAKE_OVER = 6;
const REPAIR_VALUE = 9;
const UNDO_TWICE = 11;
const STEP = 13;
const UP = 14;
const FIRST_VALUE = 15;
const STATUS = 20 * SEMBUF_BYTES; // aligned to 8

/**
 * The group that a semaphore gets while it is removed. No system has a group with such a number: programs that assign
 * numbers stay below 2^31.
 */
export const REMOVED_GID = 0xf1697063;

/** An array of `struct sembuf`, which one atomic call applies to a semaphore. */
export class Operation {
  declare readonly steps: Usize;
  declare readonly count: Usize;
  readonly #semop: Libc["c"]["semop"];

  constructor({ c, ffi }: Libc, steps: bigint, count: bigint) {
    this.steps = ffi.usize(steps);
    this.count = ffi.usize(count);
    this.#semop = c.semop;
  }

  /** Applies the operation to the semaphore `id`. Returns 0, or -1 with `errno`. */
  apply(id: number): number {
    return this.#semop(id, this.steps, this.count);
  }
}

/** The structures that semaphore calls point to. They lie in C memory, as that is the fastest. */
export class Operations {
  /** Takes 1 from the value, and waits for it if necessary. */
  declare readonly down: Operation;
  /** Takes 1 from the value if it can do so without waiting. */
  declare readonly tryDown: Operation;
  /**
   * Takes 1, and requires that the value is 0 then. If a peer has raised the value above 1, taking 1 would let two
   * processes in.
   */
  declare readonly lock: Operation;
  /** Does the same as `lock`, but fails if it would have to wait. */
  declare readonly tryLock: Operation;
  /** Adds 1 to the value. */
  declare readonly up: Operation;
  /** Adds 1 if the value is still 0. */
  declare readonly unlock: Operation;
  /** Makes this process the one that took the lock, with the kernel's undo, if the value is 0. */
  declare readonly takeOver: Operation;
  /** Leaves the value unchanged, but makes the kernel add 1 more at the end of this process. */
  declare readonly undoTwice: Operation;
  /** The timeout of the wait that this thread is about to begin. */
  readonly timeout: Timespec;
  readonly status: bigint;
  readonly #semctl: Libc["c"]["semctl"];
  readonly #step: Operation;
  readonly #repairValue: Operation;
  readonly #firstValue: Operation;
  readonly #view: DataView;
  /** The offsets of the fields in the structure at `status`. */
  readonly #fields: SystemConstants["SEMID_DS"];

  constructor(libc: Libc) {
    const { SEMID_DS } = libc.constants;
    const { address, view } = libc.allocate(STATUS + SEMID_DS.bytes);
    this.#view = view;
    this.#fields = SEMID_DS;
    this.#semctl = libc.c.semctl;
    const operation = (index: number, ...steps: [op: number, flags: number][]) => {
      for (const [i, [op, flags]] of steps.entries()) this.#sembuf(index + i, op, flags);
      const begin = address + BigInt(index * SEMBUF_BYTES);
      return new Operation(libc, begin, BigInt(steps.length));
    };
    const isZero = [0, IPC_NOWAIT] as [number, number];
    this.lock = operation(DOWN, [-1, SEM_UNDO], isZero);
    this.down = operation(DOWN, [-1, SEM_UNDO]);
    this.tryLock = operation(TRY_DOWN, [-1, SEM_UNDO | IPC_NOWAIT], isZero);
    this.tryDown = operation(TRY_DOWN, [-1, SEM_UNDO | IPC_NOWAIT]);
    this.unlock = operation(UNLOCK, isZero, [1, SEM_UNDO]);
    this.takeOver = operation(TAKE_OVER, isZero, [1, 0], [-1, SEM_UNDO]);
    this.undoTwice = operation(UNDO_TWICE, [1, 0], [-1, SEM_UNDO]);
    this.#step = operation(STEP, [0, 0]);
    this.up = operation(UP, [1, SEM_UNDO]);
    this.#repairValue = operation(REPAIR_VALUE, isZero, isZero);
    this.#firstValue = operation(FIRST_VALUE, isZero, isZero);
    this.timeout = timespec(libc);
    this.status = address + BigInt(STATUS);
  }

  /** Returns the operation that adds `count` with these flags; the next call changes it. */
  step(count: number, flags: number): Operation {
    this.#sembuf(STEP, count, flags);
    return this.#step;
  }

  /** Returns the operation that sets the value to 0 if it is exactly `value`; the next call changes it. */
  repairValue(value: number): Operation {
    this.#sembuf(REPAIR_VALUE, -value, SEM_UNDO | IPC_NOWAIT);
    return this.#repairValue;
  }

  /** Returns the operation that sets the value to `value` if it is 0; the next call changes it. */
  firstValue(value: number): Operation {
    this.#sembuf(FIRST_VALUE + 1, value, IPC_NOWAIT); // a value that is too large would mean to wait
    return this.#firstValue;
  }

  /**
   * The user ids of the owner and the creator in the status that was just read. Both users may do anything to the
   * semaphore.
   */
  get users(): readonly [uid: number, cuid: number] {
    const { uid, cuid } = this.#fields;
    const view = this.#view;
    return [view.getUint32(STATUS + uid, true), view.getUint32(STATUS + cuid, true)];
  }

  /**
   * Notes in a semaphore that it is being removed. If this process is killed after it has deleted the key file,
   * `removeOrphanSemaphores()` finds the semaphore by this note. Returns `false` if the semaphore does not exist, or
   * in a user namespace without such a group.
   */
  markRemoved(id: number, uid: number, permissions: number): boolean {
    const fields = this.#fields;
    this.#view.setUint32(STATUS + fields.uid, uid, true);
    this.#view.setUint32(STATUS + fields.gid, REMOVED_GID, true);
    this.#view.setUint16(STATUS + fields.mode, permissions, true);
    return this.#semctl(id, 0, IPC_SET, this.status) === 0;
  }

  /** Whether the status that was just read has the note that the semaphore is being removed. */
  get isRemoved(): boolean {
    return this.#view.getUint32(STATUS + this.#fields.gid, true) === REMOVED_GID;
  }

  /**
   * Whether the status that was just read has a time of use: a `semop` has succeeded, or a process that had tried one
   * has ended.
   */
  get hasTimeOfUse(): boolean {
    return this.#view.getBigInt64(STATUS + this.#fields.otime, true) !== 0n;
  }

  /** Writes one `struct sembuf`: `{ sem_num: 0, sem_op, sem_flg }`. */
  #sembuf(index: number, op: number, flags: number): void {
    const offset = index * SEMBUF_BYTES;
    this.#view.setUint16(offset, 0, true);
    this.#view.setInt16(offset + 2, op, true);
    this.#view.setInt16(offset + 4, flags, true);
  }
}

import { IPC_NOWAIT, IPC_SET, SEM_UNDO } from "../unix/linux_constants.ts";
import type { Usize } from "../../ffi/types.ts";
import type { Libc } from "../unix/libc.ts";
import type { SystemConstants } from "../unix/constants.ts";
import { type Timespec, timespec } from "../unix/timespec.ts";

const SEMBUF_BYTES = 6;

/** Where each array of `struct sembuf` lies, in steps of a `sembuf`. */
const DOWN = 0;
const TRY_DOWN = 2;
const UNLOCK = 4;
const TAKE_OVER = 6;
const REPAIR_VALUE = 9;
const UNDO_TWICE = 11;
const STEP = 13;
const UP = 14;
const STATUS = 16 * SEMBUF_BYTES; // aligned to 8

/**
 * The group to which a semaphore is given while it is removed. No system has a group of such a number: programs that
 * assign numbers stay below 2^31.
 */
export const REMOVED_GID = 0xf1697063;

/** What one atomic call does to a semaphore: an array of `struct sembuf`. */
export class Operation {
  declare readonly steps: Usize;
  declare readonly count: Usize;
  readonly #semop: Libc["c"]["semop"];

  constructor({ c, ffi }: Libc, steps: bigint, count: bigint) {
    this.steps = ffi.usize(steps);
    this.count = ffi.usize(count);
    this.#semop = c.semop;
  }

  /** Does it to the semaphore `id`: 0, or -1 with `errno`. */
  apply(id: number): number {
    return this.#semop(id, this.steps, this.count);
  }
}

/** The structures that semaphore calls point to, in C memory, as that is the fastest. */
export class Operations {
  /** Take one of a semaphore. */
  declare readonly down: Operation;
  /** The same without waiting. */
  declare readonly tryDown: Operation;
  /** Take 1, and then the value must be 0: to take a lock whose value a peer has raised above 1 would let two in. */
  declare readonly lock: Operation;
  /** The same without waiting. */
  declare readonly tryLock: Operation;
  /** Give one of a semaphore back. */
  declare readonly up: Operation;
  /** If the value is 0 still, add 1. */
  declare readonly unlock: Operation;
  /** If the value is 0, be the one for whom it is 0, with the kernel's undo. */
  declare readonly takeOver: Operation;
  /** Nothing, but the end of this process adds 1 more. */
  declare readonly undoTwice: Operation;
  /** Of the wait that this thread is about to begin. */
  readonly timeout: Timespec;
  readonly status: bigint;
  readonly #semctl: Libc["c"]["semctl"];
  readonly #step: Operation;
  readonly #repairValue: Operation;
  readonly #view: DataView;
  /** Where what is in the structure at `status`. */
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
    this.timeout = timespec(libc);
    this.status = address + BigInt(STATUS);
  }

  /** A step that is not the usual one. */
  step(count: number, flags: number): Operation {
    this.#sembuf(STEP, count, flags);
    return this.#step;
  }

  /** If the value is exactly `value`, make it 0. */
  repairValue(value: number): Operation {
    this.#sembuf(REPAIR_VALUE, -value, IPC_NOWAIT);
    return this.#repairValue;
  }

  /** Its owner and its maker, who both may do anything to it. */
  get users(): readonly [uid: number, cuid: number] {
    const { uid, cuid } = this.#fields;
    const view = this.#view;
    return [view.getUint32(STATUS + uid, true), view.getUint32(STATUS + cuid, true)];
  }

  /**
   * Notes in a semaphore that it is being removed. If this process is killed after it has deleted the key file,
   * `removeOrphanSemaphores()` finds the semaphore by that. `false` if there is no such semaphore, and in a user namespace without
   * such a group.
   */
  markRemoved(id: number, uid: number, permissions: number): boolean {
    const fields = this.#fields;
    this.#view.setUint32(STATUS + fields.uid, uid, true);
    this.#view.setUint32(STATUS + fields.gid, REMOVED_GID, true);
    this.#view.setUint16(STATUS + fields.mode, permissions, true);
    return this.#semctl(id, 0, IPC_SET, this.status) === 0;
  }

  /** Whether that was noted in it. */
  get isRemoved(): boolean {
    return this.#view.getUint32(STATUS + this.#fields.gid, true) === REMOVED_GID;
  }

  /** Whether any `semop` ever succeeded, or a process ended that had tried one. */
  get hasTimeOfUse(): boolean {
    return this.#view.getBigInt64(STATUS + this.#fields.otime, true) !== 0n;
  }

  /** `{ sem_num: 0, sem_op, sem_flg }` */
  #sembuf(index: number, op: number, flags: number): void {
    const offset = index * SEMBUF_BYTES;
    this.#view.setUint16(offset, 0, true);
    this.#view.setInt16(offset + 2, op, true);
    this.#view.setInt16(offset + 4, flags, true);
  }
}

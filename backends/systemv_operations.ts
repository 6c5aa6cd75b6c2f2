import { IPC_NOWAIT, SEM_UNDO } from "./constants.ts";
import type { Libc } from "./libc.ts";
import type { SystemConstants } from "./system.ts";

const SEMBUF_BYTES = 6;
const TIMESPEC_BYTES = 16;

/** Where each array of `struct sembuf` lies, in steps of a `sembuf`. */
const DOWN = 0;
const TRY_DOWN = 2;
const UNLOCK = 4;
const TAKE_OVER = 6;
const SETTLE = 9;
const TOUCH = 11;
const UNDO_TWICE = 13;
const STEP = 15;
const TIMESPEC = 16 * SEMBUF_BYTES; // aligned to 8
const SLICE = TIMESPEC + TIMESPEC_BYTES;
const STATUS = SLICE + TIMESPEC_BYTES;

/** The structures that semaphore calls point to, in C memory, as that is the fastest. */
export class Operations {
  /**
   * As one atomic call: take 1, and then the value must be 0. What takes a lock whose value a peer has
   * raised above 1 would let two in. The first of the two alone takes one of a semaphore.
   */
  readonly down: bigint;
  /** The same without waiting. */
  readonly tryDown: bigint;
  /** As one atomic call: if the value is 0 still, add 1. */
  readonly unlock: bigint;
  /** As one atomic call: if the value is 0, be the one for whom it is 0, with the kernel's undo. */
  readonly takeOver: bigint;
  /** As one atomic call: nothing, but the kernel notes that this process did it. */
  readonly touch: bigint;
  /** As one atomic call: nothing, but the end of this process adds 1 more. */
  readonly undoTwice: bigint;
  readonly timespec: bigint;
  /** The time that a wait on another thread lasts at most. */
  readonly slice: bigint;
  readonly status: bigint;
  readonly #address: bigint;
  readonly #view: DataView;
  /** Where what is in the structure at `status`. */
  readonly #fields: SystemConstants["SEMID_DS"];

  constructor(libc: Libc, sliceMs: number) {
    const { SEMID_DS } = libc.constants;
    const { address, view } = libc.allocate(STATUS + SEMID_DS.bytes);
    this.#address = address;
    this.#view = view;
    this.#fields = SEMID_DS;
    this.down = this.#sembuf(DOWN, -1, SEM_UNDO);
    this.#sembuf(DOWN + 1, 0, IPC_NOWAIT);
    this.tryDown = this.#sembuf(TRY_DOWN, -1, SEM_UNDO | IPC_NOWAIT);
    this.#sembuf(TRY_DOWN + 1, 0, IPC_NOWAIT);
    this.unlock = this.#sembuf(UNLOCK, 0, IPC_NOWAIT);
    this.#sembuf(UNLOCK + 1, 1, SEM_UNDO);
    this.takeOver = this.#sembuf(TAKE_OVER, 0, IPC_NOWAIT);
    this.#sembuf(TAKE_OVER + 1, 1, 0);
    this.#sembuf(TAKE_OVER + 2, -1, SEM_UNDO);
    this.touch = this.#sembuf(TOUCH, 1, 0);
    this.#sembuf(TOUCH + 1, -1, 0);
    this.undoTwice = this.#sembuf(UNDO_TWICE, 1, 0);
    this.#sembuf(UNDO_TWICE + 1, -1, SEM_UNDO);
    this.timespec = address + BigInt(TIMESPEC);
    this.slice = this.#time(SLICE, sliceMs);
    this.status = address + BigInt(STATUS);
  }

  /** A step that is not the usual one. */
  step(count: number, flags: number): bigint {
    return this.#sembuf(STEP, count, flags);
  }

  /** As one atomic call: if the value is exactly `value`, make it 0. */
  settle(value: number): bigint {
    this.#sembuf(SETTLE + 1, 0, IPC_NOWAIT);
    return this.#sembuf(SETTLE, -value, IPC_NOWAIT);
  }

  setTimeout(ms: number): void {
    this.#time(TIMESPEC, ms);
  }

  /** `sem_perm.mode` of what IPC_STAT wrote to `status`. */
  get mode(): number {
    return this.#view.getUint16(STATUS + this.#fields.mode, true);
  }

  set mode(mode: number) {
    this.#view.setUint16(STATUS + this.#fields.mode, mode, true);
  }

  /** Its owner and its maker, who both may do anything to it. */
  get users(): readonly [uid: number, cuid: number] {
    const { uid, cuid } = this.#fields;
    const view = this.#view;
    return [view.getUint32(STATUS + uid, true), view.getUint32(STATUS + cuid, true)];
  }

  /** Whether any `semop` ever succeeded, or a process ended that had tried one. */
  get hasTimeOfUse(): boolean {
    return this.#view.getBigInt64(STATUS + this.#fields.otime, true) !== 0n;
  }

  /** `{ sem_num: 0, sem_op, sem_flg }` */
  #sembuf(index: number, op: number, flags: number): bigint {
    const offset = index * SEMBUF_BYTES;
    this.#view.setUint16(offset, 0, true);
    this.#view.setInt16(offset + 2, op, true);
    this.#view.setInt16(offset + 4, flags, true);
    return this.#address + BigInt(offset);
  }

  /** `struct timespec` */
  #time(offset: number, ms: number): bigint {
    const seconds = Math.trunc(ms / 1000);
    this.#view.setBigInt64(offset, BigInt(seconds), true);
    this.#view.setBigInt64(offset + 8, BigInt(Math.trunc((ms - seconds * 1000) * 1e6)), true);
    return this.#address + BigInt(offset);
  }
}

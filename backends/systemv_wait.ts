import { IPC_NOWAIT, SEM_UNDO } from "./constants.ts";
import type { Libc } from "./libc.ts";
import { nextPause, sleep, SLICE_MS } from "./pause.ts";
import type { Operations } from "./systemv_operations.ts";
import { setDuration } from "./timespec.ts";

/** What is to be done to the value of a semaphore. */
export interface Change {
  /** What is added. */
  readonly step: number;
  /** SEM_UNDO, or 0. */
  readonly flags: number;
  /** Whether it is to take a lock, whose value must be 0 then. */
  readonly takesLock: boolean;
}

/** How a system waits until a semaphore can be changed. */
export interface Waits {
  /** Whether a wait is a row of tries with pauses, unless it is one without a timeout. */
  readonly arePolled: boolean;
  /** How long to wait next, in ms: the first time, or after a wait of `ms`. */
  next(ms?: number): number;
  /** Makes a change within `ms`: 0, or the errno. Only if `arePolled`, `ms` may be infinite. */
  change(id: number, change: Change, ms: number): number;
}

/** Waits in the kernel, by `semtimedop`. */
class TimedWaits implements Waits {
  readonly arePolled = false;
  readonly #libc: Libc;
  readonly #operations: Operations;

  constructor(libc: Libc, operations: Operations) {
    this.#libc = libc;
    this.#operations = operations;
  }

  next(): number {
    return SLICE_MS;
  }

  change(id: number, { step, flags, takesLock }: Change, ms: number): number {
    const operations = this.#operations;
    const isLock = takesLock && flags === SEM_UNDO;
    const { steps, count } = isLock ? operations.lock : operations.step(step, flags);
    setDuration(operations.timeout, 0n, ms);
    const { semtimedop } = this.#libc.c;
    const result = semtimedop(id, steps, count, operations.timeout.usize);
    return result === 0 ? 0 : this.#libc.errno();
  }
}

/** macOS has no `semtimedop`: a try after a pause, or a wait in the kernel for as long as it takes. */
class PolledWaits implements Waits {
  readonly arePolled = true;
  readonly #libc: Libc;
  readonly #operations: Operations;

  constructor(libc: Libc, operations: Operations) {
    this.#libc = libc;
    this.#operations = operations;
  }

  next(ms?: number): number {
    return ms === undefined ? 0 : nextPause(ms);
  }

  change(id: number, { step, flags, takesLock }: Change, ms: number): number {
    const isTry = ms !== Infinity;
    if (isTry) sleep(ms);
    const { lock, tryLock } = this.#operations;
    const operation = takesLock
      ? (isTry ? tryLock : lock)
      : this.#operations.step(step, isTry ? flags | IPC_NOWAIT : flags);
    const result = operation.apply(id);
    return result === 0 ? 0 : this.#libc.errno();
  }
}

export function waitsOf(libc: Libc, operations: Operations): Waits {
  return libc.os === "darwin"
    ? new PolledWaits(libc, operations)
    : new TimedWaits(libc, operations);
}

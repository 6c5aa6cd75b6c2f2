import type { Background, CSignatures } from "../../ffi/types.ts";
import { IPC_NOWAIT, SEM_UNDO } from "../unix/linux_constants.ts";
import { CLOCK, deadline, LEFT } from "../unix/deadline.ts";
import { type Libc, LINUX_LIBRARIES } from "../unix/libc.ts";
import { BACKGROUND_SLICE_MS, delay, nextPause, sleepSync, SLICE_MS } from "../timing.ts";
import type { Operation, Operations } from "./semop_arrays.ts";
import { setDuration } from "../unix/timespec.ts";
import { type BackgroundWait, pauseOf } from "../types.ts";

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
  /**
   * Makes the change `down` without blocking this thread, within `ms` and not for long.
   *
   * @param up undoes it
   * @param pauseMs how long to pause if that is polled
   */
  inBackground(
    id: number,
    down: Operation,
    up: Operation,
    ms: number,
    pauseMs: number,
  ): BackgroundWait;
}

const BACKGROUND = {
  ...CLOCK,
  semop: { args: ["i32", "usize", "usize"], returns: "i32" }, // (id, sembuf *, count)
  semtimedop: { args: ["i32", "usize", "usize", "buffer"], returns: "i32" }, // (id, sembuf *, count, timespec *)
} as const satisfies CSignatures;

/** That it failed is all that is known of it: whoever tries next meets what went wrong. */
const TAKE =
  `({ semtimedop, clock_gettime }, _memory, id, down, downCount, _up, _upCount, until) => {
  const left = (${LEFT})(clock_gettime, until);
  return left !== null && semtimedop(id, down, downCount, left) === 0;
}`;
/** The kernel's undo belongs to the process, so that any thread may give back what another one took. */
const GIVE_BACK =
  "({ semop }, _memory, id, _down, _downCount, up, upCount) => semop(id, up, upCount)";

/** Waits in the kernel, by `semtimedop`. */
class TimedWaits implements Waits {
  readonly arePolled = false;
  readonly #libc: Libc;
  readonly #operations: Operations;
  #background: Background | undefined;

  constructor(libc: Libc, operations: Operations) {
    this.#libc = libc;
    this.#operations = operations;
  }

  next(): number {
    return SLICE_MS;
  }

  inBackground(id: number, down: Operation, up: Operation, ms: number): BackgroundWait {
    const { ffi } = this.#libc;
    const code = { take: TAKE, giveBack: GIVE_BACK };
    const wait = this.#background ??= ffi.background(LINUX_LIBRARIES, BACKGROUND, code);
    const until = deadline(this.#libc, Math.min(ms, BACKGROUND_SLICE_MS));
    return wait(id, down.steps, down.count, up.steps, up.count, until);
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

  inBackground(
    _id: number,
    _down: Operation,
    _up: Operation,
    ms: number,
    pauseMs: number,
  ): BackgroundWait {
    return pauseOf(delay(Math.min(ms, pauseMs)));
  }

  change(id: number, { step, flags, takesLock }: Change, ms: number): number {
    const isTry = ms !== Infinity;
    if (isTry) sleepSync(ms);
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

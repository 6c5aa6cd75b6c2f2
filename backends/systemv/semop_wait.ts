import type { Background, CSignatures } from "../../ffi/types.ts";
import { IPC_NOWAIT, SEM_UNDO } from "../unix/linux_constants.ts";
import { CLOCK, deadline, LEFT } from "../unix/deadline.ts";
import type { Libc } from "../unix/libc.ts";
import { LINUX_LIBRARIES } from "../unix/signatures.ts";
import { BACKGROUND_SLICE_MS, delay, nextPause, sleepSync, SLICE_MS } from "../timing.ts";
import type { Operation, Operations } from "./semop_arrays.ts";
import { setDuration } from "../unix/timespec.ts";
import { type BackgroundWait, pauseOf } from "../types.ts";

/** A change to the value of a semaphore. */
export interface Change {
  /** The number that is added to the value. */
  readonly step: number;
  /** The flags of the operation: SEM_UNDO, or 0. */
  readonly flags: number;
  /** Whether the change takes a lock, whose value must be 0 afterwards. */
  readonly takesLock: boolean;
}

/** The way in which an operating system waits until a semaphore can be changed. */
export interface Waits {
  /**
   * Whether waiting means polling, with pauses between the attempts. A wait without a timeout may block in the
   * kernel.
   */
  readonly arePolled: boolean;
  /** Returns how long to wait next, in ms: the first time, or after a wait of `ms`. */
  next(ms?: number): number;
  /** Makes a change within `ms`. Returns 0, or the errno. `ms` may be infinite only if `arePolled`. */
  change(id: number, change: Change, ms: number): number;
  /**
   * Makes the change `down` without blocking this thread, within `ms` and never for long.
   *
   * @param up the operation that undoes `down`
   * @param pauseMs how long to pause where waits are polled
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

/**
 * The code that takes, on another thread. It reports only success or failure, as the next attempt meets the cause of
 * a failure.
 */
const TAKE =
  `({ semtimedop, clock_gettime }, _memory, id, down, downCount, _up, _upCount, until) => {
  const left = (${LEFT})(clock_gettime, until);
  return left !== null && semtimedop(id, down, downCount, left) === 0;
}`;
/**
 * The code that releases what was taken, on any thread: the kernel's undo belongs to the process and not to the
 * thread.
 */
const GIVE_BACK =
  "({ semop }, _memory, id, _down, _downCount, up, upCount) => semop(id, up, upCount)";

/** The waits of Linux, which block in the kernel by `semtimedop`. */
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

/**
 * The waits of macOS, which has no `semtimedop`: an attempt after a pause, or a wait in the kernel for as long as it
 * takes.
 */
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

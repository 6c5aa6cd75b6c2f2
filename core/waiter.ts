import { checkOptions } from "./arguments.ts";

/**
 * This interface has the members of `AbortSignal` that this package uses. It is a type of its own, since not every
 * program has the types of browsers or of Node.
 */
export interface AbortSignalLike {
  /** Whether the signal has been aborted. */
  readonly aborted: boolean;
  /** The reason for which the signal was aborted. */
  readonly reason: unknown;
  /** Throws the reason if the signal has been aborted. */
  throwIfAborted(): void;
  /** Adds a function that is called when the signal is aborted. */
  addEventListener(type: "abort", listener: () => void): void;
  /** Removes a function that `addEventListener` has added. */
  removeEventListener(type: "abort", listener: () => void): void;
}

/** These options say how to wait for a lock or a semaphore without blocking the event loop. */
export interface WaitOptions {
  /** The wait ends after this time in ms. If it is left out, the wait has no limit. 0 tries once. */
  readonly timeout?: number | undefined;
  /** The wait ends when this signal is aborted, and the promise rejects with its `reason`. */
  readonly signal?: AbortSignalLike | undefined;
}

/** @internal The longest time of a timer in ms. A longer timer would fire at once. */
export const TIMER_MAX = 2 ** 31 - 1;

/** @internal @throws {TypeError | RangeError} if `timeout` is not a number of ms */
export function checkTimeout(call: string, timeout: unknown): void {
  if (typeof timeout !== "number") {
    throw new TypeError(`${call}: the timeout must be a number of ms, not ${typeof timeout}`);
  }
  if (!(timeout >= 0)) {
    throw new RangeError(`${call}: the timeout must be 0 ms or more, not ${timeout}`);
  }
}

/** @internal @throws {TypeError} if `signal` is not an `AbortSignal` or left out */
export function checkSignal(call: string, signal: unknown): void {
  if (signal === undefined) return;
  const { throwIfAborted, addEventListener } = (signal ?? {}) as Partial<AbortSignalLike>;
  if (typeof throwIfAborted === "function" && typeof addEventListener === "function") return;
  throw new TypeError(
    `${call}: signal must be an AbortSignal, not ${signal === null ? "null" : typeof signal}`,
  );
}

/**
 * @internal The options of a call as they were read. They are read only once: a second read
 * may find something else or run any getter.
 */
export interface Wait {
  readonly timeout: number;
  readonly signal: AbortSignalLike | undefined;
}

/**
 * @internal Reads the options of a call.
 * @throws {TypeError | RangeError} if they are no object, `timeout` is not a number of ms, or `signal` is no signal
 * @throws the reason of the signal if it has been aborted
 */
export function waitOf(call: string, options: WaitOptions): Wait {
  checkOptions(call, options, "{ timeout: 500 }");
  const { timeout = Infinity, signal } = options;
  checkTimeout(call, timeout);
  checkSignal(call, signal);
  signal?.throwIfAborted();
  return { timeout, signal };
}

/**
 * @internal The timeout in ms of a call that blocks its thread, which takes a number or options.
 *
 * @param otherwise the timeout if the options have none
 * @throws {TypeError | RangeError} if it is not a number of ms; and the reason of an aborted signal
 */
export function timeoutOf(call: string, wait: number | WaitOptions, otherwise: number): number {
  if (typeof wait !== "object" || wait === null) {
    checkTimeout(call, wait);
    return wait;
  }
  checkOptions(call, wait, "{ timeout: 500 }");
  const { timeout = otherwise, signal } = wait;
  return waitOf(call, { timeout, signal }).timeout;
}

/**
 * @internal A waiter is a call that waits without blocking the thread, until it succeeds, fails, times out or is
 * aborted.
 */
export class Waiter {
  /** The promise is `true` after `succeed` and `false` after the timeout. It rejects after `fail` or an abort. */
  readonly promise: Promise<boolean>;
  /** The time at which the timeout ends, on the clock of `performance.now()`. */
  readonly end: number;
  readonly #resolve: (value: boolean) => void;
  readonly #reject: (error: unknown) => void;
  readonly #signal: AbortSignalLike | undefined;
  readonly #onAbort: () => void;
  readonly #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param leave is called when the timeout ends or the signal is aborted; it returns `false` if the wait was over
   * before
   */
  constructor({ timeout, signal }: Wait, leave: () => boolean) {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    this.promise = promise;
    this.end = performance.now() + timeout;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#signal = signal;
    this.#onAbort = () => {
      if (leave()) this.fail(signal?.reason);
    };
    signal?.addEventListener("abort", this.#onAbort);
    if (timeout > TIMER_MAX) return;
    this.#timer = setTimeout(() => {
      if (!leave()) return;
      this.#finish();
      resolve(false);
    }, timeout);
  }

  succeed(): void {
    this.#finish();
    this.#resolve(true);
  }

  fail(error: unknown): void {
    this.#finish();
    this.#reject(error);
  }

  #finish(): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }
}

/** What is needed of an `AbortSignal`; a type of its own, since not every program has that of browsers or Node. */
export interface AbortSignalLike {
  /** Whether it has been aborted. */
  readonly aborted: boolean;
  /** Why. */
  readonly reason: unknown;
  /** Throws the reason if it has been aborted. */
  throwIfAborted(): void;
  /** Calls `listener` when it is aborted. */
  addEventListener(type: "abort", listener: () => void): void;
  /** The opposite of `addEventListener`. */
  removeEventListener(type: "abort", listener: () => void): void;
}

/** How to wait for a lock or a semaphore without blocking the event loop. */
export interface WaitOptions {
  /** How long to wait at most, in ms; for ever if left out. 0 tries once. */
  readonly timeout?: number | undefined;
  /** Ends the wait: the promise rejects with its `reason`. */
  readonly signal?: AbortSignalLike | undefined;
}

/** A longer timer fires at once. */
const TIMER_MAX = 2 ** 31 - 1;

/** @internal @throws {TypeError | RangeError} if `timeout` is not a number of ms */
export function checkTimeout(call: string, timeout: unknown): void {
  if (typeof timeout !== "number") {
    throw new TypeError(`${call}: the timeout must be a number of ms, not ${typeof timeout}`);
  }
  if (!(timeout >= 0)) {
    throw new RangeError(`${call}: the timeout must be 0 ms or more, not ${timeout}`);
  }
}

/** @internal What the options of a call say. They are read once: a second look may find something else, or do anything. */
export interface Wait {
  readonly timeout: number;
  readonly signal: AbortSignalLike | undefined;
}

/** @internal @throws {TypeError | RangeError} if `timeout` is not a number of ms; and the reason of an aborted signal */
export function waitOf(call: string, { timeout = Infinity, signal }: WaitOptions): Wait {
  checkTimeout(call, timeout);
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
  const { timeout = otherwise, signal } = wait;
  return waitOf(call, { timeout, signal }).timeout;
}

/** @internal Somebody who waits without blocking the thread, until it is over one way or the other. */
export class Waiter {
  /** `true` after `succeed`, `false` after the timeout; rejects with what `fail` gets, or the signal's reason. */
  readonly promise: Promise<boolean>;
  /** When the timeout is over, as `performance.now()` has it. */
  readonly end: number;
  readonly #resolve: (value: boolean) => void;
  readonly #reject: (error: unknown) => void;
  readonly #signal: AbortSignalLike | undefined;
  readonly #onAbort: () => void;
  readonly #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param leave is called when the time is up or the signal comes; `false` if it was over before */
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

import { clearInterval, clearTimeout, setInterval, setTimeout } from "node:timers";
import { requireStack } from "../core/stack.ts";
import { type AbortSignalLike, TIMER_MAX } from "../core/waiter.ts";
import { registry, type SharedAttachment } from "../registry.ts";
import { SyncError } from "../sync/errors.ts";
import type { Event } from "../sync/event.ts";

/**
 * A call that tries again if the lock of the section is held waits for the lock for so long, in ms: longer than others hold
 * it who are not stopped, since who only tried it would find it held again and again.
 */
export const AGAIN_MS = 10;
/** After an attempt that found the lock of the section held, the next one comes after this time in ms. */
export const BUSY_MS = 100;

/** How a call of a line waits. */
export interface LineWait {
  readonly timeout: number;
  readonly signal: AbortSignalLike | undefined;
  /** Whether the call keeps the program alive. */
  readonly ref: boolean;
}

/** What the calls of a line wait for. */
export interface LineSource {
  /** Is notified when an attempt may succeed. */
  readonly event: Event;
  readonly attachment: SharedAttachment;
  /** Returns after which time in ms to attempt again although the event was not notified. */
  readonly pause: () => number;
  /** Returns the error for calls whose segment is detached. */
  readonly detached: () => Error;
}

/** An attempt of a call; it throws if it never will succeed. @param hasSlept whether the line has slept before it */
export type Attempt = (hasSlept: boolean) => boolean;

interface Call {
  readonly attempt: Attempt;
  readonly ref: boolean;
  readonly succeed: () => void;
  readonly fail: (error: unknown) => void;
}

/** A line has the calls of one object that wait for the same thing. They are served in their order. */
export class WaitLine {
  readonly #source: LineSource;
  readonly #calls: Call[] = [];
  #isServed = false;
  #isDozing = false;
  /** Lets the line attempt again. */
  #wake = () => {};
  /** A timer that keeps the program alive as long as a call does. */
  #alive: ReturnType<typeof setInterval> | null = null;

  constructor(source: LineSource) {
    this.#source = source;
  }

  get isEmpty(): boolean {
    return this.#calls.length === 0;
  }

  /**
   * Waits until `attempt` returns `true`. The promise is `false` after the timeout; it rejects with what `attempt` throws,
   * or with the reason of the signal.
   */
  wait(attempt: Attempt, { timeout, signal, ref }: LineWait): Promise<boolean> {
    requireStack();
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const onAbort = () => {
      if (this.#leave(call)) call.fail(signal?.reason);
    };
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    };
    const call: Call = {
      attempt,
      ref,
      succeed: () => {
        end();
        resolve(true);
      },
      fail: (error) => {
        end();
        reject(error);
      },
    };
    signal?.addEventListener("abort", onAbort);
    if (timeout <= TIMER_MAX) {
      timer = setTimeout(() => {
        if (!this.#leave(call)) return;
        end();
        resolve(false);
      }, timeout);
      if (!ref) timer.unref();
    }
    this.#calls.push(call);
    this.#keepAlive();
    if (this.#isServed) this.#wake();
    else void this.#serve();
    return promise;
  }

  /**
   * Blocks the thread until `attempt` returns `true`, whoever waits in the line; returns `false` after the timeout.
   *
   * @throws whatever `attempt` throws, `Busy` only at the end
   */
  block(timeoutMs: number, attempt: (willWait: boolean) => boolean): boolean {
    const { event, pause } = this.#source;
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const since = event.sequence; // before the attempt: a notification after it ends the wait
      const left = deadline - performance.now();
      let wasBusy = false;
      try {
        if (attempt(left > 0)) return true;
      } catch (error) {
        if (!isBusy(error) || left <= 0) throw error;
        wasBusy = true;
      }
      if (left <= 0) return false;
      event.wait(Math.min(left, wasBusy ? BUSY_MS : pause()), since);
    }
  }

  /** Removes a call that has timed out or was aborted; returns `false` if it was over. */
  #leave(call: Call): boolean {
    if (!this.#remove(call)) return false;
    this.#keepAlive();
    if (this.isEmpty) this.#wake();
    return true;
  }

  #remove(call: Call): boolean {
    const at = this.#calls.indexOf(call);
    if (at >= 0) this.#calls.splice(at, 1);
    return at >= 0;
  }

  #keepAlive(): void {
    const isWanted = this.#calls.some(({ ref }) => ref);
    if (isWanted && this.#alive === null) this.#alive = setInterval(() => {}, TIMER_MAX);
    if (isWanted || this.#alive === null) return;
    clearInterval(this.#alive);
    this.#alive = null;
  }

  async #serve(): Promise<void> {
    this.#isServed = true;
    const { event, attachment, detached } = this.#source;
    // At the end of the program nobody is there any more to handle an error.
    const end = () => {
      if (!registry.isClosed) this.#failAll(detached());
    };
    attachment.beforeEnd(end);
    try {
      for (let hasSlept = false; !this.isEmpty; hasSlept = true) {
        const since = event.sequence; // before the attempts: a notification after it ends the sleep
        const pause = this.#attempt(hasSlept) ? this.#source.pause() : BUSY_MS;
        if (!this.isEmpty) await this.#sleep(since, pause);
      }
    } catch (error) {
      this.#failAll(error);
    } finally {
      attachment.notBeforeEnd(end);
      this.#isServed = false;
    }
  }

  /**
   * Attempts the calls in their order, up to the first one that does not succeed. Returns `false` if another process held
   * the lock of the section; the calls go on waiting then.
   */
  #attempt(hasSlept: boolean): boolean {
    for (let call = this.#calls[0]; call !== undefined; call = this.#calls[0]) {
      try {
        if (!call.attempt(hasSlept)) return true;
        if (this.#remove(call)) call.succeed();
      } catch (error) {
        if (isBusy(error)) return false;
        if (this.#remove(call)) call.fail(error);
      }
    }
    this.#keepAlive();
    return true;
  }

  /** Sleeps until the event is notified, for a limited time. */
  #sleep(since: number, ms: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    timer.unref();
    this.#wake = resolve;
    if (!this.#isDozing) void this.#doze(since).catch(reject);
    return promise.finally(() => clearTimeout(timer));
  }

  /** Lets a thread in the background sleep until the event is notified, and then wakes the line. */
  async #doze(since: number): Promise<void> {
    const { event, attachment } = this.#source;
    this.#isDozing = true;
    try {
      await event.doze(since);
    } finally {
      this.#isDozing = false;
    }
    this.#wake();
    // The thread may have got a notification that no call here needs any more.
    if (this.isEmpty && !attachment.isEnded && event.sequence !== since) event.notify();
  }

  #failAll(error: unknown): void {
    for (const { fail } of this.#calls.splice(0)) fail(error);
    this.#keepAlive();
    this.#wake();
  }
}

/** Whether an error says that another process holds a lock for too long. */
export function isBusy(error: unknown): boolean {
  return error instanceof SyncError && error.code === "Busy";
}

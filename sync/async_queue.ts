import { setImmediate } from "node:timers";
import type { WaitOptions } from "../acquire_queue.ts";
import { nextPause } from "../backends/pause.ts";

interface Waiter {
  /** Whether it has what it waits for; throws if it never will. */
  attempt(): boolean;
  succeed(): void;
  fail(error: unknown): void;
}

/** A longer timer fires at once. */
const TIMER_MAX = 2 ** 31 - 1;

/**
 * Those of one thread who wait for one thing without blocking it, which only this thread itself can take for
 * them. They are served in their order. There is one try after pauses of at most 16 ms, and one in the next
 * turn of the event loop after {@linkcode AsyncQueue.tryAgain}.
 */
export class AsyncQueue {
  readonly #waiters: Waiter[] = [];
  #isServed = false;
  #wake = () => {};

  get isEmpty(): boolean {
    return this.#waiters.length === 0;
  }

  /** `true` once `attempt` was, `false` after the timeout; rejects with what it throws, or the signal's reason. */
  wait(attempt: () => boolean, { timeout = Infinity, signal }: WaitOptions): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const finish = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
      };
      const waiter: Waiter = {
        attempt,
        succeed() {
          finish();
          resolve(true);
        },
        fail(error) {
          finish();
          reject(error);
        },
      };
      const onAbort = () => {
        if (this.#remove(waiter)) waiter.fail(signal?.reason);
      };
      signal?.addEventListener("abort", onAbort);
      if (timeout <= TIMER_MAX) {
        timer = setTimeout(() => {
          if (!this.#remove(waiter)) return;
          finish();
          resolve(false);
        }, timeout);
      }
      this.#waiters.push(waiter);
      if (!this.#isServed) void this.#serve();
    });
  }

  /** It may be there now. */
  tryAgain(): void {
    if (this.#waiters.length > 0) setImmediate(() => this.#wake());
  }

  /** `false` if it had its turn already. */
  #remove(waiter: Waiter): boolean {
    const at = this.#waiters.indexOf(waiter);
    if (at < 0) return false;
    this.#waiters.splice(at, 1);
    if (this.#waiters.length === 0) this.#wake();
    return true;
  }

  async #serve(): Promise<void> {
    this.#isServed = true;
    for (let ms = nextPause(0); this.#waiters.length > 0; ms = nextPause(ms)) {
      await this.#pause(ms);
      const [first] = this.#waiters;
      if (first === undefined) break;
      try {
        if (!first.attempt()) continue;
        this.#waiters.shift();
        first.succeed();
      } catch (error) {
        this.#waiters.shift();
        first.fail(error);
      }
      ms = 0;
    }
    this.#isServed = false;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

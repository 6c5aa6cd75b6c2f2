import { setImmediate } from "node:timers";
import { nextPause } from "../backends/timing.ts";
import { requireStack } from "../core/stack.ts";
import { type Wait, Waiter } from "../core/waiter.ts";

/** An entry is one waiting call. `attempt` tries to acquire and returns whether it did; it throws if it never will. */
type Entry = readonly [waiter: Waiter, attempt: () => boolean];

/**
 * This queue holds the asynchronous calls of one thread that wait for one thing, which only this thread itself can
 * acquire. The calls are served in their order. The queue polls with pauses of at most 16 ms, and tries once more in
 * the next turn of the event loop after {@linkcode AsyncQueue.tryAgain}.
 */
export class AsyncQueue {
  readonly #entries: Entry[] = [];
  #isServed = false;
  #wake = () => {};

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  /**
   * Waits until `attempt` returns `true`. The promise is `false` after the timeout, and rejects with what `attempt`
   * throws or with the reason of the signal.
   */
  wait(attempt: () => boolean, options: Wait): Promise<boolean> {
    requireStack();
    const waiter: Waiter = new Waiter(options, () => this.#remove(waiter));
    this.#entries.push([waiter, attempt]);
    if (!this.#isServed) void this.#serve();
    return waiter.promise;
  }

  /** Tells the queue that the thing may be free now. */
  tryAgain(): void {
    if (!this.isEmpty) setImmediate(() => this.#wake());
  }

  /** Removes a call that has timed out or was aborted; returns `false` if it was served already. */
  #remove(waiter: Waiter): boolean {
    const at = this.#entries.findIndex(([other]) => other === waiter);
    if (at < 0) return false;
    this.#entries.splice(at, 1);
    if (this.isEmpty) this.#wake();
    return true;
  }

  async #serve(): Promise<void> {
    this.#isServed = true;
    for (let ms = nextPause(0); !this.isEmpty; ms = nextPause(ms)) {
      await this.#pause(ms);
      const [first] = this.#entries;
      if (first === undefined) break;
      const [waiter, attempt] = first;
      try {
        if (!attempt()) continue;
        this.#entries.shift();
        waiter.succeed();
      } catch (error) {
        this.#entries.shift();
        waiter.fail(error);
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

import { setImmediate } from "node:timers";
import { nextPause } from "../backends/timing.ts";
import { requireStack } from "../core/stack.ts";
import { type Wait, Waiter } from "../core/waiter.ts";

/** `attempt` says whether it has what it waits for, and throws if it never will. */
type Entry = readonly [waiter: Waiter, attempt: () => boolean];

/**
 * Those of one thread who wait for one thing without blocking it, which only this thread itself can take for
 * them. They are served in their order. There is one try after pauses of at most 16 ms, and one in the next
 * turn of the event loop after {@linkcode AsyncQueue.tryAgain}.
 */
export class AsyncQueue {
  readonly #entries: Entry[] = [];
  #isServed = false;
  #wake = () => {};

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  /** `true` once `attempt` was, `false` after the timeout; rejects with what it throws, or the signal's reason. */
  wait(attempt: () => boolean, options: Wait): Promise<boolean> {
    requireStack();
    const waiter: Waiter = new Waiter(options, () => this.#remove(waiter));
    this.#entries.push([waiter, attempt]);
    if (!this.#isServed) void this.#serve();
    return waiter.promise;
  }

  /** It may be there now. */
  tryAgain(): void {
    if (!this.isEmpty) setImmediate(() => this.#wake());
  }

  /** `false` if it had its turn already. */
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

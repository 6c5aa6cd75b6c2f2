import process from "node:process";
import { setImmediate } from "node:timers";
import { futexFor } from "../backends/futex/mod.ts";
import type { Futex } from "../backends/futex/types.ts";
import { BACKGROUND_SLICE_MS, delay, nextPause } from "../backends/timing.ts";
import { perProcess } from "../context.ts";
import type { Usize } from "../ffi/types.ts";
import type { Slot } from "../sync/slot.ts";
import { SIGNAL, type TopicLog, WAITING } from "./topic_log.ts";
import { idOf, LOG_BYTE } from "./topic_shape.ts";

/** This number exceeds the number of threads that can sleep. */
const ALL = 2 ** 31 - 1;

/** The wakers for which a thread sleeps. The end of a program of Node, and of a worker, waits for such a thread. */
const asleep = perProcess((): Set<TopicWaker> => {
  const wakers = new Set<TopicWaker>();
  process.prependListener("exit", () => {
    for (const waker of wakers) waker.rouse();
  });
  return wakers;
});

/** Somebody in this process who waits for messages. */
export interface Sleeper {
  /** Takes what has been published; returns whether there may be more, which it has not taken yet. */
  look(this: void): boolean;
  /** The segment has been detached, or nothing can be waited for because of `error`. */
  end(this: void, error?: unknown): void;
}

/**
 * The waker of a topic wakes readers in all processes, and lets those of this object sleep. However many they are, one
 * thread in the background sleeps for them.
 *
 * `waiting` counts the threads that sleep. A publisher wakes them only if there are any, and sets it to 0: the first
 * message of a burst wakes them. A sleeper first counts itself, and then looks at the tail; a publisher first stores the
 * tail, and then looks at the count. So no message is missed. The publisher may be killed after it has set the count to
 * 0, so a sleeper looks again after each slice of time, and counts itself again.
 */
export class TopicWaker {
  // For `declare`, see Slot.
  declare private readonly slot: Slot;
  declare private readonly words: Int32Array;
  declare private readonly futex: Futex | null;
  declare private readonly word: Usize | undefined;
  declare private readonly isOrdered: boolean;
  readonly #sleepers = new Set<Sleeper>();
  #isServed = false;

  constructor(slot: Slot, { words, isOrdered }: TopicLog) {
    this.slot = slot;
    this.words = words;
    this.isOrdered = isOrdered;
    this.futex = futexFor(
      idOf(slot),
      () => slot.isUsable ? Atomics.load(words, SIGNAL) >>> 0 : undefined,
    );
    this.word = this.futex?.address(slot.address(LOG_BYTE + 4 * SIGNAL));
  }

  /**
   * Wakes those who sleep, in all processes. It is called after a message was published, and so after operations of
   * `Atomics`: where the processor performs loads in their order, a plain load of the count does, which takes less time.
   */
  wake(): void {
    const { words, isOrdered } = this;
    if ((isOrdered ? words[WAITING] : Atomics.load(words, WAITING)) === 0) return;
    Atomics.store(words, WAITING, 0);
    const before = Atomics.add(words, SIGNAL, 1) >>> 0;
    this.futex?.wake(this.word!, ALL, before);
  }

  /** The number of threads that sleep, as far as none was killed. */
  get waiting(): number {
    return Math.max(0, Atomics.load(this.words, WAITING));
  }

  /** Calls `look` of a sleeper when there is news, until `remove`. */
  add(sleeper: Sleeper): void {
    this.#sleepers.add(sleeper);
    if (!this.#isServed) void this.#serve();
  }

  remove(sleeper: Sleeper): void {
    this.#sleepers.delete(sleeper);
  }

  async #serve(): Promise<void> {
    this.#isServed = true;
    const { attachment } = this.slot;
    const end = () => this.#endAll();
    attachment.beforeEnd(end);
    try {
      await null; // a sleeper is not called while it is being added
      await this.#sleepAndLook();
    } catch (error) {
      this.#endAll(error);
    } finally {
      attachment.notBeforeEnd(end);
      this.#isServed = false;
      if (this.#sleepers.size > 0) void this.#serve(); // one came while the others were ended
    }
  }

  async #sleepAndLook(): Promise<void> {
    const { words } = this;
    let counted: number | null = null; // the signal at which this thread has counted itself
    for (let ms = 0; this.#sleepers.size > 0;) {
      const signal = Atomics.load(words, SIGNAL);
      if (counted !== signal || Atomics.load(words, WAITING) <= 0) Atomics.add(words, WAITING, 1);
      counted = signal;
      if (this.#lookAll()) {
        await nextTurn();
      } else if (this.#sleepers.size > 0 && this.slot.isUsable) {
        ms = Atomics.load(words, SIGNAL) === signal ? nextPause(ms) : 0;
        await this.#sleep(signal >>> 0, ms);
      }
      if (!this.slot.isUsable) return;
    }
    // Nobody here sleeps any more. If a publisher has set the count to 0 meanwhile, others may count themselves again.
    if (Atomics.load(words, SIGNAL) === counted && Atomics.load(words, WAITING) > 0) {
      Atomics.sub(words, WAITING, 1);
    }
  }

  async #sleep(signal: number, ms: number): Promise<void> {
    // The segment may be unmapped meanwhile. That does no harm: the kernel only reads the word, if it is mapped.
    if (this.futex === null) return await delay(ms, false);
    const wakers = asleep();
    wakers.add(this);
    try {
      await this.futex.waitInBackground(this.word!, signal, BACKGROUND_SLICE_MS, false);
    } finally {
      wakers.delete(this);
    }
  }

  /** Ends the sleep of the thread. Other processes look too, and find nothing. */
  rouse(): void {
    if (this.slot.isUsable) this.futex?.wake(this.word!, ALL);
  }

  /** Lets all look; returns whether one of them has not taken everything. */
  #lookAll(): boolean {
    let isMore = false;
    for (const sleeper of this.#sleepers) {
      if (this.slot.isUsable && sleeper.look()) isMore = true;
    }
    return isMore;
  }

  #endAll(error?: unknown): void {
    const sleepers = [...this.#sleepers];
    this.#sleepers.clear();
    for (const sleeper of sleepers) sleeper.end(error);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

import type { AbortSignalLike } from "../core/waiter.ts";
import type { Event } from "../sync/event.ts";
import type { Slot } from "../sync/slot.ts";

/** The longest time of a timer, in ms. */
const TIMER_MAX = 2 ** 31 - 1;

/** What the watcher needs of a shared value. */
export interface Watched {
  readonly slot: Slot;
  /** Is notified after each change. */
  readonly event: Event;
  /** Returns the version of the value. */
  readonly version: () => number;
}

/** A call that waits for a version other than `since`. */
interface Entry {
  readonly since: number;
  readonly isReferenced: boolean;
  readonly resolve: (isChanged: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Waits for the changes of a shared value: one wait on another thread, for all calls of an object. A writer that was killed
 * before it has notified is noticed too, as each of these waits lasts 200 ms at most.
 */
export class ValueWatcher {
  readonly #watched: Watched;
  readonly #entries = new Set<Entry>();
  #isServed = false;
  /** This timer keeps the program alive while a call is to do so. */
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(watched: Watched) {
    this.#watched = watched;
  }

  /**
   * Waits until the version is another one than `since`.
   *
   * @returns a promise of `false` if the segment was detached instead. It rejects with the reason of the signal
   */
  async wait(
    since: number,
    isReferenced: boolean,
    signal: AbortSignalLike | undefined,
  ): Promise<boolean> {
    signal?.throwIfAborted();
    if (!this.#watched.slot.isUsable) return false;
    if (this.#watched.version() !== since) return true;
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const entry = { since, isReferenced, resolve, reject };
    const onAbort = () => {
      this.#remove(entry);
      reject(signal!.reason);
    };
    this.#entries.add(entry);
    this.#keepAlive();
    signal?.addEventListener("abort", onAbort);
    if (!this.#isServed) void this.#serve();
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  async #serve(): Promise<void> {
    this.#isServed = true;
    const { slot, event, version } = this.#watched;
    const end = () => this.#endAll((entry) => entry.resolve(false));
    slot.attachment.beforeEnd(end);
    try {
      while (this.#entries.size > 0 && slot.isUsable) {
        const { sequence } = event; // before the look: a change after it ends the wait
        this.#tell(version());
        if (this.#entries.size > 0) await event.doze(sequence);
      }
      end();
    } catch (error) {
      this.#endAll((entry) => entry.reject(error));
    } finally {
      slot.attachment.notBeforeEnd(end);
      this.#isServed = false;
    }
  }

  #tell(version: number): void {
    for (const entry of this.#entries) {
      if (entry.since === version) continue;
      this.#remove(entry);
      entry.resolve(true);
    }
  }

  #endAll(end: (entry: Entry) => void): void {
    for (const entry of [...this.#entries]) {
      this.#remove(entry);
      end(entry);
    }
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry);
    this.#keepAlive();
  }

  #keepAlive(): void {
    const isNeeded = [...this.#entries].some(({ isReferenced }) => isReferenced);
    if (isNeeded === (this.#timer !== undefined)) return;
    if (isNeeded) {
      this.#timer = setInterval(() => {}, TIMER_MAX);
    } else {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }
}

import { clearInterval, setInterval } from "node:timers";
import type { AbortSignalLike } from "../core/waiter.ts";
import type { Slot } from "../sync/slot.ts";
import type { TopicMessage } from "./topic_options.ts";
import type { TopicReader } from "./topic_reader.ts";
import type { Sleeper, TopicWaker } from "./topic_waker.ts";

/** A callback gets at most so many messages before other parts of the program have their turn. */
const BURST = 256;
/** The longest interval of a timer in ms. */
const LONG_MS = 2 ** 31 - 1;

/** Keeps the program alive, or not. */
class Ref {
  #timer: ReturnType<typeof setInterval> | null = null;

  ref(): void {
    this.#timer ??= setInterval(() => {}, LONG_MS);
  }

  unref(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}

/** What a subscription needs. */
interface Options {
  readonly slot: Slot;
  readonly waker: TopicWaker;
  readonly signal: AbortSignalLike | undefined;
  readonly ref: boolean;
}

/** A subscription lasts until `close()`, `dispose`, the end of its signal, or until its topic is detached. */
export interface TopicSubscription extends Disposable {
  /** Ends the subscription. */
  close(): void;
  /** Lets the subscription keep the program alive. */
  ref(): void;
  /** Lets the program end although there is the subscription, as it does by default. */
  unref(): void;
}

/** @internal A subscription that calls a function with each message. */
export class CallbackSubscription<Value> implements TopicSubscription {
  readonly #reader: TopicReader<Value>;
  readonly #slot: Slot;
  readonly #waker: TopicWaker;
  readonly #signal: AbortSignalLike | undefined;
  readonly #callback: (message: TopicMessage<Value>) => void;
  readonly #onError: (error: unknown) => void;
  readonly #ref = new Ref();
  readonly #close = () => this.close();
  readonly #sleeper: Sleeper = {
    look: () => this.#look(),
    end: (error) => {
      this.close();
      if (error !== undefined) this.#onError(error);
    },
  };
  #isOpen = true;

  constructor(
    reader: TopicReader<Value>,
    callback: (message: TopicMessage<Value>) => void,
    onError: ((error: unknown) => void) | undefined,
    { slot, waker, signal, ref }: Options,
  ) {
    this.#reader = reader;
    this.#slot = slot;
    this.#waker = waker;
    this.#signal = signal;
    this.#callback = callback;
    this.#onError = onError ?? throwLater;
    if (signal?.aborted) {
      this.#isOpen = false;
      return;
    }
    signal?.addEventListener("abort", this.#close);
    if (ref) this.ref();
    waker.add(this.#sleeper);
  }

  #look(): boolean {
    for (let count = 0; this.#isOpen; count++) {
      if (count === BURST) return true;
      let message: TopicMessage<Value> | undefined;
      try {
        message = this.#reader.next();
        if (message === undefined) return false;
      } catch (error) {
        this.#fail(error);
        continue;
      }
      try {
        this.#callback(message);
      } catch (error) {
        throwLater(error);
      }
    }
    return false;
  }

  #fail(error: unknown): void {
    if (!this.#slot.isIntact) this.close();
    try {
      this.#onError(error);
    } catch (thrown) {
      throwLater(thrown);
    }
  }

  close(): void {
    this.#isOpen = false;
    this.#signal?.removeEventListener("abort", this.#close);
    this.#waker.remove(this.#sleeper);
    this.unref();
  }

  ref(): void {
    if (this.#isOpen) this.#ref.ref();
  }

  unref(): void {
    this.#ref.unref();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

type Result<Value> = IteratorResult<TopicMessage<Value>, undefined>;

/** A call of `next()` that waits. */
interface Pending<Value> {
  readonly resolve: (result: Result<Value>) => void;
  readonly reject: (error: unknown) => void;
}

/** @internal A subscription over which a program iterates. A message is read when the program asks for it. */
export class IteratedSubscription<Value>
  implements TopicSubscription, AsyncIterableIterator<TopicMessage<Value>> {
  readonly #reader: TopicReader<Value>;
  readonly #slot: Slot;
  readonly #waker: TopicWaker;
  readonly #signal: AbortSignalLike | undefined;
  readonly #pending: Pending<Value>[] = [];
  readonly #ref = new Ref();
  readonly #abort = () => {
    const pending = this.#pending.splice(0);
    this.close();
    for (const { reject } of pending) reject(this.#signal!.reason);
  };
  readonly #sleeper: Sleeper = {
    look: () => this.#look(),
    end: (error) => {
      const pending = error === undefined ? [] : this.#pending.splice(0);
      this.close();
      for (const { reject } of pending) reject(error);
    },
  };
  #isReferenced = false;
  #isOpen = true;

  constructor(reader: TopicReader<Value>, { slot, waker, signal, ref }: Options) {
    this.#reader = reader;
    this.#slot = slot;
    this.#waker = waker;
    this.#signal = signal;
    if (signal?.aborted) {
      this.#isOpen = false;
      return;
    }
    signal?.addEventListener("abort", this.#abort);
    if (ref) this.ref();
  }

  next(): Promise<Result<Value>> {
    if (this.#signal?.aborted) return Promise.reject(this.#signal.reason);
    if (!this.#slot.isUsable) this.close();
    if (!this.#isOpen) return Promise.resolve(DONE);
    try {
      if (this.#pending.length === 0) {
        const message = this.#reader.next();
        if (message !== undefined) return Promise.resolve({ done: false, value: message });
      }
    } catch (error) {
      return Promise.reject(error);
    }
    const { promise, resolve, reject } = Promise.withResolvers<Result<Value>>();
    this.#pending.push({ resolve, reject });
    this.#waker.add(this.#sleeper);
    this.#keepAlive();
    return promise;
  }

  #look(): boolean {
    while (this.#pending.length > 0) {
      try {
        const message = this.#reader.next();
        if (message === undefined) return false;
        this.#pending.shift()!.resolve({ done: false, value: message });
      } catch (error) {
        this.#pending.shift()!.reject(error);
      }
    }
    this.#waker.remove(this.#sleeper);
    this.#keepAlive();
    return false;
  }

  return(): Promise<Result<Value>> {
    this.close();
    return Promise.resolve(DONE);
  }

  close(): void {
    this.#isOpen = false;
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#waker.remove(this.#sleeper);
    this.unref();
    for (const { resolve } of this.#pending.splice(0)) resolve(DONE);
  }

  ref(): void {
    this.#isReferenced = this.#isOpen;
    this.#keepAlive();
  }

  unref(): void {
    this.#isReferenced = false;
    this.#keepAlive();
  }

  /**
   * Keeps the program alive while a call waits. Between two calls it does not: `for await` that ends with an error of
   * `next()` does not close the subscription, and nobody else would.
   */
  #keepAlive(): void {
    if (this.#isReferenced && this.#pending.length > 0) this.#ref.ref();
    else this.#ref.unref();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const DONE = { done: true, value: undefined } as const;

/** Throws an error where nobody catches it, so that the program learns of it. */
function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

import type { AbortSignalLike } from "../core/waiter.ts";

/** What the changes of a shared value need of it. */
export interface ChangingValue<Value> {
  /** Waits for another version than `since`; the promise is `false` if the value was detached instead. */
  wait(
    since: number,
    isReferenced: boolean,
    signal: AbortSignalLike | undefined,
  ): Promise<boolean>;
  /** Whether the value is still attached. */
  isUsable(): boolean;
  /** Returns the present value and its version. */
  current(): { readonly value: Value; readonly version: number };
}

/**
 * The values that a shared value has from a version on, without those that were replaced before the program has come to
 * them. It ends when the value is detached.
 */
export class ValueChanges<Value> implements AsyncIterableIterator<Value> {
  readonly #value: ChangingValue<Value>;
  readonly #isReferenced: boolean;
  /** Is aborted by `return()`, and by the signal of the program. */
  readonly #ending = new AbortController();
  readonly #signal: AbortSignalLike | undefined;
  readonly #onAbort = () => this.#ending.abort(this.#signal!.reason);
  #version: number;
  #isOver = false;
  /** The call of `next()` before. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    value: ChangingValue<Value>,
    from: number,
    isReferenced: boolean,
    signal: AbortSignalLike | undefined,
  ) {
    this.#value = value;
    this.#version = from;
    this.#isReferenced = isReferenced;
    this.#signal = signal;
    signal?.throwIfAborted();
    signal?.addEventListener("abort", this.#onAbort);
  }

  /** Whether nothing more is to come. */
  get isOver(): boolean {
    return this.#isOver || this.#ending.signal.aborted || !this.#value.isUsable();
  }

  /** The version of the value that was returned last. */
  get version(): number {
    return this.#version;
  }

  next(): Promise<IteratorResult<Value, undefined>> {
    const next = this.#last.then(() => this.#next(), () => this.#next());
    this.#last = next;
    return next;
  }

  async #next(): Promise<IteratorResult<Value, undefined>> {
    if (this.#isOver) return { done: true, value: undefined };
    try {
      const { signal } = this.#ending;
      if (!await this.#value.wait(this.#version, this.#isReferenced, signal)) return this.#end();
      if (this.#isOver) return { done: true, value: undefined }; // return() was called meanwhile
      if (!this.#value.isUsable()) return this.#end(); // detached meanwhile
      this.#ending.signal.throwIfAborted();
      const { value, version } = this.#value.current();
      this.#version = version;
      return { done: false, value };
    } catch (error) {
      const isReturned = this.#isOver;
      this.#end();
      if (isReturned) return { done: true, value: undefined };
      throw error;
    }
  }

  /** Ends the changes, and a `next()` that waits for one. */
  // deno-lint-ignore require-await -- an iterator returns a promise
  async return(): Promise<IteratorResult<Value, undefined>> {
    return this.#end();
  }

  #end(): IteratorResult<Value, undefined> {
    this.#isOver = true;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#ending.abort();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

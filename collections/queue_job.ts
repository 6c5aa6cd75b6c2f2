import type { Bytes } from "../core/view_types.ts";

/** @internal What a job needs of its queue. */
export interface JobOwner<Value> {
  /** Returns the value of some bytes. */
  readonly decode: (raw: Bytes) => Value;
  /** Ends the job; returns `false` if others have it by now. */
  readonly ack: () => boolean;
  /** Puts the job back; returns `false` if others have it by now. */
  readonly retry: (delay: number) => boolean;
}

/** @internal What is known of a job when it is taken. */
export interface JobData {
  readonly id: number;
  readonly attempt: number;
  readonly most: number;
  readonly raw: Bytes;
}

/**
 * A job that this thread has taken from a {@linkcode SharedQueue}. Nobody else has it until the thread ends, `maxRun` is
 * over, or one of the methods is called. If it is disposed without that, it is put back.
 */
export class QueueJob<Value> implements Disposable {
  /** The number of the job: 1 for the first one that was ever sent, and so on. */
  readonly id: number;
  /** How often the job was taken, this time included. */
  readonly attempt: number;
  /** How often it may be taken before it has failed; `Infinity` for ever. */
  readonly maxAttempts: number;
  readonly #owner: JobOwner<Value>;
  #raw: Bytes | null;
  #value: Value | undefined;
  #isSettled = false;

  /** @internal */
  constructor({ id, attempt, most, raw }: JobData, owner: JobOwner<Value>) {
    this.id = id;
    this.attempt = attempt;
    this.maxAttempts = most === 0 ? Infinity : most;
    this.#raw = raw;
    this.#owner = owner;
  }

  /** The value that was sent. It is decoded when it is read first. @throws whatever the codec throws */
  get value(): Value {
    if (this.#raw !== null) {
      this.#value = this.#owner.decode(this.#raw);
      this.#raw = null;
    }
    return this.#value as Value;
  }

  /** Whether `ack()` or `retry()` was called. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /**
   * Removes the job from the queue: it is done.
   *
   * @returns `false` if it was not this one's any more: it had been acked or put back, or `maxRun` was over
   * @throws {SyncError} `NotAttached` if the queue has been detached: the job is put back then; `Busy` if another process
   * holds the lock of the queue for all of `lockTimeout`
   */
  ack(): boolean {
    if (this.#isSettled) return false;
    const isDone = this.#owner.ack();
    this.#isSettled = true;
    return isDone;
  }

  /**
   * Puts the job back, behind the other ready ones. If it was taken `maxAttempts` times, it has failed.
   *
   * @param delay the time in ms after which it is ready
   * @returns as {@linkcode QueueJob.ack}
   * @throws {SyncError} as {@linkcode QueueJob.ack}
   * @throws {TypeError | RangeError} if `delay` is not a number of ms
   */
  retry(delay = 0): boolean {
    if (this.#isSettled) return false;
    const isBack = this.#owner.retry(delay);
    this.#isSettled = true;
    return isBack;
  }

  /** Puts the job back if neither `ack()` nor `retry()` was called. */
  [Symbol.dispose](): void {
    if (!this.#isSettled) this.retry();
  }
}

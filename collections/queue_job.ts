import { delay } from "../backends/timing.ts";
import type { Bytes } from "../core/view_types.ts";
import { SyncError } from "../sync/errors.ts";
import { BUSY_MS, isBusy } from "./wait_line.ts";

/** @internal What is known of a job when it is taken. */
export interface JobData {
  readonly id: number;
  readonly attempt: number;
  readonly most: number;
  readonly raw: Bytes;
}

/** @internal What jobs need of their queue. */
export interface JobOwner<Data extends JobData, Value> {
  /** Returns the value of some bytes. */
  decode(raw: Bytes): Value;
  /**
   * Ends a job; returns `false` if others have it by now.
   *
   * @param isPatient whether the caller tries again if the lock is held: it does not block its thread for long then
   */
  ack(job: Data, isPatient: boolean): boolean;
  /** Puts a job back; returns `false` if others have it by now. */
  retry(job: Data, delay: number, isPatient: boolean): boolean;
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
  readonly #owner: JobOwner<JobData, Value>;
  readonly #data: JobData;
  #isDecoded = false;
  #value: Value | undefined;
  #isSettled = false;

  /** @internal */
  constructor(data: JobData, owner: JobOwner<JobData, Value>) {
    this.id = data.id;
    this.attempt = data.attempt;
    this.maxAttempts = data.most === 0 ? Infinity : data.most;
    this.#data = data;
    this.#owner = owner;
  }

  /** The value that was sent. It is decoded when it is read first. @throws whatever the codec throws */
  get value(): Value {
    if (!this.#isDecoded) {
      this.#value = this.#owner.decode(this.#data.raw);
      this.#isDecoded = true;
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
    return this.ackNow(false);
  }

  /** @internal Does what `ack()` does. @param isPatient as in {@linkcode JobOwner} */
  ackNow(isPatient: boolean): boolean {
    if (this.#isSettled) return false;
    const isDone = this.#owner.ack(this.#data, isPatient);
    this.#isSettled = true;
    return isDone;
  }

  /**
   * Puts the job back, behind the other ready ones. If it was taken `maxAttempts` times, it has failed.
   *
   * @param ms the time after which it is ready
   * @returns as {@linkcode QueueJob.ack}
   * @throws {SyncError} as {@linkcode QueueJob.ack}
   * @throws {TypeError | RangeError} if `ms` is not a number of ms
   */
  retry(ms = 0): boolean {
    return this.retryNow(ms, false);
  }

  /** @internal Does what `retry()` does. @param isPatient as in {@linkcode JobOwner} */
  retryNow(ms: number, isPatient: boolean): boolean {
    if (this.#isSettled) return false;
    const isBack = this.#owner.retry(this.#data, ms, isPatient);
    this.#isSettled = true;
    return isBack;
  }

  /** Puts the job back if neither `ack()` nor `retry()` was called. If the queue was detached before, that was done then. */
  [Symbol.dispose](): void {
    if (this.#isSettled) return;
    try {
      this.retry();
    } catch (error) {
      if (isBusy(error)) void this.#retryLater(); // nobody else can: the program has no job any more
      else if (!(error instanceof SyncError && error.code === "NotAttached")) throw error;
    }
  }

  async #retryLater(): Promise<void> {
    for (;;) {
      await delay(BUSY_MS, false);
      try {
        return void this.retryNow(0, true);
      } catch (error) {
        if (!isBusy(error)) return; // it was detached, so others have the job
      }
    }
  }
}

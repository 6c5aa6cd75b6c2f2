import process from "node:process";
import { setImmediate } from "node:timers";
import { delay } from "../backends/timing.ts";
import { checkBoolean, checkFunction, checkOptions } from "../core/arguments.ts";
import { checkSignal } from "../core/waiter.ts";
import { SyncError } from "../sync/errors.ts";
import type { QueueJob } from "./queue_job.ts";
import { checkDelay, checkMaxRun, type TakeOptions, type WorkOptions } from "./queue_options.ts";
import { checkNumber } from "./queue_shape.ts";
import { BUSY_MS, isBusy } from "./wait_line.ts";

/** What `work()` needs of a queue. */
export interface WorkQueue<Value> {
  take(options: TakeOptions): Promise<QueueJob<Value> | undefined>;
}

const CALL = "SharedQueue.work";
const CONCURRENCY_MAX = 2 ** 20;
/** After this time in ms a runner lets the event loop go on: jobs may be there, and be done, without any wait. */
const TURN_MS = 10;

/** See {@linkcode SharedQueue.work}. */
export async function workOn<Value>(
  queue: WorkQueue<Value>,
  options: WorkOptions<QueueJob<Value>>,
  fn: (job: QueueJob<Value>) => unknown,
): Promise<void> {
  checkOptions(CALL, options, "{ concurrency: 4 }");
  const { concurrency = 1, signal, maxRun, ref = true, backoff = 0, onError = warn } = options;
  checkNumber(CALL, "concurrency", concurrency, 1, CONCURRENCY_MAX);
  checkSignal(CALL, signal);
  if (maxRun !== undefined) checkMaxRun(CALL, maxRun);
  if (typeof backoff !== "function") checkDelay(CALL, backoff);
  checkFunction(CALL, "fn", fn);
  checkFunction(CALL, "onError", onError);
  checkBoolean(CALL, "ref", ref);
  const delayAfter = (attempt: number, error: unknown) => {
    const delay = typeof backoff === "function" ? backoff(attempt, error) : backoff;
    checkDelay(CALL, delay);
    return delay;
  };
  const runners = new Runners(queue, { signal, maxRun, ref }, async (job) => {
    try {
      await fn(job);
    } catch (error) {
      try {
        await onError(error, job);
      } finally {
        let pause = 0;
        try {
          if (!job.isSettled) pause = delayAfter(job.attempt, error);
        } finally {
          await patiently(() => job.retryNow(pause, true));
        }
      }
      return;
    }
    await patiently(() => job.ackNow(true));
  });
  await Promise.all(Array.from({ length: concurrency }, () => runners.run()));
  runners.throwFirst();
}

/** The runners of one call of `work()`: each of them takes a job, runs it, and takes the next one. */
class Runners<Value> {
  readonly #queue: WorkQueue<Value>;
  readonly #options: TakeOptions;
  readonly #run: (job: QueueJob<Value>) => Promise<void>;
  /** Ends the waits for jobs when a runner has failed. */
  readonly #stop = new AbortController();
  readonly #errors: unknown[] = [];
  /** Whether the process was warned that no more threads can hold jobs. */
  #isTold = false;

  constructor(
    queue: WorkQueue<Value>,
    options: TakeOptions,
    run: (job: QueueJob<Value>) => Promise<void>,
  ) {
    this.#queue = queue;
    this.#options = options;
    this.#run = run;
  }

  async run(): Promise<void> {
    const { signal } = this.#options;
    const stop = () => this.#stop.abort();
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop);
    let since = performance.now();
    try {
      while (!this.#stop.signal.aborted) {
        const job = await this.#take();
        if (job === undefined) break;
        await this.#run(job);
        if (performance.now() - since < TURN_MS) continue;
        await new Promise<void>((resolve) => void setImmediate(resolve));
        since = performance.now();
      }
    } catch (error) {
      if (!this.#stop.signal.aborted || error !== this.#stop.signal.reason) this.#fail(error);
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  /** Takes the next job. While as many threads hold jobs as the queue has members, it tries again and again. */
  async #take(): Promise<QueueJob<Value> | undefined> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        return await this.#queue.take({ ...this.#options, signal });
      } catch (error) {
        if (!(error instanceof SyncError && error.code === "OutOfResources")) throw error;
        if (!this.#isTold) process.emitWarning(`${CALL} waits for others: ${error.message}`);
        this.#isTold = true;
      }
      await delay(BUSY_MS, this.#options.ref);
    }
    return undefined;
  }

  #fail(error: unknown): void {
    this.#errors.push(error);
    this.#stop.abort();
  }

  throwFirst(): void {
    if (this.#errors.length > 0) throw this.#errors[0];
  }
}

/** Calls `act` again as long as a process is stopped in the middle of a change. */
async function patiently(act: () => unknown): Promise<void> {
  for (;;) {
    try {
      act();
      return;
    } catch (error) {
      if (!isBusy(error)) throw error;
    }
    await delay(BUSY_MS);
  }
}

/** Returns an error as text, whatever was thrown: an object without a prototype has no text. */
function textOf(error: unknown): string {
  try {
    return error instanceof Error ? error.stack ?? error.message : String(error);
  } catch {
    return typeof error;
  }
}

/** Tells of an error that nobody handles. */
function warn<Value>(error: unknown, { id, attempt, maxAttempts }: QueueJob<Value>): void {
  const text = textOf(error);
  process.emitWarning(
    `${CALL}: job ${id} has thrown in attempt ${attempt} of ${maxAttempts}; give onError to handle it: ${text}`,
  );
}

import type { OpenOptions } from "../core/open_options.ts";
import type { AbortSignalLike } from "../core/waiter.ts";
import { SyncError } from "../sync/errors.ts";
import type { Codec } from "./codecs.ts";
import { type CommonSettings, commonSettings } from "./common_settings.ts";
import { ATTEMPTS_MAX } from "./queue_entry.ts";
import type { QueueHeader } from "./queue_header.ts";
import { checkNumber, queueShape, type QueueSize } from "./queue_shape.ts";

/** These options say how a queue is created and used. Those of {@linkcode QueueSize} must be the same in all processes. */
export interface SharedQueueOptions<Value> extends Partial<QueueSize> {
  /**
   * Turns values into bytes. If it is left out, the values are bytes. All processes must use the same one: a queue that was
   * created with a codec of another name is refused.
   */
  readonly codec?: Codec<Value> | undefined;
  /**
   * How often a job that this object sends may be taken before it has failed: 3 if left out, `Infinity` for ever. A job is
   * taken again if its handler throws, if `retry()` says so, or if its process ends.
   */
  readonly maxAttempts?: number | undefined;
  /**
   * The time in ms after which a job that this object takes is given to others, although its process lives. Without it, a
   * handler that hangs keeps its job until its process ends.
   */
  readonly maxRun?: number | undefined;
  /** The longest time in ms for which a change waits for another process that changes the queue. 1000 if left out. */
  readonly lockTimeout?: number | undefined;
}

/** The options of `SharedQueue.open()`: those of the queue, and those of `SharedMemory.open()`. */
export interface SharedQueueOpenOptions<Value>
  extends SharedQueueOptions<Value>, Omit<OpenOptions, "size" | "mode" | "initialize" | "adopt"> {
  /** The size of the queue in bytes, with all that it needs. It may use less. */
  readonly bytes: number;
}

/** These options say how a value is sent. */
export interface TrySendOptions {
  /** The time in ms after which the job is ready. 0 if left out. */
  readonly delay?: number | undefined;
  /** How often the job may be taken before it has failed. If it is left out, it is that of the queue. */
  readonly maxAttempts?: number | undefined;
}

/** These options say how a value is sent, and how long to block the thread while the queue is full. */
export interface SendOptions extends TrySendOptions {
  /** The longest time in ms for which the call blocks the thread. 0 if left out: it does not wait. */
  readonly timeout?: number | undefined;
}

/** These options say how a value is sent, and how to wait while the queue is full. */
export interface SendAsyncOptions extends TrySendOptions {
  /** The wait ends after this time in ms. If it is left out, the wait has no limit. */
  readonly timeout?: number | undefined;
  /** The wait ends when this signal is aborted, and the promise rejects with its `reason`. */
  readonly signal?: AbortSignalLike | undefined;
  /** Whether the wait keeps the program alive: `true` if left out, as the value would be lost. */
  readonly ref?: boolean | undefined;
}

/** These options say how to wait for a job without blocking the event loop. */
export interface ReceiveOptions {
  /** The wait ends after this time in ms. If it is left out, the wait has no limit. */
  readonly timeout?: number | undefined;
  /** The wait ends when this signal is aborted, and the promise rejects with its `reason`. */
  readonly signal?: AbortSignalLike | undefined;
  /** Whether the wait keeps the program alive: `false` if left out. */
  readonly ref?: boolean | undefined;
}

/** These options say how to wait for a job, and how long it may run. */
export interface TakeOptions extends ReceiveOptions {
  /** The time in ms after which others may have the job. If it is left out, it is that of the queue. */
  readonly maxRun?: number | undefined;
}

/** These options say how `work()` calls its function. */
export interface WorkOptions<Job> {
  /** How many jobs run at once: 1 if left out. No more are taken than run. */
  readonly concurrency?: number | undefined;
  /** When this signal is aborted, no more jobs are taken. The promise resolves when those that run are over. */
  readonly signal?: AbortSignalLike | undefined;
  /** The time in ms after which others may have a job. If it is left out, it is that of the queue. */
  readonly maxRun?: number | undefined;
  /**
   * The time in ms after which a job is taken again whose function has thrown, or a function that returns it. 0 if left
   * out.
   */
  readonly backoff?: number | ((attempt: number, error: unknown) => number) | undefined;
  /**
   * Is called with what the function has thrown, or the codec when it read the value. If it is left out, it is a warning
   * of the process. The job is put back when it has returned, and the promise that it may return is settled; if it throws
   * or rejects, so does the call.
   */
  readonly onError?: ((error: unknown, job: Job) => unknown) | undefined;
  /** Whether the call keeps the program alive: `true` if left out. */
  readonly ref?: boolean | undefined;
}

/** The options of a queue as they were read, once, and checked. */
export interface QueueSettings<Value> extends CommonSettings<Value> {
  readonly maxAttempts: number;
  readonly maxRun: number;
}

const ATTEMPTS = 3;

/** @throws {TypeError | RangeError} if an option is not what it should be */
export function queueSettings<Value>(
  call: string,
  options: SharedQueueOptions<Value>,
): QueueSettings<Value> {
  const common = commonSettings(call, options);
  const { maxAttempts = ATTEMPTS, maxRun = Infinity } = options;
  checkMaxAttempts(call, maxAttempts);
  checkMaxRun(call, maxRun);
  return { ...common, maxAttempts, maxRun };
}

/** @throws {TypeError | RangeError} if `maxAttempts` is not a number of attempts */
export function checkMaxAttempts(call: string, maxAttempts: unknown): void {
  if (maxAttempts !== Infinity) checkNumber(call, "maxAttempts", maxAttempts, 1, ATTEMPTS_MAX);
}

/** @throws {TypeError | RangeError} if `maxRun` is not a time in ms */
export function checkMaxRun(call: string, maxRun: unknown): void {
  if (typeof maxRun !== "number") {
    throw new TypeError(`${call}: maxRun must be a number of ms, not ${typeof maxRun}`);
  }
  if (!(maxRun > 0)) throw new RangeError(`${call}: maxRun must be more than 0 ms, not ${maxRun}`);
}

/** @throws {TypeError | RangeError} if `delay` is not a time in ms that ends */
export function checkDelay(call: string, delay: unknown): asserts delay is number {
  if (typeof delay !== "number") {
    throw new TypeError(`${call}: the delay must be a number of ms, not ${typeof delay}`);
  }
  if (delay >= 0 && delay < Infinity) return;
  throw new RangeError(`${call}: the delay must be 0 ms or more, and end, not ${delay}`);
}

/**
 * @internal Checks that a queue that exists has the size that the options describe.
 *
 * @throws {SyncError} `WrongKind` if it has not
 */
export function requireSameQueue<Value>(
  call: string,
  header: QueueHeader,
  { bytes, jobBytes, members }: SharedQueueOptions<Value>,
  { codecName }: QueueSettings<Value>,
): void {
  const differences: string[] = [];
  if (bytes !== undefined) {
    const wanted = queueShape(call, { bytes, jobBytes, members });
    for (const name of ["units", "jobs", "members"] as const) {
      if (wanted[name] !== header[name]) {
        differences.push(`${header[name]} ${name}, not ${wanted[name]}`);
      }
    }
  }
  if (codecName !== "" && header.codec !== "" && codecName !== header.codec) {
    differences.push(`codec: "${header.codec}", not "${codecName}"`);
  }
  if (differences.length === 0) return;
  throw new SyncError(
    "WrongKind",
    `${call}: the queue was created with other options: ${differences.join("; ")}. Use the same ` +
      "ones everywhere, or another key",
  );
}

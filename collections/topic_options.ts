import { checkBoolean, checkFunction, checkOptions } from "../core/arguments.ts";
import type { OpenOptions } from "../core/open_options.ts";
import { type AbortSignalLike, checkSignal } from "../core/waiter.ts";
import type { Codec } from "./codecs.ts";

/** These options say how a topic is created and used. */
export interface SharedTopicOptions<Value> {
  /**
   * The number of bytes for messages, which is rounded up to a power of two. A message takes its own bytes and 16 to 23
   * more, and at most a quarter of all. The topic keeps the newest messages that fit.
   */
  readonly bytes?: number | undefined;
  /**
   * Turns values into bytes. If it is left out, the values are bytes. If it has a name, a topic that was created with a
   * codec of another name is refused.
   */
  readonly codec?: Codec<Value> | undefined;
  /** The longest time in ms for which `publish()` waits for another process that is publishing. 1000 if left out. */
  readonly lockTimeout?: number | undefined;
}

/** The options of `SharedTopic.open()`: those of the topic, and those of `SharedMemory.open()`. */
export interface SharedTopicOpenOptions<Value>
  extends SharedTopicOptions<Value>, Omit<OpenOptions, "size" | "mode" | "initialize" | "adopt"> {
  /**
   * The number of bytes for messages, which is rounded up to a power of two. A message takes its own bytes and 16 to 23
   * more, and at most a quarter of all. The topic keeps the newest messages that fit.
   */
  readonly bytes: number;
}

/**
 * Where reading begins: with the next message that is published, with the oldest one that is still there, or with the
 * one that has this sequence number.
 */
export type TopicStart = "latest" | "oldest" | number;

/** A message as a subscriber gets it. */
export interface TopicMessage<Value> {
  /** The value that was published. */
  readonly value: Value;
  /** The number of the message: 1 for the first one of the topic, and one more for each further one. */
  readonly sequence: number;
  /** How many messages before this one were overwritten before this reader came to them. 0 as a rule. */
  readonly lost: number;
}

/** These options say what a subscriber gets, and how long. */
export interface SubscribeOptions {
  /** Where to begin: `"latest"` if left out. */
  readonly from?: TopicStart | undefined;
  /**
   * The subscription ends when this signal is aborted. An iteration that waits for a message then rejects with its
   * `reason`.
   */
  readonly signal?: AbortSignalLike | undefined;
  /**
   * Whether the subscription keeps the program alive: one with a callback until it ends, an iterator while a call of `next()`
   * waits. `false` if left out.
   */
  readonly ref?: boolean | undefined;
}

/** The options of a subscription with a callback. */
export interface CallbackOptions extends SubscribeOptions {
  /**
   * Is called with an error of the codec, and with a `SyncError` if bytes of the topic were overwritten. The subscription
   * goes on with the next message. If it is left out, the error is thrown where nobody catches it, as an error of the
   * callback is.
   */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** The options of a publication that waits for other processes without blocking the event loop. */
export interface PublishOptions {
  /** The longest time in ms for which it waits for another process that is publishing. `lockTimeout` if left out. */
  readonly timeout?: number | undefined;
  /** The wait ends when this signal is aborted, and the promise rejects with its `reason`. */
  readonly signal?: AbortSignalLike | undefined;
}

/** @internal @throws {TypeError} if an option of a subscription is not what it should be; `from` is checked where it is used */
export function checkSubscribe(call: string, options: CallbackOptions): void {
  checkOptions(call, options, '{ from: "oldest" }');
  const { signal, ref, onError } = options;
  checkSignal(call, signal);
  checkBoolean(call, "ref", ref);
  if (onError !== undefined) checkFunction(call, "onError", onError);
}

/** @throws {TypeError | RangeError} if `from` does not say where to begin */
export function checkStart(call: string, from: unknown): asserts from is TopicStart {
  if (from === "latest" || from === "oldest") return;
  if (typeof from !== "number") {
    throw new TypeError(
      `${call}: from must be "latest", "oldest" or a sequence number, not ${
        typeof from === "string" ? `"${from}"` : typeof from
      }`,
    );
  }
  if (Number.isSafeInteger(from) && from >= 1) return;
  throw new RangeError(`${call}: from must be a sequence number from 1, not ${from}`);
}

import { checkBoolean, checkOptions } from "../core/arguments.ts";
import type { OpenOptions } from "../core/open_options.ts";
import { type AbortSignalLike, checkSignal } from "../core/waiter.ts";
import type { Codec } from "./codecs.ts";

/** These options say how a shared value is created and used. */
export interface SharedValueOptions<Value> {
  /**
   * The largest size of a value in bytes, as the codec encodes it, from 1 to 1 GiB. The segment has room for two of them.
   */
  readonly maxBytes?: number | undefined;
  /**
   * Turns values into bytes. If it is left out, the values are bytes. If it has a name, a shared value that was created with
   * a codec of another name is refused.
   */
  readonly codec?: Codec<Value> | undefined;
  /** The first value of a shared value that is created. If it is left out, there is none until `set()`. */
  readonly initial?: Value | undefined;
  /** The longest time in ms for which a change waits for another process that changes the value. 1000 if left out. */
  readonly lockTimeout?: number | undefined;
}

/** The options of `SharedValue.open()`: those of the value, and those of `SharedMemory.open()`. */
export interface SharedValueOpenOptions<Value>
  extends SharedValueOptions<Value>, Omit<OpenOptions, "size" | "mode" | "initialize" | "adopt"> {
  /**
   * The largest size of a value in bytes, as the codec encodes it, from 1 to 1 GiB. The segment has room for two of them.
   */
  readonly maxBytes: number;
}

/** These options say how to follow the changes of a shared value. */
export interface ChangesOptions {
  /**
   * The version that the program has seen: the first value is a later one. If it is left out, it is the present version.
   * 0 begins with the present value, if there is one.
   */
  readonly from?: number | undefined;
  /** Whether the program goes on as long as it waits for a change. `false` if left out. */
  readonly ref?: boolean | undefined;
  /** Nothing more is waited for when this signal is aborted. */
  readonly signal?: AbortSignalLike | undefined;
}

/** @throws {TypeError | RangeError} if an option is not what it should be */
export function checkChanges(call: string, options: ChangesOptions): void {
  checkOptions(call, options, "{ from: 0 }");
  const { from, ref, signal } = options;
  checkSignal(call, signal);
  if (from !== undefined && typeof from !== "number") {
    throw new TypeError(`${call}: from must be a version, not ${typeof from}`);
  }
  if (from !== undefined && !(Number.isSafeInteger(from) && from >= 0)) {
    throw new RangeError(`${call}: from must be a version from 0 on, not ${from}`);
  }
  checkBoolean(call, "ref", ref);
}

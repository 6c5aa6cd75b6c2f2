import { checkOptions } from "../core/arguments.ts";
import { checkTimeout } from "../core/waiter.ts";
import { bytes, type Codec, codecName } from "./codecs.ts";

/** The options that all collections with a codec have, as they were read, once, and checked. */
export interface CommonSettings<Value> {
  readonly codec: Codec<Value>;
  readonly codecName: string;
  readonly lockTimeout: number;
}

const LOCK_TIMEOUT_MS = 1000;

/** @throws {TypeError | RangeError} if an option is not what it should be */
export function commonSettings<Value>(
  call: string,
  options: {
    readonly codec?: Codec<Value> | undefined;
    readonly lockTimeout?: number | undefined;
  },
): CommonSettings<Value> {
  checkOptions(call, options);
  const { codec = bytes as Codec<never>, lockTimeout = LOCK_TIMEOUT_MS } = options;
  if (typeof codec?.encode !== "function" || typeof codec.decode !== "function") {
    throw new TypeError(
      `${call}: the codec must have the functions encode and decode, as utf8 and json have, which are exported beside ` +
        "the collections",
    );
  }
  checkTimeout(call, lockTimeout);
  return { codec, codecName: codecName(call, codec), lockTimeout };
}

/**
 * Returns the error for a call of a constructor, which TypeScript refuses and JavaScript does not.
 *
 * @param name the class
 */
export function notConstructed(name: string): TypeError {
  return new TypeError(`new ${name}(): use ${name}.open(key, options) instead of a constructor`);
}

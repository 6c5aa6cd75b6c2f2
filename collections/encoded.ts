import { isDetached, lengthOf } from "../core/view_extent.ts";
import type { Codec } from "./codecs.ts";

/**
 * Returns the bytes that a codec makes of a value.
 *
 * @param name the class and, apart from it, the method in error texts: this function is called often, and makes no string
 * @throws {TypeError} if they are no bytes
 * @throws whatever the codec throws
 */
export function encodedBy<Value>(
  name: string,
  method: string,
  codec: Codec<Value>,
  value: Value,
): Uint8Array {
  const bytes = codec.encode(value);
  if (!(bytes instanceof Uint8Array)) {
    throw new TypeError(
      `${name}.${method}: encode of the codec must return a Uint8Array, not ${typeof bytes}`,
    );
  }
  requireBytes(name, method, "value", bytes);
  return bytes;
}

/** @throws {TypeError} if an array has no bytes because they belong to another array now */
export function requireBytes(name: string, method: string, what: string, array: Uint8Array): void {
  if (lengthOf(array) > 0 || !isDetached(array)) return;
  throw new TypeError(
    `${name}.${method}: the array of the ${what} has no bytes any more: its buffer was transferred away or made smaller`,
  );
}

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/**
 * @internal Returns `value` as a BigInt.
 *
 * @throws {TypeError | RangeError} if `value` is not an integer of 64 bits
 */
export function int64(call: string, value: number | bigint): bigint {
  if (value === 1n) return 1n; // the most frequent value; engines compare the sizes of BigInts slowly
  if (typeof value !== "bigint") return integer(call, value);
  if (value >= INT64_MIN && value <= INT64_MAX) return value;
  throw new RangeError(`${call}: the number must fit 64 bits with a sign, unlike ${value}`);
}

function integer(call: string, value: number): bigint {
  if (Number.isSafeInteger(value)) return BigInt(value);
  if (typeof value !== "number") {
    throw new TypeError(`${call}: the number must be a bigint or a number, not ${typeof value}`);
  }
  throw new RangeError(`${call}: the number must be an integer below 2^53, not ${value}`);
}

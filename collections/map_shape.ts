import { Mutex } from "../sync/mod.ts";
import { stripeBytes } from "./map_stripe.ts";
import { UNIT_BYTES } from "./ring_log.ts";

/** How many stripes a map has, and how large each of them is. */
export interface MapShape {
  readonly stripes: number;
  /** The number of units of the ring of a stripe, a power of two. */
  readonly units: number;
  /** The number of buckets of a stripe, a power of two. */
  readonly buckets: number;
}

/** The options that decide the shape of a map. */
export interface ShapeOptions {
  /** The size of the map in bytes, with all that it needs. It may use a little less. */
  readonly bytes: number;
  /**
   * The least number of parts with a lock of their own. Several processes can change a map at the same time if the keys
   * are in different parts. A value may have a quarter of such a part. 8 if left out, fewer in a map below 512 KiB.
   */
  readonly stripes?: number | undefined;
  /** The usual number of bytes of an entry, key and value together. The number of buckets follows from it. 128 if left out. */
  readonly entryBytes?: number | undefined;
}

/** The number of threads that can be known at a time to compute values for `getOrSet()`. */
export const COMPUTERS = 16;
/** The sizes of the parts of a map before the stripes: the header with a word for each computer, and their mutexes. */
export const MAP_HEADER_BYTES = 128;
/** Here the words are, in the second half of the header. */
export const COMPUTERS_BYTE = 64;
export const STRIPES_BYTE = MAP_HEADER_BYTES + COMPUTERS * Mutex.BYTES;

const STRIPES = 8;
export const STRIPES_MAX = 4096;
/** In a map of the usual number of stripes, each has this number of bytes or more. */
const STRIPE_BYTES_MIN = 65536;
export const UNITS_MIN = 512;
export const UNITS_MAX = 2 ** 27;
export const BUCKETS_MIN = 64;
const ENTRY_BYTES = 128;

/** Returns the number of bytes of a map. */
export function mapBytes({ stripes, units, buckets }: MapShape): number {
  return STRIPES_BYTE + stripes * stripeSize(units, buckets);
}

/** Returns the number of bytes of a stripe with its mutex. */
export function stripeSize(units: number, buckets: number): number {
  return Mutex.BYTES + stripeBytes(units, buckets);
}

/** Returns where the mutex of a computer begins in the map, in bytes. */
export function computerByte(index: number): number {
  return MAP_HEADER_BYTES + index * Mutex.BYTES;
}

/** Returns where a stripe begins in the map, in bytes: its mutex comes first. */
export function stripeByte({ units, buckets }: MapShape, index: number): number {
  return STRIPES_BYTE + index * stripeSize(units, buckets);
}

/**
 * Returns the shape of a map: the largest stripes of which there are enough. Their number is not a power of two, since a
 * map could then only have half as many bytes, or twice as many.
 *
 * @throws {TypeError | RangeError} if an option is not a number in its range
 */
export function shapeOf(call: string, options: ShapeOptions): MapShape {
  const { bytes, stripes, entryBytes = ENTRY_BYTES } = options;
  checkNumber(call, "bytes", bytes, 1, Number.MAX_SAFE_INTEGER);
  checkShape(call, options);
  const wanted = stripes ?? Math.min(STRIPES, Math.max(1, Math.floor(bytes / STRIPE_BYTES_MIN)));
  for (let units = UNITS_MAX; units >= UNITS_MIN; units /= 2) {
    const buckets = bucketsFor(units, entryBytes);
    const count = Math.floor((bytes - STRIPES_BYTE) / stripeSize(units, buckets));
    if (count >= wanted) return { stripes: Math.min(count, STRIPES_MAX), units, buckets };
  }
  const least = STRIPES_BYTE + wanted * stripeSize(UNITS_MIN, bucketsFor(UNITS_MIN, entryBytes));
  throw new RangeError(
    `${call}: a map with ${wanted} ${
      wanted === 1 ? "stripe" : "stripes"
    } takes at least ${least} ` +
      `bytes, not ${bytes}`,
  );
}

/** Returns the number of buckets of a stripe. */
export function bucketsFor(units: number, entryBytes: number): number {
  let buckets = BUCKETS_MIN;
  while (buckets * entryBytes < units * UNIT_BYTES) buckets *= 2;
  return buckets;
}

/** @throws {TypeError | RangeError} if an option other than the size is not a number in its range */
export function checkShape(
  call: string,
  { stripes, entryBytes }: Omit<ShapeOptions, "bytes">,
): void {
  if (stripes !== undefined) checkNumber(call, "stripes", stripes, 1, STRIPES_MAX);
  if (entryBytes !== undefined) {
    checkNumber(call, "entryBytes", entryBytes, 1, Number.MAX_SAFE_INTEGER);
  }
}

function checkNumber(call: string, name: string, value: unknown, least: number, most: number) {
  if (typeof value !== "number") {
    throw new TypeError(`${call}: ${name} must be a number, not ${typeof value}`);
  }
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(
    `${call}: ${name} must be an integer from ${least} to ${most}, not ${value}`,
  );
}

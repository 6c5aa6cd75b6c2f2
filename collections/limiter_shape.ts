import { unitsFor } from "./map_record.ts";
import { RESERVE, SPARE } from "./map_room.ts";
import { BUCKETS_MIN, type MapShape, STRIPES_MAX, UNITS_MAX, UNITS_MIN } from "./map_shape.ts";

/** A limiter for many names has at least this number of stripes. */
const STRIPES = 8;
/** A ring has at least the size of so many records. */
const RECORDS_MIN = 32;
/** The names are spread over the stripes at random: this number of standard deviations more have room in each. */
const DEVIATIONS = 6;

/**
 * Returns the shape of a map that has room for `keys` records with keys of `keyBytes` bytes and no values: the largest
 * stripes of which there are enough.
 *
 * @throws {RangeError} if no map is that large
 */
export function limiterShape(call: string, keys: number, keyBytes: number): MapShape {
  const size = unitsFor(keyBytes, 0);
  let least = UNITS_MIN;
  while (least < RECORDS_MIN * size) least *= 2;
  let units = UNITS_MAX;
  while (units > least && stripesFor(keys, units, size) < STRIPES) units /= 2;
  const stripes = stripesFor(keys, units, size);
  if (stripes > STRIPES_MAX) {
    throw new RangeError(
      `${call}: no limiter has room for ${keys} keys of ${keyBytes} bytes; use less of either`,
    );
  }
  let buckets = BUCKETS_MIN;
  while (buckets * size < units) buckets *= 2;
  return { stripes, units, buckets };
}

/** Returns how many stripes are needed. */
function stripesFor(keys: number, units: number, size: number): number {
  const room = Math.floor((units - Math.max(SPARE * size, RESERVE * units)) / size); // see hasRoom()
  if (keys <= room) return 1;
  const root = (Math.sqrt(DEVIATIONS ** 2 + 4 * room) - DEVIATIONS) / 2; // mean + DEVIATIONS * sqrt(mean) = room
  return Math.ceil(keys / root ** 2);
}

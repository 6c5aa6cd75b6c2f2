import { KEY_META, keyBytes } from "./map_key.ts";
import { UNIT_BYTES } from "./ring_log.ts";

/**
 * A record of a map: these words, then two floats, then the key and the value, each padded to 8 bytes.
 *
 * `SIZE` is the number of units, `NEXT` the position of the next older record of the bucket, or 0.
 * `META` has what {@linkcode MapKey.meta} says, how many bytes of padding follow the value, and the flags below.
 */
export const [SIZE, NEXT, HASH, META] = [0, 1, 2, 3];
/** The floats of a record, by their index: when it expires, 0 if it never does, and its version. */
export const [EXPIRY, VERSION] = [2, 3];
/** The number of units before the key. */
export const RECORD_UNITS = 4;
export const RECORD_WORDS = 8;

/** A record has at most this part of a stripe. */
export const PART = 4;

const PADDING_SHIFT = 19;
/** The value is a float of 8 bytes, which can be changed in place. */
export const NUMBER = 1 << 22;
/** The value is being computed, and the record only says by whom. For all readers there is no such key. */
export const PENDING = 1 << 23;
/** The record may have been used since it came to the tail: the mark of its bucket was for it or another one. */
export const USED = 1 << 24;
/** No chain has the record any more. If its writer was killed, a record without this flag may be in no chain either. */
export const GONE = 1 << 25;

/** Returns the meta word of a record. */
export function metaOf(keyMeta: number, valueBytes: number, flags: number): number {
  return keyMeta | (-valueBytes & 7) << PADDING_SHIFT | flags;
}

/** Whether a meta word is that of a record with this key. */
export function hasMeta(meta: number, keyMeta: number): boolean {
  return (meta & KEY_META) === keyMeta;
}

/** Returns the number of units that the key takes. */
export function keyUnits(meta: number): number {
  return keyBytes(meta) + 7 >> 3;
}

/** Returns the number of units of a record. */
export function unitsFor(keyMeta: number, valueBytes: number): number {
  return RECORD_UNITS + keyUnits(keyMeta) + Math.ceil(valueBytes / UNIT_BYTES);
}

/** Returns the number of bytes of the value. It is negative or too large if the words are not those of a record. */
export function valueBytes(size: number, meta: number): number {
  return (size - RECORD_UNITS - keyUnits(meta)) * UNIT_BYTES - (meta >>> PADDING_SHIFT & 7);
}

/** Whether a record of this size can have this meta word. */
export function isPossible(size: number, meta: number): boolean {
  const length = valueBytes(size, meta);
  return (meta & NUMBER) === 0 ? length >= 0 : length === UNIT_BYTES;
}

/** At most this number of records of a chain have the same hash, unless they were forged: they are compared with each other. */
export const ALIKE_MAX = 64;

/** Whether two records, each of which begins at an index of some words, have the same key. */
export function isSameKey(
  one: Int32Array,
  oneAt: number,
  other: Int32Array,
  otherAt: number,
): boolean {
  if (one[oneAt + HASH] !== other[otherAt + HASH]) return false;
  const meta = one[oneAt + META]!;
  if (!hasMeta(other[otherAt + META]!, meta & KEY_META)) return false;
  const end = RECORD_WORDS + 2 * keyUnits(meta);
  for (let i = RECORD_WORDS; i < end; i++) {
    if (one[oneAt + i] !== other[otherAt + i]) return false;
  }
  return true;
}

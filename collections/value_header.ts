import { SyncError } from "../sync/errors.ts";
import { Event } from "../sync/event.ts";
import { Mutex } from "../sync/mutex.ts";
import { PrimitiveKind, type Slot } from "../sync/slot.ts";

/** The words of the header after the two that each slot has. The second one is the complement of the first one. */
const [MAX_BYTES, CHECK] = [2, 3];
/** The header takes two cache lines. The words that change are in the second one. */
const HEADER_BYTES = 128;
/** Each part begins on a cache line of its own. */
const CACHE_LINE = 64;

const MAX_BYTES_MAX = 2 ** 30;

/** Where the parts of a shared value begin, in bytes. */
export const MUTEX_BYTE = HEADER_BYTES;
export const EVENT_BYTE = MUTEX_BYTE + Mutex.BYTES;
const HALVES_BYTE = EVENT_BYTE + aligned(Event.BYTES);

/** Returns where half 0 or 1 begins, in bytes. */
export function halfByte(maxBytes: number, half: number): number {
  return HALVES_BYTE + half * aligned(maxBytes);
}

/** Returns the number of bytes of a shared value. */
export function valueBytes(maxBytes: number): number {
  return halfByte(maxBytes, 2);
}

/** Creates a shared value: writes its header after `fill` has written the rest. */
export function makeHeader(call: string, slot: Slot, maxBytes: number, fill: () => void): void {
  slot.make(call, PrimitiveKind.SharedValue, valueBytes(maxBytes), () => {
    slot.words[MAX_BYTES] = maxBytes;
    slot.words[CHECK] = ~maxBytes;
    fill();
  });
}

/** Returns the largest size of a value. @throws {SyncError} if the header is not that of a shared value */
export function readHeader(call: string, slot: Slot): number {
  slot.join(call, PrimitiveKind.SharedValue, HEADER_BYTES);
  const maxBytes = maxBytesIn(slot.words);
  if (maxBytes === null) {
    throw new SyncError(
      "Damaged",
      `${call}: the header of the value has been overwritten; create it again when no process uses it`,
    );
  }
  slot.require(call, valueBytes(maxBytes));
  return maxBytes;
}

/** Returns the largest size that the words of a header say, or `null` if they are not those of a header. */
export function maxBytesIn(words: Int32Array): number | null {
  const maxBytes = words[MAX_BYTES]!;
  const isWhole = maxBytes >= 1 && maxBytes <= MAX_BYTES_MAX && words[CHECK] === ~maxBytes;
  return isWhole ? maxBytes : null;
}

/** @throws {TypeError | RangeError} if `maxBytes` is not a size that a value can have */
export function checkMaxBytes(call: string, maxBytes: unknown): asserts maxBytes is number {
  if (typeof maxBytes !== "number") {
    throw new TypeError(`${call}: maxBytes must be a number, not ${typeof maxBytes}`);
  }
  if (Number.isInteger(maxBytes) && maxBytes >= 1 && maxBytes <= MAX_BYTES_MAX) return;
  throw new RangeError(
    `${call}: maxBytes must be an integer from 1 to ${MAX_BYTES_MAX}, not ${maxBytes}`,
  );
}

/** @throws {SyncError} `WrongKind` if the value was created with another size than the options say */
export function requireSame(call: string, found: number, maxBytes: unknown): void {
  if (maxBytes === undefined) return;
  checkMaxBytes(call, maxBytes);
  if (found === maxBytes) return;
  throw new SyncError(
    "WrongKind",
    `${call}: the value was created with other options: maxBytes ${found}, not ${maxBytes}. Use the same ones ` +
      "everywhere, or another key",
  );
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / CACHE_LINE) * CACHE_LINE;
}

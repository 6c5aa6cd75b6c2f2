import { SyncError } from "../sync/errors.ts";
import { Event } from "../sync/event.ts";
import { Mutex } from "../sync/mutex.ts";
import { PrimitiveKind, type Slot } from "../sync/slot.ts";
import { CODEC_NAME_BYTES, codecNameIn } from "./codecs.ts";

/** The words of the header after the two that each slot has. The second one is the complement of the first one. */
const [MAX_BYTES, CHECK] = [2, 3];
/** Here the name of the codec is, in bytes. */
const NAME_BYTE = 16;
const encoder = new TextEncoder();
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
export function makeHeader(
  call: string,
  slot: Slot,
  { maxBytes, codec }: { readonly maxBytes: number; readonly codec: string },
  fill: () => void,
): void {
  slot.make(call, PrimitiveKind.SharedValue, valueBytes(maxBytes), () => {
    slot.words[MAX_BYTES] = maxBytes;
    slot.words[CHECK] = ~maxBytes;
    slot.view(Uint8Array, NAME_BYTE, CODEC_NAME_BYTES).set(encoder.encode(codec));
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

/** Returns the name of the codec with which a value was created, `""` if that has none. */
function codecOf(slot: Slot): string {
  return codecNameIn(slot.view(Uint8Array, NAME_BYTE, CODEC_NAME_BYTES).slice());
}

/**
 * Checks that a value that exists is the one that the options describe.
 *
 * @param found the largest size of the value that exists
 * @throws {SyncError} `WrongKind` if it is not
 */
export function requireSame(
  call: string,
  slot: Slot,
  found: number,
  maxBytes: unknown,
  codec: string,
): void {
  if (maxBytes !== undefined) checkMaxBytes(call, maxBytes);
  const differences: string[] = [];
  if (maxBytes !== undefined && found !== maxBytes) {
    differences.push(`maxBytes ${found}, not ${maxBytes}`);
  }
  const name = codecOf(slot);
  if (codec !== "" && name !== "" && codec !== name) {
    differences.push(`codec: ${JSON.stringify(name)}, not "${codec}"`);
  }
  if (differences.length === 0) return;
  throw new SyncError(
    "WrongKind",
    `${call}: the value was created with other options: ${
      differences.join("; ")
    }. Use the same ones everywhere, or another key`,
  );
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / CACHE_LINE) * CACHE_LINE;
}

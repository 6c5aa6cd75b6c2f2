import { futexId } from "../backends/futex/mod.ts";
import { SyncError } from "../sync/errors.ts";
import { Mutex } from "../sync/mutex.ts";
import { PrimitiveKind, type Slot } from "../sync/slot.ts";
import { CODEC_NAME_BYTES, codecNameIn } from "./codecs.ts";
import { LOG_HEADER_BYTES, MARGIN_BYTES, UNIT_BYTES } from "./ring_log.ts";

/**
 * The parts of a topic: the header of each primitive, which has the number of bits of a position in its detail, the
 * mutex of the publishers, the header of the log, the words with which readers are woken, the ring, and its margin.
 */
export const MUTEX_BYTE = 64;
export const LOG_BYTE = MUTEX_BYTE + Mutex.BYTES;
const WAKE_BYTES = 64;
/** From the beginning of the log to its ring. */
export const LOG_BYTES = LOG_HEADER_BYTES + WAKE_BYTES;
/** The topic begins on a cache line, and so do its parts. */
export const TOPIC_ALIGNMENT = 64;

const ID_WORD = 2;
/** Here the name of the codec is, in bytes. */
const NAME_BYTE = 16;
const encoder = new TextEncoder();
export const BITS_MIN = 6;
export const BITS_MAX = 27;

/** Returns the number of bytes of a topic. */
export function topicBytes(units: number): number {
  return LOG_BYTE + LOG_BYTES + units * UNIT_BYTES + MARGIN_BYTES;
}

/**
 * Returns the number of units of the ring for so many bytes.
 *
 * @throws {TypeError | RangeError} if `bytes` is not a number in its range
 */
export function unitsOf(call: string, bytes: unknown): number {
  if (typeof bytes !== "number") {
    throw new TypeError(`${call}: bytes must be a number, not ${typeof bytes}`);
  }
  const most = UNIT_BYTES * 2 ** BITS_MAX;
  if (!Number.isSafeInteger(bytes) || bytes < 1 || bytes > most) {
    throw new RangeError(`${call}: bytes must be an integer from 1 to ${most}, not ${bytes}`);
  }
  let units = 2 ** BITS_MIN;
  while (units * UNIT_BYTES < bytes) units *= 2;
  return units;
}

/** Creates a topic: writes its header after `fill` has written the rest. */
export function makeTopic(
  call: string,
  slot: Slot,
  { units, codec }: { readonly units: number; readonly codec: string },
  fill: () => void,
): void {
  slot.make(call, PrimitiveKind.SharedTopic, topicBytes(units), () => {
    slot.words[ID_WORD] = futexId();
    slot.view(Uint8Array, NAME_BYTE, CODEC_NAME_BYTES).set(encoder.encode(codec));
    fill();
  }, Math.log2(units));
}

/** Returns the number of units of a topic that exists. @throws {SyncError} if it is none */
export function readTopic(call: string, slot: Slot): number {
  const bits = slot.join(call, PrimitiveKind.SharedTopic, LOG_BYTE + LOG_BYTES);
  if (bits < BITS_MIN || bits > BITS_MAX) {
    throw new SyncError(
      "Damaged",
      `${call}: the header of the topic has been overwritten; create it again when no process uses it`,
    );
  }
  slot.require(call, topicBytes(2 ** bits));
  return 2 ** bits;
}

/** Returns the name of the codec with which a topic was created, `""` if that has none. */
export function codecOf(slot: Slot): string {
  return codecNameIn(slot.view(Uint8Array, NAME_BYTE, CODEC_NAME_BYTES).slice());
}

/** Returns the number that distinguishes the topic from others for the futex. */
export function idOf(slot: Slot): number {
  return slot.words[ID_WORD]! >>> 0;
}

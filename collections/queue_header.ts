import { sharedClock } from "../backends/clock.ts";
import { SyncError } from "../sync/errors.ts";
import { PrimitiveKind, type Slot } from "../sync/slot.ts";
import { CODEC_NAME_BYTES } from "./codecs.ts";
import { halfSipHash } from "./half_sip_hash.ts";
import {
  JOBS_MAX,
  MEMBERS_MAX,
  MUTEX_BYTE,
  queueBytes,
  type QueueShape,
  UNITS_MAX,
  UNITS_MIN,
} from "./queue_shape.ts";

/** The words of the header of a queue after the two that each slot has. The last one is a checksum of the others. */
const [UNITS, JOBS, MEMBERS, SCOPE, CHECK] = [2, 3, 4, 5, 6];
const CHECK_KEY = 0x71756575;
/** Here the name of the codec is, in bytes. Its words count for the checksum as well. */
const NAME_BYTE = 32;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What the header of a queue says. */
export interface QueueHeader extends QueueShape {
  /** The name of the codec with which it was created, `""` if that has none. */
  readonly codec: string;
}

/** Creates a queue: writes its header, and then calls `fill`, which writes the rest. */
export function makeQueueHeader(
  call: string,
  slot: Slot,
  shape: QueueHeader,
  fill: () => void,
): void {
  slot.make(call, PrimitiveKind.SharedQueue, queueBytes(shape), () => {
    const words = slot.view(Int32Array, 0, MUTEX_BYTE / 4);
    words[UNITS] = shape.units;
    words[JOBS] = shape.jobs;
    words[MEMBERS] = shape.members;
    words[SCOPE] = sharedClock().scope;
    slot.view(Uint8Array, NAME_BYTE, CODEC_NAME_BYTES).set(encoder.encode(shape.codec));
    words[CHECK] = checkOf(words);
    fill();
  });
}

/** Reads the header of a queue. @throws {SyncError} if it is not that of a queue that this process can use */
export function readQueueHeader(call: string, slot: Slot): QueueHeader {
  slot.join(call, PrimitiveKind.SharedQueue, MUTEX_BYTE);
  const words = slot.view(Int32Array, 0, MUTEX_BYTE / 4).slice();
  const shape = queueShapeIn(words);
  if (shape === null) {
    throw new SyncError(
      "Damaged",
      `${call}: the header of the queue has been overwritten; create it again when no process uses it`,
    );
  }
  slot.require(call, queueBytes(shape));
  if (words[SCOPE] !== sharedClock().scope) {
    throw new SyncError(
      "WrongKind",
      `${call}: the queue was created before this system was started, or in another time namespace ` +
        "(another container), so the times of delayed jobs mean nothing here; create it again",
    );
  }
  return shape;
}

/** Returns what the words of a header say, or `null` if they are not those of a header. */
export function queueShapeIn(words: Int32Array): QueueHeader | null {
  const shape = {
    units: words[UNITS]!,
    jobs: words[JOBS]!,
    members: words[MEMBERS]!,
    codec: nameIn(words),
  };
  return isPossible(shape) && words[CHECK] === checkOf(words) ? shape : null;
}

function isPossible({ units, jobs, members }: QueueShape): boolean {
  return units >= UNITS_MIN && units <= UNITS_MAX && (units & units - 1) === 0 &&
    jobs >= 8 && jobs < JOBS_MAX && members >= 8 && members <= MEMBERS_MAX;
}

function checkOf(words: Int32Array): number {
  const name = halfSipHash(CHECK_KEY, 0, nameWords(words), CODEC_NAME_BYTES / 4, 0);
  return halfSipHash(CHECK_KEY, name, words.slice(UNITS, CHECK), CHECK - UNITS, 0);
}

function nameWords(words: Int32Array): Int32Array {
  return words.slice(NAME_BYTE / 4, (NAME_BYTE + CODEC_NAME_BYTES) / 4);
}

function nameIn(words: Int32Array): string {
  const bytes = new Uint8Array(nameWords(words).buffer);
  const end = bytes.indexOf(0);
  return decoder.decode(end === -1 ? bytes : bytes.subarray(0, end));
}

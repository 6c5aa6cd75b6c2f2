import { queueShapeIn } from "../collections/queue_header.ts";
import {
  ACKED,
  CLEARED,
  CLOSED,
  DELAYED,
  DROPPED,
  FAILED,
  LATE,
  LIVE,
  READY,
  RECEIVED,
  RECEIVERS,
  RETRIED,
  RETURNED,
  RUNNING,
  SENDERS,
  SENT,
} from "../collections/queue_log.ts";
import * as queue from "../collections/queue_shape.ts";
import { HEAD, RECOVERED, TAIL, UNIT_BYTES } from "../collections/ring_log.ts";
import {
  BASE_HIGH,
  BASE_LOW,
  HIGH,
  LOW,
  NEWEST,
  numberOf,
  RECORD_WORDS,
  SIZE,
  WAITING,
} from "../collections/topic_log.ts";
import * as topic from "../collections/topic_shape.ts";
import { LATEST, LENGTHS, VERSIONS_BYTE, WORDS } from "../collections/value_halves.ts";
import * as value from "../collections/value_header.ts";
import { Mutex } from "../sync/mod.ts";
import { describeMutex } from "./holders.ts";
import { bytesOf, roomOf, wordsOf } from "./reading.ts";
import { Sections } from "./sections.ts";
import type { Describer, Description, Holder, Place } from "./types.ts";

const ALIGNMENT = 64;
const MUTEX_WORDS = Mutex.BYTES / 4;
/** The second word of each header has the detail of the kind in its upper half. */
const [KIND_WORD, DETAIL_SHIFT] = [1, 16];
/** A record of a ring that is only padding has this bit in its first word. */
const PAD = 1 << 30;
/** Other code may run after this number of members. */
const MEMBERS_AT_ONCE = 64;

/** Describes the lock of a collection with one section. @param words the words of the section */
function lockOf(place: Place, mutexByte: number, words: Int32Array): Partial<Description> {
  const sections = new Sections();
  sections.add(wordsOf(place, mutexByte, MUTEX_WORDS), words);
  return sections.description;
}

function fits(bytes: number, place: Place): number | null {
  return bytes <= roomOf(place) ? bytes : null;
}

function topicUnits(place: Place): number | null {
  const bits = wordsOf(place, 0, 2)[KIND_WORD]! >>> DETAIL_SHIFT;
  return bits >= topic.BITS_MIN && bits <= topic.BITS_MAX ? 2 ** bits : null;
}

/** Returns the sequence number of the record at a position, `null` if it is padding or no record. */
function sequenceAt(place: Place, units: number, position: number): number | null {
  const byte = topic.LOG_BYTE + topic.LOG_BYTES + (position & units - 1) * UNIT_BYTES;
  const words = wordsOf(place, byte, RECORD_WORDS);
  return (words[SIZE]! & PAD) === 0 && words[SIZE]! > 0
    ? numberOf(words[LOW]!, words[HIGH]!)
    : null;
}

export const SHARED_TOPIC: Describer = {
  kind: "SharedTopic",
  alignment: ALIGNMENT,
  sizeOf: (place) => {
    const units = topicUnits(place);
    return units === null ? null : fits(topic.topicBytes(units), place);
  },
  // deno-lint-ignore require-yield
  *describe(place) {
    const units = topicUnits(place)!;
    const words = wordsOf(place, topic.LOG_BYTE, topic.LOG_BYTES / 4);
    const [head, tail, newest] = [words[HEAD]!, words[TAIL]!, words[NEWEST]!];
    const base = numberOf(words[BASE_LOW]!, words[BASE_HIGH]!);
    const published = newest === 0 ? base : sequenceAt(place, units, newest) ?? base;
    const oldest = head === tail ? null : oldestOf(place, units, head, tail);
    const { holders, problem, waiting } = lockOf(place, topic.MUTEX_BYTE, words);
    return {
      facts: {
        published,
        messages: oldest === null ? 0 : Math.max(0, published - oldest + 1),
        bytes: Math.min(tail - head >>> 0, units) * UNIT_BYTES,
        capacity: units * UNIT_BYTES,
        waiters: Math.max(0, words[WAITING]!),
        recovered: words[RECOVERED]!,
      },
      ...holders === undefined ? {} : { holders },
      ...waiting === undefined ? {} : { waiting },
      ...problem === undefined ? {} : { problem },
    };
  },
};

/** Returns the sequence number of the oldest message: padding may lie before it. */
function oldestOf(place: Place, units: number, head: number, tail: number): number | null {
  for (let position = head, i = 0; i < 3 && (tail - position >>> 0) > 0; i++) {
    const sequence = sequenceAt(place, units, position);
    if (sequence !== null) return sequence;
    const byte = topic.LOG_BYTE + topic.LOG_BYTES + (position & units - 1) * UNIT_BYTES;
    position = position + (wordsOf(place, byte, 1)[SIZE]! & ~PAD) | 0;
  }
  return null;
}

export const SHARED_QUEUE: Describer = {
  kind: "SharedQueue",
  alignment: ALIGNMENT,
  sizeOf: (place) => {
    const shape = queueShapeIn(wordsOf(place, 0, queue.MUTEX_BYTE / 4));
    return shape === null ? null : fits(queue.queueBytes(shape), place);
  },
  *describe(place) {
    const shape = queueShapeIn(wordsOf(place, 0, queue.MUTEX_BYTE / 4));
    if (shape === null) return { facts: {}, problem: "its header has been overwritten" };
    const bytes = bytesOf(place, queue.LOG_BYTE, queue.GENERATIONS_BYTE);
    const words = new Int32Array(bytes.buffer);
    const totals = new Float64Array(bytes.buffer, queue.TOTALS_BYTE, 16);
    const members: Holder[] = [];
    for (let i = 0; i < shape.members; i++) {
      if (i % MEMBERS_AT_ONCE === MEMBERS_AT_ONCE - 1) yield;
      const byte = queue.LOG_BYTE + queue.mutexesByte(shape) + i * Mutex.BYTES;
      members.push(...describeMutex(wordsOf(place, byte, MUTEX_WORDS)).holders);
    }
    return {
      facts: {
        ready: words[READY.count]!,
        delayed: words[DELAYED]!,
        running: words[RUNNING.count]!,
        failed: words[FAILED.count]!,
        bytes: words[LIVE]! * UNIT_BYTES,
        capacity: shape.units * UNIT_BYTES,
        sent: totals[SENT]!,
        acked: totals[ACKED]!,
        received: totals[RECEIVED]!,
        cleared: totals[CLEARED]!,
        dropped: totals[DROPPED]!,
        retried: totals[RETRIED]!,
        returned: totals[RETURNED]!,
        late: totals[LATE]!,
        recovered: words[RECOVERED]!,
        members: members.length,
        closed: words[CLOSED] === 0 ? "no" : "yes",
      },
      members,
      ...lockOf(place, queue.MUTEX_BYTE, words),
      ...words[RECEIVERS] === 0 && words[SENDERS] === 0 ? {} : { waiting: null },
    };
  },
};

export const SHARED_VALUE: Describer = {
  kind: "SharedValue",
  alignment: ALIGNMENT,
  sizeOf: (place) => {
    const maxBytes = value.maxBytesIn(wordsOf(place, 0, 4));
    return maxBytes === null ? null : fits(value.valueBytes(maxBytes), place);
  },
  // deno-lint-ignore require-yield
  *describe(place) {
    const capacity = value.maxBytesIn(wordsOf(place, 0, 4)) ?? 0;
    const bytes = bytesOf(place, 0, WORDS * 4);
    const words = new Int32Array(bytes.buffer);
    const half = words[LATEST]! & 1;
    return {
      facts: {
        version: new Float64Array(bytes.buffer, VERSIONS_BYTE, 2)[half]!,
        bytes: Math.max(0, Math.min(words[LENGTHS + half]!, capacity)),
        capacity,
        recovered: words[RECOVERED]!,
      },
      ...lockOf(place, value.MUTEX_BYTE, words),
    };
  },
};

import { bufferOfArray } from "../core/view_extent.ts";
import type { Slot } from "../sync/slot.ts";
import { DamagedLog, HEAD, RingLog, TAIL, UNIT_BYTES } from "./ring_log.ts";
import { LOG_BYTE, LOG_BYTES } from "./topic_shape.ts";

/** The words of a record, before the bytes of the message: its number of units, of bytes, and its sequence number. */
export const [SIZE, LENGTH, LOW, HIGH] = [0, 1, 2, 3];
export const RECORD_UNITS = 2;
export const RECORD_WORDS = 4;

/** A message takes at most this part of the ring. */
export const PART = 4;

/** This part of the ring is freed beyond what is needed, as each change of `head` is slow. */
const SPARE = 1 / 64;

/**
 * These words for the publisher follow `tail`: the position of the newest record, 0 if there is none, and the sequence
 * number of the last message before the oldest record of an empty log.
 */
export const [NEWEST, BASE_LOW, BASE_HIGH] = [17, 18, 19];
/** The words of the third cache line: one that changes when sleepers are woken, and how many threads sleep. */
export const [SIGNAL, WAITING] = [32, 33];

/** Up to this length a loop over bytes is as fast, and V8 creates no buffer for a short array. */
const SHORT = 64;
/** The upper word of a sequence number counts these, and has 21 bits. */
const HIGH_UNIT = 2 ** 32;
const HIGH_MASK = 2 ** 21 - 1;

/** Returns the number of units of a record. */
export function unitsFor(length: number): number {
  return RECORD_UNITS + (length >>> 3) + ((length & 7) === 0 ? 0 : 1);
}

/**
 * The log of a topic has the newest messages that fit. Each record has the sequence number of its message, which is one
 * more than that of the record before. docs/collections.md has the bytes, for programs in other languages.
 *
 * A publisher that has the lock frees space at the head, writes a record beyond the tail, and lets it in by one store of
 * `tail`. Once there was a message, the log is never empty: a record takes at most a quarter of the ring, and the padding
 * before it less than that.
 */
export class TopicLog extends RingLog {
  /** The highest sequence number that this object knows, in its two words. */
  private knownLow = 0;
  private knownHigh = 0;

  constructor(slot: Slot, units: number, isOrdered: boolean) {
    super(slot, LOG_BYTE, LOG_BYTES, units, isOrdered);
  }

  // For readers.

  /** The longest message in bytes. */
  get most(): number {
    return (this.units / PART - RECORD_UNITS) * UNIT_BYTES;
  }

  /** The number of bytes that the messages take. */
  get taken(): number {
    const { words, units } = this;
    return Math.min(Atomics.load(words, TAIL) - Atomics.load(words, HEAD) >>> 0, units) *
      UNIT_BYTES;
  }

  /** Returns where the newest record begins, as far as that is known: another one may have come. */
  get newest(): number {
    return Atomics.load(this.words, NEWEST);
  }

  /** The sequence number that the last message had before the log became empty: 0 in a new topic. */
  get base(): number {
    return numberOf(this.words[BASE_LOW]!, this.words[BASE_HIGH]!);
  }

  /** Returns the sequence number of the record that begins at an index of `data`. */
  sequenceAt(at: number): number {
    return numberOf(this.data[at + LOW]!, this.data[at + HIGH]!);
  }

  // For the publisher, with the lock held.

  /**
   * Publishes a message; returns its sequence number, which is that of the newest record and one more.
   *
   * @param length the number of its bytes, {@linkcode TopicLog.most} at most
   */
  publish(message: Uint8Array, length: number): number {
    const { data, words } = this;
    const newest = words[NEWEST]!;
    const tail = words[TAIL]!;
    const last = this.wordOf(newest);
    const isEmpty = newest === 0;
    const end = isEmpty ? words[HEAD]! : newest + data[last + SIZE]! | 0;
    const low = (isEmpty ? words[BASE_LOW]! : data[last + LOW]!) + 1 | 0;
    const high = (isEmpty ? words[BASE_HIGH]! : data[last + HIGH]!) + (low === 0 ? 1 : 0);
    if (end !== tail || (high & HIGH_MASK | low) === 0) throw new DamagedLog();
    const size = unitsFor(length);
    const position = this.makeRoom(size);
    const at = this.wordOf(position);
    data[at + SIZE] = size;
    data[at + LENGTH] = length;
    data[at + LOW] = low;
    data[at + HIGH] = high;
    this.write((at + RECORD_WORDS) << 2, message, length);
    if (tail !== position) this.pad(tail, position);
    Atomics.store(words, TAIL, position + size | 0); // the record is in the log
    words[NEWEST] = position;
    this.knownLow = low;
    this.knownHigh = high;
    return numberOf(low, high);
  }

  /** Copies a message. It stays within `length` bytes, even if another thread makes the array longer meanwhile. */
  private write(from: number, message: Uint8Array, length: number): void {
    const { bytes } = this;
    if (length <= SHORT) {
      for (let i = 0; i < length; i++) bytes[from + i] = message[i]!;
    } else if (bufferOfArray(message) instanceof ArrayBuffer) {
      bytes.set(message, from);
    } else { // it may have become longer meanwhile, in another thread
      bytes.subarray(from, from + length).set(message);
    }
  }

  /** Frees the oldest records if one of `size` units does not fit; returns the position for it. */
  private makeRoom(size: number): number {
    const position = this.placeFor(size);
    const free = this.freeAfter(position, size);
    if (free < 0) this.free(SPARE * this.units - free);
    return position;
  }

  /** Frees the oldest records until there are `missing` units more. */
  private free(missing: number): void {
    let { head, span } = this;
    while (missing > 0) {
      const freed = Math.abs(this.sizeAt(head, span));
      head = head + freed | 0;
      span -= freed;
      missing -= freed;
    }
    this.moveHead(head);
  }

  /** Says again which record is the newest one, after a publisher was killed; empties the log if it makes no sense. */
  recover(): void {
    try {
      this.words[NEWEST] = this.check();
    } catch (error) {
      if (!(error instanceof DamagedLog)) throw error;
      this.reset();
    }
  }

  /** Returns the position of the newest record, 0 if there is none. */
  private check(): number {
    const { data } = this;
    let { head: position, span: left } = this;
    let newest = 0;
    let sequence = -1;
    while (left > 0) {
      const size = this.sizeAt(position, left);
      if (size > 0) {
        const at = this.wordOf(position);
        const isNext = sequence === -1 || this.sequenceAt(at) === sequence + 1;
        if (!isNext || unitsFor(data[at + LENGTH]!) !== size) throw new DamagedLog();
        sequence = this.sequenceAt(at);
        newest = position;
      }
      position = position + Math.abs(size) | 0;
      left -= Math.abs(size);
    }
    return newest;
  }

  /**
   * Takes everything out, whatever the words are. Sequence numbers go on from the highest one that this object knows and
   * that the words name, as far as these can be believed.
   */
  reset(): void {
    const { words } = this;
    const newest = words[NEWEST]!;
    const named = newest === 0 ? 0 : this.sequenceAt(this.wordOf(newest));
    const known = numberOf(this.knownLow, this.knownHigh);
    const base = Math.max(known, ...[named, this.base].filter((number) => number < SENSIBLE));
    this.nextEpoch();
    this.nextEpoch(); // two of them: a reader whose position might be one again has missed 2^32 units or everything
    words[BASE_LOW] = this.knownLow = base | 0;
    words[BASE_HIGH] = this.knownHigh = base / HIGH_UNIT | 0;
    words[NEWEST] = 0;
    Atomics.exchange(words, HEAD, words[TAIL]!);
  }
}

/** No topic has so many messages in a hundred years. */
const SENSIBLE = 2 ** 52;

/** Returns the sequence number of its two words. */
export function numberOf(low: number, high: number): number {
  return (high & HIGH_MASK) * HIGH_UNIT + (low >>> 0);
}

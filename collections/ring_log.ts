import type { Slot } from "../sync/slot.ts";

/** A unit has this number of bytes. Records begin at multiples of it, and have a whole number of units. */
export const UNIT_BYTES = 8;
/** The two cache lines of a log, in bytes: readers use the first one, and only writers the second one. */
export const LOG_HEADER_BYTES = 128;

/** The words of the first cache line. */
export const [HEAD, EPOCH] = [0, 1];
/** The word of the second one; what a kind of log keeps for its writers follows. */
export const TAIL = 16;
/** These words of the second line are for any section: how often a writer was killed, and the pid of the one that writes. */
export const [RECOVERED, WRITER] = [28, 29];
/** After the ring there is room for the words of a record that seems to begin in its last unit. */
export const MARGIN_BYTES = 64;
/** A record that is only there to skip units has this bit in its first word. */
export const PAD = 1 << 30;

/** This is thrown, and caught by the writer that repairs the log, if the bytes of a log cannot be those of a log. */
export class DamagedLog extends Error {}

/**
 * A ring log holds records of different sizes in a ring of 2^k units, the oldest one at `head`, up to `tail`. Position p
 * lies at unit p mod 2^k. Positions count modulo 2^32, so they are compared by their distance from `head`. A record never
 * wraps around the end of the ring: there is padding before the end. No record has the position 0, which means "none".
 *
 * One writer at a time changes the log. Any process may be killed after any store, and readers take no lock:
 * - A writer writes a record where no reader looks, beyond `tail`. One store of `tail` lets it into the log.
 * - A writer that frees space first moves `head`, and only then overwrites bytes.
 * - A reader copies what it wants, and then loads `head`. If `head` has not passed the record, the copy is whole.
 *
 * `epoch` changes with every 2^31 units that `head` advances, and when a writer voids what readers have seen. Since a
 * reader needs the same epoch before and after, it cannot mistake a position for the same one 2^32 units later.
 */
export class RingLog {
  // For `declare`, see Slot.
  /** The header, and what follows it up to the ring. */
  declare readonly words: Int32Array;
  /** The ring, in words and in floats, with the margin after it, and in bytes. */
  declare readonly data: Int32Array;
  declare readonly floats: Float64Array;
  declare readonly bytes: Uint8Array;
  /** The number of units of the ring, a power of two. */
  declare readonly units: number;
  declare readonly unitMask: number;
  /** Whether the processor performs loads in order: see {@linkcode RingLog.isWhole}. */
  declare readonly isOrdered: boolean;
  /**
   * `epoch` and `head` as this object has seen them last, perhaps long ago, and the distance from that head to the oldest
   * record that the reader has used.
   */
  private seenEpoch = 0;
  protected seenHead = 0;
  protected distance = 0;

  /**
   * @param begin where the header begins in the slot, in bytes
   * @param headerBytes the size of the header and of what follows it up to the ring
   */
  constructor(slot: Slot, begin: number, headerBytes: number, units: number, isOrdered: boolean) {
    this.words = slot.view(Int32Array, begin, headerBytes / 4);
    const ring = begin + headerBytes;
    this.data = slot.view(Int32Array, ring, units * 2 + MARGIN_BYTES / 4);
    this.floats = slot.view(Float64Array, ring, units + MARGIN_BYTES / 8);
    this.bytes = slot.view(Uint8Array, ring, units * UNIT_BYTES);
    this.units = units;
    this.unitMask = units - 1;
    this.isOrdered = isOrdered;
  }

  /** Returns the index in `data` of the record at a position. */
  wordOf(position: number): number {
    return (position & this.unitMask) << 1;
  }

  // For readers.

  /**
   * Whether what was read, from the record at `distance` from `seenHead` on, was not overwritten meanwhile: `head` has not
   * passed that record, and the epoch is the one that was seen before. If it returns `false`, the reader tries again.
   *
   * A processor that performs loads in another order than that of the program might load `head` before the bytes are
   * copied. There the reader writes `head` as it is: a writer that moves `head` does it before or after that, and
   * overwrites bytes only after it has read what the reader has written (see Snapshot).
   *
   * V8 takes 7 ns for an `Atomics.load`, so there is one here, and a read begins with what the last one has seen.
   */
  isWhole(): boolean {
    const { words } = this;
    const head = this.isOrdered ? Atomics.load(words, HEAD) : Atomics.add(words, HEAD, 0);
    const epoch = words[EPOCH]!; // once for each read, and after an operation of Atomics
    const isWhole = head - this.seenHead >>> 0 <= this.distance && epoch === this.seenEpoch;
    if (!isWhole) {
      this.seenHead = head;
      this.seenEpoch = epoch;
    }
    return isWhole;
  }

  /** The head as it is now. */
  protected get headNow(): number {
    return Atomics.load(this.words, HEAD);
  }

  /** Lets no load or store before it be performed after it, nor the other way round. */
  protected fence(): void {
    Atomics.add(this.words, HEAD, 0);
  }

  // For the writer. It has the lock, so plain loads are enough: nobody else changes these words until it is released.

  /** The oldest position whose bytes are intact. */
  get head(): number {
    return this.words[HEAD]!;
  }

  /** The position at which the next record begins, or padding before it. */
  get tail(): number {
    return this.words[TAIL]!;
  }

  /** The number of units from `head` to `tail`. */
  get span(): number {
    const span = this.tail - this.head >>> 0;
    if (span > this.units) throw new DamagedLog();
    return span;
  }

  /** Returns the position that a record of `size` units will have, after padding if it needs some. */
  placeFor(size: number): number {
    let position = this.tail;
    if (position === 0) position = 1;
    const left = this.units - (position & this.unitMask);
    if (left >= size) return position;
    return (position + left | 0) || 1;
  }

  /** The number of units that are free beyond a record of `size` units at `position`; it may be negative. */
  freeAfter(position: number, size: number): number {
    return this.units - (position + size - this.head >>> 0);
  }

  /** Lets a record that was written at `position`, from {@linkcode RingLog.placeFor}, into the log. */
  append(position: number, size: number): void {
    const { words } = this;
    const tail = words[TAIL]!;
    if (tail !== position) this.pad(tail, position);
    words[TAIL] = position + size | 0;
  }

  protected pad(tail: number, position: number): void {
    let from = tail;
    if (position === 1 && from !== 0) { // up to the end of the ring, and then position 0
      this.data[this.wordOf(from)] = -from | PAD;
      from = 0;
    }
    this.data[this.wordOf(from)] = position - from | PAD;
  }

  /**
   * Returns the number of units of the record at `position`, negative if it is padding.
   *
   * @param left the number of units from there to `tail`
   */
  sizeAt(position: number, left: number): number {
    const word = this.data[this.wordOf(position)]!;
    const size = word & ~PAD;
    const end = (position & this.unitMask) + size;
    if (size < 1 || size > left || end > this.units) throw new DamagedLog();
    return (word & PAD) === 0 ? size : -size;
  }

  /** Frees everything before `position`, which is not beyond `tail`. */
  moveHead(position: number): void {
    if ((position ^ this.head) < 0) this.nextEpoch();
    Atomics.exchange(this.words, HEAD, position);
  }

  /** Takes back everything from `position` on, which no reader can have found since the epoch began. */
  protected cutTail(position: number): void {
    this.words[TAIL] = position;
  }

  /** Makes all readers try again. */
  nextEpoch(): void {
    Atomics.add(this.words, EPOCH, 1);
  }
}

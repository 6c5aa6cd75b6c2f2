import type { Clock } from "../backends/clock.ts";
import type { Slot } from "../sync/slot.ts";
import type { MapKey } from "./map_key.ts";
import {
  EXPIRY,
  GONE,
  HASH,
  hasMeta,
  isPossible,
  keyUnits,
  META,
  metaOf,
  NEXT,
  NUMBER,
  PENDING,
  RECORD_UNITS,
  RECORD_WORDS,
  SIZE,
  unitsFor,
  USED,
  VERSION,
} from "./map_record.ts";
import { DamagedLog, LOG_HEADER_BYTES, MARGIN_BYTES, RingLog, UNIT_BYTES } from "./ring_log.ts";

/** The words for writers, which follow `tail`: what a recount after a crash counts anew. */
export const [COUNT, LIVE, LARGEST] = [17, 18, 19];
/**
 * Then there are four floats, {@linkcode MapStripe.totals}, and behind `RECOVERED` and `WRITER` the word that says
 * whether the largest record may have gone.
 */
export const TOTALS_BYTE = 80;
export const STALE = 30;
/**
 * The floats: the last version that was given to a record, how many records were evicted and have expired, and a time
 * before which it is not worth looking for records that have expired, 0 if none ever does.
 */
export const [LAST_VERSION, EVICTED, EXPIRED, SOONEST] = [0, 1, 2, 3];
/**
 * Here the buckets begin. Each has two words, so that they lie in one line of the cache: where the newest record of the
 * chain is, and which of its records were used.
 */
const BUCKETS = LOG_HEADER_BYTES / 4;
const BUCKET_BYTES = 8;

/** What {@linkcode MapStripe.look} returns instead of a record. */
export const [MISS, AGAIN] = [-1, -2];

/** Where a stripe lies, and how large it is. */
export interface StripePlace {
  readonly slot: Slot;
  /** In the slot, in bytes. */
  readonly begin: number;
  readonly units: number;
  readonly buckets: number;
  readonly isOrdered: boolean;
  readonly evicts: boolean;
  readonly clock: () => Clock;
}

/** Returns the number of bytes of a stripe: the header, the buckets, the ring and its margin. */
export function stripeBytes(units: number, buckets: number): number {
  return LOG_HEADER_BYTES + buckets * BUCKET_BYTES + units * UNIT_BYTES + MARGIN_BYTES;
}

/** Returns the index in `words` of the bucket of a hash, behind which the marks of its records are. */
function bucketWord(hash: number, mask: number): number {
  return BUCKETS + ((hash & mask) << 1);
}

/**
 * A stripe is a part of a map that has its own lock. It has a log of records, in chains that begin at the buckets and run
 * from new to old.
 *
 * A change becomes visible by one store of a bucket, or of a link of a chain. Readers take no lock. The methods for
 * writers are called with the lock held, and find each key at most once in its chain, because what a killed process has
 * left is repaired before.
 */
export class MapStripe extends RingLog {
  // For `declare`, see Slot.
  declare readonly totals: Float64Array;
  declare readonly buckets: number;
  declare private readonly bucketMask: number;
  /** Whether records may be evicted. */
  declare readonly evicts: boolean;
  declare private readonly clock: () => Clock;
  /** The record that {@linkcode MapStripe.locate} has found, as the index of its first word; -1 if there is none. */
  at = -1;
  /** The meta word of the record that {@linkcode MapStripe.look} has found. */
  meta = 0;
  /** The index in `data` of the link that leads to it; -1 if the bucket does. */
  before = -1;

  constructor({ slot, begin, units, buckets, isOrdered, evicts, clock }: StripePlace) {
    super(slot, begin, LOG_HEADER_BYTES + buckets * BUCKET_BYTES, units, isOrdered);
    this.totals = slot.view(Float64Array, begin + TOTALS_BYTE, 4);
    this.buckets = buckets;
    this.bucketMask = buckets - 1;
    this.evicts = evicts;
    this.clock = clock;
  }

  // For readers.

  /**
   * Finds the record of a key; returns the index of its first word, and sets `meta`; or returns `MISS`, or `AGAIN` if
   * writers were faster. What is then read of the record is only valid if `isWhole()` returns `true` afterwards.
   *
   * There is no such key if the bucket is what it was before the walk, and the oldest record of the walk is still intact:
   * a record that was replaced or moved meanwhile has changed the bucket.
   *
   * Each word of a record is loaded only once, so engines cannot load it twice with different results.
   */
  look(key: MapKey): number {
    const { words, data, unitMask, seenHead: head } = this;
    const bucket = bucketWord(key.hash, this.bucketMask);
    const first = Atomics.load(words, bucket);
    let distance = unitMask + 1;
    for (let position = first; position !== 0;) {
      if (position - head >>> 0 >= distance) {
        // These are not the words of a chain, or no longer: the bucket may even lead to a record that is further from
        // this head than the ring is long. There is a chain without the key only if head has not moved at all.
        distance = 0;
        break;
      }
      distance = position - head >>> 0;
      const at = (position & unitMask) << 1;
      if (data[at + HASH] === key.hash) {
        const meta = data[at + META]!;
        if (hasMeta(meta, key.meta) && this.hasKey(at, key)) {
          this.distance = distance;
          this.meta = meta;
          return at;
        }
      }
      position = data[at + NEXT]!;
    }
    if (first === 0) return MISS;
    this.distance = distance;
    return this.isWhole() && Atomics.load(words, bucket) === first ? MISS : AGAIN;
  }

  private hasKey(at: number, { count, words }: MapKey): boolean {
    const { data } = this;
    for (let i = 0; i < count; i++) {
      if (data[at + RECORD_WORDS + i] !== words[i]) return false;
    }
    return true;
  }

  /**
   * Marks the record with a hash as used. A reader cannot mark the record itself, as its bytes may be those of another one
   * by then. Two records of a bucket with the same mark are both regarded as used.
   */
  use(hash: number): void {
    const { words } = this;
    const marksAt = bucketWord(hash, this.bucketMask) + 1;
    const marks = words[marksAt]!;
    if ((marks & markOf(hash)) === 0) words[marksAt] = marks | markOf(hash);
  }

  /**
   * Copies the records of a bucket, the newest one first; returns `null` if writers were faster.
   */
  copyBucket(bucket: number): Int32Array[] | null {
    const { words, data, unitMask, seenHead: head } = this;
    const first = Atomics.load(words, bucketWord(bucket, this.bucketMask));
    const records: Int32Array[] = [];
    let distance = unitMask + 1;
    for (let position = first; position !== 0;) {
      if (position - head >>> 0 >= distance) { // see look()
        this.distance = 0;
        break;
      }
      const room = distance - (position - head >>> 0); // up to the record before, since records do not overlap
      this.distance = distance -= room;
      const at = (position & unitMask) << 1;
      const size = data[at + SIZE]!;
      const isInRing = size >= RECORD_UNITS && size <= room && (at >> 1) + size <= this.units;
      const record = isInRing ? this.copyRecord(at, size) : null;
      const isOfBucket = record !== null && this.bucketOf(record[HASH]!) === bucket;
      if (!isOfBucket || !isPossible(size, record[META]!)) {
        this.distance = 0; // a record that fits may seem not to if head has moved
        return this.isWhole() ? records : null; // it was overwritten
      }
      record[SIZE] = size;
      records.push(record);
      position = record[NEXT]!;
    }
    if (first === 0) return records;
    return this.isWhole() && Atomics.load(words, bucketWord(bucket, this.bucketMask)) === first
      ? records
      : null;
  }

  /** Copies a record. A number is loaded in one step, since it can change meanwhile. */
  private copyRecord(at: number, size: number): Int32Array {
    const copy = this.data.slice(at, at + size * 2);
    const meta = copy[META]!;
    const number = RECORD_UNITS + keyUnits(meta);
    if ((meta & NUMBER) === 0 || number >= size) return copy;
    new Float64Array(copy.buffer)[number] = this.floats[(at >> 1) + number]!;
    return copy;
  }

  /** Whether a bucket has records. */
  hasRecords(bucket: number): boolean {
    return Atomics.load(this.words, bucketWord(bucket, this.bucketMask)) !== 0;
  }

  /** Whether a record of the bucket seems to have expired. */
  seemsExpired(bucket: number): boolean {
    const { data, floats, unitMask, words } = this;
    const head = this.headNow;
    let distance = unitMask + 1;
    for (let position = Atomics.load(words, bucketWord(bucket, this.bucketMask)); position !== 0;) {
      if (position - head >>> 0 >= distance) return false;
      distance = position - head >>> 0;
      const at = (position & unitMask) << 1;
      if (this.hasPassed(floats[(at >> 1) + EXPIRY]!)) return true;
      position = data[at + NEXT]!;
    }
    return false;
  }

  // For both.

  /** Loads the number whose bytes begin at `from`, in one step. */
  number(from: number): number {
    if (!this.isOrdered) this.fence();
    return this.floats[from >> 3]!;
  }

  /** The time, by the clock by which records expire. */
  get now(): number {
    return this.clock().now();
  }

  /** Whether a time at which a record expires has come. */
  hasPassed(expiry: number): boolean {
    return expiry !== 0 && !(expiry > this.clock().now());
  }

  /** Returns when a record with this time to live expires. */
  expiryOf(ttl: number): number {
    return ttl === Infinity ? 0 : this.clock().now() + ttl;
  }

  /** Returns the index in `bytes` of the value of a record. */
  valueByte(at: number, meta: number): number {
    return (at << 2) + (RECORD_WORDS << 2) + (keyUnits(meta) << 3);
  }

  // For the writer.

  bucketOf(hash: number): number {
    return hash & this.bucketMask;
  }

  /** Returns the position of the newest record of a bucket. */
  firstOf(bucket: number): number {
    return this.words[bucketWord(bucket, this.bucketMask)]!;
  }

  /** Stores a link of a chain: the one at the index `before` in `data`, or that of the bucket if this is -1. */
  link(before: number, bucket: number, position: number): void {
    if (before === -1) Atomics.store(this.words, bucketWord(bucket, this.bucketMask), position);
    else Atomics.store(this.data, before, position);
  }

  /** Whether a record was used since it came to the tail. */
  isUsed(at: number): boolean {
    const hash = this.data[at + HASH]!;
    return (this.data[at + META]! & USED) !== 0 ||
      (this.words[bucketWord(hash, this.bucketMask) + 1]! & markOf(hash)) !== 0;
  }

  /** Lets a record count as not used, but no other one that has the same mark. */
  forgetUse(at: number): void {
    const { data, words } = this;
    const hash = data[at + HASH]!;
    const marksAt = bucketWord(hash, this.bucketMask) + 1;
    if ((words[marksAt]! & markOf(hash)) !== 0) {
      this.visitChain(this.bucketOf(hash), (other) => {
        if (markOf(data[other + HASH]!) === markOf(hash)) data[other + META]! |= USED;
      });
      words[marksAt]! &= ~markOf(hash);
    }
    data[at + META]! &= ~USED;
  }

  /** Sets `at` and `before` to the record of a key; returns whether there is one. */
  locate(key: MapKey): boolean {
    const { data, head, span } = this;
    let distance = span;
    this.before = -1;
    for (let position = this.firstOf(key.hash & this.bucketMask); position !== 0;) {
      if (position - head >>> 0 >= distance) throw new DamagedLog();
      distance = position - head >>> 0;
      const at = this.wordOf(position);
      if (
        data[at + HASH] === key.hash && hasMeta(data[at + META]!, key.meta) && this.hasKey(at, key)
      ) {
        this.at = at;
        return true;
      }
      this.before = at + NEXT;
      position = data[this.before]!;
    }
    this.at = -1;
    return false;
  }

  /** Whether the located record has a value: it was found, has not expired and is not being computed. */
  get isPresent(): boolean {
    const { at } = this;
    return at !== -1 && (this.data[at + META]! & PENDING) === 0 &&
      !this.hasPassed(this.floats[(at >> 1) + EXPIRY]!);
  }

  /** Whether the value of the located record is being computed. */
  get isPending(): boolean {
    const { at } = this;
    return (this.data[at + META]! & PENDING) !== 0 &&
      !this.hasPassed(this.floats[(at >> 1) + EXPIRY]!);
  }

  /** When the located record expires. */
  get expiry(): number {
    return this.floats[(this.at >> 1) + EXPIRY]!;
  }

  /** The version of the located record. */
  get version(): number {
    return this.floats[(this.at >> 1) + VERSION]!;
  }

  /** Returns a version that no record of this stripe has had. */
  nextVersion(): number {
    const { totals } = this;
    const last = totals[LAST_VERSION]!;
    return totals[LAST_VERSION] = Number.isSafeInteger(last) ? last + 1 : 1;
  }

  /**
   * Writes a record for a key, and puts it in the place of the located one, if there is one. There must be room for it.
   *
   * @param length the number of bytes of the value when room was made: another thread may make it longer meanwhile
   * @returns its version
   */
  put(
    key: MapKey,
    value: Uint8Array | number,
    length: number,
    flags: number,
    expiry: number,
  ): number {
    const { data, floats, at: old, before } = this;
    const isNumber = typeof value === "number";
    const size = unitsFor(key.meta, length);
    const position = this.placeFor(size);
    const at = this.wordOf(position);
    const bucket = key.hash & this.bucketMask;
    const version = this.nextVersion();
    data[at + SIZE] = size;
    data[at + NEXT] = old !== -1 && before === -1 ? data[old + NEXT]! : this.firstOf(bucket);
    data[at + HASH] = key.hash;
    const meta = data[at + META] = metaOf(key.meta, length, isNumber ? flags | NUMBER : flags);
    this.setExpiry(at, expiry);
    floats[(at >> 1) + VERSION] = version;
    this.writeKey(at, key);
    if (isNumber) floats[this.valueByte(at, meta) >> 3] = value;
    else this.writeValue(this.valueByte(at, meta), value, length);
    this.append(position, size);
    this.link(-1, bucket, position);
    if (old === -1) {
      this.add(at, 1);
      return version;
    }
    if (before !== -1) this.link(before, bucket, data[old + NEXT]!);
    this.replace(old, at);
    data[old + META]! |= GONE;
    return version;
  }

  /** Says when a record expires, in one step. */
  setExpiry(at: number, expiry: number): void {
    const { floats, totals } = this;
    const soonest = totals[SOONEST]!;
    if (expiry !== 0 && !(soonest !== 0 && soonest <= expiry)) totals[SOONEST] = expiry;
    floats[(at >> 1) + EXPIRY] = expiry;
  }

  private writeKey(at: number, { count, words }: MapKey): void {
    const { data } = this;
    for (let i = 0; i < count; i++) data[at + RECORD_WORDS + i] = words[i]!;
    if ((count & 1) !== 0) data[at + RECORD_WORDS + count] = 0;
  }

  /** Copies the first `length` bytes of a value. */
  private writeValue(from: number, value: Uint8Array, length: number): void {
    const { bytes } = this;
    try {
      bytes.subarray(from, from + length).set(value);
    } catch { // another thread has made the value longer, so that nothing was copied
      for (let i = 0; i < length; i++) bytes[from + i] = value[i]!;
    }
  }

  /** Takes the located record out of its chain. */
  remove(): void {
    const { at, before, data } = this;
    this.link(before, data[at + HASH]! & this.bucketMask, data[at + NEXT]!);
    this.add(at, -1);
    data[at + META]! |= GONE;
    this.at = -1;
  }

  /** Counts a record that has come (1) or gone (-1). */
  add(at: number, sign: 1 | -1): void {
    const { data, words } = this;
    const size = data[at + SIZE]!;
    words[LIVE] = words[LIVE]! + sign * size;
    if ((data[at + META]! & PENDING) === 0) words[COUNT] = words[COUNT]! + sign;
    if (size < words[LARGEST]!) return;
    if (sign === 1) words[LARGEST] = size;
    else words[STALE] = 1;
  }

  /** Counts a record that has come in the place of another one. Others may read each number meanwhile, so it changes once. */
  private replace(old: number, at: number): void {
    const { data, words } = this;
    const [oldSize, size] = [data[old + SIZE]!, data[at + SIZE]!];
    if (size !== oldSize) words[LIVE] = words[LIVE]! + size - oldSize;
    const more = Number((data[at + META]! & PENDING) === 0) -
      Number((data[old + META]! & PENDING) === 0);
    if (more !== 0) words[COUNT] = words[COUNT]! + more;
    if (size >= words[LARGEST]!) words[LARGEST] = size;
    else if (oldSize >= words[LARGEST]!) words[STALE] = 1;
  }

  /** Changes the number of the located record in one step, and then its version. */
  setNumber(from: number, value: number): number {
    const { at, floats } = this;
    floats[from >> 3] = value;
    if (!this.isOrdered) this.fence();
    return floats[(at >> 1) + VERSION] = this.nextVersion();
  }

  /** Calls `visit` with each record of a bucket, the newest one first. It may change only that record. */
  visitChain(bucket: number, visit: (at: number) => void): void {
    const { data, head, span } = this;
    let distance = span;
    for (let position = this.firstOf(bucket); position !== 0;) {
      if (position - head >>> 0 >= distance) throw new DamagedLog();
      distance = position - head >>> 0;
      const at = this.wordOf(position);
      position = data[at + NEXT]!;
      visit(at);
    }
  }

  /** Takes the expired records of a bucket out of its chain, `most` at most; returns how many there were. */
  dropExpired(bucket: number, most: number): number {
    const { data, floats, totals, head, span } = this;
    let distance = span;
    let dropped = 0;
    this.before = -1;
    for (let position = this.firstOf(bucket); position !== 0 && dropped < most;) {
      if (position - head >>> 0 >= distance) throw new DamagedLog();
      distance = position - head >>> 0;
      this.at = this.wordOf(position);
      position = data[this.at + NEXT]!;
      if (this.hasPassed(floats[(this.at >> 1) + EXPIRY]!)) {
        dropped++;
        totals[EXPIRED]!++;
        this.remove();
      } else {
        this.before = this.at + NEXT;
      }
    }
    return dropped;
  }

  /** Takes everything out. */
  clear(): void {
    this.words.fill(0, BUCKETS, BUCKETS + 2 * this.buckets);
    this.moveHead(this.tail);
    this.words[COUNT] = this.words[LIVE] = this.words[LARGEST] = 0;
    this.totals[SOONEST] = 0;
  }

  /** Takes everything out, whatever the words are. */
  reset(): void {
    this.words.fill(0, BUCKETS, BUCKETS + 2 * this.buckets);
    this.nextEpoch();
    this.cutTail(this.head);
    this.words[COUNT] = this.words[LIVE] = this.words[LARGEST] = 0;
  }

  /** Takes back the records from `position` on, which no chain has. */
  cut(position: number): void {
    this.nextEpoch();
    this.cutTail(position);
  }
}

/** Returns the bit that marks records with this hash as used. Stripes and buckets depend on other bits of the hash. */
function markOf(hash: number): number {
  return 1 << (hash >>> 20 & 31);
}

import { EXPIRY, GONE, HASH, isSameKey, META, NEXT, PENDING, SIZE } from "./map_record.ts";
import { EVICTED, EXPIRED, LARGEST, type MapStripe, SOONEST, STALE } from "./map_stripe.ts";
import { DamagedLog } from "./ring_log.ts";

/**
 * What has happened to the oldest record of a stripe: no chain had it (`dead`), it was taken out of its chain, because it
 * had expired (`dropped`) or not (`evicted`), or it was moved. Unless it is `stuck`, it is freed.
 */
export type Freed = "dead" | "dropped" | "moved" | "evicted" | "stuck";

/**
 * Frees space at the head of a stripe, record by record, and then moves `head` past all of them in one step. Until then no
 * byte of them is overwritten.
 */
export class Freeing {
  // For `declare`, see Slot.
  declare private readonly stripe: MapStripe;
  /** The position of the oldest record that was not freed. */
  declare oldest: number;
  /** What was loaded, so that engines do not leave it out. */
  loaded = 0;

  constructor(stripe: MapStripe) {
    this.stripe = stripe;
    this.oldest = stripe.head;
  }

  /** The number of units that will be free beyond a record of `size` units at the tail; it may be negative. */
  freeAfter(size: number): number {
    const { oldest, stripe } = this;
    return stripe.freeAfter(stripe.placeFor(size), size) + (oldest - stripe.head >>> 0);
  }

  /**
   * Frees the oldest record of the log. If it was replaced, removed or has expired, it is dropped.
   *
   * @param mayEvict whether another record is evicted if it is not moved
   * @param isToMove decides for a record, by the index of its first word, whether it is moved to the tail
   */
  next(mayEvict: boolean, isToMove: (at: number) => boolean): Freed {
    const { oldest, stripe } = this;
    const left = stripe.tail - oldest >>> 0;
    if (left === 0) return "stuck";
    const size = stripe.sizeAt(oldest, left);
    const freed = size < 0 ? "dead" : this.freeRecord(size, mayEvict, isToMove);
    if (freed !== "stuck") this.oldest = oldest + Math.abs(size) | 0;
    return freed;
  }

  /**
   * Loads the buckets of the next records. As no load depends on another one, the processor waits for all of them together
   * if they are not in the cache, and not for one after the other when the records are freed.
   */
  loadBuckets(count: number): void {
    const { stripe } = this;
    const { data, tail } = stripe;
    let loaded = 0;
    let position = this.oldest;
    for (let i = 0; i < count; i++) {
      const left = tail - position >>> 0;
      if (left === 0) break;
      const at = stripe.wordOf(position);
      const size = stripe.sizeAt(position, left);
      if (size > 0 && (data[at + META]! & GONE) === 0) {
        loaded ^= stripe.firstOf(stripe.bucketOf(data[at + HASH]!));
      }
      position = position + Math.abs(size) | 0;
    }
    this.loaded = loaded;
  }

  /** Moves `head`. */
  end(): void {
    const { oldest, stripe } = this;
    if (oldest !== stripe.head) stripe.moveHead(oldest);
  }

  /** Takes the oldest record out of its chain, or moves it. */
  private freeRecord(size: number, mayEvict: boolean, isToMove: (at: number) => boolean): Freed {
    const { oldest, stripe } = this;
    const { data, floats, totals } = stripe;
    const at = stripe.wordOf(oldest);
    // So neither the bucket nor the chain is loaded, which takes most of the time if they are not in the cache.
    if ((data[at + META]! & GONE) !== 0) return "dead";
    const bucket = stripe.bucketOf(data[at + HASH]!);
    const before = linkTo(stripe, bucket, oldest);
    if (before === null) return "dead";
    const hasExpired = stripe.hasPassed(floats[(at >> 1) + EXPIRY]!);
    if (!hasExpired && isToMove(at) && this.hasRoomFor(size)) {
      moveRecord(stripe, at, size, bucket, before);
      return "moved";
    }
    if (!hasExpired && !mayEvict) return "stuck";
    // No link may lead to what is overwritten: once positions have gone around, it would count as live again.
    stripe.link(before, bucket, 0);
    stripe.add(at, -1);
    if ((data[at + META]! & PENDING) === 0) totals[hasExpired ? EXPIRED : EVICTED]!++;
    return hasExpired ? "dropped" : "evicted";
  }

  /** Whether a record fits at the tail. If only because of what was freed, `head` moves first. */
  private hasRoomFor(size: number): boolean {
    const { stripe } = this;
    if (stripe.freeAfter(stripe.placeFor(size), size) >= 0) return true;
    this.end();
    return stripe.freeAfter(stripe.placeFor(size), size) >= 0;
  }
}

/**
 * Returns the link that leads to the oldest record: its index in `data`, or -1 for the bucket. It is `null` if no chain has
 * this record.
 *
 * @throws {DamagedLog} if its chain has a newer record of the same key too: a copy would come before that one
 */
function linkTo(stripe: MapStripe, bucket: number, oldest: number): number | null {
  const { data, head } = stripe;
  let distance = stripe.span;
  let before = -1;
  for (let position = stripe.firstOf(bucket); position !== 0;) {
    if (position - head >>> 0 >= distance) throw new DamagedLog();
    if (position === oldest) {
      if (before !== -1) refuseReplaced(stripe, bucket, stripe.wordOf(oldest));
      return before;
    }
    distance = position - head >>> 0;
    before = stripe.wordOf(position) + NEXT;
    position = data[before]!;
  }
  return null;
}

/** @throws {DamagedLog} if the chain of the oldest record has a newer one of the same key */
function refuseReplaced(stripe: MapStripe, bucket: number, oldest: number): void {
  const { data } = stripe;
  stripe.visitChain(bucket, (at) => {
    if (at !== oldest && isSameKey(data, at, data, oldest)) throw new DamagedLog();
  });
}

/** Copies the oldest record to the tail, where it fits, and lets the chain lead to the copy. */
function moveRecord(
  stripe: MapStripe,
  at: number,
  size: number,
  bucket: number,
  before: number,
): void {
  const { data } = stripe;
  const position = stripe.placeFor(size);
  stripe.forgetUse(at);
  const copy = stripe.wordOf(position);
  data.copyWithin(copy, at, at + 2 * size);
  data[copy + SIZE] = size;
  data[copy + NEXT] = before === -1 ? 0 : stripe.firstOf(bucket);
  stripe.append(position, size);
  stripe.link(-1, bucket, position);
  if (before !== -1) stripe.link(before, bucket, 0);
}

/**
 * For so many times as long as it takes to look at all records of a stripe, they are not looked at again; and never for
 * longer than this time in ms, since the process may have been stopped meanwhile.
 */
const [RESTS, REST_MAX_MS] = [64, 1000];

/**
 * Drops what has expired, if anything may have, and counts the largest record anew, if it may have gone. Nothing is
 * located then. As it looks at all records, it is not worth doing again for what expires a moment later: in a full stripe
 * each change would do it.
 */
export function recount(stripe: MapStripe): void {
  const { totals, words } = stripe;
  const begun = stripe.now;
  const hasExpired = stripe.hasPassed(totals[SOONEST]!);
  if (!hasExpired && words[STALE] === 0) return;
  let largest = 0;
  let soonest = Infinity;
  for (let bucket = 0; bucket < stripe.buckets; bucket++) {
    if (hasExpired) stripe.dropExpired(bucket, Infinity);
    stripe.visitChain(bucket, (at) => {
      largest = Math.max(largest, stripe.data[at + SIZE]!);
      soonest = Math.min(soonest, stripe.floats[(at >> 1) + EXPIRY]! || Infinity);
    });
  }
  words[LARGEST] = largest;
  words[STALE] = 0;
  const { now } = stripe;
  const least = hasExpired ? now + Math.min(RESTS * (now - begun), REST_MAX_MS) : totals[SOONEST]!;
  totals[SOONEST] = soonest === Infinity ? 0 : Math.max(soonest, least);
}

import { EXPIRY, HASH, isSameKey, META, NEXT, PENDING, SIZE } from "./map_record.ts";
import { EVICTED, EXPIRED, LARGEST, LIVE, type MapStripe } from "./map_stripe.ts";
import { DamagedLog } from "./ring_log.ts";

/** A change of a map that evicts moves this number of records at most, or this number of times its own size. */
const MOVES_MAX = 8;
/** The part of the ring that stays free, so that records can be moved: 1/16. */
const RESERVE_SHIFT = 4;
/** As long as entries take less than this part of the ring, none is evicted, unless too many had to be moved. */
const EVICTING_PART = 3 / 4;

/** What {@linkcode makeRoom} returns if there is no room. */
export const NO_ROOM = -1;

/**
 * Makes room for a record of `size` units; returns how many records it has evicted for that, or `NO_ROOM`.
 *
 * Space is freed at the head, in the order of the log. Records there that no chain has any more, or that have expired,
 * are dropped. A map that does not evict moves the others to the tail, at most once around. A map that evicts moves those
 * that were used, and all of them while entries take less than three quarters of the ring, and drops the rest. A record
 * that is moved may need padding before it, so a map that does not evict keeps twice the size of its largest record free.
 */
export function makeRoom(stripe: MapStripe, size: number): number {
  const { units, evicts, words } = stripe;
  let reserve = units >>> RESERVE_SHIFT;
  if (!evicts) {
    reserve = reserveOf(units, Math.max(words[LARGEST]!, size));
    if (words[LIVE]! + size + reserve > units) return NO_ROOM;
  }
  if (stripe.freeAfter(stripe.placeFor(size), size) >= reserve) return 0;
  return new Room(stripe, size).make(reserve);
}

/** Returns how many units stay free in a map that does not evict, if its largest record has `largest` units. */
export function reserveOf(units: number, largest: number): number {
  return Math.max(units >>> RESERVE_SHIFT, 2 * largest);
}

type Freed = "dropped" | "moved" | "evicted" | "stuck";

/** The freeing of space for one record. */
class Room {
  readonly #stripe: MapStripe;
  readonly #size: number;
  #moves = 0;
  #movedUnits = 0;

  constructor(stripe: MapStripe, size: number) {
    this.#stripe = stripe;
    this.#size = size;
  }

  make(reserve: number): number {
    const stripe = this.#stripe;
    const { head, span } = stripe;
    let evicted = 0;
    do {
      if (stripe.head - head >>> 0 >= span) return NO_ROOM;
      const freed = this.#freeOldest();
      if (freed === "stuck") return NO_ROOM;
      if (freed === "evicted") evicted++;
    } while (stripe.freeAfter(stripe.placeFor(this.#size), this.#size) < reserve);
    return evicted;
  }

  /** Moves `head` past the oldest record. */
  #freeOldest(): Freed {
    const stripe = this.#stripe;
    const { head, span } = stripe;
    const size = stripe.sizeAt(head, span);
    const freed = size < 0 ? "dropped" : this.#freeRecord(head, size);
    if (freed !== "stuck") stripe.moveHead(head + Math.abs(size) | 0);
    return freed;
  }

  /** Takes the record at `head` out of its chain, or moves it. */
  #freeRecord(head: number, size: number): Freed {
    const stripe = this.#stripe;
    const { data, evicts, floats, totals } = stripe;
    const at = stripe.wordOf(head);
    const bucket = stripe.bucketOf(data[at + HASH]!);
    const before = linkTo(stripe, bucket, head);
    if (before === null) return "dropped";
    const hasExpired = stripe.hasPassed(floats[(at >> 1) + EXPIRY]!);
    if (!hasExpired && this.#isToMove(bucket) && moveRecord(stripe, at, size, bucket, before)) {
      this.#moves++;
      this.#movedUnits += size;
      return "moved";
    }
    if (!hasExpired && !evicts) return "stuck";
    // No link may lead to what is overwritten: once positions have gone around, it would count as live again.
    stripe.link(before, bucket, 0);
    stripe.add(at, -1);
    if ((data[at + META]! & PENDING) === 0) totals[hasExpired ? EXPIRED : EVICTED]!++;
    return hasExpired ? "dropped" : "evicted";
  }

  #isToMove(bucket: number): boolean {
    const { evicts, used, units, words } = this.#stripe;
    if (!evicts) return true;
    if (this.#moves >= MOVES_MAX && this.#movedUnits >= MOVES_MAX * this.#size) return false;
    return used[bucket] !== 0 || words[LIVE]! < EVICTING_PART * units;
  }
}

/**
 * Returns the link that leads to the record at `head`, the oldest one: its index in `data`, or -1 for the bucket. It is
 * `null` if no chain has this record.
 *
 * @throws {DamagedLog} if its chain has a newer record of the same key too: a copy would come before that one
 */
function linkTo(stripe: MapStripe, bucket: number, head: number): number | null {
  const { data } = stripe;
  const oldest = stripe.wordOf(head);
  let distance = stripe.span;
  let before = -1;
  let isReplaced = false;
  for (let position = stripe.firstOf(bucket); position !== 0;) {
    if (position - head >>> 0 >= distance) throw new DamagedLog();
    if (position === head && isReplaced) throw new DamagedLog();
    if (position === head) return before;
    distance = position - head >>> 0;
    const at = stripe.wordOf(position);
    isReplaced ||= isSameKey(data, at, data, oldest);
    before = at + NEXT;
    position = Atomics.load(data, before);
  }
  return null;
}

/** Copies the record at `head` to the tail, and lets the chain lead to the copy; returns `false` if it does not fit. */
function moveRecord(
  stripe: MapStripe,
  at: number,
  size: number,
  bucket: number,
  before: number,
): boolean {
  const { data, used } = stripe;
  const position = stripe.placeFor(size);
  if (stripe.freeAfter(position, size) < 0) return false;
  const copy = stripe.wordOf(position);
  data.copyWithin(copy, at, at + 2 * size);
  data[copy + SIZE] = size;
  data[copy + NEXT] = before === -1 ? 0 : stripe.firstOf(bucket);
  stripe.append(position, size);
  stripe.link(-1, bucket, position);
  if (before !== -1) stripe.link(before, bucket, 0);
  used[bucket] = 0;
  return true;
}

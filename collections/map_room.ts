import { EXPIRY, HASH, isSameKey, META, NEXT, PENDING, SIZE } from "./map_record.ts";
import { EVICTED, EXPIRED, LARGEST, LIVE, type MapStripe } from "./map_stripe.ts";
import { DamagedLog } from "./ring_log.ts";

/** So many used records at most are moved to the tail by one change of a map that evicts. */
const MOVES_MAX = 8;
/** The part of the ring that stays free, so that records can be moved: 1/16. */
const RESERVE_SHIFT = 4;

/** What {@linkcode makeRoom} returns if there is no room. */
export const NO_ROOM = -1;

/**
 * Makes room for a record of `size` units; returns how many records it has evicted for that, or `NO_ROOM`.
 *
 * Space is freed at the head, in the order of the log. Records there that no chain has any more, or that have expired,
 * are dropped. A map that does not evict moves the others to the tail, at most once around. A map that evicts moves those
 * that were used, and drops the rest. A record that is moved may need padding before it, so a map that does not evict
 * keeps twice the size of its largest record free.
 */
export function makeRoom(stripe: MapStripe, size: number): number {
  const { units, evicts, words } = stripe;
  let reserve = units >>> RESERVE_SHIFT;
  if (!evicts) {
    reserve = Math.max(reserve, 2 * Math.max(words[LARGEST]!, size));
    if (words[LIVE]! + size + reserve > units) return NO_ROOM;
  }
  if (stripe.freeAfter(stripe.placeFor(size), size) >= reserve) return 0;
  const span = stripe.span;
  const { head } = stripe;
  let moves = evicts ? MOVES_MAX : Infinity;
  let evicted = 0;
  do {
    if (stripe.head - head >>> 0 >= span) return NO_ROOM;
    const freed = freeOldest(stripe, moves > 0);
    if (freed === "stuck") return NO_ROOM;
    if (freed === "moved") moves--;
    if (freed === "evicted") evicted++;
  } while (stripe.freeAfter(stripe.placeFor(size), size) < reserve);
  return evicted;
}

type Freed = "dropped" | "moved" | "evicted" | "stuck";

/** Moves `head` past the oldest record. */
function freeOldest(stripe: MapStripe, mayMove: boolean): Freed {
  const { head, span } = stripe;
  const size = stripe.sizeAt(head, span);
  const freed = size < 0 ? "dropped" : freeRecord(stripe, head, size, mayMove);
  if (freed !== "stuck") stripe.moveHead(head + Math.abs(size) | 0);
  return freed;
}

/** Takes the record at `head` out of its chain, or moves it. */
function freeRecord(stripe: MapStripe, head: number, size: number, mayMove: boolean): Freed {
  const { data, floats, totals, used } = stripe;
  const at = stripe.wordOf(head);
  const bucket = stripe.bucketOf(data[at + HASH]!);
  const before = linkTo(stripe, bucket, head);
  if (before === null) return "dropped";
  const isUsed = stripe.evicts ? used[bucket] !== 0 : true;
  if (stripe.hasPassed(floats[(at >> 1) + EXPIRY]!)) {
    if ((data[at + META]! & PENDING) === 0) totals[EXPIRED]!++;
  } else if (isUsed && mayMove && moveRecord(stripe, at, size, bucket, before)) {
    used[bucket] = 0;
    return "moved";
  } else if (!stripe.evicts) {
    return "stuck";
  } else {
    totals[EVICTED]!++;
    stripe.link(before, bucket, 0);
    stripe.add(at, -1);
    return "evicted";
  }
  // No link may lead to what is overwritten: once positions have gone around, it would count as live again.
  stripe.link(before, bucket, 0);
  stripe.add(at, -1);
  return "dropped";
}

/**
 * Returns the link that leads to the record at `head`, the oldest one: its index in `data`, or -1 for the bucket. It is
 * `null` if no chain has this record. A copy of it would come before a newer record of the same key, so that must not
 * exist.
 */
function linkTo(stripe: MapStripe, bucket: number, head: number): number | null {
  const { data } = stripe;
  const oldest = stripe.wordOf(head);
  let distance = stripe.span;
  let before = -1;
  for (let position = stripe.firstOf(bucket); position !== 0;) {
    if (position - head >>> 0 >= distance) throw new DamagedLog();
    if (position === head) return before;
    distance = position - head >>> 0;
    const at = stripe.wordOf(position);
    if (isSameKey(data, at, data, oldest)) throw new DamagedLog();
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
  const { data } = stripe;
  const position = stripe.placeFor(size);
  if (stripe.freeAfter(position, size) < 0) return false;
  const copy = stripe.wordOf(position);
  data.copyWithin(copy, at, at + 2 * size);
  data[copy + SIZE] = size;
  data[copy + NEXT] = before === -1 ? 0 : stripe.firstOf(bucket);
  stripe.append(position, size);
  stripe.link(-1, bucket, position);
  if (before !== -1) stripe.link(before, bucket, 0);
  return true;
}

import { EXPIRY, GONE, HASH, isSameKey, META, NEXT, PENDING, SIZE } from "./map_record.ts";
import { EVICTED, EXPIRED, LARGEST, type MapStripe, SOONEST, STALE } from "./map_stripe.ts";
import { DamagedLog } from "./ring_log.ts";

/**
 * What has happened to the oldest record of a stripe: no chain had it (`dead`), it was taken out of its chain, because it
 * had expired (`dropped`) or not (`evicted`), or it was moved. Unless it is `stuck`, `head` has passed it.
 */
export type Freed = "dead" | "dropped" | "moved" | "evicted" | "stuck";

/**
 * Moves `head` past the oldest record of the log. If the record was replaced, removed or has expired, it is dropped.
 *
 * @param mayEvict whether another record is evicted if it is not moved
 * @param isToMove decides for a record, by the index of its first word, whether it is moved to the tail
 */
export function freeOldest(
  stripe: MapStripe,
  mayEvict: boolean,
  isToMove: (at: number) => boolean,
): Freed {
  const { head, span } = stripe;
  if (span === 0) return "stuck";
  const size = stripe.sizeAt(head, span);
  const freed = size < 0 ? "dead" : freeRecord(stripe, head, size, mayEvict, isToMove);
  if (freed !== "stuck") stripe.moveHead(head + Math.abs(size) | 0);
  return freed;
}

/** Takes the record at `head` out of its chain, or moves it. */
function freeRecord(
  stripe: MapStripe,
  head: number,
  size: number,
  mayEvict: boolean,
  isToMove: (at: number) => boolean,
): Freed {
  const { data, floats, totals } = stripe;
  const at = stripe.wordOf(head);
  // So neither the bucket nor the chain is loaded, which takes most of the time if they are not in the cache.
  if ((data[at + META]! & GONE) !== 0) return "dead";
  const bucket = stripe.bucketOf(data[at + HASH]!);
  const before = linkTo(stripe, bucket, head);
  if (before === null) return "dead";
  const hasExpired = stripe.hasPassed(floats[(at >> 1) + EXPIRY]!);
  const isMoved = !hasExpired && isToMove(at) && moveRecord(stripe, at, size, bucket, before);
  if (isMoved) return "moved";
  if (!hasExpired && !mayEvict) return "stuck";
  // No link may lead to what is overwritten: once positions have gone around, it would count as live again.
  stripe.link(before, bucket, 0);
  stripe.add(at, -1);
  if ((data[at + META]! & PENDING) === 0) totals[hasExpired ? EXPIRED : EVICTED]!++;
  return hasExpired ? "dropped" : "evicted";
}

/**
 * Returns the link that leads to the record at `head`, the oldest one: its index in `data`, or -1 for the bucket. It is
 * `null` if no chain has this record.
 *
 * @throws {DamagedLog} if its chain has a newer record of the same key too: a copy would come before that one
 */
function linkTo(stripe: MapStripe, bucket: number, head: number): number | null {
  const { data } = stripe;
  let distance = stripe.span;
  let before = -1;
  for (let position = stripe.firstOf(bucket); position !== 0;) {
    if (position - head >>> 0 >= distance) throw new DamagedLog();
    if (position === head) {
      if (before !== -1) refuseReplaced(stripe, bucket, stripe.wordOf(head));
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
  stripe.forgetUse(at);
  const copy = stripe.wordOf(position);
  data.copyWithin(copy, at, at + 2 * size);
  data[copy + SIZE] = size;
  data[copy + NEXT] = before === -1 ? 0 : stripe.firstOf(bucket);
  stripe.append(position, size);
  stripe.link(-1, bucket, position);
  if (before !== -1) stripe.link(before, bucket, 0);
  return true;
}

/**
 * Drops what has expired, if anything may have, and counts the largest record anew, if it may have gone. Nothing is
 * located then.
 */
export function recount(stripe: MapStripe): void {
  const { totals, words } = stripe;
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
  totals[SOONEST] = soonest === Infinity ? 0 : soonest;
}

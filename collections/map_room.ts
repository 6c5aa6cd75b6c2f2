import type { MapKey } from "./map_key.ts";
import { type Freed, Freeing, recount } from "./map_oldest.ts";
import { SIZE } from "./map_record.ts";
import { EVICTED, LARGEST, LIVE, type MapStripe, SOONEST } from "./map_stripe.ts";

/** A change moves this number of records at most, or this number of times its own size. */
const MOVES_MAX = 8;
/** This part of the ring stays free in a map that evicts. In one that does not, no new key is stored if less would be. */
export const RESERVE = 1 / 16;
/**
 * In a map that does not evict, there is always room for a record if so many times the largest record stays free: twice
 * its size to move one ({@linkcode canFollow}), and once what padding before the end of the ring may take meanwhile.
 */
export const SPARE = 3;
/** If less than so many times the largest record would stay free, there is no room, wherever the records lie. */
const LEAST = 2;
/** As long as entries take less than this part of the ring, none is evicted. */
const EVICTING = 5 / 8;
/** If entries take less than that, and less than this part of the ring is free, each change moves some records. */
const MOVING = 3 / 16;
/** Then there is room for so many records of the same size before it is done again. */
const AHEAD = 8;

/** What {@linkcode makeRoom} returns if there is no room. */
export const NO_ROOM = -1;

/**
 * Makes room for a record of `size` units, which takes the place of the located one, the record of `key`, if there is
 * one. Locates that again if it may have been moved. Returns how many records were evicted, or `NO_ROOM`.
 *
 * Space is freed at the head, in the order of the log. Records there that no chain has any more, or that have expired,
 * are dropped. Others are moved to the tail, or evicted.
 */
export function makeRoom(stripe: MapStripe, key: MapKey, size: number): number {
  const { units, evicts, words } = stripe;
  let free = stripe.freeAfter(stripe.placeFor(size), size);
  const isToMove = free < MOVING * units && words[LIVE]! < EVICTING * units;
  if (isToMove) {
    if (moveSome(stripe, size)) stripe.locate(key);
    free = stripe.freeAfter(stripe.placeFor(size), size);
  }
  if (!evicts) return moveFor(stripe, key, size) ? 0 : NO_ROOM;
  if (free >= RESERVE * units) return 0;
  const { isPresent } = stripe;
  const evicted = evictFor(stripe, size);
  if (stripe.locate(key) || !isPresent || evicted < 1) return evicted;
  stripe.totals[EVICTED]!--; // it was the value that is being replaced
  return evicted - 1;
}

const ALWAYS = () => true;

/** The records that one change moves. */
class Moves {
  readonly #size: number;
  readonly #freeing: Freeing;
  #count = 0;
  #units = 0;
  /** Whether a chain was changed. */
  hasChanged = false;

  constructor(size: number, freeing: Freeing) {
    this.#size = size;
    this.#freeing = freeing;
  }

  get areLeft(): boolean {
    return this.#count < MOVES_MAX || this.#units < MOVES_MAX * this.#size;
  }

  free(mayEvict: boolean, isToMove: (at: number) => boolean): Freed {
    const freeing = this.#freeing;
    const { oldest } = freeing;
    const freed = freeing.next(mayEvict, isToMove);
    if (freed !== "dead") this.hasChanged = true;
    if (freed === "moved") {
      this.#count++;
      this.#units += freeing.oldest - oldest >>> 0;
    }
    return freed;
  }
}

/**
 * Moves a few records, whether used or not, and evicts none. The space between them comes together in time like this, and
 * no single change takes long. Returns whether a chain was changed.
 */
function moveSome(stripe: MapStripe, size: number): boolean {
  const freeing = new Freeing(stripe);
  const moves = new Moves(size, freeing);
  const enough = MOVING * stripe.units + AHEAD * size;
  freeing.loadBuckets(2 * AHEAD);
  while (freeing.freeAfter(size) < enough) {
    if (!moves.areLeft || moves.free(false, ALWAYS) === "stuck") break;
  }
  freeing.end();
  return moves.hasChanged;
}

/**
 * Evicts the oldest records that were not used since they were moved; moves the others, but no record twice. The located
 * one is moved if it can be: its value stays until the new one is there.
 */
function evictFor(stripe: MapStripe, size: number): number {
  const { at: own, head, span, units } = stripe;
  const freeing = new Freeing(stripe);
  const moves = new Moves(size, freeing);
  const isToMove = (at: number) =>
    (at === own || stripe.isUsed(at) && moves.areLeft) && freeing.oldest - head >>> 0 < span;
  let evicted = 0;
  while (freeing.freeAfter(size) < RESERVE * units) {
    const freed = moves.free(true, isToMove);
    if (freed === "stuck") {
      evicted = NO_ROOM;
      break;
    }
    if (freed === "evicted") evicted++;
  }
  freeing.end();
  return evicted;
}

/**
 * Moves records until there is room for one more; returns `false` if there is none. The located record counts as free if
 * it is the oldest one: it is dropped once the new one has taken its place.
 */
function moveFor(stripe: MapStripe, key: MapKey, size: number): boolean {
  if (!hasRoom(stripe, size)) {
    if (!mayHaveRoom(stripe, size)) return false;
    recount(stripe);
    stripe.locate(key);
    if (!hasRoom(stripe, size)) return false;
  }
  const { head, span, units } = stripe;
  while (!canFollow(stripe, size)) {
    if (stripe.head - head >>> 0 > span + units) return false;
    const freeing = new Freeing(stripe);
    const freed = freeing.next(false, ALWAYS);
    freeing.end();
    if (freed === "stuck") return false;
    // Another record of the chain may have come to its beginning, so what leads to the located one may have changed too.
    if (freed !== "dead") stripe.locate(key);
  }
  return true;
}

/**
 * Whether the entries leave enough free when a record has come that takes the place of the located one, if there is one:
 * what moves need at least, and some for a new key.
 */
export function hasRoom(stripe: MapStripe, size: number): boolean {
  const { units, words } = stripe;
  const isNew = stripe.at === -1;
  const live = words[LIVE]! - locatedSize(stripe) + size;
  const largest = Math.max(words[LARGEST]!, size);
  return live + Math.max(LEAST * largest, isNew ? RESERVE * units : 0) <= units;
}

/**
 * Whether there can be room for the record whose place was located last when all is counted anew, which takes as long as
 * there are records: something has expired, or there would be room if no record were larger than this one.
 */
function mayHaveRoom(stripe: MapStripe, size: number): boolean {
  const { totals, units, words } = stripe;
  const live = words[LIVE]! - locatedSize(stripe) + size;
  const least = Math.max(LEAST * size, stripe.at === -1 ? RESERVE * units : 0);
  return live + least <= units || stripe.hasPassed(totals[SOONEST]!);
}

function locatedSize({ at, data }: MapStripe): number {
  return at === -1 ? 0 : data[at + SIZE]!;
}

/**
 * Whether a record can follow at the tail so that the oldest one can be moved afterwards, wherever the end of the ring is:
 * a record does not wrap around it, so it may need up to twice its size.
 */
function canFollow(stripe: MapStripe, size: number): boolean {
  let free = stripe.freeAfter(stripe.placeFor(size), size);
  if (free < 0) return false;
  if (stripe.at === stripe.wordOf(stripe.head)) free += locatedSize(stripe);
  return free >= LEAST * Math.max(stripe.words[LARGEST]!, size);
}

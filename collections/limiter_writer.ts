import { type Clock, sharedClock } from "../backends/clock.ts";
import { SyncError } from "../sync/errors.ts";
import { aheadOf, type LimiterRule, tickOf } from "./limiter_rule.ts";
import type { MapCore } from "./map_core.ts";
import { EXPIRY, PART, RECORD_UNITS, unitsFor } from "./map_record.ts";
import { recount } from "./map_oldest.ts";
import { hasRoom, makeRoom, NO_ROOM } from "./map_room.ts";
import { EVICTED, type MapStripe } from "./map_stripe.ts";
import { UNIT_BYTES } from "./ring_log.ts";

/** What {@linkcode LimiterWriter.take} has done. */
export const [ALLOWED, REFUSED, FULL] = [0, 1, 2];

/** The total that counts how often there was no room for a new name: a limiter evicts nothing. */
export const NO_ROOM_TOTAL = EVICTED;
/** If a stripe is full, a call looks for expired records in this number of buckets, and the next call in the next ones. */
const SWEPT_BUCKETS = 16;
const NOTHING = new Uint8Array(0);

/**
 * The changes of a rate limiter. An entry is a record without a value that expires when the allowance of its name is whole
 * again. So the time until then is what the name has used, one store of 8 bytes in place changes it, and only entries that
 * mean nothing any more make room for others.
 */
export class LimiterWriter {
  // For `declare`, see Slot.
  declare private readonly core: MapCore;
  declare private readonly rule: LimiterRule;
  /** The time in ms for which a change waits for the lock. */
  declare private readonly lockTimeout: number;
  declare private readonly clock: Clock;
  /** For each stripe, the bucket at which the search for expired records goes on. */
  declare private readonly hands: Uint32Array;
  /** What is done with the lock held: a function that is made once. */
  declare private readonly takeLocked: () => number;
  /** The arguments of the current call: the stripe, the size of a record in units, and the cost in ms. */
  declare private stripe: MapStripe;
  private size = 0;
  private cost = 0;
  /** How much the name has used after the last call, in ms. */
  ahead = 0;

  constructor(core: MapCore, rule: LimiterRule, lockTimeout: number, clock: Clock = sharedClock()) {
    this.core = core;
    this.rule = rule;
    this.lockTimeout = lockTimeout;
    this.clock = clock;
    this.hands = new Uint32Array(core.stripes.length);
    this.stripe = core.stripes[0]!;
    this.takeLocked = () => this.takeHere();
  }

  /** Takes a cost if it is allowed; `ahead` is then what the name has used. */
  take(method: string, name: string | Uint8Array, cost: number): number {
    const { core } = this;
    this.stripe = core.seek(method, name);
    this.size = unitsFor(core.key.meta, 0);
    this.cost = cost * this.rule.interval;
    if (this.size > this.stripe.units / PART) throw this.tooLarge(method);
    return core.locks[core.index]!.change(method, this.lockTimeout, this.takeLocked);
  }

  /** Returns how much a name has used that is whole again at a time, in ms. */
  aheadOf(whole: number): number {
    return aheadOf(whole, tickOf(this.clock.now()));
  }

  private takeHere(): number {
    const { core, cost, stripe } = this;
    const isKnown = stripe.locate(core.key);
    const now = tickOf(this.clock.now()); // with the lock held: no other process has taken anything later
    this.ahead = isKnown ? aheadOf(stripe.floats[(stripe.at >> 1) + EXPIRY]!, now) : 0;
    if (this.ahead + cost > this.rule.most) return REFUSED;
    if (cost === 0) return ALLOWED;
    if (!isKnown && !this.makeRoom()) return FULL;
    this.ahead += cost;
    if (isKnown) stripe.setExpiry(stripe.at, now + this.ahead);
    else stripe.put(core.key, NOTHING, 0, 0, now + this.ahead);
    return ALLOWED;
  }

  private makeRoom(): boolean {
    const { core: { key }, size, stripe } = this;
    const isFull = !hasRoom(stripe, size) && !this.sweep();
    if (!isFull && makeRoom(stripe, key, size) !== NO_ROOM) return true;
    stripe.totals[NO_ROOM_TOTAL]!++;
    return false;
  }

  /** Takes expired records out of the next buckets; returns whether there is room now. */
  private sweep(): boolean {
    const { core: { index, key }, hands, size, stripe } = this;
    for (let i = 0; i < SWEPT_BUCKETS; i++) {
      stripe.dropExpired(hands[index]!, Infinity);
      hands[index] = (hands[index]! + 1) % stripe.buckets; // a sweep that failed in between has left any number
    }
    if (hands[index]! < SWEPT_BUCKETS) recount(stripe); // so rarely, since it looks at all records
    stripe.locate(key);
    return hasRoom(stripe, size);
  }

  private tooLarge(method: string): SyncError {
    const most = (this.stripe.units / PART - RECORD_UNITS) * UNIT_BYTES;
    return new SyncError(
      "InvalidSize",
      `RateLimiter.${method}: the name has more than ${most} bytes, and then its entry takes more than a quarter of a ` +
        "stripe; use shorter names, or create the limiter with more keys or keyBytes",
    );
  }
}

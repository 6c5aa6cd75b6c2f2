import { lengthOf } from "../core/view_extent.ts";
import { SyncError } from "../sync/errors.ts";
import type { MapCore } from "./map_core.ts";
import { keyBytes } from "./map_key.ts";
import {
  isPossible,
  keyUnits,
  META,
  NUMBER,
  PART,
  PENDING,
  RECORD_UNITS,
  SIZE,
  unitsFor,
} from "./map_record.ts";
import { Freeing } from "./map_oldest.ts";
import { makeRoom, NO_ROOM } from "./map_room.ts";
import { LIVE, type MapStripe } from "./map_stripe.ts";
import { DamagedLog, UNIT_BYTES } from "./ring_log.ts";

/** When a value is stored: always, if the key has none, if it has one, or if that has the version that is given. */
export const Condition = { Always: 0, Absent: 1, Present: 2, Version: 3, Pending: 4 } as const;
export type Condition = typeof Condition[keyof typeof Condition];

/** With this instead of a time, a value expires when the one before it would have. */
export const KEPT = -1;

/** What `claim()` has found: a value, another one that computes it, no room, or that this one computes it now. */
export const Claim = { Present: 0, Pending: 1, Full: 2, Mine: 3 } as const;
export type Claim = typeof Claim[keyof typeof Claim];

const [STORED, REFUSED, FULL, NOT_A_NUMBER] = [0, 1, 2, 3];

/** The changes of a map. Each of them holds the lock of one stripe, and calls no code of the program meanwhile. */
export class MapWriter {
  // For `declare`, see Slot.
  declare private readonly core: MapCore;
  /** The time in ms for which a change waits for the lock. */
  declare private readonly lockTimeout: number;
  /** What the last change was: how many records it has evicted, and the version that the key has now, 0 if none. */
  evicted = 0;
  version = 0;
  /** The number that `incr` has stored. */
  number = 0;
  /** What `set` and `incr` do with the lock held: functions that are made once. */
  declare private readonly setLocked: () => number;
  declare private readonly incrLocked: () => number;
  /** The arguments of the current `set` or `incr`, the number of bytes of its value, and the size of its record in units. */
  declare private stripe: MapStripe;
  declare private value: Uint8Array | number;
  private length = 0;
  private size = 0;
  private expiry = 0;
  private condition: Condition = Condition.Always;
  private wanted = 0;
  private flags = 0;
  private by = 0;
  private initial = 0;
  private ttl = 0;

  constructor(core: MapCore, lockTimeout: number) {
    this.core = core;
    this.lockTimeout = lockTimeout;
    this.stripe = core.stripes[0]!;
    this.value = 0;
    this.setLocked = () => this.setHere();
    this.incrLocked = () => this.incrHere();
  }

  /**
   * Stores a value; returns whether the condition was true.
   *
   * @param expiry when it expires by the clock, 0 if never, or `KEPT`
   * @param wanted the version that the condition needs
   */
  set(
    method: string,
    key: string | Uint8Array,
    value: Uint8Array | number,
    expiry: number,
    condition: Condition = Condition.Always,
    wanted = 0,
    flags = 0,
  ): boolean {
    const stripe = this.core.seek(method, key);
    const length = typeof value === "number" ? UNIT_BYTES : lengthOf(value);
    const size = unitsFor(this.core.key.meta, length);
    if (size > stripe.units / PART) throw this.tooLarge(method, stripe, length);
    this.stripe = stripe;
    this.value = value;
    this.length = length;
    this.size = size;
    this.expiry = expiry;
    this.condition = condition;
    this.wanted = wanted;
    this.flags = flags;
    const outcome = this.change(method, this.setLocked);
    this.value = 0; // so that it can be garbage-collected
    if (outcome === FULL) throw this.full(method, stripe, size);
    return outcome === STORED;
  }

  private setHere(): number {
    const { condition, expiry, stripe } = this;
    const isFound = stripe.locate(this.core.key);
    if (!this.allows(stripe, isFound, condition, this.wanted)) return REFUSED;
    const expiryNow = expiry === KEPT && isFound ? stripe.expiry : Math.max(0, expiry);
    return this.put(stripe, this.size, this.value, this.length, this.flags, expiryNow)
      ? STORED
      : FULL;
  }

  /** Adds to the number of a key, or stores `initial + by`; the result is in `number`. */
  incr(
    method: string,
    key: string | Uint8Array,
    by: number,
    initial: number,
    ttl: number,
  ): void {
    const stripe = this.core.seek(method, key);
    const size = unitsFor(this.core.key.meta, UNIT_BYTES);
    if (size > stripe.units / PART) throw this.tooLarge(method, stripe, UNIT_BYTES);
    this.stripe = stripe;
    this.by = by;
    this.initial = initial;
    this.ttl = ttl;
    const outcome = this.change(method, this.incrLocked);
    if (outcome === FULL) throw this.full(method, stripe, size);
    if (outcome === NOT_A_NUMBER) throw notANumber(method);
  }

  private incrHere(): number {
    const { by, core: { key }, stripe } = this;
    const isFound = stripe.locate(key);
    if (!isFound || !stripe.isPresent) {
      return this.putNumber(stripe, unitsFor(key.meta, UNIT_BYTES), this.initial + by, this.ttl);
    }
    const meta = stripe.data[stripe.at + META]!;
    if ((meta & NUMBER) === 0) return NOT_A_NUMBER;
    if (!isPossible(stripe.data[stripe.at + SIZE]!, meta)) throw new DamagedLog();
    const from = stripe.valueByte(stripe.at, meta);
    this.number = stripe.number(from) + by;
    this.version = stripe.setNumber(from, this.number);
    stripe.use(key.hash);
    return STORED;
  }

  private putNumber(stripe: MapStripe, size: number, value: number, ttl: number): number {
    this.number = value;
    return this.put(stripe, size, value, UNIT_BYTES, 0, stripe.expiryOf(ttl)) ? STORED : FULL;
  }

  /** Removes a key if the condition is true; returns whether it had a value. */
  delete(
    method: string,
    key: string | Uint8Array,
    condition: Condition = Condition.Always,
    wanted = 0,
  ): boolean {
    const stripe = this.core.seek(method, key);
    return this.change(method, () => {
      const isFound = stripe.locate(this.core.key);
      if (!isFound || !this.allows(stripe, true, condition, wanted)) return false;
      const { isPresent } = stripe;
      stripe.remove();
      return isPresent;
    });
  }

  /** Changes when a value expires; returns whether there is one. */
  expire(method: string, key: string | Uint8Array, expiry: number): boolean {
    const stripe = this.core.seek(method, key);
    return this.change(method, () => {
      if (!stripe.locate(this.core.key) || !stripe.isPresent) return false;
      stripe.setExpiry(stripe.at, expiry);
      return true;
    });
  }

  /**
   * Writes a pending record for a key that has no value, and sets `version`, unless there is a pending record that has not
   * expired and has another version than `dead`.
   */
  claim(
    method: string,
    key: string | Uint8Array,
    computer: Uint8Array,
    expiry: number,
    dead: number,
  ): Claim {
    const stripe = this.core.seek(method, key);
    const size = unitsFor(this.core.key.meta, computer.length);
    if (size > stripe.units / PART) throw this.tooLarge(method, stripe, computer.length);
    const claim = this.change(method, () => {
      const isFound = stripe.locate(this.core.key);
      if (isFound && stripe.isPresent) return Claim.Present;
      const isOthers = isFound && stripe.isPending && stripe.version !== dead;
      if (isOthers) return Claim.Pending;
      const { length } = computer;
      return this.put(stripe, size, computer, length, PENDING, expiry) ? Claim.Mine : Claim.Full;
    });
    if (claim === Claim.Full) throw this.full(method, stripe, size);
    return claim;
  }

  /** Calls `act` for a stripe with its lock held. */
  inStripe<Result extends number | boolean>(
    method: string,
    index: number,
    act: (stripe: MapStripe) => Result,
  ): Result {
    const { locks, stripes } = this.core;
    return locks[index]!.change(method, this.lockTimeout, () => act(stripes[index]!));
  }

  private change<Result extends number | boolean>(method: string, act: () => Result): Result {
    const { core } = this;
    return core.locks[core.index]!.change(method, this.lockTimeout, act);
  }

  /** Whether the located record fulfils a condition. Sets `version`. */
  private allows(
    stripe: MapStripe,
    isFound: boolean,
    condition: Condition,
    wanted: number,
  ): boolean {
    if (condition === Condition.Always) return true;
    if (condition === Condition.Pending) {
      return isFound && (stripe.data[stripe.at + META]! & PENDING) !== 0 &&
        stripe.version === wanted;
    }
    const isPresent = isFound && stripe.isPresent;
    this.version = isPresent ? stripe.version : 0;
    if (condition === Condition.Absent) return !isPresent;
    return isPresent && (condition === Condition.Present || this.version === wanted);
  }

  /** Makes room for a record, and writes it; returns `false` if there is no room. */
  private put(
    stripe: MapStripe,
    size: number,
    value: Uint8Array | number,
    length: number,
    flags: number,
    expiry: number,
  ): boolean {
    const { key } = this.core;
    this.evicted = makeRoom(stripe, key, size);
    if (this.evicted === NO_ROOM) return false;
    const { at: old, head } = stripe;
    this.version = stripe.put(key, value, length, flags, expiry);
    if (old === stripe.wordOf(head)) dropOldest(stripe);
    return true;
  }

  private tooLarge(method: string, { units }: MapStripe, length: number): SyncError {
    const { meta } = this.core.key;
    const most = (units / PART - RECORD_UNITS) * UNIT_BYTES;
    const left = most - keyUnits(meta) * UNIT_BYTES;
    const text = left < 0
      ? `the key has ${
        keyBytes(meta)
      } bytes, and a key of this map must not have more than ${most} even without a ` +
        "value, since an entry has at most a quarter of a stripe"
      : `the value has ${length} bytes, and with this key a value of this map must not have more than ${left}, a ` +
        "quarter of a stripe";
    return new SyncError(
      "InvalidSize",
      `SharedMap.${method}: ${text}; create the map with more bytes or fewer stripes`,
    );
  }

  private full(method: string, { units, words }: MapStripe, size: number): SyncError {
    return new SyncError(
      "Full",
      `SharedMap.${method}: the entry takes ${
        size * UNIT_BYTES
      } bytes, and the part of the map with this key has ` +
        `${units * UNIT_BYTES} bytes, of which entries use ${
          words[LIVE]! * UNIT_BYTES
        } and a reserve stays free; ` +
        'delete() entries, or create the map with more bytes or evict: "clock"',
    );
  }
}

/** Frees the oldest record, which was replaced. */
function dropOldest(stripe: MapStripe): void {
  const freeing = new Freeing(stripe);
  freeing.next(false, () => false);
  freeing.end();
}

function notANumber(method: string): SyncError {
  return new SyncError(
    "WrongKind",
    `SharedMap.${method}: the value of this key is not a number; set() a number first`,
  );
}

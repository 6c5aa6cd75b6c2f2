import { type Clock, sharedClock } from "../backends/clock.ts";
import { thisPlatform } from "../backends/platform.ts";
import { SyncError } from "../sync/errors.ts";
import { Mutex } from "../sync/mutex.ts";
import type { Slot } from "../sync/slot.ts";
import { type MapHeader, nounOf } from "./map_header.ts";
import { MapKey } from "./map_key.ts";
import { recover } from "./map_recovery.ts";
import { stripeByte } from "./map_shape.ts";
import { MapStripe } from "./map_stripe.ts";
import { UNIT_BYTES } from "./ring_log.ts";
import { type Section, SectionLock, type SectionMutex } from "./section_lock.ts";

/** Joins the mutex at a byte of the slot. */
export type JoinMutex = (byteOffset: number) => SectionMutex;

/** A read fails after this time, in ms, if writers are faster again and again. */
const OVERTAKEN_MS = 100;
/** The number of attempts before a read looks at the time. */
const ATTEMPTS = 100;

/** The parts of a map, and the key of the current operation. */
export class MapCore {
  // For `declare`, see Slot.
  declare readonly slot: Slot;
  declare readonly header: MapHeader;
  declare readonly stripes: readonly MapStripe[];
  declare readonly locks: readonly SectionLock[];
  declare readonly key: MapKey;
  declare readonly joinMutex: JoinMutex;
  /** Multiplied with a hash of 32 bits, it gives the stripe. */
  declare private readonly perHash: number;
  /** The number of the stripe of the current key. */
  index = 0;
  private deadline = 0;

  /**
   * @param joinMutex joins a mutex of the map
   * @param isOrdered whether the processor performs loads in their order
   */
  constructor(
    slot: Slot,
    header: MapHeader,
    joinMutex: JoinMutex,
    isOrdered: boolean = thisPlatform().arch === "x64",
  ) {
    this.slot = slot;
    this.header = header;
    this.joinMutex = joinMutex;
    this.key = new MapKey(header.key0, header.key1, slot.name);
    this.perHash = header.stripes / 2 ** 32;
    const clock = lazyClock();
    const places = Array.from({ length: header.stripes }, (_, i) => stripeByte(header, i));
    this.stripes = places.map((byte) =>
      new MapStripe({ ...header, slot, begin: byte + Mutex.BYTES, isOrdered, clock })
    );
    this.locks = places.map((byte, i) =>
      new SectionLock(sectionOf(this.stripes[i]!, slot.name), joinMutex(byte))
    );
  }

  /** @throws {SyncError} if the map was detached, or if its header was overwritten */
  require(method: string): void {
    if (!this.slot.isIntact) this.refuse(method);
  }

  private refuse(method: string): void {
    this.slot.requireUsable(method);
    throw new SyncError(
      "Damaged",
      `${this.slot.name}.${method}: the ${
        nounOf(this.slot)
      } has been overwritten; create it again when no process uses it`,
    );
  }

  /** Makes `key` the current key; returns its stripe. */
  seek(method: string, key: string | Uint8Array): MapStripe {
    if (!this.slot.isIntact) this.refuse(method);
    this.key.set(method, key);
    return this.stripes[this.index = (this.key.hash >>> 0) * this.perHash | 0]!;
  }

  /** The number of bytes that there are for records. */
  get capacity(): number {
    return this.header.stripes * this.header.units * UNIT_BYTES;
  }

  /** Returns the sum of a word of all stripes. */
  sum(word: number): number {
    return this.stripes.reduce((sum, { words }) => sum + Atomics.load(words, word), 0);
  }

  /** Returns the sum of a float of {@linkcode MapStripe.totals} of all stripes. */
  total(index: number): number {
    return this.stripes.reduce((sum, { totals }) => sum + totals[index]!, 0);
  }

  /** Notes that an attempt to read has failed. @throws {SyncError} `Busy` if there were too many */
  overtaken(method: string, attempt: number): void {
    if (attempt === 0 || attempt % ATTEMPTS !== 0) return;
    const now = performance.now();
    if (attempt === ATTEMPTS) this.deadline = now + OVERTAKEN_MS;
    if (now <= this.deadline) return;
    throw new SyncError(
      "Busy",
      `${this.slot.name}.${method}: writers have overwritten it again and again for ${OVERTAKEN_MS} ms while it was ` +
        `read; give the ${nounOf(this.slot)} more ${
          nounOf(this.slot) === "map" ? "bytes" : "keys"
        }`,
    );
  }
}

/** Returns a stripe as the section of a lock. @param name the name of the class that uses it */
export function sectionOf(stripe: MapStripe, name: string): Section {
  return {
    words: stripe.words,
    recover: () => recover(stripe),
    reset: () => stripe.reset(),
    name,
    part: name === "SharedMap"
      ? "the part of the map with this key"
      : "the part of the limiter with this name",
  };
}

/** Returns a function that returns the clock, and loads it on first use: only times to live need it. */
function lazyClock(): () => Clock {
  let clock: Clock | undefined;
  return () => clock ??= sharedClock();
}

import type { Bytes } from "../core/view_types.ts";
import { SyncError } from "../sync/errors.ts";
import type { MapCore } from "./map_core.ts";
import { EXPIRY, NUMBER, PART, PENDING, SIZE, valueBytes, VERSION } from "./map_record.ts";
import { AGAIN, type MapStripe, MISS } from "./map_stripe.ts";
import { UNIT_BYTES } from "./ring_log.ts";
import { ValuePool } from "./value_pool.ts";

/** Up to this length a loop over words copies faster than `set()`, which needs another view. */
const SHORT = 200;

const NO_BYTES = new Uint8Array(0);
const NO_WORDS = new Int32Array(0);

/** The reads of a map. None of them takes a lock. */
export class MapReader {
  // For `declare`, see Slot.
  declare private readonly core: MapCore;
  declare private readonly pool: ValuePool;
  /** The reads of this object that have found a value, and the others. */
  hits = 0;
  misses = 0;
  /** What the last read has found: when the record expires, its version, and its meta word. */
  expiry = 0;
  version = 0;
  meta = 0;
  /** The array into which the last value was copied, and its words as far as it has some. Programs use it again. */
  private into: Uint8Array = NO_BYTES;
  private intoWords: Int32Array = NO_WORDS;
  /** Who computes the value of the pending record that was read last: the number of the slot and its generation. */
  computer: readonly [slot: number, generation: number] = [-1, -1];

  constructor(core: MapCore) {
    this.core = core;
    this.pool = new ValuePool();
  }

  /**
   * Returns a copy of the value of a key, or a number; `undefined` if there is none.
   *
   * @param isStale whether a value that has expired is returned too
   */
  get(method: string, key: string | Uint8Array, isStale = false): Bytes | number | undefined {
    const { core } = this;
    const stripe = core.seek(method, key);
    for (let attempt = 0;; attempt++) {
      const at = stripe.look(core.key);
      if (at === MISS) break;
      if (at !== AGAIN) {
        const value = this.copy(method, stripe, at);
        if (value !== null && stripe.isWhole()) {
          if (!this.isPresent(stripe, isStale)) break;
          this.found(stripe);
          return value;
        }
      }
      core.overtaken(method, attempt);
    }
    this.misses++;
    return undefined;
  }

  /** Copies the value of a key to the beginning of `into`; returns its length, or -1 if there is none. */
  getInto(method: string, key: string | Uint8Array, into: Uint8Array): number {
    const { core } = this;
    const stripe = core.seek(method, key);
    for (let attempt = 0;; attempt++) {
      const at = stripe.look(core.key);
      if (at === MISS) break;
      if (at !== AGAIN) {
        const length = this.copyInto(method, stripe, at, into);
        if (length !== -1 && stripe.isWhole()) {
          if (!this.isPresent(stripe, false)) break;
          this.found(stripe);
          return length;
        }
      }
      core.overtaken(method, attempt);
    }
    this.misses++;
    return -1;
  }

  /** Returns whether a key has a value, and sets `expiry` and `version`. It counts neither as a hit nor as use. */
  probe(method: string, key: string | Uint8Array): boolean {
    const { core } = this;
    const stripe = core.seek(method, key);
    for (let attempt = 0;; attempt++) {
      const at = stripe.look(core.key);
      if (at === MISS) return false;
      if (at !== AGAIN) {
        this.readHeader(stripe, at);
        if (stripe.isWhole()) return this.isPresent(stripe, false);
      }
      core.overtaken(method, attempt);
    }
  }

  /**
   * Returns whether the value of a key is being computed, and sets `computer` to who does it, and `version` to the version
   * that the record has for that time.
   */
  isPending(method: string, key: string | Uint8Array): boolean {
    const { core } = this;
    const stripe = core.seek(method, key);
    for (let attempt = 0;; attempt++) {
      const at = stripe.look(core.key);
      if (at === MISS) return false;
      if (at !== AGAIN) {
        this.readHeader(stripe, at);
        const word = stripe.valueByte(at, this.meta) >> 2;
        this.computer = [stripe.data[word] ?? -1, stripe.data[word + 1] ?? -1];
        if (stripe.isWhole()) break;
      }
      core.overtaken(method, attempt);
    }
    return (this.meta & PENDING) !== 0 && !stripe.hasPassed(this.expiry);
  }

  private readHeader(stripe: MapStripe, at: number): void {
    const { floats, meta } = stripe;
    this.meta = meta;
    this.version = floats[(at >> 1) + VERSION]!;
    this.expiry = floats[(at >> 1) + EXPIRY]!;
  }

  private isPresent(stripe: MapStripe, isStale: boolean): boolean {
    if (this.expiry === 0 && (this.meta & PENDING) === 0) return true;
    if ((this.meta & PENDING) !== 0) return false;
    return isStale || !stripe.hasPassed(this.expiry);
  }

  private found(stripe: MapStripe): void {
    this.hits++;
    stripe.use(this.core.key.hash);
  }

  /** Copies a value, whole or not; returns `null` if the words are not those of a record. */
  private copy(method: string, stripe: MapStripe, at: number): Bytes | number | null {
    this.readHeader(stripe, at);
    const { meta } = this;
    const from = stripe.valueByte(at, meta);
    // The version is loaded before the number, and stored after it: who stores if the version is unchanged has seen it.
    const length = this.lengthOf(method, stripe, at, from);
    if (length === -1) return null;
    if ((meta & NUMBER) !== 0) return stripe.number(from);
    return this.pool.copy(stripe.bytes, stripe.data, from >> 2, length);
  }

  /** Copies a value to `into`, whole or not; returns -1 if the words are not those of a record. */
  private copyInto(method: string, stripe: MapStripe, at: number, into: Uint8Array): number {
    this.readHeader(stripe, at);
    const from = stripe.valueByte(at, this.meta);
    const length = this.lengthOf(method, stripe, at, from);
    if (length === -1) return -1;
    if (length > into.length) return this.refuseShort(method, stripe, length, into.length);
    const { bytes } = stripe;
    if ((this.meta & NUMBER) !== 0) {
      number[0] = stripe.number(from);
      into.set(numberBytes);
    } else if (length <= SHORT && this.hasWords(into)) {
      this.copyShort(stripe, from, into, length);
    } else {
      into.set(bytes.subarray(from, from + length));
    }
    return length;
  }

  /** Whether an array is copied to in words. */
  private hasWords(into: Uint8Array): boolean {
    if (into !== this.into) this.intoWords = wordsOf(this.into = into);
    return this.intoWords !== NO_WORDS;
  }

  private copyShort(stripe: MapStripe, from: number, into: Uint8Array, length: number): void {
    const { bytes, data } = stripe;
    const { intoWords: words } = this;
    const count = Math.min(length >> 2, words.length);
    const at = from >> 2;
    for (let i = 0; i < count; i++) words[i] = data[at + i]!;
    for (let i = count << 2; i < length; i++) into[i] = bytes[from + i]!;
  }

  private lengthOf(method: string, stripe: MapStripe, at: number, from: number): number {
    const { meta } = this;
    const length = valueBytes(stripe.data[at + SIZE]!, meta);
    if ((meta & NUMBER) !== 0) {
      if (length === UNIT_BYTES) return length;
    } else {
      const { bytes } = stripe;
      if (length >= 0 && from + length <= bytes.length && length <= bytes.length / PART) {
        return length;
      }
    }
    if (!stripe.isWhole()) return -1;
    throw new SyncError(
      "Damaged",
      `SharedMap.${method}: the value of this key has been overwritten; set() or delete() it`,
    );
  }

  private refuseShort(method: string, stripe: MapStripe, length: number, room: number): number {
    if (!stripe.isWhole()) return -1;
    if (!this.isPresent(stripe, false)) return 0;
    throw new RangeError(
      `SharedMap.${method}: the value has ${length} bytes, and the array only ${room}`,
    );
  }
}

/** Returns the words of an array; `NO_WORDS` if they are misaligned, or if its length can change. */
function wordsOf({ buffer, byteOffset, length }: Uint8Array): Int32Array {
  const { resizable = false, growable = false } = buffer as {
    readonly resizable?: boolean;
    readonly growable?: boolean;
  };
  if (resizable || growable || (byteOffset & 3) !== 0) return NO_WORDS;
  return new Int32Array(buffer, byteOffset, length >> 2);
}

const number = new Float64Array(1);
const numberBytes = new Uint8Array(number.buffer);

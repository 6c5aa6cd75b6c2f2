import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { type Counter, counterOf } from "./counter.ts";
import { type Gauge, gaugeOf } from "./gauge.ts";
import { SyncError } from "./errors.ts";
import { hashOf } from "./fnv1a.ts";
import type { LayoutMember } from "./layout_member.ts";
import { kindText, PrimitiveKind, Slot } from "./slot.ts";

/** The header takes as many bytes as the entry of each name, which has a hash, a value and the text of the name. */
const ENTRY_BYTES = 64;
const CAPACITY_WORD = 2;
const [HASH, VALUE, NAME] = [0, 8, 16];
const NAME_BYTES = ENTRY_BYTES - NAME;
const CAPACITY_MAX = 2 ** 20;

/** The lowest bit of a hash says whether the name belongs to a gauge (1) or a counter (0). */
const GAUGE = 1n;
const HASH_BITS = ~GAUGE;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * A counter block holds counters and gauges with names. The first call that asks for a name reserves its place, and
 * the place never changes. So programs of different versions can share a block, each with names the others lack.
 *
 * The hash of 64 bits of a name reserves the place in one atomic step. Whenever a process is killed, the name is
 * either in the block or absent.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "../mod.ts";
 * import { CounterBlock } from "./mod.ts";
 *
 * using memory = SharedMemory.open("statistics", {
 *   size: CounterBlock.bytesFor(100),
 *   initialize: (bytes) => void CounterBlock.create(bytes, 0, 100),
 * });
 * const statistics = CounterBlock.at(memory.view(Uint8Array));
 * statistics.counter("requests").add();
 * statistics.gauge("load").set(0.25);
 * console.log(statistics.values().get("load")); // 0.25
 * ```
 */
export class CounterBlock {
  /** A block must begin at a multiple of this number of bytes in the segment. */
  static readonly ALIGNMENT = 8;
  /** The longest name takes this number of bytes of UTF-8. */
  static readonly NAME_BYTES: number = NAME_BYTES;
  /** The block has room for this number of names. */
  readonly capacity: number;
  readonly #slot: Slot;
  readonly #hashes: BigInt64Array;

  private constructor(slot: Slot, capacity: number) {
    this.#slot = slot;
    this.capacity = capacity;
    const words = CounterBlock.bytesFor(capacity) / 8;
    this.#hashes = slot.view(BigInt64Array, 0, words);
  }

  /**
   * Returns the number of bytes that a block takes.
   *
   * @param capacity how many names the block has room for, from 1 to 1,048,576
   * @throws {TypeError | RangeError} if `capacity` is not an integer in this range
   */
  static bytesFor(capacity: number): number {
    checkCapacity("CounterBlock.bytesFor", capacity);
    return (1 + capacity) * ENTRY_BYTES;
  }

  /**
   * Returns a block with this capacity as a member of a layout.
   *
   * @param capacity how many names the block has room for, from 1 to 1,048,576
   * @throws {TypeError | RangeError} if `capacity` is not an integer in this range
   */
  static of(capacity: number): LayoutMember<CounterBlock> {
    return {
      BYTES: CounterBlock.bytesFor(capacity),
      ALIGNMENT: CounterBlock.ALIGNMENT,
      KIND: kindText("CounterBlock", `(${capacity})`),
      create: (view, byteOffset) => CounterBlock.create(view, byteOffset, capacity),
      at: (view, byteOffset) => {
        const block = CounterBlock.at(view, byteOffset);
        if (block.capacity === capacity) return block;
        throw new SyncError(
          "Damaged",
          `CounterBlock.at: it says that it has room for ${block.capacity} names, not ${capacity}`,
        );
      },
    };
  }

  /**
   * Creates a block without names in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where a block begins in the view, in bytes
   * @param capacity how many names the block has room for, from 1 to 1,048,576
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little
   * room, or `capacity` is not an integer in this range
   */
  static create(view: ArrayBufferView, byteOffset: number, capacity: number): CounterBlock {
    const call = "CounterBlock.create";
    checkCapacity(call, capacity);
    const slot = new Slot(call, view, byteOffset, CounterBlock.ALIGNMENT);
    slot.make(call, PrimitiveKind.CounterBlock, CounterBlock.bytesFor(capacity), () => {
      slot.words[CAPACITY_WORD] = capacity;
    });
    return new CounterBlock(slot, capacity);
  }

  /**
   * Returns an object for a block of any capacity that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where a block begins in the view, in bytes
   * @throws {SyncError} `NotFound` if there is no block, `WrongKind` if the place holds something else, `Damaged` if
   * the capacity in the segment is impossible, `NotAttached` if the segment is not attached, `ReadOnly` if it is
   * attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   */
  static at(view: ArrayBufferView, byteOffset = 0): CounterBlock {
    const call = "CounterBlock.at";
    const slot = new Slot(call, view, byteOffset, CounterBlock.ALIGNMENT);
    slot.join(call, PrimitiveKind.CounterBlock, ENTRY_BYTES);
    const capacity = slot.words[CAPACITY_WORD]!;
    if (!(capacity >= 1 && capacity <= CAPACITY_MAX)) {
      throw new SyncError("Damaged", `${call}: it says that it has room for ${capacity} names`);
    }
    slot.require(call, CounterBlock.bytesFor(capacity));
    return new CounterBlock(slot, capacity);
  }

  /**
   * Returns the counter with this name. A name that is new to the block gets a counter with the value 0.
   *
   * @param name well-formed text of 1 to 48 bytes of UTF-8 without NUL
   * @throws {SyncError} `Full` if the name is new and the block has no room, `WrongKind` if the name belongs to a
   * gauge, `NotAttached` if the segment has been detached
   * @throws {TypeError | RangeError} if `name` is not such text
   */
  counter(name: string): Counter {
    return counterOf(this.#slot, this.#find("counter", name, 0n) + VALUE);
  }

  /**
   * Returns the gauge with this name. A name that is new to the block gets a gauge with the value 0.
   *
   * @param name well-formed text of 1 to 48 bytes of UTF-8 without NUL
   * @throws {SyncError} `Full` if the name is new and the block has no room, `WrongKind` if the name belongs to a
   * counter, `NotAttached` if the segment has been detached
   * @throws {TypeError | RangeError} if `name` is not such text
   */
  gauge(name: string): Gauge {
    return gaugeOf(this.#slot, this.#find("gauge", name, GAUGE) + VALUE);
  }

  /**
   * Returns the current values of all names, in the order in which the names were added. A counter has a bigint, a
   * gauge a number. The values are read one after the other, so they may be from slightly different moments.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   */
  values(): Map<string, bigint | number> {
    this.#slot.requireUsable("values");
    const values = new Map<string, bigint | number>();
    for (let entry = ENTRY_BYTES; entry <= this.capacity * ENTRY_BYTES; entry += ENTRY_BYTES) {
      const hash = this.#hashAt(entry);
      if (hash === 0n) break;
      const text = this.#slot.view(Uint8Array, entry + NAME, NAME_BYTES);
      const end = text.indexOf(0);
      const name = decoder.decode(text.slice(0, end < 0 ? NAME_BYTES : end));
      // The process that reserved the entry may have been killed before it wrote the whole name. The next call for
      // the name completes it.
      if (idOf(encoder.encode(name), hash & GAUGE) !== hash) continue;
      const isGauge = (hash & GAUGE) !== 0n;
      const value = isGauge
        ? gaugeOf(this.#slot, entry + VALUE).get()
        : counterOf(this.#slot, entry + VALUE).get();
      values.set(name, value);
    }
    return values;
  }

  #hashAt(entry: number): bigint {
    return BigInt.asUintN(64, Atomics.load(this.#hashes, (entry + HASH) / 8));
  }

  /** Returns where the entry of a name begins, in bytes. It reserves an entry for a new name. */
  #find(method: "counter" | "gauge", name: string, kind: bigint): number {
    const call = `CounterBlock.${method}`;
    this.#slot.requireUsable(method);
    const text = checkName(call, name);
    const id = idOf(text, kind);
    for (let entry = ENTRY_BYTES; entry <= this.capacity * ENTRY_BYTES; entry += ENTRY_BYTES) {
      let found = this.#hashAt(entry);
      if (found === 0n) {
        const at = (entry + HASH) / 8;
        found = BigInt.asUintN(64, Atomics.compareExchange(this.#hashes, at, 0n, id));
        if (found === 0n) found = id;
      }
      if ((found & HASH_BITS) !== (id & HASH_BITS)) continue;
      if (found !== id) {
        const other = kind === GAUGE ? "counter" : "gauge";
        throw new SyncError("WrongKind", `${call}: ${JSON.stringify(name)} is a ${other}`);
      }
      this.#writeName(call, entry, text);
      return entry;
    }
    throw new SyncError(
      "Full",
      `${call}: all ${this.capacity} names are taken, and ${
        JSON.stringify(name)
      } is not among them`,
    );
  }

  /** Writes the name into its entry. Every process writes the same bytes, so the next one completes a partial name. */
  #writeName(call: string, entry: number, text: Uint8Array): void {
    const bytes = this.#slot.view(Uint8Array, entry + NAME, NAME_BYTES);
    for (const [i, byte] of text.entries()) {
      const found = bytes[i]; // only one load: another process may write the byte at this moment
      if (found === byte) continue;
      if (found !== 0) {
        throw new SyncError("Damaged", `${call}: another name lies where this one's hash is`);
      }
      bytes[i] = byte;
    }
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: this.#slot.isUsable,
      capacity: this.capacity,
    }));
  }
}

/** Returns the hash that identifies a name and its kind. It is never 0. */
function idOf(text: Uint8Array, kind: bigint): bigint {
  return hashOf(text) & HASH_BITS | kind || 2n;
}

function checkName(call: string, name: unknown): Uint8Array {
  if (typeof name !== "string") {
    throw new TypeError(`${call}: the name must be a string, not ${typeof name}`);
  }
  const text = encoder.encode(name);
  if (text.length >= 1 && text.length <= NAME_BYTES && !text.includes(0) && name.isWellFormed()) {
    return text;
  }
  throw new RangeError(
    `${call}: the name must be well-formed text of 1 to ${NAME_BYTES} bytes of UTF-8 without NUL, ` +
      `unlike ${JSON.stringify(name)}`,
  );
}

function checkCapacity(call: string, capacity: unknown): void {
  if (typeof capacity !== "number") {
    throw new TypeError(`${call}: the capacity must be a number, not ${typeof capacity}`);
  }
  if (Number.isInteger(capacity) && capacity >= 1 && capacity <= CAPACITY_MAX) return;
  throw new RangeError(
    `${call}: the capacity must be an integer from 1 to ${CAPACITY_MAX}, not ${capacity}`,
  );
}

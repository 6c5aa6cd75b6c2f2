import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { type Counter, embedded, type Gauge } from "./counter.ts";
import { SyncError } from "./errors.ts";
import { hashOf } from "./fnv1a.ts";
import { PrimitiveKind, Slot } from "./slot.ts";

/** The header, and then as many for each name: its hash, its value and its text. */
const ENTRY_BYTES = 64;
const CAPACITY_WORD = 2;
const [HASH, VALUE, NAME] = [0, 8, 16];
const NAME_BYTES = ENTRY_BYTES - NAME;
const CAPACITY_MAX = 2 ** 20;

/** The lowest bit of a hash says what has the name. */
const GAUGE = 1n;
const HASH_BITS = ~GAUGE;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Counters and gauges with names. A name has its place when somebody first asks for it, and keeps it, so
 * that programs of different versions agree, each with names that the others do not know.
 *
 * A name is taken in one atomic step, by its hash of 64 bits: a process that is killed at any moment leaves
 * a name that is there or one that is not.
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
  /** What its place in the segment must be a multiple of, in bytes. */
  static readonly ALIGNMENT = 8;
  /** The longest name, in bytes of UTF-8. */
  static readonly NAME_BYTES: number = NAME_BYTES;
  /** How many names it has room for. */
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
   * The bytes that a block takes.
   *
   * @param capacity for how many names, from 1 to 1,048,576
   * @throws {TypeError | RangeError} if `capacity` is no such number
   */
  static bytesFor(capacity: number): number {
    checkCapacity("CounterBlock.bytesFor", capacity);
    return (1 + capacity) * ENTRY_BYTES;
  }

  /**
   * Makes a block without names.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @param capacity for how many names, from 1 to 1,048,576
   * @throws {SyncError} `AlreadyExists` if there is something already, `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one, or `capacity` is no such number
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
   * Joins a block that has been made, whatever its capacity.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @throws {SyncError} `NotFound` if there is none, `WrongKind` if there is something else, `Damaged`,
   * `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one
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
   * The counter of a name, which is 0 if nobody has asked for it before.
   *
   * @param name at most 48 bytes of UTF-8, and not empty
   * @throws {SyncError} `Full` if it is new and there is no room, `WrongKind` if it is a gauge,
   * `NotAttached` after detach
   * @throws {TypeError | RangeError} if `name` is no such text
   */
  counter(name: string): Counter {
    return embedded.counter(this.#slot, this.#find("counter", name, 0n) + VALUE);
  }

  /**
   * The gauge of a name, which is 0 if nobody has asked for it before.
   *
   * @param name at most 48 bytes of UTF-8, and not empty
   * @throws {SyncError} `Full` if it is new and there is no room, `WrongKind` if it is a counter,
   * `NotAttached` after detach
   * @throws {TypeError | RangeError} if `name` is no such text
   */
  gauge(name: string): Gauge {
    return embedded.gauge(this.#slot, this.#find("gauge", name, GAUGE) + VALUE);
  }

  /**
   * What all names have now, in the order in which they were first asked for: each value is whole, and
   * they are read one after the other. Counters are bigints, gauges numbers.
   *
   * @throws {SyncError} `NotAttached` after detach
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
      // Whoever took it may have been killed before it wrote the name, which the next one to ask does.
      if (idOf(encoder.encode(name), hash & GAUGE) !== hash) continue;
      const isGauge = (hash & GAUGE) !== 0n;
      const value = isGauge
        ? embedded.gauge(this.#slot, entry + VALUE).get()
        : embedded.counter(this.#slot, entry + VALUE).get();
      values.set(name, value);
    }
    return values;
  }

  #hashAt(entry: number): bigint {
    return BigInt.asUintN(64, Atomics.load(this.#hashes, (entry + HASH) / 8));
  }

  /** Where the entry of a name begins, in bytes. */
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

  /** Everybody who asks for a name writes the same bytes, so that it does not matter who is killed at that. */
  #writeName(call: string, entry: number, text: Uint8Array): void {
    const bytes = this.#slot.view(Uint8Array, entry + NAME, NAME_BYTES);
    for (let i = 0; i < text.length; i++) {
      if (bytes[i] === text[i]) continue;
      if (bytes[i] !== 0) {
        throw new SyncError("Damaged", `${call}: another name lies where this one's hash is`);
      }
      bytes[i] = text[i]!;
    }
  }

  /** @internal What `console.log` shows of it. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: this.#slot.isUsable,
      capacity: this.capacity,
    }));
  }
}

/** What a name is found by: never 0. */
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

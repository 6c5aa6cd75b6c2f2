import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { HEADER_BYTES, PrimitiveKind, Slot } from "./slot.ts";

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** @throws {TypeError | RangeError} if `value` is not an integer of 64 bits */
function int64(call: string, value: number | bigint): bigint {
  if (value === 1n) return 1n; // most often, and engines take long to compare the sizes of BigInts
  if (typeof value !== "bigint") return integer(call, value);
  if (value >= INT64_MIN && value <= INT64_MAX) return value;
  throw new RangeError(`${call}: the number must fit 64 bits with a sign, unlike ${value}`);
}

function integer(call: string, value: number): bigint {
  if (Number.isSafeInteger(value)) return BigInt(value);
  if (typeof value !== "number") {
    throw new TypeError(`${call}: the number must be a bigint or a number, not ${typeof value}`);
  }
  throw new RangeError(`${call}: the number must be an integer below 2^53, not ${value}`);
}

/** @internal Makes the counters and gauges of a block, which have no header of their own. */
export const embedded = {
  counter: (slot: Slot, byteOffset: number): Counter => counterOf(slot, byteOffset),
  gauge: (slot: Slot, byteOffset: number): Gauge => gaugeOf(slot, byteOffset),
};

let counterOf: (slot: Slot, byteOffset: number) => Counter;
let gaugeOf: (slot: Slot, byteOffset: number) => Gauge;

/**
 * An integer of 64 bits that any number of processes and threads change at once. Each change is whole and
 * none is lost, whenever a process is killed. Beyond 2^63 - 1 it goes on at -2^63.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "../mod.ts";
 * import { Counter } from "./mod.ts";
 *
 * using memory = SharedMemory.open("hits", {
 *   size: Counter.BYTES,
 *   initialize: (bytes) => void Counter.create(bytes),
 * });
 * const hits = Counter.at(memory.view(Uint8Array));
 * hits.add();
 * console.log(hits.get() >= 1n); // true
 * ```
 */
export class Counter {
  /** The bytes it takes. */
  static readonly BYTES = 24;
  /** What its place in the segment must be a multiple of, in bytes. */
  static readonly ALIGNMENT = 8;
  readonly #slot: Slot;
  readonly #value: BigInt64Array;

  private constructor(slot: Slot, byteOffset: number) {
    this.#slot = slot;
    this.#value = slot.view(BigInt64Array, byteOffset, 1);
  }

  static {
    counterOf = (slot, byteOffset) => new Counter(slot, byteOffset);
  }

  /**
   * Makes a counter, with the value 0.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @throws {SyncError} `AlreadyExists` if there is something already, `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one
   */
  static create(view: ArrayBufferView, byteOffset = 0): Counter {
    const slot = new Slot("Counter.create", view, byteOffset, Counter.ALIGNMENT);
    slot.make("Counter.create", PrimitiveKind.Counter, Counter.BYTES);
    return new Counter(slot, HEADER_BYTES);
  }

  /**
   * Joins a counter that has been made.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @throws {SyncError} `NotFound` if there is none, `WrongKind` if there is something else,
   * `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one
   */
  static at(view: ArrayBufferView, byteOffset = 0): Counter {
    const slot = new Slot("Counter.at", view, byteOffset, Counter.ALIGNMENT);
    slot.join("Counter.at", PrimitiveKind.Counter, Counter.BYTES);
    return new Counter(slot, HEADER_BYTES);
  }

  /**
   * Adds to it, or subtracts with a negative `amount`; 1 if it is left out.
   *
   * @returns the value before
   * @throws {SyncError} `NotAttached` after detach
   * @throws {TypeError | RangeError} if `amount` is not an integer of 64 bits
   */
  add(amount: number | bigint = 1n): bigint {
    this.#slot.requireUsable("add");
    return Atomics.add(this.#value, 0, int64("Counter.add", amount));
  }

  /**
   * The value.
   *
   * @throws {SyncError} `NotAttached` after detach
   */
  get(): bigint {
    this.#slot.requireUsable("get");
    return Atomics.load(this.#value, 0);
  }

  /**
   * Sets it.
   *
   * @throws {SyncError} `NotAttached` after detach
   * @throws {TypeError | RangeError} if `value` is not an integer of 64 bits
   */
  set(value: number | bigint): void {
    this.#slot.requireUsable("set");
    Atomics.store(this.#value, 0, int64("Counter.set", value));
  }

  /**
   * Sets it and returns what it was, with nothing lost in between.
   *
   * @throws {SyncError} `NotAttached` after detach
   * @throws {TypeError | RangeError} if `value` is not an integer of 64 bits
   */
  exchange(value: number | bigint): bigint {
    this.#slot.requireUsable("exchange");
    return Atomics.exchange(this.#value, 0, int64("Counter.exchange", value));
  }

  /**
   * Sets it to `value` if it is `expected`.
   *
   * @returns what it was: it has been set if that is `expected`
   * @throws {SyncError} `NotAttached` after detach
   * @throws {TypeError | RangeError} if one of them is not an integer of 64 bits
   */
  compareExchange(expected: number | bigint, value: number | bigint): bigint {
    this.#slot.requireUsable("compareExchange");
    const call = "Counter.compareExchange";
    return Atomics.compareExchange(this.#value, 0, int64(call, expected), int64(call, value));
  }

  /** @internal What `console.log` shows of it. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: this.#slot.isUsable,
      value: this.#slot.isUsable ? this.#value[0] : undefined,
    }));
  }
}

/** Between a float and its bits, which `Atomics` can handle. */
const float = new Float64Array(1);
const bits = new BigInt64Array(float.buffer);

function bitsOf(value: number): bigint {
  float[0] = value;
  return bits[0]!;
}

function floatOf(value: bigint): number {
  bits[0] = value;
  return float[0]!;
}

/**
 * A float of 64 bits that any number of processes and threads change at once: a {@linkcode Counter} for
 * what is measured. A value is always read whole.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "../mod.ts";
 * import { Gauge } from "./mod.ts";
 *
 * using memory = SharedMemory.open("temperature", {
 *   size: Gauge.BYTES,
 *   initialize: (bytes) => Gauge.create(bytes).set(20.5),
 * });
 * console.log(Gauge.at(memory.view(Uint8Array)).get()); // 20.5
 * ```
 */
export class Gauge {
  /** The bytes it takes. */
  static readonly BYTES = 24;
  /** What its place in the segment must be a multiple of, in bytes. */
  static readonly ALIGNMENT = 8;
  readonly #slot: Slot;
  readonly #bits: BigInt64Array;

  private constructor(slot: Slot, byteOffset: number) {
    this.#slot = slot;
    this.#bits = slot.view(BigInt64Array, byteOffset, 1);
  }

  static {
    gaugeOf = (slot, byteOffset) => new Gauge(slot, byteOffset);
  }

  /**
   * Makes a gauge, with the value 0.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @throws {SyncError} `AlreadyExists` if there is something already, `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one
   */
  static create(view: ArrayBufferView, byteOffset = 0): Gauge {
    const slot = new Slot("Gauge.create", view, byteOffset, Gauge.ALIGNMENT);
    slot.make("Gauge.create", PrimitiveKind.Gauge, Gauge.BYTES);
    return new Gauge(slot, HEADER_BYTES);
  }

  /**
   * Joins a gauge that has been made.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @throws {SyncError} `NotFound` if there is none, `WrongKind` if there is something else,
   * `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one
   */
  static at(view: ArrayBufferView, byteOffset = 0): Gauge {
    const slot = new Slot("Gauge.at", view, byteOffset, Gauge.ALIGNMENT);
    slot.join("Gauge.at", PrimitiveKind.Gauge, Gauge.BYTES);
    return new Gauge(slot, HEADER_BYTES);
  }

  /**
   * The value.
   *
   * @throws {SyncError} `NotAttached` after detach
   */
  get(): number {
    this.#slot.requireUsable("get");
    return floatOf(Atomics.load(this.#bits, 0));
  }

  /**
   * Sets it.
   *
   * @throws {SyncError} `NotAttached` after detach
   * @throws {TypeError} if `value` is not a number
   */
  set(value: number): void {
    this.#slot.requireUsable("set");
    Atomics.store(this.#bits, 0, bitsOf(checkNumber("Gauge.set", value)));
  }

  /**
   * Sets it and returns what it was, with nothing lost in between.
   *
   * @throws {SyncError} `NotAttached` after detach
   * @throws {TypeError} if `value` is not a number
   */
  exchange(value: number): number {
    this.#slot.requireUsable("exchange");
    const set = bitsOf(checkNumber("Gauge.exchange", value));
    return floatOf(Atomics.exchange(this.#bits, 0, set));
  }

  /**
   * Adds to it. Nothing is lost that others add at once.
   *
   * @returns the value before
   * @throws {SyncError} `NotAttached` after detach
   * @throws {TypeError} if `amount` is not a number
   */
  add(amount: number): number {
    this.#slot.requireUsable("add");
    checkNumber("Gauge.add", amount);
    for (;;) {
      const before = Atomics.load(this.#bits, 0);
      const value = floatOf(before);
      const after = bitsOf(value + amount);
      if (Atomics.compareExchange(this.#bits, 0, before, after) === before) return value;
    }
  }

  /** @internal What `console.log` shows of it. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: this.#slot.isUsable,
      value: this.#slot.isUsable ? floatOf(this.#bits[0]!) : undefined,
    }));
  }
}

function checkNumber(call: string, value: unknown): number {
  if (typeof value === "number") return value;
  throw new TypeError(`${call}: the value must be a number, not ${typeof value}`);
}

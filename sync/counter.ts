import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { HEADER_BYTES, PrimitiveKind, Slot } from "./slot.ts";

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** @throws {TypeError | RangeError} if `value` is not an integer of 64 bits */
function int64(call: string, value: number | bigint): bigint {
  if (value === 1n) return 1n; // the most frequent value; engines compare the sizes of BigInts slowly
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

/** @internal Creates the objects for the counters and gauges of a block, which have no header of their own. */
export const embedded = {
  counter: (slot: Slot, byteOffset: number): Counter => counterOf(slot, byteOffset),
  gauge: (slot: Slot, byteOffset: number): Gauge => gaugeOf(slot, byteOffset),
};

let counterOf: (slot: Slot, byteOffset: number) => Counter;
let gaugeOf: (slot: Slot, byteOffset: number) => Gauge;

/**
 * A counter is a signed integer of 64 bits that any number of processes and threads can change at the same time.
 * Each change is atomic and no change is lost, even if a process is killed. Beyond 2^63 - 1 the value wraps to -2^63.
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
  /** A counter takes this number of bytes. */
  static readonly BYTES = 24;
  /** A counter must begin at a multiple of this number of bytes in the segment. */
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
   * Creates a counter with the value 0 in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where a counter begins in the view, in bytes
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   */
  static create(view: ArrayBufferView, byteOffset = 0): Counter {
    const slot = new Slot("Counter.create", view, byteOffset, Counter.ALIGNMENT);
    slot.make("Counter.create", PrimitiveKind.Counter, Counter.BYTES);
    return new Counter(slot, HEADER_BYTES);
  }

  /**
   * Returns an object for a counter that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where a counter begins in the view, in bytes
   * @throws {SyncError} `NotFound` if there is no counter, `WrongKind` if the place holds something else, `NotAttached`
   * if the segment is not attached, `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   */
  static at(view: ArrayBufferView, byteOffset = 0): Counter {
    const slot = new Slot("Counter.at", view, byteOffset, Counter.ALIGNMENT);
    slot.join("Counter.at", PrimitiveKind.Counter, Counter.BYTES);
    return new Counter(slot, HEADER_BYTES);
  }

  /**
   * Adds `amount` to the value. A negative `amount` subtracts; if it is left out, 1 is added.
   *
   * @returns the value before the addition
   * @throws {SyncError} `NotAttached` if the segment has been detached
   * @throws {TypeError | RangeError} if `amount` is not an integer of 64 bits
   */
  add(amount: number | bigint = 1n): bigint {
    this.#slot.requireUsable("add");
    return Atomics.add(this.#value, 0, int64("Counter.add", amount));
  }

  /**
   * Returns the current value.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   */
  get(): bigint {
    this.#slot.requireUsable("get");
    return Atomics.load(this.#value, 0);
  }

  /**
   * Sets the value.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   * @throws {TypeError | RangeError} if `value` is not an integer of 64 bits
   */
  set(value: number | bigint): void {
    this.#slot.requireUsable("set");
    Atomics.store(this.#value, 0, int64("Counter.set", value));
  }

  /**
   * Sets the value and returns the one before, in one atomic step.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   * @throws {TypeError | RangeError} if `value` is not an integer of 64 bits
   */
  exchange(value: number | bigint): bigint {
    this.#slot.requireUsable("exchange");
    return Atomics.exchange(this.#value, 0, int64("Counter.exchange", value));
  }

  /**
   * Sets the value to `value` if it is `expected`, in one atomic step.
   *
   * @returns the value before; it was replaced if this is `expected`
   * @throws {SyncError} `NotAttached` if the segment has been detached
   * @throws {TypeError | RangeError} if `expected` or `value` is not an integer of 64 bits
   */
  compareExchange(expected: number | bigint, value: number | bigint): bigint {
    this.#slot.requireUsable("compareExchange");
    const call = "Counter.compareExchange";
    return Atomics.compareExchange(this.#value, 0, int64(call, expected), int64(call, value));
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: this.#slot.isUsable,
      value: this.#slot.isUsable ? this.#value[0] : undefined,
    }));
  }
}

/** These two arrays share memory: they convert a float to bits, which `Atomics` can handle, and back. */
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
 * A gauge is a float of 64 bits that any number of processes and threads can change at the same time. It suits
 * measured values as a {@linkcode Counter} suits counted ones. A read never returns a mixture of two values.
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
  /** A gauge takes this number of bytes. */
  static readonly BYTES = 24;
  /** A gauge must begin at a multiple of this number of bytes in the segment. */
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
   * Creates a gauge with the value 0 in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where a gauge begins in the view, in bytes
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   */
  static create(view: ArrayBufferView, byteOffset = 0): Gauge {
    const slot = new Slot("Gauge.create", view, byteOffset, Gauge.ALIGNMENT);
    slot.make("Gauge.create", PrimitiveKind.Gauge, Gauge.BYTES);
    return new Gauge(slot, HEADER_BYTES);
  }

  /**
   * Returns an object for a gauge that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where a gauge begins in the view, in bytes
   * @throws {SyncError} `NotFound` if there is no gauge, `WrongKind` if the place holds something else, `NotAttached`
   * if the segment is not attached, `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   */
  static at(view: ArrayBufferView, byteOffset = 0): Gauge {
    const slot = new Slot("Gauge.at", view, byteOffset, Gauge.ALIGNMENT);
    slot.join("Gauge.at", PrimitiveKind.Gauge, Gauge.BYTES);
    return new Gauge(slot, HEADER_BYTES);
  }

  /**
   * Returns the current value.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   */
  get(): number {
    this.#slot.requireUsable("get");
    return floatOf(Atomics.load(this.#bits, 0));
  }

  /**
   * Sets the value.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   * @throws {TypeError} if `value` is not a number
   */
  set(value: number): void {
    this.#slot.requireUsable("set");
    Atomics.store(this.#bits, 0, bitsOf(checkNumber("Gauge.set", value)));
  }

  /**
   * Sets the value and returns the one before, in one atomic step.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   * @throws {TypeError} if `value` is not a number
   */
  exchange(value: number): number {
    this.#slot.requireUsable("exchange");
    const set = bitsOf(checkNumber("Gauge.exchange", value));
    return floatOf(Atomics.exchange(this.#bits, 0, set));
  }

  /**
   * Adds `amount` to the value. Additions by other threads at the same time are not lost.
   *
   * @returns the value before the addition
   * @throws {SyncError} `NotAttached` if the segment has been detached
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

  /** @internal Returns what `console.log` shows of this object. */
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

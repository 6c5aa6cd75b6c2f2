import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { HEADER_BYTES, kindText, PrimitiveKind, Slot } from "./slot.ts";

/** @internal Creates the object for a gauge of a block, which has no header of its own. */
export let gaugeOf: (slot: Slot, byteOffset: number) => Gauge;

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
  /** This text says in the declaration of a layout what lies there: a gauge, and the version of its bytes. */
  static readonly KIND: string = kindText("Gauge");
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

import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { int64 } from "./int64.ts";
import { HEADER_BYTES, kindText, PrimitiveKind, Slot } from "./slot.ts";

/** @internal Creates the object for a counter of a block, which has no header of its own. */
export let counterOf: (slot: Slot, byteOffset: number) => Counter;

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
  /** This text says in the declaration of a layout what lies there: a counter, and the version of its bytes. */
  static readonly KIND: string = kindText("Counter");
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

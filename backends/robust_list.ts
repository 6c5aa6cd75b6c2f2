import type { Ffi } from "../ffi/types.ts";
import { PTHREAD_MUTEX } from "./constants.ts";

/**
 * A pointer as the float of the same 64 bits, which engines read and write at once and without a BigInt. No address
 * is that of a NaN.
 */
type Pointer = number;

/** A mutex in a segment, as this thread may hold it. */
export class RobustNode {
  readonly address: bigint;
  /** Its pointers to what was locked after it, and to what was locked before it. */
  readonly pointers: Float64Array;
  /** What points to it, points there. */
  readonly link: Pointer;
  /** While this thread holds it: what it had locked before and holds still. */
  before: RobustNode | null = null;

  /** @param buffer of its memory, which begins at `address` */
  constructor(address: bigint, buffer: ArrayBuffer) {
    this.address = address;
    this.pointers = new Float64Array(buffer, PTHREAD_MUTEX.prev, 2);
    this.link = pointerOf(address + BigInt(PTHREAD_MUTEX.next));
  }
}

const [PREV, NEXT] = [0, 1];
const POINTER_BYTES = 8;

/**
 * What `get_robust_list(2)` has of this thread: the mutexes it holds, the last one first, linked through
 * pointers in the mutexes themselves, at which the C library writes as it locks and unlocks. Any process may
 * overwrite the bytes of a mutex, so this keeps in mind what the pointers must be.
 *
 * In glibc and in musl alike, a pointer to a mutex is one to its `next`, and both ends point to the head.
 */
export class RobustList {
  readonly #ffi: Ffi;
  /** What was locked last; the others follow through `before`. */
  #last: RobustNode | null = null;
  /** The thread's own; 0 before the first lock. */
  #head: Pointer = 0;
  /** What the first one points to: the head, unless other code of this thread holds one too. */
  #end: Pointer = 0;

  private constructor(ffi: Ffi) {
    this.#ffi = ffi;
  }

  /** That of this thread, also if two copies of this module are loaded in it. */
  static ofThread(ffi: Ffi): RobustList {
    const key = Symbol.for("@shared-memory/shared-memory robust list 1");
    const shared = globalThis as typeof globalThis & { [key]?: RobustList };
    return shared[key] ??= new RobustList(ffi);
  }

  /** `node` has just been locked. */
  add(node: RobustNode): void {
    if (this.#last === null) {
      if (this.#head === 0) this.#head = node.pointers[PREV]!;
      this.#end = node.pointers[NEXT]!;
    }
    node.before = this.#last;
    this.#last = node;
  }

  /** Gives `node` the pointers that it must have. */
  restore(node: RobustNode): void {
    // As a rule they are right, but no comparison tells: to a processor that was told to take denormal
    // numbers for zero, as add-ons made with -ffast-math do, all pointers are alike.
    node.pointers[PREV] = this.#linkAfter(node);
    node.pointers[NEXT] = this.#linkBefore(node);
  }

  /** `node` has just been unlocked. */
  remove(node: RobustNode): void {
    const after = this.#after(node);
    if (after === null) this.#last = node.before;
    else after.before = node.before;
    node.before = null;
  }

  /** Takes `node` out of the list, which the C library has refused to do. */
  cut(node: RobustNode): void {
    const after = this.#linkAfter(node);
    const before = this.#linkBefore(node);
    this.#store(addressOf(after), before);
    // What comes before a `next` is the `prev` beside it; the head has none that is used.
    if (addressOf(before) !== addressOf(this.#head)) {
      this.#store(addressOf(before) - BigInt(POINTER_BYTES), after);
    }
    this.remove(node);
  }

  /** The one that was locked after `node`, or `null` if that was the last. */
  #after(node: RobustNode): RobustNode | null {
    if (this.#last === node) return null;
    let after = this.#last;
    while (after !== null && after.before !== node) after = after.before;
    return after;
  }

  /** What leads to the mutex that was locked after `node`. */
  #linkAfter(node: RobustNode): Pointer {
    return this.#after(node)?.link ?? this.#head;
  }

  #linkBefore(node: RobustNode): Pointer {
    return node.before === null ? this.#end : node.before.link;
  }

  #store(address: bigint, pointer: Pointer): void {
    new Float64Array(this.#ffi.arrayBuffer(address, POINTER_BYTES))[0] = pointer;
  }
}

const float = new Float64Array(1);
const bits = new BigUint64Array(float.buffer);

function pointerOf(address: bigint): Pointer {
  bits[0] = address;
  return float[0]!;
}

function addressOf(pointer: Pointer): bigint {
  float[0] = pointer;
  return bits[0]!;
}

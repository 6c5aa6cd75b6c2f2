import type { Ffi } from "../../ffi/types.ts";
import { HeldList, HeldNode } from "./held_list.ts";

/**
 * A pointer, stored as the float with the same 64 bits. Engines read and write a float in one step and without a
 * BigInt. No address has the bits of a NaN.
 */
export type Pointer = number;

/** The indices of the pointers of a node. */
export const [PREV, NEXT] = [0, 1] as const;
const POINTER_BYTES = 8;

/** A mutex in a segment, as this thread may hold it, or the head of the list of the mutexes that it holds. */
export class RobustNode extends HeldNode {
  /** The value of every pointer that points to this node. */
  declare readonly link: Pointer;
  /** The pointers to the mutex that was locked after this one, and to the one that was locked before it. */
  declare readonly pointers: Float64Array;

  constructor(link: Pointer, pointers: Float64Array) {
    super();
    this.link = link;
    this.pointers = pointers;
  }
}

/**
 * A copy of this thread's `get_robust_list(2)`: the mutexes that it holds, the newest one first. The original list is
 * linked through pointers in the mutexes themselves, to which the C library writes when it locks and unlocks. Any
 * process may overwrite the bytes of a mutex, so this copy records what the pointers must be.
 *
 * In glibc and in musl alike, a pointer to a mutex points to its `next`, and both ends of the list point to the head.
 */
export class RobustList extends HeldList<RobustNode> {
  readonly #ffi: Ffi;
  /**
   * The pointer in the mutex that was locked first: it points to the head, unless other code of this thread holds a
   * mutex too.
   */
  #end: Pointer = 0;

  private constructor(ffi: Ffi, head: Pointer) {
    super(new RobustNode(head, new Float64Array(2))); // the C library keeps the head's own pointers
    this.#ffi = ffi;
  }

  /**
   * Returns the list of this thread. If two copies of this module are loaded in the thread, they share one list.
   *
   * @param head the pointer to the head, which is in the mutex that was locked last
   */
  static ofThread(ffi: Ffi, head: Pointer): RobustList {
    const key = Symbol.for("@shared-memory/shared-memory robust list 3");
    const shared = globalThis as typeof globalThis & { [key]?: RobustList };
    return shared[key] ??= new RobustList(ffi, head);
  }

  /** Adds a `node` that has just been locked. */
  add(node: RobustNode): void {
    if (this.isEmpty) this.#end = node.pointers[NEXT]!;
    this.push(node);
  }

  /** Writes the correct pointers to `node`. */
  restore(node: RobustNode): void {
    // The pointers are usually right already, but comparing them is not reliable: if the processor was told to treat
    // denormal numbers as zero, as add-ons built with -ffast-math do, all pointers compare as equal.
    const { head } = this;
    const after = head.before === node ? head : this.after(node);
    node.pointers[PREV] = after.link;
    node.pointers[NEXT] = node.before === head ? this.#end : node.before.link;
  }

  /** Removes `node` from the list of the kernel too, after the C library has refused to do so. */
  cut(node: RobustNode): void {
    const after = this.after(node).link;
    const before = this.#linkBefore(node);
    this.#store(addressOf(after), before);
    // The word before a `next` is the `prev` of the same node. The head has no `prev` that is used.
    if (addressOf(before) !== addressOf(this.head.link)) {
      this.#store(addressOf(before) - BigInt(POINTER_BYTES), after);
    }
    this.remove(node);
  }

  #linkBefore({ before }: RobustNode): Pointer {
    return before === this.head ? this.#end : before.link;
  }

  #store(address: bigint, pointer: Pointer): void {
    new Float64Array(this.#ffi.arrayBuffer(address, POINTER_BYTES))[0] = pointer;
  }
}

const float = new Float64Array(1);
const bits = new BigUint64Array(float.buffer);

/** Converts an address to a pointer. */
export function pointerOf(address: bigint): Pointer {
  bits[0] = address;
  return float[0]!;
}

function addressOf(pointer: Pointer): bigint {
  float[0] = pointer;
  return bits[0]!;
}

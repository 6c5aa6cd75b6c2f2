import type { Ffi } from "../../ffi/types.ts";
import { HeldList, HeldNode } from "./held_list.ts";

/**
 * A pointer as the float of the same 64 bits, which engines read and write at once and without a BigInt. No address
 * is that of a NaN.
 */
export type Pointer = number;

/** In what a node has of pointers. */
export const [PREV, NEXT] = [0, 1] as const;
const POINTER_BYTES = 8;

/** A mutex in a segment, as this thread may hold it; or the head of the list of those that it holds. */
export class RobustNode extends HeldNode {
  /** What points to it, points there. */
  declare readonly link: Pointer;
  /** Its pointers to what was locked after it, and to what was locked before it. */
  declare readonly pointers: Float64Array;

  constructor(link: Pointer, pointers: Float64Array) {
    super();
    this.link = link;
    this.pointers = pointers;
  }
}

/**
 * What `get_robust_list(2)` has of this thread: the mutexes it holds, the last one first, linked through
 * pointers in the mutexes themselves, at which the C library writes as it locks and unlocks. Any process may
 * overwrite the bytes of a mutex, so this keeps in mind what the pointers must be.
 *
 * In glibc and in musl alike, a pointer to a mutex is one to its `next`, and both ends point to the head.
 */
export class RobustList extends HeldList<RobustNode> {
  readonly #ffi: Ffi;
  /** What the one that was locked first points to: the head, unless other code of this thread holds one too. */
  #end: Pointer = 0;

  private constructor(ffi: Ffi, head: Pointer) {
    super(new RobustNode(head, new Float64Array(2))); // the thread's own is left to the C library
    this.#ffi = ffi;
  }

  /**
   * That of this thread, also if two copies of this module are loaded in it.
   *
   * @param head where it begins: what the mutex points back to that was locked last
   */
  static ofThread(ffi: Ffi, head: Pointer): RobustList {
    const key = Symbol.for("@shared-memory/shared-memory robust list 3");
    const shared = globalThis as typeof globalThis & { [key]?: RobustList };
    return shared[key] ??= new RobustList(ffi, head);
  }

  /** `node` has just been locked. */
  add(node: RobustNode): void {
    if (this.isEmpty) this.#end = node.pointers[NEXT]!;
    this.push(node);
  }

  /** Gives `node` the pointers that it must have. */
  restore(node: RobustNode): void {
    // As a rule they are right, but no comparison tells: to a processor that was told to take denormal
    // numbers for zero, as add-ons made with -ffast-math do, all pointers are alike.
    const { head } = this;
    const after = head.before === node ? head : this.after(node);
    node.pointers[PREV] = after.link;
    node.pointers[NEXT] = node.before === head ? this.#end : node.before.link;
  }

  /** Takes `node` out of the list, which the C library has refused to do. */
  cut(node: RobustNode): void {
    const after = this.after(node).link;
    const before = this.#linkBefore(node);
    this.#store(addressOf(after), before);
    // What comes before a `next` is the `prev` beside it; the head has none that is used.
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

/** The float that stands for an address. */
export function pointerOf(address: bigint): Pointer {
  bits[0] = address;
  return float[0]!;
}

function addressOf(pointer: Pointer): bigint {
  float[0] = pointer;
  return bits[0]!;
}

import type { Ffi } from "../../ffi/types.ts";
import { PTHREAD_MUTEX, ROBUST_LIST_HEAD } from "../unix/linux_constants.ts";
import { HeldList, HeldNode } from "./held_list.ts";

/**
 * A pointer, stored as the float with the same 64 bits. Engines read and write a float in one step and without a
 * BigInt. No address has the bits of a NaN.
 *
 * Pointers are compared as two words: if the processor was told to treat denormal numbers as zero, as add-ons built with
 * -ffast-math do, all pointers compare as equal floats.
 */
export type Pointer = number;

/** The indices of the pointers of a node. */
export const [PREV, NEXT] = [PTHREAD_MUTEX.next / 8 - 1, PTHREAD_MUTEX.next / 8] as const;
const POINTER_BYTES = 8;

/**
 * A mutex in a segment, as this thread may hold it, or the head of the list of the mutexes that it holds. The views of the
 * head are as if it were the `next` of a mutex.
 */
export class RobustNode extends HeldNode {
  /** Where the mutex begins. */
  declare readonly address: bigint;
  /** The value of every pointer that points to this node. */
  declare readonly link: Pointer;
  /** The lower and the upper half of `link`. */
  declare readonly low: number;
  declare readonly high: number;
  /** The pointers to the mutex that was locked after this one, and to the one that was locked before it. */
  declare readonly pointers: Float64Array;
  declare readonly words: Int32Array;
  /** Whether the next pointer leads to `before`: no mutex that other code of this thread holds lies between the two. */
  isLinked = true;
  /** The next pointer when this node was locked, unless `isLinked`. */
  next: Pointer = 0;

  /** @param bytes how many bytes of the node are used, from the beginning of the mutex on */
  constructor(ffi: Ffi, address: bigint, bytes: number) {
    super();
    this.address = address;
    bits[0] = address + BigInt(PTHREAD_MUTEX.next);
    this.link = float[0]!;
    this.low = halves[0]!;
    this.high = halves[1]!;
    // The node has its own buffer, because the buffer of the segment may be transferred away while the mutex is held.
    const buffer = ffi.arrayBuffer(address, bytes);
    this.pointers = new Float64Array(buffer);
    this.words = new Int32Array(buffer);
  }

  /** Whether the next pointer points to `other`. */
  leadsTo({ low, high }: RobustNode): boolean {
    const { words } = this;
    return words[2 * NEXT] === low && words[2 * NEXT + 1] === high;
  }
}

/**
 * A copy of this thread's `get_robust_list(2)`: the mutexes that it holds, the newest one first. The original list is
 * linked through pointers in the mutexes themselves, to which the C library writes when it locks and unlocks. Any
 * process may overwrite the bytes of a mutex, so this copy records what the pointers must be.
 *
 * In glibc and in musl alike, a pointer to a mutex points to its `next`, and both ends of the list point to the head.
 * Other code of this thread may hold robust mutexes too. They are not in the copy, and a pointer to one is not touched.
 */
export class RobustList extends HeldList<RobustNode> {
  readonly #ffi: Ffi;

  private constructor(ffi: Ffi, head: bigint) {
    const bytes = PTHREAD_MUTEX.next + ROBUST_LIST_HEAD.bytes;
    super(new RobustNode(ffi, head - BigInt(PTHREAD_MUTEX.next), bytes));
    this.#ffi = ffi;
  }

  /**
   * Returns the list of this thread. If two copies of this module are loaded in the thread, they share one list.
   *
   * @param head the pointer to the head, which is in the mutex that was locked last
   */
  static ofThread(ffi: Ffi, head: Pointer): RobustList {
    const key = Symbol.for("@shared-memory/shared-memory robust list 4");
    const shared = globalThis as typeof globalThis & { [key]?: RobustList };
    return shared[key] ??= new RobustList(ffi, addressOf(head));
  }

  /** Adds a `node` that has just been locked. */
  add(node: RobustNode): void {
    this.push(node);
    node.isLinked = node.leadsTo(node.before);
    if (!node.isLinked) node.next = node.pointers[NEXT]!;
  }

  /** Whether `node` is the last mutex that this thread has locked, and both mutexes beside it in the list are known. */
  isLast(node: RobustNode): boolean {
    return this.head.before === node && node.isLinked && this.head.leadsTo(node);
  }

  /** Writes the correct pointers to `node`, as far as they are known. */
  restore(node: RobustNode): void {
    const { head } = this;
    const after = head.before === node ? head : this.after(node);
    if (after === head && node.isLinked && head.leadsTo(node.before)) { // code was stopped while it unlocked the node
      node.before.pointers[PREV] = node.link;
      node.pointers[NEXT] = node.before.link;
      node.pointers[PREV] = head.link;
      head.pointers[NEXT] = node.link;
    }
    const isKnown = after === head ? head.leadsTo(node) : after.isLinked;
    if (isKnown) node.pointers[PREV] = after.link;
    if (node.isLinked) node.pointers[NEXT] = node.before.link;
  }

  /** Removes `node` from the copy if the list of the kernel no longer has it; returns whether that is so. */
  forgetUnlinked(node: RobustNode): boolean {
    const after = this.after(node);
    const isUnlinked = node.isLinked && after.before === node && after.leadsTo(node.before);
    if (isUnlinked) after.before = node.before;
    return isUnlinked;
  }

  /** Removes `node` from the list of the kernel too, after the C library has refused to do so. */
  cut(node: RobustNode): void {
    const after = this.after(node);
    const before = node.isLinked ? node.before.link : node.next;
    this.#store(addressOf(after.link), before);
    // The word before a `next` is the `prev` of the same node. In musl the head has none.
    if (addressOf(before) !== addressOf(this.head.link)) {
      this.#store(addressOf(before) - BigInt(POINTER_BYTES), after.link);
    }
    if (after.before === node) after.before = node.before;
    after.isLinked = node.isLinked;
    after.next = node.next;
  }

  #store(address: bigint, pointer: Pointer): void {
    new Float64Array(this.#ffi.arrayBuffer(address, POINTER_BYTES))[0] = pointer;
  }
}

const float = new Float64Array(1);
const bits = new BigUint64Array(float.buffer);
const halves = new Int32Array(float.buffer);

/** Converts a pointer to an address. */
function addressOf(pointer: Pointer): bigint {
  float[0] = pointer;
  return bits[0]!;
}

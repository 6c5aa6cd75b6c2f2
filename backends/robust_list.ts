import type { Ffi } from "../ffi/types.ts";
import { PTHREAD_MUTEX } from "./constants.ts";

/** A mutex that this thread holds. */
export interface RobustNode {
  readonly address: bigint;
  /** Its pointers to the one that was locked after it, and to the one that was locked before. */
  readonly pointers: BigUint64Array;
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
  /** The one locked first comes first. */
  readonly #held: RobustNode[] = [];
  /** The thread's own; 0 before the first lock. */
  #head = 0n;
  /** What the first one points to: the head, unless other code of this thread holds one too. */
  #end = 0n;

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
    if (this.#held.length === 0) {
      this.#head = node.pointers[PREV]!;
      this.#end = node.pointers[NEXT]!;
    }
    this.#held.push(node);
  }

  /** Gives `node` the pointers that it must have. */
  restore(node: RobustNode): void {
    const at = this.#held.lastIndexOf(node);
    node.pointers[PREV] = this.#linkAfter(at);
    node.pointers[NEXT] = this.#linkBefore(at);
  }

  /** `node` has just been unlocked. */
  remove(node: RobustNode): void {
    this.#held.splice(this.#held.lastIndexOf(node), 1);
  }

  /** Takes `node` out of the list, which the C library has refused to do. */
  cut(node: RobustNode): void {
    const at = this.#held.lastIndexOf(node);
    this.#store(this.#linkAfter(at), this.#linkBefore(at));
    // What comes before a `next` is the `prev` beside it; the head has none that is used.
    if (this.#linkBefore(at) !== this.#head) {
      this.#store(this.#linkBefore(at) - BigInt(POINTER_BYTES), this.#linkAfter(at));
    }
    this.remove(node);
  }

  /** What leads to the mutex that was locked after the one `at` that index. */
  #linkAfter(at: number): bigint {
    const node = this.#held[at + 1];
    return node === undefined ? this.#head : node.address + BigInt(PTHREAD_MUTEX.next);
  }

  #linkBefore(at: number): bigint {
    const node = this.#held[at - 1];
    return node === undefined ? this.#end : node.address + BigInt(PTHREAD_MUTEX.next);
  }

  #store(address: bigint, pointer: bigint): void {
    new BigUint64Array(this.#ffi.arrayBuffer(address, POINTER_BYTES))[0] = pointer;
  }
}

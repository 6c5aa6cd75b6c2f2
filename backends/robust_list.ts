import type { Ffi } from "../ffi/types.ts";
import { PTHREAD_MUTEX } from "./constants.ts";

/** A pointer as two words of 32 bits, the lower one first, which costs no BigInt. */
interface Pointer {
  readonly low: number;
  readonly high: number;
}

/** A mutex in a segment, as this thread may hold it. */
export class RobustNode {
  readonly address: bigint;
  /** Its pointers to what was locked after it, and to what was locked before it, two words each. */
  readonly pointers: Uint32Array;
  /** What points to it, points there. */
  readonly link: Pointer;

  /** @param buffer of its memory, which begins at `address` */
  constructor(address: bigint, buffer: ArrayBuffer) {
    this.address = address;
    this.pointers = new Uint32Array(buffer, PTHREAD_MUTEX.prev, 4);
    this.link = pointerOf(address + BigInt(PTHREAD_MUTEX.next));
  }
}

const [PREV, NEXT] = [0, 2];
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
  /** The thread's own. */
  #head: Pointer = { low: 0, high: 0 };
  /** What the first one points to: the head, unless other code of this thread holds one too. */
  #end: Pointer = this.#head;

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
      this.#head = read(node, PREV, this.#head);
      this.#end = read(node, NEXT, this.#end);
    }
    this.#held.push(node);
  }

  /** Gives `node` the pointers that it must have. */
  restore(node: RobustNode): void {
    const at = this.#indexOf(node);
    write(node.pointers, PREV, this.#linkAfter(at));
    write(node.pointers, NEXT, this.#linkBefore(at));
  }

  /** `node` has just been unlocked. */
  remove(node: RobustNode): void {
    const at = this.#indexOf(node);
    if (at === this.#held.length - 1) this.#held.pop();
    else this.#held.splice(at, 1);
  }

  /** Takes `node` out of the list, which the C library has refused to do. */
  cut(node: RobustNode): void {
    const at = this.#indexOf(node);
    const [after, before] = [this.#linkAfter(at), this.#linkBefore(at)];
    this.#store(addressOf(after), before);
    // What comes before a `next` is the `prev` beside it; the head has none that is used.
    if (addressOf(before) !== addressOf(this.#head)) {
      this.#store(addressOf(before) - BigInt(POINTER_BYTES), after);
    }
    this.remove(node);
  }

  #indexOf(node: RobustNode): number {
    const last = this.#held.length - 1;
    return this.#held[last] === node ? last : this.#held.lastIndexOf(node);
  }

  /** What leads to the mutex that was locked after the one `at` that index. */
  #linkAfter(at: number): Pointer {
    return at + 1 < this.#held.length ? this.#held[at + 1]!.link : this.#head;
  }

  #linkBefore(at: number): Pointer {
    return at > 0 ? this.#held[at - 1]!.link : this.#end;
  }

  #store(address: bigint, pointer: Pointer): void {
    write(new Uint32Array(this.#ffi.arrayBuffer(address, POINTER_BYTES)), 0, pointer);
  }
}

/** The pointer of a node that has just been locked; `last` if that has not changed. */
function read({ pointers }: RobustNode, at: number, last: Pointer): Pointer {
  const [low, high] = [pointers[at]!, pointers[at + 1]!];
  return low === last.low && high === last.high ? last : { low, high };
}

function write(words: Uint32Array, at: number, { low, high }: Pointer): void {
  // As a rule it is right. The C library reads both words at once, and would wait for two stores to end.
  if (words[at] === low && words[at + 1] === high) return;
  words[at] = low;
  words[at + 1] = high;
}

function pointerOf(address: bigint): Pointer {
  return { low: Number(address & 0xffff_ffffn), high: Number(address >> 32n) };
}

function addressOf({ low, high }: Pointer): bigint {
  return BigInt(high) << 32n | BigInt(low);
}

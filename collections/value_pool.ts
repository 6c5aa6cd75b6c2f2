import type { Bytes } from "../core/view_types.ts";
import { hasCheapBuffers } from "../ffi/mod.ts";

const POOL_BYTES = 65536;
/** Larger values have a buffer of their own. */
const POOLED_MAX = 1024;
/** Up to this length a loop copies faster than `set()`, which needs another view. */
const LOOP_MAX = 128;

/**
 * A value pool copies values into new arrays. V8 takes 150 to 500 ns to allocate the buffer of an array, so there small
 * values share a buffer of 64 KiB, each with bytes of its own.
 */
export class ValuePool {
  private buffer = new ArrayBuffer(0);
  private words = new Int32Array(this.buffer);
  /** The index of the first word that is free. */
  private free = 0;
  declare private readonly most: number;

  constructor() {
    this.most = hasCheapBuffers() ? 0 : POOLED_MAX;
  }

  /** Returns a copy of `length` bytes, which begin at the word `at`. `bytes` and `data` are views of the same memory. */
  copy(bytes: Uint8Array, data: Int32Array, at: number, length: number): Bytes {
    if (length > this.most) return bytes.slice(at << 2, (at << 2) + length) as Bytes;
    const count = length + 3 >> 2;
    if (this.free + count > this.words.length) this.renew();
    const { buffer, words, free } = this;
    this.free = free + (count + 1 & ~1);
    const copy = new Uint8Array(buffer, free << 2, length);
    if (length > LOOP_MAX) copy.set(bytes.subarray(at << 2, (at << 2) + length));
    else for (let i = 0; i < count; i++) words[free + i] = data[at + i]!;
    return copy;
  }

  private renew(): void {
    this.buffer = new ArrayBuffer(POOL_BYTES);
    this.words = new Int32Array(this.buffer);
    this.free = 0;
  }
}

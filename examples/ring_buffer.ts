/**
 * A queue of messages from one process to another, in shared memory: what `producer.ts` and `consumer.ts`
 * use. One process may send and one may receive at a time, neither under a lock.
 *
 * It is a ring: the bytes are used over and over. `written` and `read` count all bytes that were ever
 * written and read, modulo 2^32; where they are in the ring is their remainder by its size. The sender alone
 * changes `written`, when the message lies there whole, and the receiver alone changes `read`, when it has
 * copied it. Each waits for the other by an event, which costs nothing as long as there is no need to wait.
 */
import { Event } from "../sync/mod.ts";

const [WRITTEN, READ, CLOSED] = [0, 1, 2];
/** Where the counts and the bytes begin: after the two events. */
const COUNTS = 2 * Event.BYTES;
const BYTES = COUNTS + 16;
/** Before each message: how long it is. */
const LENGTH_BYTES = 4;

/** Lengths stay whole that way: they never go over the end of the ring. */
function padded(length: number): number {
  return LENGTH_BYTES + Math.ceil(length / 4) * 4;
}

export class RingBuffer {
  readonly #hasMessages: Event;
  readonly #hasRoom: Event;
  readonly #counts: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #lengths: Int32Array;

  private constructor(view: Uint8Array, hasMessages: Event, hasRoom: Event) {
    const { buffer, byteOffset, byteLength } = view;
    this.#hasMessages = hasMessages;
    this.#hasRoom = hasRoom;
    this.#counts = new Int32Array(buffer, byteOffset + COUNTS, 3);
    this.#bytes = new Uint8Array(buffer, byteOffset + BYTES, byteLength - BYTES);
    this.#lengths = new Int32Array(buffer, byteOffset + BYTES, (byteLength - BYTES) / 4);
  }

  /** The bytes that a ring takes which holds `capacity` bytes, a power of 2. */
  static bytesFor(capacity: number): number {
    if (!Number.isInteger(Math.log2(capacity))) throw new RangeError("not a power of 2");
    return BYTES + capacity;
  }

  /** Makes one of all of `view`, whose bytes are 0. */
  static create(view: Uint8Array): RingBuffer {
    return new RingBuffer(view, Event.create(view, 0), Event.create(view, Event.BYTES));
  }

  /** The one that was made in `view`. */
  static at(view: Uint8Array): RingBuffer {
    return new RingBuffer(view, Event.at(view, 0), Event.at(view, Event.BYTES));
  }

  #count(which: number): number {
    return Atomics.load(this.#counts, which);
  }

  /** How many bytes of the ring are in use. */
  get #used(): number {
    return (this.#count(WRITTEN) - this.#count(READ)) >>> 0;
  }

  #position(which: number): number {
    return (this.#count(which) >>> 0) % this.#bytes.length;
  }

  /** Sends a message, and waits for room as long as the ring is full. `false` after `timeout` ms. */
  async send(message: Uint8Array, timeout = Infinity): Promise<boolean> {
    const size = padded(message.length);
    const capacity = this.#bytes.length;
    if (size > capacity) throw new RangeError(`a message has at most ${capacity - 4} bytes`);
    const hasRoom = () => capacity - this.#used >= size;
    if (!await this.#hasRoom.waitUntilAsync(hasRoom, { timeout })) return false;
    const at = this.#position(WRITTEN);
    this.#lengths[at / 4] = message.length;
    const begin = (at + LENGTH_BYTES) % capacity;
    const first = message.subarray(0, capacity - begin);
    this.#bytes.set(first, begin);
    this.#bytes.set(message.subarray(first.length), 0); // what goes over the end
    Atomics.add(this.#counts, WRITTEN, size); // now the receiver may see it
    this.#hasMessages.notify();
    return true;
  }

  /** Says that there are no more messages, and waits until all are taken. `false` after `timeout` ms. */
  async close(timeout = Infinity): Promise<boolean> {
    Atomics.store(this.#counts, CLOSED, 1);
    this.#hasMessages.notify();
    return await this.#hasRoom.waitUntilAsync(() => this.#used === 0, { timeout });
  }

  /**
   * The next message, for which it waits, or `null` if it was closed and all messages are taken. It throws
   * after `timeout` ms: a sender that was killed never closes it.
   */
  async receive(timeout = Infinity): Promise<Uint8Array | null> {
    const isReady = () => this.#used > 0 || this.#count(CLOSED) === 1;
    if (!await this.#hasMessages.waitUntilAsync(isReady, { timeout })) {
      throw new Error(`nothing was sent for ${timeout} ms`);
    }
    if (this.#used === 0) return null;
    const at = this.#position(READ);
    const capacity = this.#bytes.length;
    const message = new Uint8Array(this.#lengths[at / 4]!);
    const begin = (at + LENGTH_BYTES) % capacity;
    const first = this.#bytes.subarray(begin, begin + message.length);
    message.set(first);
    message.set(this.#bytes.subarray(0, message.length - first.length), first.length);
    Atomics.add(this.#counts, READ, padded(message.length)); // now the sender may write over it
    this.#hasRoom.notify();
    return message;
  }
}

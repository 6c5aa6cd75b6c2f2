/**
 * Orders that are counted exactly once, whoever is killed at whatever moment.
 *
 * A client gives each order an id, and sends it again with the same id if it got no answer. A server counts an
 * id that it has not seen, and gives it the next number; of one that it has seen it only repeats the number.
 *
 * What a server changes for that is more than one value, and it may be killed in between. So it first writes
 * down what it is about to do, the journal. While the journal is not whole, nothing has happened; once it
 * is, the order is counted. The mutex tells the next one if its holder was killed, and that one then does what
 * the journal says: values are set, not added to, so that it does not matter how much of it was done already.
 */
import { type Counter, type CounterBlock, Mutex } from "../../sync/mod.ts";

/** An id is remembered until so many newer orders were counted. */
const REMEMBERED = 4096;

// The journal and the remembered orders, in bytes.
const JOURNAL = Mutex.BYTES;
const ENTRY_BYTES = 32;
const ENTRIES = JOURNAL + 2 * ENTRY_BYTES;

// An order: its id in four words, the server, and at byte 24 its number, a float, which is exact to 2^53.
const [SERVER_WORD, NUMBER_BYTES] = [4, 24];
// The journal: an order, whether it is whole, and at byte 40 the server's own count.
const [WHOLE_WORD, OWN_BYTES] = [8, 40];

export interface Order {
  /** 1 for the first one. */
  readonly number: number;
  /** Which server counted it. */
  readonly server: number;
  /** Whether it had been counted before. */
  readonly isRepeated: boolean;
}

export class Orders {
  static readonly BYTES: number = ENTRIES + REMEMBERED * ENTRY_BYTES;
  readonly #mutex: Mutex;
  readonly #journal: Int32Array;
  readonly #entries: Int32Array;
  readonly #floats: Float64Array;
  readonly #block: CounterBlock;
  readonly #total: Counter;
  readonly #repaired: Counter;

  private constructor(view: Uint8Array, block: CounterBlock, mutex: Mutex) {
    const { buffer, byteOffset } = view;
    this.#mutex = mutex;
    this.#journal = new Int32Array(buffer, byteOffset + JOURNAL, 2 * ENTRY_BYTES / 4);
    this.#entries = new Int32Array(buffer, byteOffset + ENTRIES, REMEMBERED * ENTRY_BYTES / 4);
    this.#floats = new Float64Array(buffer, byteOffset, Orders.BYTES / 8);
    this.#block = block;
    this.#total = block.counter("orders");
    this.#repaired = block.counter("repaired");
  }

  static create(view: Uint8Array, block: CounterBlock): Orders {
    return new Orders(view, block, Mutex.create(view, 0));
  }

  static at(view: Uint8Array, block: CounterBlock): Orders {
    return new Orders(view, block, Mutex.at(view, 0));
  }

  /** Counts an order, or finds that it was. `null` if `id` is not a UUID. */
  place(id: string, server: number): Order | null {
    const words = parse(id);
    if (words === null) return null;
    return this.#mutex.withLock((wasAbandoned) => {
      if (wasAbandoned) this.#repair();
      const found = this.#find(words);
      if (found !== null) return found;
      const number = Number(this.#total.get()) + 1;
      this.#write(words, server, number);
      this.#apply();
      return { number, server, isRepeated: false };
    });
  }

  /** The newest first: an order that is sent again is most often one of the last. */
  #find(id: Int32Array): Order | null {
    const count = Number(this.#total.get());
    for (let number = count; number > count - REMEMBERED && number > 0; number--) {
      const entry = entryOf(number);
      const at = entry * ENTRY_BYTES / 4;
      if (id.some((word, i) => this.#entries[at + i] !== word)) continue;
      return { number, server: this.#entries[at + SERVER_WORD]!, isRepeated: true };
    }
    return null;
  }

  /** From the last line on the order is counted, even if this process is killed right there. */
  #write(id: Int32Array, server: number, number: number): void {
    id.forEach((word, i) => Atomics.store(this.#journal, i, word));
    Atomics.store(this.#journal, SERVER_WORD, server);
    this.#floats[(JOURNAL + NUMBER_BYTES) / 8] = number;
    this.#floats[(JOURNAL + OWN_BYTES) / 8] = Number(this.#ofServer(server).get()) + 1;
    Atomics.store(this.#journal, WHOLE_WORD, 1);
  }

  /** Does what the journal says. To do it again changes nothing. */
  #apply(): void {
    const number = this.#floats[(JOURNAL + NUMBER_BYTES) / 8]!;
    const at = entryOf(number) * ENTRY_BYTES;
    for (let i = 0; i <= SERVER_WORD; i++) {
      Atomics.store(this.#entries, at / 4 + i, this.#journal[i]!);
    }
    this.#floats[(ENTRIES + at + NUMBER_BYTES) / 8] = number;
    const own = this.#floats[(JOURNAL + OWN_BYTES) / 8]!;
    this.#ofServer(this.#journal[SERVER_WORD]!).set(own);
    this.#total.set(number);
    Atomics.store(this.#journal, WHOLE_WORD, 0);
  }

  /** After somebody was killed with the mutex held. */
  #repair(): void {
    if (Atomics.load(this.#journal, WHOLE_WORD) === 1) this.#apply();
    this.#repaired.add();
  }

  #ofServer(server: number): Counter {
    return this.#block.counter(`orders ${server}`);
  }
}

function entryOf(number: number): number {
  return (number - 1) % REMEMBERED;
}

/** The four words of a UUID. */
function parse(id: string): Int32Array | null {
  if (!/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(id)) return null;
  const digits = id.replaceAll("-", "");
  return Int32Array.from({ length: 4 }, (_, i) => parseInt(digits.slice(8 * i, 8 * i + 8), 16));
}

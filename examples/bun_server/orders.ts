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
import { f64, i32, layout, type LayoutValue } from "../../collections/mod.ts";
import { type Counter, type CounterBlock, Mutex } from "../../sync/mod.ts";

/** An id is remembered until so many newer orders were counted. */
const REMEMBERED = 4096;

/** An order has its id in four words, and behind it the server. */
const ORDER_WORDS = 5;
const SERVER_WORD = 4;
/** The journal has an order, and behind it whether the journal is whole. */
const WHOLE_WORD = 5;

/** What the orders have in the segment. */
export const ordersShape = layout({
  mutex: Mutex,
  journal: i32(ORDER_WORDS + 1),
  /** The number of the order in the journal and the count of its server: floats, which are exact to 2^53. */
  numbers: f64(2),
  entries: i32(REMEMBERED * ORDER_WORDS),
});

export interface Order {
  /** 1 for the first one. */
  readonly number: number;
  /** Which server counted it. */
  readonly server: number;
  /** Whether it had been counted before. */
  readonly isRepeated: boolean;
}

export class Orders {
  readonly #mutex: Mutex;
  readonly #journal: Int32Array;
  readonly #entries: Int32Array;
  readonly #numbers: Float64Array;
  readonly #block: CounterBlock;
  readonly #total: Counter;
  readonly #repaired: Counter;

  constructor(shared: LayoutValue<typeof ordersShape>, block: CounterBlock) {
    this.#mutex = shared.mutex;
    this.#journal = shared.journal;
    this.#entries = shared.entries;
    this.#numbers = shared.numbers;
    this.#block = block;
    this.#total = block.counter("orders");
    this.#repaired = block.counter("repaired");
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
      const at = entryOf(number);
      if (id.some((word, i) => this.#entries[at + i] !== word)) continue;
      return { number, server: this.#entries[at + SERVER_WORD]!, isRepeated: true };
    }
    return null;
  }

  /** From the last line on the order is counted, even if this process is killed right there. */
  #write(id: Int32Array, server: number, number: number): void {
    id.forEach((word, i) => Atomics.store(this.#journal, i, word));
    Atomics.store(this.#journal, SERVER_WORD, server);
    this.#numbers[0] = number;
    this.#numbers[1] = Number(this.#ofServer(server).get()) + 1;
    Atomics.store(this.#journal, WHOLE_WORD, 1);
  }

  /** Does what the journal says. To do it again changes nothing. */
  #apply(): void {
    const number = this.#numbers[0]!;
    const at = entryOf(number);
    for (let i = 0; i < ORDER_WORDS; i++) Atomics.store(this.#entries, at + i, this.#journal[i]!);
    this.#ofServer(this.#journal[SERVER_WORD]!).set(this.#numbers[1]!);
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

/** Where the entry of an order begins, in words. */
function entryOf(number: number): number {
  return (number - 1) % REMEMBERED * ORDER_WORDS;
}

/** The four words of a UUID. */
function parse(id: string): Int32Array | null {
  if (!/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(id)) return null;
  const digits = id.replaceAll("-", "");
  return Int32Array.from({ length: 4 }, (_, i) => parseInt(digits.slice(8 * i, 8 * i + 8), 16));
}

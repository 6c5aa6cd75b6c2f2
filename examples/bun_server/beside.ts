/**
 * What the servers do beside counting orders, each with a collection in the same segment: prices come from a cache, a
 * mail for each order waits in a queue until a server has time for it, and all servers get the news of each order.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  json,
  layout,
  type LayoutValue,
  SharedMap,
  SharedQueue,
  SharedTopic,
} from "../../collections/mod.ts";
import type { Counter, CounterBlock } from "../../sync/mod.ts";
import type { Order } from "./orders.ts";

/** A mail that was not sent since its server was killed goes to another server. */
interface Mail {
  readonly order: number;
}

const ITEMS = 50;
const PRICE_TTL_MS = 2000;
const MAIL_MS = 2;

export const besideShape = layout({
  prices: SharedMap.of({ bytes: 2 ** 17 }),
  mails: SharedQueue.of<Mail>({ bytes: 2 ** 19, codec: json }),
  news: SharedTopic.of<Order>({ bytes: 2 ** 16, codec: json }),
});

export class Beside {
  readonly #shared: LayoutValue<typeof besideShape>;
  readonly #hits: Counter;
  readonly #misses: Counter;
  readonly #mailed: Counter;

  constructor(shared: LayoutValue<typeof besideShape>, block: CounterBlock) {
    this.#shared = shared;
    this.#hits = block.counter("price hits");
    this.#misses = block.counter("price misses");
    this.#mailed = block.counter("mailed");
  }

  /** The price of what is ordered. It changes from time to time. */
  price(order: number): number {
    const item = `item ${order % ITEMS}`;
    const found = this.#shared.prices.get(item);
    if (typeof found === "number") {
      this.#hits.add();
      return found;
    }
    this.#misses.add();
    const price = 100 + Math.floor(Math.random() * 900); // as from a slow database
    this.#shared.prices.set(item, price, { ttl: PRICE_TTL_MS });
    return price;
  }

  /** To be called once for each order. A queue that is full drops the mail rather than the order. */
  tell(order: Order): void {
    this.#shared.mails.trySend({ order: order.number });
    this.#shared.news.publish(order);
  }

  /** Sends mails until `signal` is aborted. */
  async sendMails(signal: AbortSignal): Promise<void> {
    await this.#shared.mails.work({ concurrency: 4, signal }, async () => {
      await sleep(MAIL_MS);
      this.#mailed.add();
    });
  }

  /** Follows the news until `signal` is aborted, and notes how far this server has come. */
  follow(seen: Counter, signal: AbortSignal): void {
    const { news } = this.#shared;
    seen.set(news.stats().last);
    news.subscribe(({ sequence }) => seen.set(sequence), { signal });
  }

  /** @param seen how far each living server has come with the news */
  summary(seen: readonly number[]) {
    const { mails, news } = this.#shared;
    const { last } = news.stats();
    const [hits, misses] = [Number(this.#hits.get()), Number(this.#misses.get())];
    return {
      mailsWaiting: mails.length,
      mailed: Number(this.#mailed.get()),
      /** How many news the slowest server has not seen yet. */
      lag: Math.max(0, last - Math.min(last, ...seen)),
      /** The part of the prices that the cache had, from 0 to 1; `null` before the first order. */
      hitRate: hits + misses === 0 ? null : hits / (hits + misses),
    };
  }
}

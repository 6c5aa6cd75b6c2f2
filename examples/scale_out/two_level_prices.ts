/**
 * A cache in front of Redis that all processes of a machine share: Redis is asked once by each machine and not by each
 * process, and while a machine has a price, it comes from memory.
 *
 * A change is told to all machines by a channel of Redis. One process of each machine listens to it, whichever holds the
 * lock, which is free at once if that process is killed. It removes the price from the map of the machine, and tells the
 * processes by a topic, since each of them keeps the prices that it has used as objects.
 */
import { layout, SharedMap, SharedTopic, utf8 } from "../../collections/mod.ts";
import { Mutex } from "../../sync/mod.ts";
import type { Redis } from "./libraries.ts";
import type { Found, Prices } from "./stores.ts";

/** What a machine has: if messages are lost, since Redis cannot be reached, a price is at most so old. */
const TTL_MS = 300_000;
const Machine = layout({
  listener: Mutex,
  texts: SharedMap.of({ bytes: 2 ** 20, codec: utf8, ttl: TTL_MS }),
  changes: SharedTopic.of({ bytes: 65_536, codec: utf8 }),
});

const CHANNEL = "prices that have changed";
/** What is published if any price may have changed. */
const ALL = "";
/** What a process keeps. */
const MOST = 10_000;

interface Kept {
  readonly price: number;
  /** When the machine forgets it. */
  readonly until: number;
}

export class TwoLevelPrices implements Prices, Disposable {
  readonly #redis: Redis;
  readonly #machine = Machine.open("scale out: prices of this machine");
  readonly #kept = new Map<string, Kept>();
  readonly #stop = new AbortController();

  constructor(redis: Redis, another: () => Promise<Redis>) {
    this.#redis = redis;
    const { signal } = this.#stop;
    this.#machine.changes.subscribe(({ value, lost }) => {
      if (value === ALL || lost > 0) this.#kept.clear();
      else this.#kept.delete(value);
    }, { signal });
    this.#listen(another).catch((error) => {
      if (!signal.aborted) throw error; // ends the process, and another one listens
    });
  }

  async get(item: string): Promise<Found> {
    const kept = this.#kept.get(item);
    if (kept !== undefined && performance.now() < kept.until) {
      return { price: kept.price, from: "process" };
    }
    const { texts } = this.#machine;
    const near = texts.get(item);
    if (near !== undefined) {
      const price = Number(near);
      const until = performance.now() + (texts.ttl(item) ?? 0);
      // It was removed from the map before the message about that, which is still to come then.
      this.#keep(item, { price, until });
      return { price, from: "machine" };
    }
    // One process asks, the others wait for it. What it gets is not stored if the price has been removed meanwhile.
    const far = await texts.getOrSet(
      item,
      async () => await this.#redis.get(key(item)) ?? undefined,
    );
    return { price: far === undefined ? undefined : Number(far), from: "redis" };
  }

  async set(item: string, price: number): Promise<void> {
    await this.#redis.multi().set(key(item), `${price}`).publish(CHANNEL, item).exec();
    this.#forget(item); // this machine need not wait for the message
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
    this.#machine[Symbol.dispose]();
  }

  #keep(item: string, kept: Kept): void {
    if (this.#kept.size >= MOST) this.#kept.clear();
    this.#kept.set(item, kept);
  }

  #forget(item: string): void {
    this.#kept.delete(item);
    this.#machine.texts.delete(item);
    this.#machine.changes.publish(item);
  }

  #forgetAll(): void {
    this.#kept.clear();
    this.#machine.texts.clear();
    this.#machine.changes.publish(ALL);
  }

  /** Listens for the whole machine, as soon as no other process does. */
  async #listen(another: () => Promise<Redis>): Promise<void> {
    const { signal } = this.#stop;
    await this.#machine.listener.lockAsync({ signal });
    const subscriber = await another();
    signal.addEventListener("abort", () => subscriber.destroy());
    await subscriber.subscribe(CHANNEL, (item) => this.#forget(item));
    this.#forgetAll(); // nobody has listened since the process before
    subscriber.on("ready", () => this.#forgetAll()); // nor while the connection was lost
  }
}

function key(item: string): string {
  return `prices:${item}`;
}

/**
 * The same stores in Redis or Valkey, for any number of machines: those of the libraries, and a list and a channel where
 * they have none. A product would take BullMQ or NATS JetStream for the jobs: this list knows no delays and no priorities.
 */
import { setTimeout as pause } from "node:timers/promises";
import { createClient, flexible, Keyv, KeyvRedis, type Redis, RedisStore } from "./libraries.ts";
import type { Job, Jobs, Mail, News, Stores, Topic } from "./stores.ts";
import { ATTEMPTS, MAILS, tellFailed } from "./stores.ts";
import { TwoLevelPrices } from "./two_level_prices.ts";

/** A worker that was silent for so long is taken for dead, also if its event loop was only busy. */
const LEASE_MS = 5000;

/** Says what is wrong; the client connects again by itself. */
export function tell(error: unknown): void {
  console.error(`Redis: ${(error as Error).message}`);
}

/** Another connection, for commands that wait. */
export async function another(redis: Redis): Promise<Redis> {
  const connection = redis.duplicate();
  connection.on("error", tell);
  await connection.connect();
  return connection;
}

/**
 * A list of jobs, and one for each worker with the job that it has taken. Both change in one step, so no job is lost. The
 * lists of workers whose lease has run out are emptied by the others.
 */
class RedisJobs<Value> implements Jobs<Value> {
  readonly #redis: Redis;
  readonly #list: string;
  readonly #workers: string;
  readonly #attempts: string;

  constructor(redis: Redis, list: string) {
    this.#redis = redis;
    this.#list = list;
    this.#workers = `${list}:workers`;
    this.#attempts = `${list}:attempts`;
  }

  async send(value: Value): Promise<void> {
    await this.#redis.lPush(this.#list, JSON.stringify({ id: crypto.randomUUID(), value }));
  }

  async work(fn: (job: Job<Value>) => Promise<void>, signal: AbortSignal): Promise<void> {
    const worker = crypto.randomUUID();
    const own = this.#running(worker);
    const waiting = await another(this.#redis);
    await this.#renew(worker);
    const timer = setInterval(() => {
      this.#renew(worker).then(() => this.#takeOver()).catch(tell);
    }, LEASE_MS / 5);
    while (!signal.aborted) {
      try {
        await this.#giveBack(own); // what came with an answer that was lost
        const text = await waiting.blMove(this.#list, own, "RIGHT", "LEFT", 1);
        if (text !== null) await this.#run(text, own, fn);
      } catch (error) {
        tell(error);
        await pause(100);
      }
    }
    clearInterval(timer);
    waiting.destroy();
    await this.#giveBack(own); // if the last answer was lost
    await this.#redis.multi().sRem(this.#workers, worker).del(this.#lease(worker)).exec();
  }

  #running(worker: string): string {
    return `${this.#list}:running:${worker}`;
  }

  #lease(worker: string): string {
    return `${this.#list}:lease:${worker}`;
  }

  async #renew(worker: string): Promise<void> {
    const options = { PX: LEASE_MS };
    await this.#redis.multi().sAdd(this.#workers, worker).set(this.#lease(worker), "", options)
      .exec();
  }

  async #run(text: string, own: string, fn: (job: Job<Value>) => Promise<void>): Promise<void> {
    const { id, value } = JSON.parse(text) as { id: string; value: Value };
    const attempt = await this.#redis.hIncrBy(this.#attempts, id, 1);
    const end = this.#redis.multi().lRem(own, 1, text);
    let isOver = true;
    try {
      if (attempt > ATTEMPTS) throw new Error("its workers were killed");
      await fn({ id, value, attempt });
    } catch (error) {
      tellFailed(error, id, attempt);
      isOver = attempt >= ATTEMPTS;
      end.lPush(isOver ? `${this.#list}:failed` : this.#list, text);
    }
    if (isOver) end.hDel(this.#attempts, id);
    await end.exec();
  }

  /** Puts the jobs of workers back that are silent. */
  async #takeOver(): Promise<void> {
    for (const worker of await this.#redis.sMembers(this.#workers)) {
      if (await this.#redis.exists(this.#lease(worker)) > 0) continue;
      await this.#giveBack(this.#running(worker));
      await this.#redis.multi().sRem(this.#workers, worker).exec();
      // It has renewed its lease meanwhile: its next job must be found too.
      if (await this.#redis.exists(this.#lease(worker)) > 0) {
        await this.#redis.multi().sAdd(this.#workers, worker).exec();
      }
    }
  }

  /** They come before all others. */
  async #giveBack(list: string): Promise<void> {
    while (await this.#redis.lMove(list, this.#list, "LEFT", "RIGHT") !== null);
  }
}

/** A channel, which brings a message to those that are connected at that moment. */
function topicOf<Value>(redis: Redis, subscriber: Redis, channel: string): Topic<Value> {
  return {
    publish: async (value) => void await redis.publish(channel, JSON.stringify(value)),
    subscribe: (callback) =>
      subscriber.subscribe(channel, (text) => callback(JSON.parse(text) as Value)),
  };
}

export async function open(url: string): Promise<Stores> {
  const redis = createClient({ url });
  redis.on("error", tell);
  await redis.connect();
  const subscriber = await another(redis);
  const prices = new TwoLevelPrices(redis, () => another(redis));
  return {
    cache: new Keyv({ store: new KeyvRedis(redis), namespace: "pages" }),
    sessions: new RedisStore({ client: redis, prefix: "sessions:" }),
    limiter: new flexible.RateLimiterRedis({
      storeClient: redis,
      useRedisPackage: true, // and not ioredis
      ...MAILS,
    }),
    mails: new RedisJobs<Mail>(redis, "mails"),
    news: topicOf<News>(redis, subscriber, "news"),
    prices,
    close() {
      prices[Symbol.dispose]();
      for (const connection of [subscriber, redis]) connection.destroy();
    },
  };
}

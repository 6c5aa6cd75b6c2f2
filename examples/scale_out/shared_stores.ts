/** The stores in the memory of one machine: no server, and nothing that crosses a network. */
import { sharedSessionStore } from "../../adapters/express_session.ts";
import { KeyvStore } from "../../adapters/keyv.ts";
import { sharedRateLimiter } from "../../adapters/rate_limiter_flexible.ts";
import { json, SharedMap, SharedQueue, SharedTopic } from "../../collections/mod.ts";
import { flexible, Keyv, session } from "./libraries.ts";
import type { Jobs, Mail, News, Stores } from "./stores.ts";
import { ATTEMPTS, MAILS, tellFailed } from "./stores.ts";

const MIB = 2 ** 20;

function jobsOf(queue: SharedQueue<Mail>): Jobs<Mail> {
  return {
    send: (mail) => queue.sendAsync(mail),
    work(fn, signal) {
      const onError = (error: unknown, job: { id: number; attempt: number }) =>
        tellFailed(error, `${job.id}`, job.attempt);
      return queue.work(
        { signal, onError },
        ({ id, value, attempt }) => fn({ id: `${id}`, value, attempt }),
      );
    },
  };
}

export function open(): Stores {
  const cache = new KeyvStore("scale out: pages", { bytes: 16 * MIB });
  const SharedStore = sharedSessionStore(session);
  const sessions = new SharedStore("scale out: sessions", { bytes: 16 * MIB });
  const RateLimiterShared = sharedRateLimiter(flexible);
  const points = SharedMap.open("scale out: points", { bytes: MIB, evict: "none" });
  const mails = SharedQueue.open<Mail>("scale out: mails", {
    bytes: MIB,
    codec: json,
    maxAttempts: ATTEMPTS,
  });
  const news = SharedTopic.open<News>("scale out: news", { bytes: MIB, codec: json });
  const prices = SharedMap.open<number>("scale out: prices", { bytes: MIB, codec: json });
  const all = [cache, sessions, points, mails, news, prices];
  return {
    cache: new Keyv({ store: cache, namespace: "pages" }),
    sessions,
    limiter: new RateLimiterShared({ storeClient: points, ...MAILS }),
    mails: jobsOf(mails),
    news: {
      publish: async (value) => void await news.publishAsync(value),
      subscribe: (callback) => {
        news.subscribe(({ value }) => callback(value));
        return Promise.resolve();
      },
    },
    prices: {
      get: (item) => Promise.resolve({ price: prices.get(item), from: "machine" }),
      set: (item, price) => Promise.resolve(void prices.set(item, price)),
    },
    close() {
      for (const one of all) one[Symbol.dispose]();
    },
  };
}

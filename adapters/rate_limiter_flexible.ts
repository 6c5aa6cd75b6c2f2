/**
 * This module makes a limiter of [rate-limiter-flexible](https://github.com/animir/node-rate-limiter-flexible) whose
 * points are in a {@linkcode SharedMap}, for all processes of a machine. It imports nothing of the library: the program
 * passes it.
 *
 * @example
 * ```ts ignore
 * import * as flexible from "rate-limiter-flexible";
 * import { SharedMap } from "../collections/mod.ts";
 * import { sharedRateLimiter } from "./rate_limiter_flexible.ts";
 *
 * const RateLimiterShared = sharedRateLimiter(flexible);
 * const limiter = new RateLimiterShared({
 *   storeClient: SharedMap.open("points", { bytes: 2 ** 24, evict: "none" }),
 *   points: 100,
 *   duration: 60, // seconds
 * });
 * await limiter.consume("192.0.2.1");
 * ```
 *
 * @module
 */
import type { SharedMap } from "../collections/shared_map.ts";

/** What this module needs of the library. */
export interface RateLimiterLibrary<Base> {
  /**
   * The class that the limiter extends: of the classes for a store that the library exports, the one that adds the least
   * to their common base, which the library does not export.
   */
  readonly RateLimiterMemcache: Base;
}

/** What the base class asks of a store, and what it calls with it. */
interface Stored {
  readonly consumedPoints: number;
  /** -1 if they never expire. */
  readonly msBeforeNext: number;
}

/** The map, of which only numbers are used. */
type Points = Pick<SharedMap<unknown>, "get" | "set" | "incr" | "delete" | "ttl">;

/** The base class, as far as this module knows it. */
type Limiter = new (options: object) => { client: Points };

function storedOf(map: Points, key: string, consumedPoints: number): Stored {
  const ttl = map.ttl(key) ?? 0; // it has expired just now
  return { consumedPoints, msBeforeNext: ttl === Infinity ? -1 : Math.ceil(ttl) };
}

/**
 * Returns a class of limiters with all that the library's limiters for a store have, whose option `storeClient` is a
 * {@linkcode SharedMap}. A `consume()` is one step of the map, so that processes that consume at the same time never get
 * more points than there are.
 *
 * @param library `import * as flexible from "rate-limiter-flexible"`
 */
export function sharedRateLimiter<Base extends new (options: never) => object>(
  { RateLimiterMemcache }: RateLimiterLibrary<Base>,
): Base {
  const Store = RateLimiterMemcache as unknown as Limiter;
  class RateLimiterShared extends Store {
    /** Adds points, or sets them; `-points` gives them back. */
    // deno-lint-ignore require-await -- what it throws is to reject the promise
    async _upsert(key: string, points: number, ms: number, isSet = false): Promise<Stored> {
      const ttl = ms > 0 ? ms : Infinity;
      if (!isSet) return storedOf(this.client, key, this.client.incr(key, points, { ttl }));
      this.client.set(key, points, { ttl });
      return { consumedPoints: points, msBeforeNext: ms > 0 ? ms : -1 };
    }

    // deno-lint-ignore require-await -- see _upsert()
    async _get(key: string): Promise<Stored | null> {
      const points = this.client.get(key);
      return typeof points === "number" ? storedOf(this.client, key, points) : null;
    }

    // deno-lint-ignore require-await -- see _upsert()
    async _delete(key: string): Promise<boolean> {
      return this.client.delete(key);
    }
  }
  return RateLimiterShared as unknown as Base;
}

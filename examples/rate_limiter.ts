/**
 * A limit of requests per client that holds for all processes together, with one number of 64 bits for each
 * client and no lock: what `rate_limited_server.ts` and `bun_server/` use.
 *
 * The number is the time at which the client's allowance will be whole again (the "generic cell rate
 * algorithm"). Each request moves it on by one interval, and is refused if it would get further ahead of now than
 * `burst` intervals. A compare-and-swap moves it: of two processes that do so at once, one looks again.
 * A process that is killed at any moment leaves the number as it was before or after.
 */
export class RateLimiter {
  readonly #times: BigInt64Array;
  readonly #interval: bigint;
  readonly #burst: bigint;

  /**
   * @param times shared, zeros at first. A client's place is a hash of its name, so that memory is bounded
   * whoever comes; two clients with the same place share one allowance: take many more than there are clients
   */
  constructor(times: BigInt64Array, options: { perSecond: number; burst: number }) {
    this.#times = times;
    this.#interval = BigInt(Math.round(1e6 / options.perSecond)); // in microseconds
    this.#burst = BigInt(options.burst) * this.#interval;
  }

  /** 0 if the request may go on, and otherwise how many ms the client should wait before the next one. */
  take(client: string): number {
    const place = hash(client) % this.#times.length;
    for (;;) {
      // Not performance.now(), which begins anew in each process.
      const now = BigInt(Date.now()) * 1000n;
      const before = Atomics.load(this.#times, place);
      const whole = before < now ? now : before;
      const ahead = whole + this.#interval - now;
      // Never further ahead than a refusal can have left it: somebody has set the clock back.
      const isFromFuture = whole - now > this.#burst;
      if (ahead > this.#burst && !isFromFuture) {
        return Number((ahead - this.#burst + 999n) / 1000n);
      }
      const after = (isFromFuture ? now : whole) + this.#interval;
      if (Atomics.compareExchange(this.#times, place, before, after) === before) return 0;
    }
  }
}

/** FNV-1a of 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) {
    value = Math.imul(value ^ byte, 0x01000193);
  }
  return value >>> 0;
}

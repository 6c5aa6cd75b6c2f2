/** Random calls of a rate limiter return what a leaky bucket for each name does, which counts in whole ticks. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import type { RateLimiter, TakeResult } from "../../collections/mod.ts";
import { Random } from "../../scripts/random.ts";
import { openLimiter, type Options } from "../support/limiters.ts";
import { ManualClock, withClock } from "../support/maps.ts";
import { leaveNothingBehind, slow } from "../support/support.ts";

/** The same calls again with `MODEL_SEED=…`, which a failure names. */
const SEED = Number(process.env["MODEL_SEED"] ?? 20261129);
const CALLS = 60_000;
const TICKS = 65536n;

const NAMES: readonly (string | Uint8Array)[] = [
  ...Array.from({ length: 60 }, (_, i) => `192.0.2.${i}`),
  ...Array.from({ length: 30 }, (_, i) => `имя ${i} 鍵 🔑`),
  ...["", "\0", "\0\0", "\ufffd", "\ud800", "\udc00", "x".repeat(900), "é".repeat(400)],
  ...[[], [0], [0, 0], [49, 57, 50], [239, 191, 189]].map((bytes) => Uint8Array.from(bytes)),
];

/** What a name has used, in ticks, at some tick; and what it was allowed since its allowance was whole the last time. */
interface Bucket {
  used: bigint;
  at: bigint;
  allowed: [tick: bigint, cost: number][];
}

class Model {
  readonly #interval: bigint;
  readonly #burst: bigint;
  readonly #buckets = new Map<number, Bucket>();

  constructor({ limit, window, burst = limit }: Options) {
    this.#interval = (BigInt(window) * TICKS + BigInt(limit) - 1n) / BigInt(limit);
    this.#burst = BigInt(burst);
  }

  #bucket(name: number, tick: bigint): Bucket {
    let bucket = this.#buckets.get(name);
    if (bucket === undefined) {
      this.#buckets.set(name, bucket = { used: 0n, at: tick, allowed: [] });
    }
    const used = bucket.used - (tick - bucket.at);
    bucket.used = used > 0n ? used : 0n;
    bucket.at = tick;
    if (bucket.used === 0n) bucket.allowed = [];
    return bucket;
  }

  isWhole(name: number, tick: bigint): boolean {
    return this.#bucket(name, tick).used === 0n;
  }

  reset(name: number, tick: bigint): boolean {
    const wasUsed = !this.isWhole(name, tick);
    this.#buckets.delete(name);
    return wasUsed;
  }

  take(name: number, cost: number, tick: bigint, isTaken = true): TakeResult {
    const bucket = this.#bucket(name, tick);
    const most = this.#burst * this.#interval;
    const after = bucket.used + BigInt(cost) * this.#interval;
    const allowed = after <= most;
    if (allowed && isTaken) {
      bucket.used = after;
      if (cost > 0) this.#note(bucket, cost, tick);
    }
    const wait = BigInt(cost) > this.#burst
      ? Infinity
      : Number((after - most + TICKS - 1n) / TICKS);
    return {
      allowed,
      remaining: Number((most - bucket.used) / this.#interval),
      retryAfter: allowed ? 0 : wait,
    };
  }

  /** In no period was the name allowed more than the burst and what has come back. */
  #note({ allowed }: Bucket, cost: number, tick: bigint): void {
    allowed.push([tick, cost]);
    let sum = 0n;
    for (const [from, cost] of allowed.toReversed()) {
      sum += BigInt(cost);
      assert.ok((sum - this.#burst) * this.#interval <= tick - from);
    }
  }
}

/** Makes random calls of both; returns how often there was no room. */
function compare(
  limiter: RateLimiter,
  options: Options,
  clock: ManualClock,
  calls: number,
): number {
  const random = new Random(SEED);
  const model = new Model(options);
  const { limit, window, burst = limit, whenFull } = options;
  const interval = window / limit;
  let noRoom = 0;
  for (let i = 0; i < calls; i++) {
    if (random.chance(0.3)) clock.time += random.number() * interval * (random.chance(0.1) ? 9 : 1);
    if (random.chance(0.001)) clock.time += 2 * burst * interval;
    const tick = BigInt(Math.floor(clock.time * Number(TICKS)));
    // More takes of the first names, so that they are refused too.
    const number = Math.floor(NAMES.length * random.number() ** 3);
    const name = NAMES[number]!;
    const text = `MODEL_SEED=${SEED}, call ${i}, name ${number}`;
    const job = random.below(20);
    if (job === 0) {
      assert.equal(limiter.reset(name), model.reset(number, tick), text);
    } else if (job < 5) {
      assert.deepEqual(limiter.peek(name), model.take(number, 1, tick, false), text);
    } else {
      const cost = random.chance(0.8) ? 1 : random.below(burst + 2);
      const wasWhole = model.isWhole(number, tick);
      const result = limiter.take(name, cost);
      if (limiter.stats().noRoom === noRoom) {
        assert.deepEqual(result, model.take(number, cost, tick), text);
        continue;
      }
      noRoom++;
      assert.ok(wasWhole, `${text}: a name that has an entry needs no room`);
      const expected = whenFull === "allow"
        ? { allowed: true, remaining: burst - cost, retryAfter: 0 }
        : { allowed: false, remaining: 0, retryAfter: Math.ceil(interval) };
      assert.deepEqual(result, expected, text);
    }
  }
  return noRoom;
}

describe("random calls of a rate limiter", () => {
  leaveNothingBehind();

  const rules: Pick<Options, "limit" | "window" | "burst">[] = [
    { limit: 3, window: 1000 },
    { limit: 100, window: 60_000, burst: 7 },
    { limit: 7, window: 13, burst: 50 },
    { limit: 1, window: 86_400_000, burst: 2 },
    { limit: 1_000_000, window: 1000, burst: 5 },
  ];
  for (const rule of rules) {
    const text = `${rule.limit} in ${rule.window} ms, ${rule.burst ?? rule.limit} at once`;
    test(`return what a leaky bucket does: ${text}`, slow, () => {
      const clock = new ManualClock();
      withClock(clock, () => {
        const options = { ...rule, keys: 1000 };
        using place = openLimiter(options);
        assert.equal(compare(place.limiter, options, clock, CALLS), 0);
      });
    });
  }

  for (const whenFull of ["refuse", "allow"] as const) {
    test(`do so in a full limiter, if new names are met by "${whenFull}"`, slow, () => {
      const clock = new ManualClock();
      withClock(clock, () => {
        const options = { limit: 3, window: 1000, keys: 30, keyBytes: 1, whenFull };
        using place = openLimiter(options);
        const noRoom = compare(place.limiter, options, clock, CALLS);
        assert.ok(noRoom > 100 && noRoom < CALLS / 4, `${noRoom}`);
      });
    });
  }
});

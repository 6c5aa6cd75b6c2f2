/** The limiter for rate-limiter-flexible: what its documentation says of limiters with a store. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sharedRateLimiter } from "../../adapters/rate_limiter_flexible.ts";
import { SharedMap, type SharedMapOpenOptions } from "../../collections/mod.ts";
import { librariesFolder, library, needsLibraries, startImporting } from "../support/libraries.ts";
import { endAll, leaveNothingBehind, runtimes, slow, uniqueKey } from "../support/support.ts";

const flexible = library("rate-limiter-flexible");
const adapter = new URL("../../adapters/rate_limiter_flexible.ts", import.meta.url).href;
const pause = () => new Promise((resolve) => setTimeout(resolve, 1));

/** What a limiter resolves or rejects with. */
interface Result {
  readonly remainingPoints: number;
  readonly consumedPoints: number;
  readonly msBeforeNext: number;
  readonly isFirstInDuration: boolean;
}

// deno-lint-ignore no-explicit-any
type Limiter = any;

/** Calls `body` with a limiter of these options, whose points are in a map of its own. */
async function withLimiter(
  options: object,
  body: (limiter: Limiter, points: SharedMap) => Promise<void>,
  open: Partial<SharedMapOpenOptions<Uint8Array>> = {},
): Promise<void> {
  const RateLimiterShared = sharedRateLimiter<new (options: object) => Limiter>(flexible);
  using points = SharedMap.open(uniqueKey(), { bytes: 2 ** 18, evict: "none", ...open });
  await body(new RateLimiterShared({ storeClient: points, ...options }), points);
}

/** What a promise rejects with, which is a result and no error. */
async function refused(promise: Promise<Result>): Promise<Result> {
  const result = await promise.then(() => assert.fail("it was allowed"), (reason) => reason);
  assert.ok(result instanceof flexible.RateLimiterRes, String(result));
  return result;
}

const options = { ...slow, ...needsLibraries };

describe("rate-limiter-flexible with points in shared memory", options, () => {
  leaveNothingBehind();

  test("consumes points until there are none, and says how long to wait", () =>
    withLimiter({ points: 3, duration: 60 }, async (limiter) => {
      const first: Result = await limiter.consume("a");
      assert.deepEqual(
        [first.consumedPoints, first.remainingPoints, first.isFirstInDuration],
        [1, 2, true],
      );
      assert.ok(first.msBeforeNext > 50_000 && first.msBeforeNext <= 60_000);
      const second: Result = await limiter.consume("a", 2);
      assert.deepEqual(
        [second.consumedPoints, second.remainingPoints, second.isFirstInDuration],
        [3, 0, false],
      );
      const third = await refused(limiter.consume("a"));
      assert.deepEqual([third.consumedPoints, third.remainingPoints], [4, 0]);
      assert.ok(third.msBeforeNext > 50_000 && third.msBeforeNext <= 60_000);
      assert.equal((await limiter.consume("b")).consumedPoints, 1, "another key has its own");
    }));

  test("begins anew after its duration", () =>
    withLimiter({ points: 1, duration: 60 }, async (limiter, points) => {
      await limiter.consume("a");
      await refused(limiter.consume("a"));
      assert.ok(points.ttl("rlflx:a")! > 50_000);
      points.expire("rlflx:a", 1);
      while (await limiter.get("a") !== null) await pause();
      assert.equal((await limiter.consume("a")).isFirstInDuration, true);
    }));

  test("gets, deletes, sets, and has nothing of a key that has consumed nothing", () =>
    withLimiter({ points: 5, duration: 60 }, async (limiter) => {
      assert.equal(await limiter.get("a"), null);
      assert.equal(await limiter.delete("a"), false);
      await limiter.consume("a", 2);
      const got: Result = await limiter.get("a");
      assert.deepEqual([got.consumedPoints, got.remainingPoints], [2, 3]);
      assert.equal(await limiter.delete("a"), true);
      assert.equal(await limiter.get("a"), null);
      await limiter.set("a", 5, 30);
      const set: Result = await limiter.get("a");
      assert.equal(set.consumedPoints, 5);
      assert.ok(set.msBeforeNext > 20_000 && set.msBeforeNext <= 30_000);
      await refused(limiter.consume("a"));
    }));

  test("takes points away as a penalty, and gives them back as a reward", () =>
    withLimiter({ points: 3, duration: 60 }, async (limiter) => {
      assert.equal((await limiter.penalty("a", 2)).consumedPoints, 2);
      assert.equal((await limiter.reward("a")).consumedPoints, 1);
      assert.equal((await limiter.reward("b", 4)).remainingPoints, 7);
      assert.equal((await limiter.consume("a", 2)).remainingPoints, 0);
    }));

  test("never lets points expire whose duration is 0", () =>
    withLimiter({ points: 2, duration: 0 }, async (limiter, points) => {
      assert.equal((await limiter.consume("a")).msBeforeNext, -1);
      assert.equal(points.ttl("rlflx:a"), Infinity);
      await limiter.block("b", 0);
      assert.equal((await limiter.get("b")).msBeforeNext, -1);
    }));

  test("takes the duration of a call in place of its own", () =>
    withLimiter({ points: 2, duration: 60 }, async (limiter) => {
      const { msBeforeNext }: Result = await limiter.consume("a", 1, { customDuration: 600 });
      assert.ok(msBeforeNext > 590_000 && msBeforeNext <= 600_000);
    }));

  test("blocks a key when told, and when it has consumed too much", () =>
    withLimiter({ points: 1, duration: 60, blockDuration: 600 }, async (limiter) => {
      await limiter.block("a", 300);
      const blocked = await refused(limiter.consume("a"));
      assert.ok(blocked.msBeforeNext > 290_000 && blocked.msBeforeNext <= 300_000);
      await limiter.consume("b");
      assert.equal((await refused(limiter.consume("b"))).msBeforeNext, 600_000);
      assert.ok((await limiter.get("b")).msBeforeNext > 590_000);
    }));

  test("blocks in its process what it then no longer asks the map for", () =>
    withLimiter(
      { points: 1, duration: 60, inMemoryBlockOnConsumed: 2, inMemoryBlockDuration: 60 },
      async (limiter, points) => {
        await limiter.consume("a");
        await refused(limiter.consume("a"));
        await refused(limiter.consume("a"));
        assert.equal(points.get("rlflx:a") as unknown, 2);
      },
    ));

  test("puts its prefix in front of its keys", () =>
    withLimiter({ points: 1, duration: 60, keyPrefix: "login" }, async (limiter, points) => {
      await limiter.consume("a");
      assert.deepEqual([...points.keys()], ["login:a"]);
    }));

  test("works in a union, and in a queue", () =>
    withLimiter({ points: 2, duration: 60, keyPrefix: "minute" }, async (limiter, points) => {
      const RateLimiterShared = sharedRateLimiter<new (options: object) => Limiter>(flexible);
      const strict = new RateLimiterShared({ storeClient: points, points: 1, duration: 60 });
      const union = new flexible.RateLimiterUnion(limiter, strict);
      assert.equal((await union.consume("a")).minute.remainingPoints, 1);
      await assert.rejects(union.consume("a"), (results: Record<string, Result>) => {
        assert.equal(results["rlflx"]!.consumedPoints, 2);
        return true;
      });
      const queue = new flexible.RateLimiterQueue(limiter);
      assert.equal(await queue.removeTokens(1), 1);
    }));

  test("asks its insurance when the map is full, or gone", () =>
    withLimiter({ points: 2, duration: 60 }, async (limiter, points) => {
      const fill = async () => {
        for (let i = 0;; i++) await limiter.consume(`key ${i}`);
      };
      await assert.rejects(fill(), { code: "Full" });
      limiter.insuranceLimiter = new flexible.RateLimiterMemory({ points: 1, duration: 60 });
      assert.equal((await limiter.consume("new")).remainingPoints, 0);
      await refused(limiter.consume("new"));
      assert.equal((await limiter.consume("key 0")).remainingPoints, 0, "which is in the map");
      points[Symbol.dispose]();
      assert.equal((await limiter.consume("another")).remainingPoints, 0);
    }, { bytes: 2 ** 14 }));

  test("allows processes of all runtimes together no more than there is", async () => {
    const key = uniqueKey();
    using points = SharedMap.open(key, { bytes: 2 ** 18, evict: "none" });
    const agents = runtimes.map((runtime) => startImporting(runtime, ["--allow-env"]));
    const allowed = await Promise.all(agents.map((agent) =>
      agent.run(`
        const { createRequire } = await import("node:module");
        const { sharedRateLimiter } = await import(${JSON.stringify(adapter)});
        const require = createRequire(${JSON.stringify(`${librariesFolder}package.json`)});
        const RateLimiterShared = sharedRateLimiter(require("rate-limiter-flexible"));
        using storeClient = collections.SharedMap.open(${JSON.stringify(key)}, {
          bytes: 2 ** 18, evict: "none",
        });
        const limiter = new RateLimiterShared({ storeClient, points: 1000, duration: 600 });
        let allowed = 0;
        for (let i = 0; i < 1000; i++) {
          await limiter.consume("all").then(() => allowed++, () => {});
        }
        return allowed;`)
    ));
    assert.equal(allowed.reduce((sum, count) => sum + count, 0), 1000);
    assert.equal(points.get("rlflx:all") as unknown, 1000 * runtimes.length);
    await endAll(agents);
  });
});

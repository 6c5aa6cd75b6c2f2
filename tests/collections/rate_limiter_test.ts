/** What a rate limiter allows, what it says about it, and what it refuses to be told. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import {
  RateLimiter,
  type RateLimiterOptions,
  SharedMap,
  type SyncError,
} from "../../collections/mod.ts";
import type { MapCore } from "../../collections/map_core.ts";
import { EXPIRY } from "../../collections/map_record.ts";
import { AccessMode, SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import { openLimiter, type Options } from "../support/limiters.ts";
import { ManualClock, withClock } from "../support/maps.ts";
import {
  inTime,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  startAgent,
  stop,
  uniqueKey,
  until,
} from "../support/support.ts";

/** The same stores again with `MODEL_SEED=…`, which a failure names. */
const SEED = Number(process.env["MODEL_SEED"] ?? 4711);
const RULE = { limit: 10, window: 1000 };
const OPTIONS = { ...RULE, keys: 20 };

/** Calls `body` with a limiter and the clock that it reads. */
function withLimiter(
  options: Options,
  body: (
    limiter: RateLimiter,
    clock: ManualClock,
    join: (o: RateLimiterOptions) => RateLimiter,
  ) => void,
): void {
  const clock = new ManualClock();
  withClock(clock, () => {
    using place = openLimiter(options);
    body(place.limiter, clock, place.join);
  });
}

/** Takes from new names until there is no room; returns how many had some. */
function fill(limiter: RateLimiter, prefix: string, cost: number): number {
  for (let i = 0;; i++) {
    limiter.take(`${prefix} ${i}`, cost);
    if (limiter.stats().noRoom > 0) return i;
  }
}

describe("a rate limiter", () => {
  leaveNothingBehind();

  test("allows the burst at once, and then what comes back evenly", () => {
    withLimiter({ ...OPTIONS, burst: 3 }, (limiter, clock) => {
      for (const remaining of [2, 1, 0]) {
        assert.deepEqual(limiter.take("ada"), { allowed: true, remaining, retryAfter: 0 });
      }
      assert.deepEqual(limiter.take("ada"), { allowed: false, remaining: 0, retryAfter: 100 });
      clock.time += 60.5;
      assert.deepEqual(limiter.take("ada"), { allowed: false, remaining: 0, retryAfter: 40 });
      assert.deepEqual(limiter.take("ada", 2), { allowed: false, remaining: 0, retryAfter: 140 });
      clock.time += 40;
      assert.deepEqual(limiter.take("ada"), { allowed: true, remaining: 0, retryAfter: 0 });
      clock.time += 1e6;
      assert.deepEqual(limiter.take("ada", 3), { allowed: true, remaining: 0, retryAfter: 0 });
    });
  });

  test("allows the cost that it refused after the time that it has told", () => {
    const rule = { limit: 7, window: 1000, burst: 5, keys: 20 };
    withLimiter(rule, (limiter, clock) => {
      for (let i = 0; i < 200; i++) {
        const cost = 1 + i % 5;
        const { allowed, retryAfter } = limiter.take("ada", cost);
        if (allowed) continue;
        clock.time += retryAfter - 1;
        assert.equal(limiter.take("ada", cost).allowed, false);
        clock.time++;
        assert.equal(limiter.take("ada", cost).allowed, true);
      }
    });
  });

  test("takes all of a cost or nothing, nothing for 0, and never more than the burst", () => {
    withLimiter(OPTIONS, (limiter) => {
      assert.deepEqual(limiter.take("ada", 0), { allowed: true, remaining: 10, retryAfter: 0 });
      const never = { allowed: false, remaining: 10, retryAfter: Infinity };
      assert.deepEqual(limiter.take("ada", 11), never);
      assert.deepEqual(limiter.take("ada", Number.MAX_SAFE_INTEGER), never);
      assert.equal(limiter.stats().names, 0, "nothing was used");
      assert.equal(limiter.take("ada", 8).remaining, 2);
      assert.deepEqual(limiter.take("ada", 3), { allowed: false, remaining: 2, retryAfter: 100 });
      assert.equal(limiter.take("ada", 2).remaining, 0);
      assert.deepEqual(limiter.take("ada", 0), { allowed: true, remaining: 0, retryAfter: 0 });
    });
  });

  test("keeps the allowances of all names apart", () => {
    using place = openLimiter({ limit: 3, window: 1e9, keys: 5000 });
    const { limiter } = place;
    const names = [
      ...Array.from({ length: 3000 }, (_, i) => `${i}`),
      ...["", "é", "e\u0301", "\ud800", "\ufffd", "ключ", "鍵", "🔑", "a\0", "a", "x".repeat(5000)],
      Uint8Array.of(48),
      Uint8Array.of(),
    ];
    for (const remaining of [2, 1, 0]) {
      for (const name of names) {
        assert.deepEqual(limiter.take(name), { allowed: true, remaining, retryAfter: 0 });
      }
    }
    for (const name of names) assert.equal(limiter.take(name).allowed, false);
    assert.equal(limiter.stats().names, names.length);
  });

  test("shows with peek() what take() would return, and takes nothing", () => {
    withLimiter(OPTIONS, (limiter, clock) => {
      assert.deepEqual(limiter.peek("ada"), { allowed: true, remaining: 10, retryAfter: 0 });
      limiter.take("ada", 9);
      for (let i = 0; i < 3; i++) {
        assert.deepEqual(limiter.peek("ada"), { allowed: true, remaining: 1, retryAfter: 0 });
      }
      limiter.take("ada");
      assert.deepEqual(limiter.peek("ada"), { allowed: false, remaining: 0, retryAfter: 100 });
      clock.time += 1000;
      assert.deepEqual(limiter.peek("ada"), { allowed: true, remaining: 10, retryAfter: 0 });
    });
  });

  test("gives a name its allowance back with reset()", () => {
    withLimiter(OPTIONS, (limiter, clock) => {
      limiter.take("ada", 10);
      limiter.take("bob", 10);
      assert.equal(limiter.reset("ada"), true);
      assert.equal(limiter.reset("ada"), false);
      assert.equal(limiter.take("ada", 10).allowed, true);
      assert.equal(limiter.take("bob").allowed, false);
      clock.time += 1000;
      assert.equal(limiter.reset("bob"), false, "it was whole again");
    });
  });

  test("has room for as many names as its options say", () => {
    const sizes = [[1, 1], [10, 40], [100, 8], [1000, 40], [1000, 1000], [20_000, 40]] as const;
    for (const [keys, keyBytes] of sizes) {
      withLimiter({ ...RULE, keys, keyBytes }, (limiter) => {
        for (let i = 0; i < keys; i++) {
          const { allowed } = limiter.take(`${i}`.padStart(keyBytes, "-").slice(-keyBytes));
          assert.equal(allowed, true, `${i} of ${keys}`);
        }
        const { names, noRoom } = limiter.stats();
        assert.deepEqual([names, noRoom], [keys, 0]);
      });
    }
  });

  test("takes 80 to 160 bytes for each name of the usual length", () => {
    for (const keys of [1000, 10_000, 33_000, 100_000, 1_000_000, 10_000_000]) {
      const bytes = RateLimiter.bytesFor({ keys }) / keys;
      assert.ok(bytes >= 80 && bytes <= 160, `${bytes} for each of ${keys}`);
    }
    assert.ok(RateLimiter.bytesFor({ keys: 1 }) < 10_000);
  });

  test("forgets no name in a flood of new ones, and refuses these when it is full", () => {
    withLimiter(OPTIONS, (limiter, clock) => {
      limiter.take("ada", 10);
      limiter.take("bob", 4);
      const room = fill(limiter, "flood", 10);
      assert.ok(room >= OPTIONS.keys - 2, `${room}`);
      const { names } = limiter.stats();
      for (let i = 0; i < 5000; i++) {
        const result = limiter.take(`more ${i}`);
        assert.deepEqual(result, { allowed: false, remaining: 0, retryAfter: 100 });
      }
      assert.deepEqual([limiter.stats().names, limiter.stats().noRoom], [names, 5001]);
      assert.equal(limiter.take("ada").allowed, false);
      assert.equal(limiter.take("bob").remaining, 5);
      for (let i = 0; i < room; i++) assert.equal(limiter.take(`flood ${i}`).allowed, false);
      clock.time += 1000; // all are whole again
      assert.equal(limiter.take("new", 2).remaining, 8);
      assert.equal(limiter.take("ada", 10).allowed, true);
      assert.ok(limiter.stats().expired > 0);
    });
  });

  test("allows new names when it is full, if the options say so, and counts that", () => {
    withLimiter({ ...OPTIONS, whenFull: "allow" }, (limiter) => {
      limiter.take("ada", 10);
      fill(limiter, "flood", 10);
      for (let i = 1; i <= 100; i++) {
        const expected = { allowed: true, remaining: 8, retryAfter: 0 };
        assert.deepEqual(limiter.take("new", 2), expected, "it is not counted");
        assert.equal(limiter.stats().noRoom, 1 + i);
      }
      assert.equal(limiter.take("new", 11).allowed, false);
      assert.equal(limiter.take("ada").allowed, false);
    });
  });

  test("lets only names make room whose allowance is whole again", () => {
    withLimiter({ ...OPTIONS, keys: 500 }, (limiter, clock) => {
      for (let i = 0; i < 100; i++) limiter.take(`heavy ${i}`, 10);
      let refused = 0;
      for (let i = 0; i < 20_000; i++) { // a light name is whole after 100 ms: 250 are not
        clock.time += 0.4;
        if (!limiter.take(`light ${i}`).allowed) refused++;
        if (i % 2000 !== 1999) continue;
        for (let i = 0; i < 100; i++) { // all that has come back in 0.8 s, and no more
          assert.equal(limiter.take(`heavy ${i}`, 9).allowed, false);
          assert.equal(limiter.take(`heavy ${i}`, 8).allowed, true);
        }
      }
      const { expired, noRoom } = limiter.stats();
      assert.deepEqual([refused, noRoom], [0, 0]);
      assert.ok(expired > 15_000, `${expired}`);
    });
  });

  test("lets each object have its own limits, for what a name has used as time", () => {
    withLimiter(OPTIONS, (limiter, clock, join) => {
      const generous = join({ limit: 100, window: 1000 });
      const strict = join({ limit: 1, window: 1000 });
      limiter.take("ada", 5); // half a second
      assert.equal(generous.peek("ada").remaining, 50);
      assert.deepEqual(strict.peek("ada"), { allowed: false, remaining: 0, retryAfter: 500 });
      const slow = join({ limit: 10, window: 10_000 });
      slow.take("ada", 3); // 3 seconds, more than `limiter` lets a name use
      assert.deepEqual(limiter.take("ada"), { allowed: false, remaining: 0, retryAfter: 2600 });
      assert.deepEqual(limiter.take("ada", 0), { allowed: false, remaining: 0, retryAfter: 2500 });
      clock.time += 2600;
      assert.equal(limiter.take("ada").allowed, true);
    });
  });

  test("rounds against the name, so that no limit is exceeded in a year", () => {
    const clock = new ManualClock();
    clock.time = 365 * 86_400_000; // a system that has run for a year
    withClock(clock, () => {
      using place = openLimiter({ limit: 300_000, window: 1000, keys: 1 });
      let taken = 0;
      for (let i = 0; i <= 10_000; i++, clock.time += 10 + i / 1e4) {
        const { remaining } = place.limiter.peek("ada");
        assert.equal(place.limiter.take("ada", remaining).allowed, true);
        taken += remaining;
      }
      const allowed = 300_000 + (clock.time - 365 * 86_400_000) * 300;
      assert.ok(taken <= allowed && taken > 0.99 * allowed, `${taken} of ${allowed}`);
    });
  });

  test("takes bytes that no limiter has written for an allowance that is whole", () => {
    withLimiter(OPTIONS, (limiter) => {
      const { core } = limiter as unknown as { core: MapCore };
      for (const bad of [NaN, Infinity, -Infinity, 0, -1, 1e300]) {
        limiter.take("ada", 10);
        core.seek("test", "ada");
        const stripe = core.stripes[core.index]!;
        assert.equal(stripe.locate(core.key), true);
        stripe.floats[(stripe.at >> 1) + EXPIRY] = bad;
        assert.equal(limiter.peek("ada").remaining, 10, `${bad}`);
        assert.equal(limiter.take("ada", 10).allowed, true, `${bad}`);
        assert.equal(limiter.take("ada").allowed, false, `${bad}`);
      }
    });
  });

  test("survives that anybody overwrites its bytes", slow, () => {
    const random = new Random(SEED);
    const counts: Record<string, number> = {};
    for (let round = 0; round < 300; round++) {
      using place = openLimiter({ ...OPTIONS, keys: 100, lockTimeout: 5 });
      const { limiter, memory } = place;
      for (let i = 0; i < 150; i++) limiter.take(`${i}`, 1 + random.below(10));
      const words = new Int32Array(memory.bytes.buffer, 64); // not the header, which refuses all calls
      for (let i = random.below(1000); i >= 0; i--) {
        words[random.below(words.length)] = random.oneOf([0, 1, -1, random.below(600), 2 ** 30]);
      }
      for (let i = 0; i < 100; i++) {
        const name = `${random.below(300)}`;
        const call = random.oneOf(["take", "take", "peek", "reset"] as const);
        let outcome: string = call;
        try {
          const result = inTime(2000, `${call}, MODEL_SEED=${SEED}`, () => limiter[call](name));
          const { remaining, retryAfter } = typeof result === "boolean" ? limiter.peek("") : result;
          assert.ok(Number.isInteger(remaining) && remaining >= 0 && remaining <= RULE.limit);
          assert.ok(Number.isInteger(retryAfter) && retryAfter >= 0, `${retryAfter}`);
        } catch (error) {
          if ((error as Error).name !== "SyncError") throw error;
          outcome = (error as SyncError).code;
        }
        counts[outcome] = (counts[outcome] ?? 0) + 1;
      }
    }
    const { take, peek, reset, ...others } = counts;
    assert.ok(take! > 1000 && peek! > 1000 && reset! > 1000, JSON.stringify(counts));
    const known = ["Damaged", "Busy", "System", "Deadlock"];
    assert.deepEqual(Object.keys(others).filter((code) => !known.includes(code)), []);
  });

  test("looks for room in its buckets only, after it has met overwritten bytes while it did", () => {
    using place = openLimiter({ ...RULE, window: 1e9, keys: 20 });
    const { limiter } = place;
    fill(limiter, "name", 1);
    const { core, limiter: { hands } } = limiter as unknown as {
      core: MapCore;
      limiter: { hands: Uint32Array };
    };
    const stripe = core.stripes[0]!;
    const hand = hands[0]!;
    stripe.words[32 + 2 * (hand + 3)] = stripe.tail; // the link of the fourth bucket that is looked at next
    for (let i = 0; i < stripe.buckets; i++) {
      limiter.take(`new ${i}`);
      assert.ok(hands[0]! < stripe.buckets, `${hands[0]}`);
    }
    assert.equal(limiter.stats().recovered, 1);
  });

  test("is opened by its key, and removed with its last user", () => {
    const key = uniqueKey("limiter");
    const options = { ...OPTIONS, window: 1e9, keys: 1000 };
    using first = RateLimiter.open(key, options);
    {
      using second = RateLimiter.open(key, { ...options, limit: 20 });
      first.take("ada", 10);
      assert.equal(second.peek("ada").remaining, 0);
      assert.throws(() => RateLimiter.open(key, { ...OPTIONS, keys: 1 }), {
        name: "SyncError",
        code: "WrongKind",
        message: / RateLimiter\.at: the limiter was created with other keys or keyBytes: it has/,
      });
      assert.throws(() => RateLimiter.open(key, { ...options, keys: 9999 }), {
        name: "SharedMemoryException",
        code: "InvalidSize",
      });
    }
    assert.equal(first.take("ada").allowed, false);
    first[Symbol.dispose]();
    assert.throws(() => first.take("ada"), { name: "SyncError", code: "NotAttached" });
    using anew = RateLimiter.open(key, options);
    assert.equal(anew.peek("ada").remaining, 10);
  });

  test("is called a limiter by the errors about its header", () => {
    using place = openLimiter(OPTIONS);
    const { limiter, memory: { bytes } } = place;
    bytes[16]! ^= 1; // the key of the hash
    assert.throws(() => RateLimiter.at(bytes, 0, RULE), /the header of the limiter has been over/);
    bytes[4]! ^= 1; // the kind
    assert.throws(() => limiter.take("a"), /the limiter has been overwritten/);
  });

  test("is not taken for a map, nor a map for it", () => {
    using place = openLimiter(OPTIONS);
    const { bytes } = place.memory;
    const isOther = (kind: string) => ({
      name: "SyncError",
      code: "WrongKind",
      message: new RegExp(`there is a ${kind} of version`),
    });
    assert.throws(() => SharedMap.at(bytes), isOther("RateLimiter"));
    bytes.fill(0);
    SharedMap.create(bytes, 0, { bytes: bytes.length });
    assert.throws(() => RateLimiter.at(bytes, 0, RULE), isOther("SharedMap"));
  });

  test("checks its options and arguments", () => {
    using place = openLimiter(OPTIONS);
    const { limiter, memory: { bytes } } = place;
    const wrong: [Partial<Record<keyof Options, unknown>>, RegExp][] = [];
    for (const name of ["limit", "burst", "keys", "keyBytes"] as const) {
      for (const bad of [0, -1, 1.5, NaN, Infinity, 2 ** 60]) {
        wrong.push([{ [name]: bad }, new RegExp(`${name} must be an integer from 1 to \\d+, not`)]);
      }
      for (const bad of ["1", null, 1n, {}]) {
        wrong.push([{ [name]: bad }, new RegExp(`${name} must be a number, not \\w+`)]);
      }
    }
    for (const bad of [0, -1, NaN, Infinity]) wrong.push([{ window: bad }, /window must be more/]);
    wrong.push([{ window: "1" }, /window must be a number of ms, not string/]);
    wrong.push([{ limit: 1025, window: 1 }, /limit must be at most 1024 for each ms/]);
    wrong.push([{ limit: 1, window: 1000, burst: 2 ** 27 }, /use a smaller burst/]);
    wrong.push([{ whenFull: "evict" }, /whenFull must be "refuse" or "allow", not evict/]);
    wrong.push([{ lockTimeout: -1 }, /timeout must be 0 ms or more, not -1/]);
    wrong.push([{ keys: 2 ** 32, keyBytes: 65536 }, /no limiter has room for/]);
    for (const [bad, message] of wrong) {
      const options = { ...OPTIONS, ...bad } as Options;
      const expected = (error: Error) =>
        (error instanceof TypeError || error instanceof RangeError) && message.test(error.message);
      assert.throws(() => RateLimiter.open(uniqueKey("limiter"), options), expected);
      assert.throws(() => RateLimiter.create(bytes, 0, options), expected);
      assert.throws(() => RateLimiter.at(bytes, 0, options), expected);
    }
    for (const bad of [-1, 0.5, NaN, Infinity, -Infinity, 2 ** 53]) {
      assert.throws(() => limiter.take("ada", bad), {
        name: "RangeError",
        message: `RateLimiter.take: the cost must be an integer of 0 or more, not ${bad}`,
      });
    }
    for (const bad of ["1", null, 1n, {}]) {
      assert.throws(() => limiter.take("ada", bad as number), { name: "TypeError" });
    }
    const calls = ["take", "peek", "reset"] as const;
    for (const call of calls) {
      for (const bad of [undefined, null, 1, {}, [1]]) {
        assert.throws(() => limiter[call](bad as unknown as string), {
          name: "TypeError",
          message: new RegExp(`^RateLimiter\\.${call}: a key must be a string or a Uint8Array`),
        });
      }
      assert.throws(() => limiter[call]("x".repeat(65537)), {
        name: "SyncError",
        code: "InvalidSize",
        message: new RegExp(`^RateLimiter\\.${call}: the key has 65537 bytes`),
      });
    }
    assert.throws(() => limiter.take("x".repeat(1000)), {
      name: "SyncError",
      code: "InvalidSize",
      message: /^RateLimiter\.take: the name has more than 992 bytes/,
    });
    assert.equal(limiter.peek("x".repeat(1000)).remaining, 10);
    assert.deepEqual(limiter.stats().names, 0, "nothing was taken");
  });

  test("checks its place, and says that its segment has gone", () => {
    using place = openLimiter(OPTIONS);
    const { memory, limiter } = place;
    const { bytes } = memory;
    const make = (view: unknown, offset: unknown) => {
      const [a, b] = [view as Uint8Array, offset as number];
      return [() => RateLimiter.create(a, b, OPTIONS), () => RateLimiter.at(a, b, OPTIONS)];
    };
    for (const call of [...make({}, 0), ...make(bytes, "0")]) assert.throws(call, TypeError);
    for (const bad of [-64, 32, NaN, bytes.length]) {
      for (const call of make(bytes, bad)) assert.throws(call, RangeError);
    }
    assert.throws(() => RateLimiter.create(bytes, 0, OPTIONS), { code: "AlreadyExists" });
    assert.throws(() => RateLimiter.at(bytes, 64, RULE), { name: "SyncError", code: "NotFound" });
    assert.throws(() => RateLimiter.at(bytes.subarray(0, 200), 0, RULE), RangeError);
    for (const call of make(new Uint8Array(100_000), 0)) {
      assert.throws(call, { code: "NotAttached" });
    }
    using reader = new SharedMemory(memory.key());
    assert.equal(reader.attach(AccessMode.ReadOnly), true, reader.errorString());
    for (const call of make(reader.view(Uint8Array), 0)) assert.throws(call, { code: "ReadOnly" });
    new Int32Array(bytes.buffer)[2]!++;
    assert.throws(() => RateLimiter.at(bytes, 0, RULE), { code: "Damaged" });
    bytes[0] = 0;
    const calls: ((limiter: RateLimiter) => unknown)[] = [
      (limiter) => limiter.take("ada"),
      (limiter) => limiter.peek("ada"),
      (limiter) => limiter.reset("ada"),
      (limiter) => limiter.stats(),
    ];
    for (const call of calls) assert.throws(() => call(limiter), { code: "Damaged" });
    memory.detach();
    for (const call of calls) {
      assert.throws(() => call(limiter), {
        code: "NotAttached",
        message: /^RateLimiter\.\w+: its/,
      });
    }
  });

  test("names the process that is stopped while it takes, and goes on afterwards", {
    ...linuxOnly,
  }, async () => {
    using place = openLimiter({ ...OPTIONS, lockTimeout: 300 });
    const { limiter, words } = place;
    limiter.take("ada", 3);
    const agent = startAgent(ownRuntime);
    await agent.run(`${place.joining}
      setTimeout(() => limiter.core.locks[0].change("take", 1000, () => {
        Atomics.store(words, 0, 1);
        while (Atomics.load(words, 1) === 0);
        return true;
      }));`);
    await until(() => Atomics.load(words, 0) === 1, "the agent holds the lock");
    const { pid } = agent.child;
    await stop(pid!);
    const started = performance.now();
    for (const call of ["take", "reset"] as const) {
      assert.throws(() => limiter[call]("ada"), {
        name: "SyncError",
        code: "Busy",
        message: new RegExp(
          `^RateLimiter\\.${call}: process ${pid} \\(.*agent\\.ts\\), stopped, has been changing .* 300 ms`,
        ),
      });
    }
    assert.ok(performance.now() - started < 10_000);
    assert.equal(limiter.peek("ada").allowed, true, "looking takes no lock");
    Atomics.store(words, 1, 1);
    process.kill(pid!, "SIGCONT");
    assert.equal(await agent.end(), 0, agent.stderr);
    assert.equal(limiter.take("ada").allowed, true);
    assert.equal(limiter.stats().recovered, 0);
  });
});

/** Processes of all runtimes take from one limiter, and are killed: none is allowed too much, and nothing is lost. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sharedClock } from "../../backends/clock.ts";
import { Random } from "../../scripts/random.ts";
import { openLimiter } from "../support/limiters.ts";
import { checkFor, killOneByOne, killsOf } from "../support/kills.ts";
import {
  crewOnly,
  endAll,
  leaveNothingBehind,
  LOCK_MS,
  slow,
  startMany,
  until,
} from "../support/support.ts";

const { kills: KILLS, options } = killsOf("MAP_KILLS", 24);

/** An allowed `take()`, with the times of the shared clock before and after it. */
type Taken = [before: number, after: number, cost: number];

/** The word that ends the takes; the next ones have the number of takes of each process. */
const [END, COUNTS] = [0, 1];
/** The processes take so often in all. */
const TAKES = 300;

/** JavaScript: takes costs of 1 to 3 again and again until a word says that it is enough; returns what was allowed. */
const takeAgainAndAgain = (me: number) => `
  const { limiter, words } = objects;
  const { clock } = limiter.limiter;
  const taken = [];
  for (let i = 0; Atomics.load(words, ${END}) === 0; i++) {
    const cost = 1 + i % 3;
    const before = clock.now();
    if (!limiter.take("hot", cost).allowed) continue;
    taken.push([before, clock.now(), cost]);
    Atomics.add(words, ${COUNTS + me}, 1);
  }
  return taken;`;

/** Returns how much more was allowed in some period than the burst and what comes back in it. */
function excess(taken: readonly Taken[], burst: number, perMs: number): number {
  const sorted = taken.toSorted((a, b) => a[1] - b[1]);
  let most = -Infinity;
  for (const [from] of taken) {
    let sum = 0;
    for (const [before, after, cost] of sorted) {
      if (before < from) continue;
      sum += cost; // from `from` to `after` in any case
      most = Math.max(most, sum - burst - (after - from) * perMs);
    }
  }
  return most;
}

/** The names that the victims take from, so often that none becomes whole. */
const NAMES = 40;
/** 1 comes back in six hours. */
const SLOW = { limit: 1, window: 21_600_000, burst: 3000, lockTimeout: LOCK_MS };
/** A rule for other names in the same limiter, which are whole again soon. */
const FAST = { limit: 1, window: 2, lockTimeout: LOCK_MS };

/** JavaScript: takes from the names, and counts in `words` what was allowed, until the process is killed. */
const takeUntilKilled = (me: number) => `
  const fast = objects.fast = join(${JSON.stringify(FAST)});
  let state = ${me} + Date.now() | 0;
  const below = (limit) => {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    return (state >>> 8) % limit;
  };
  const round = () => {
    for (let step = 0; step < 300; step++) {
      const i = below(${NAMES});
      if (limiter.take("name " + i).allowed) Atomics.add(words, i, 1);
      fast.take("passing " + below(1e9));
    }
    setTimeout(round);
  };
  setTimeout(round);`;

describe("a rate limiter of several processes", () => {
  leaveNothingBehind();

  test("allows no more than its rule in any period, and not less", {
    ...slow,
    ...crewOnly,
  }, async () => {
    const rule = { limit: 400, window: 1000, burst: 8000 };
    using place = openLimiter({ ...rule, keys: 100, lockTimeout: LOCK_MS });
    const { words } = place;
    const agents = startMany(4);
    for (const agent of agents) await agent.run(place.joining);
    const clock = sharedClock();
    // So much that the allowance is not whole for 19 seconds, and each take can be found again in the end.
    const first: Taken = [clock.now(), 0, 7800];
    assert.equal(place.limiter.take("hot", first[2]).allowed, true);
    first[1] = clock.now();
    const taking = agents.map((agent, me) => agent.run(takeAgainAndAgain(me)));
    await until(() => {
      const counts = words.slice(COUNTS, COUNTS + agents.length);
      return counts.reduce((sum, one) => sum + one) >= TAKES && counts.filter(Boolean).length > 1;
    }, "several to have taken some");
    Atomics.store(words, END, 1);
    const results: Taken[][] = await Promise.all(taking);
    const before = clock.now();
    const { remaining } = place.limiter.peek("hot");
    const after = clock.now();
    const taken = [first, ...results.flat()];
    const total = taken.reduce((sum, [, , cost]) => sum + cost, 0);
    const perMs = rule.limit / rule.window;
    // The clocks of the processes may differ by microseconds.
    const most = excess(taken, rule.burst, perMs);
    assert.ok(most < 0.1, `${most} too much of ${total}`);
    const left = (ms: number) => rule.burst - total + ms * perMs;
    const least = left(before - first[1]) - 1;
    const greatest = left(after - first[0]);
    assert.ok(total > rule.burst, `${total}`);
    assert.ok(
      remaining > Math.min(least, rule.burst) - 0.1 && remaining < greatest + 0.1,
      `${remaining} are left, not ${least} to ${greatest}`,
    );
    await endAll(agents);
  });

  test("loses nothing that was taken, and forgets no name, when they are killed", {
    ...options,
  }, async () => {
    const seed = Date.now() | 0;
    const random = new Random(seed);
    using place = openLimiter({ ...SLOW, keys: 200 }, NAMES);
    const { limiter, words } = place;
    const used = (i: number) => SLOW.burst - limiter.peek(`name ${i}`).remaining;
    const seen = new Int32Array(NAMES);

    /** That what was counted is used, and that what was used stays so. */
    const check = () => {
      for (let i = 0; i < NAMES; i++) {
        const counted = Atomics.load(words, i);
        const now = used(i);
        const text = `seed ${seed}: ${now} used of name ${i}`;
        assert.ok(now >= counted, `${text}, ${counted} counted`);
        assert.ok(now >= seen[i]!, `${text}, ${seen[i]} before`);
        seen[i] = now;
      }
    };

    await killOneByOne({
      kills: KILLS,
      lanes: 3,
      seed,
      begin: (agent, me) => agent.run(place.joining + takeUntilKilled(me)),
      live: () => checkFor(random, 10, 70, check),
      check,
      news: () => `${limiter.stats().recovered} recovered`,
    });
    for (let i = 0; i < NAMES; i++) limiter.take(`name ${i}`, 0); // repairs what was left
    check();
    const counted = words.reduce((sum, one) => sum + one, 0);
    const total = seen.reduce((sum, one) => sum + one, 0);
    const { expired, names, noRoom, recovered } = limiter.stats();
    assert.ok(total <= counted + KILLS, `seed ${seed}: ${total} used, ${counted} counted`);
    assert.ok(total > NAMES && expired > 0, `${total} used, ${expired} expired`);
    assert.ok(names >= NAMES && recovered <= KILLS);
    console.log(
      `${KILLS} kills, ${total} taken, ${expired} expired, ${noRoom} without room, ` +
        `${recovered} recovered`,
    );
  });
});

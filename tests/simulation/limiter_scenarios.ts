/** Rate limiters in shared bytes: what processes take, and what must be used in the end. */
import { LimiterRule } from "../../collections/limiter_rule.ts";
import { ALLOWED, LimiterWriter } from "../../collections/limiter_writer.ts";
import { EXPIRY } from "../../collections/map_record.ts";
import { AGAIN, MISS } from "../../collections/map_stripe.ts";
import { expect, type Joined, LOCK_MS, type MapScenario } from "./shared_maps.ts";

/** The clock stands still. */
const NOW = 2 ** 20;
/** So long before, what a name could use then is whole again. */
const LONG_MS = 10_000;

/** Takes from a limiter in the map, of which a name may use 6. */
function take({ core }: Joined, name: string, cost: number, now = NOW): boolean {
  const rule = new LimiterRule({ limit: 1, window: 1000, burst: 6 });
  const limiter = new LimiterWriter(core, rule, LOCK_MS, { scope: 0, now: () => now });
  return limiter.take("take", name, cost) === ALLOWED;
}

/** Returns what a name has used; it is negative if that is long ago. */
function used({ core }: Joined, name: string): number {
  const stripe = core.seek("used", name);
  let at = AGAIN;
  while (at === AGAIN) at = stripe.look(core.key);
  return at === MISS ? 0 : (stripe.floats[(at >> 1) + EXPIRY]! - NOW) / 1000;
}

function usedProblem(map: Joined, name: string, possible: readonly number[]): string | null {
  const found = used(map, name);
  return possible.includes(found) ? null : `${found} of ${name} are used, not one of ${possible}`;
}

/** Of the two costs that the processes take of the same name, only one is allowed. */
const limited: MapScenario = {
  name: "limiter: two take",
  units: 64,
  time: NOW,
  prepare: (map) => expect(take(map, "a", 1), "nothing was used"),
  programs: [(map) => {
    take(map, "a", 2);
    expect(take(map, "b", 5) && !take(map, "b", 2), "b has used 5");
  }, (map) => {
    const isAllowed = take(map, "a", 4);
    expect([isAllowed ? 5 : 3].includes(used(map, "a")), `${used(map, "a")} of a are used`);
  }],
  check: (map, { outcomes }) =>
    usedProblem(map, "a", outcomes.includes("ok") ? [3, 5] : [1, 3, 5]) ??
      usedProblem(map, "b", outcomes[0] === "ok" ? [5] : [0, 5]),
};

/** A limiter without room: b and c are whole again and make room for others, and a, which is the oldest one, is moved. */
const crowded: MapScenario = {
  name: "limiter: two new names in a full one",
  time: NOW,
  prepare(map) {
    expect(take(map, "a", 3), "nothing was used");
    for (const name of ["b", "c"]) expect(take(map, name, 6, NOW - LONG_MS), "nothing was used");
  },
  programs: [(map) => {
    expect(take(map, "d", 2), "there is no room for d");
    expect(used(map, "d") === 2, `${used(map, "d")} of d are used`);
  }, (map) => {
    expect(take(map, "a", 2) && !take(map, "a", 2), "what a has used was forgotten");
    take(map, "e", 4);
  }],
  check: (map, { outcomes }) =>
    usedProblem(map, "a", outcomes[1] === "ok" ? [5] : [3, 5]) ??
      usedProblem(map, "b", [0, 6 - LONG_MS / 1000]) ??
      usedProblem(map, "c", [0, 6 - LONG_MS / 1000]) ??
      usedProblem(map, "d", outcomes[0] === "ok" ? [2] : [0, 2]) ??
      usedProblem(map, "e", [0, 4]),
};

export const LIMITER_SCENARIOS: readonly MapScenario[] = [limited, crowded];

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

const BURST = 6;

/** Takes from a limiter in the map. */
function take({ core }: Joined, name: string, cost: number, now = NOW): boolean {
  const rule = new LimiterRule({ limit: 1, window: 1000, burst: BURST });
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

/** The note of what was allowed of a. */
const ALLOWED_OF_A = 0;

/** Takes of a, and notes it. */
function takeA(map: Joined, cost: number): boolean {
  const isAllowed = take(map, "a", cost);
  if (isAllowed) Atomics.add(map.notes, ALLOWED_OF_A, cost);
  return isAllowed;
}

function usedProblem(map: Joined, name: string, possible: readonly number[]): string | null {
  const found = used(map, name);
  return possible.includes(found) ? null : `${found} of ${name} are used, not one of ${possible}`;
}

/** What was allowed of a is used, and nothing else but what a killed process was about to note. */
function problemOfA(map: Joined, before: number, inHand: readonly number[]): string | null {
  const noted = before + map.notes[ALLOWED_OF_A]!;
  return usedProblem(map, "a", [0, ...inHand].map((cost) => noted + cost)) ??
    (used(map, "a") > BURST ? "more of a was allowed than there is" : null);
}

/** Of the two costs that the processes take of the same name, only one is allowed. */
const limited: MapScenario = {
  name: "limiter: two take",
  units: 64,
  time: NOW,
  prepare: (map) => expect(take(map, "a", 1), "nothing was used"),
  programs: [(map) => {
    takeA(map, 2);
    expect(take(map, "b", 5) && !take(map, "b", 2), "b has used 5");
  }, (map) => {
    const isAllowed = takeA(map, 4);
    expect(used(map, "a") === (isAllowed ? 5 : 3), `${used(map, "a")} of a are used`);
  }],
  check: (map, { outcomes }) =>
    problemOfA(map, 1, [2, 4].filter((_, i) => outcomes[i] === "killed")) ??
      usedProblem(map, "b", outcomes[0] === "ok" ? [5] : [0, 5]),
};

/** A limiter with little room: b and c are whole again and make room for others, and a, which is the oldest, is moved. */
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
    for (let i = 0; i < 3; i++) expect(takeA(map, 1), "a has used less");
    expect(!take(map, "a", 1), "what a has used was forgotten");
    take(map, "e", 4);
  }],
  check: (map, { outcomes }) =>
    problemOfA(map, 3, outcomes[1] === "killed" ? [1] : []) ??
      usedProblem(map, "b", [0, 6 - LONG_MS / 1000]) ??
      usedProblem(map, "c", [0, 6 - LONG_MS / 1000]) ??
      usedProblem(map, "d", outcomes[0] === "ok" ? [2] : [0, 2]) ??
      usedProblem(map, "e", [0, 4]),
};

export const LIMITER_SCENARIOS: readonly MapScenario[] = [limited, crowded];

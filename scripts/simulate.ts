/**
 * Explores schedules of this module's backends on the simulated kernel (tests/simulation), and of ./sync in simulated
 * memory: first all pairs and triples of programs and all scenarios of ./sync with more and more preemptions, kills and
 * stops, then random schedules of two to four programs, until the time is over. `npm run simulate -- --minutes 10`.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { explore, shrunk, wander } from "../tests/simulation/explorer.ts";
import type { Bounds, Failure } from "../tests/simulation/scenario.ts";
import { outsideOfJobs } from "../tests/simulation/event_loop.ts";
import {
  asyncPairs,
  classPairs,
  pairs,
  scenarioOf,
  triples,
  wanderings,
} from "../tests/simulation/scenarios.ts";
import { COLLECTION_SCENARIOS } from "../tests/simulation/collection_scenarios.ts";
import { QUEUE_SCENARIOS } from "../tests/simulation/queue_scenarios.ts";
import { LIFETIME_SCENARIOS } from "../tests/simulation/lifetime_scenarios.ts";
import { SYNC_SCENARIOS } from "../tests/simulation/sync_scenarios.ts";
import { Random } from "./random.ts";

const usage = `Usage: npm run simulate -- [options]

  --minutes <number>  how long to explore (default: 1)
  --seed <number>     repeats the random schedules of an earlier run (default: a new one)
  --random            only random schedules
  --only <text>       only scenarios whose name contains the text`;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string" },
    random: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    help: { type: "boolean" },
  },
});
if (values.help) {
  console.log(usage);
  process.exit();
}
const minutes = Number(values.minutes);
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
if (!(minutes > 0) || !Number.isInteger(seed)) {
  console.error(usage);
  process.exit(2);
}

const SCENARIOS = {
  pairs: () => [...pairs(), ...classPairs()].map((names) => scenarioOf(...names)),
  "asynchronous pairs": () => asyncPairs().map((names) => scenarioOf(...names)),
  triples: () => triples().map((names) => scenarioOf(...names)),
  lifetimes: () => Object.values(LIFETIME_SCENARIOS),
  "scenarios of ./sync": () => Object.values(SYNC_SCENARIOS),
  "scenarios of ./collections":
    () => [...Object.values(COLLECTION_SCENARIOS), ...Object.values(QUEUE_SCENARIOS)],
} as const;

interface Round {
  readonly name: keyof typeof SCENARIOS;
  readonly bounds: Bounds;
}

function roundOf(
  name: keyof typeof SCENARIOS,
  preemptions: number,
  crashes: number,
  reorderings = 0,
): Round {
  return { name, bounds: { preemptions, crashes, reorderings } };
}

/** The rounds, each of which takes longer than the one before. */
const ROUNDS: readonly Round[] = [
  roundOf("pairs", 1, 0),
  roundOf("asynchronous pairs", 1, 0),
  roundOf("scenarios of ./sync", 2, 0, 1),
  roundOf("scenarios of ./sync", 2, 1, 0),
  roundOf("asynchronous pairs", 0, 1),
  roundOf("lifetimes", 2, 1),
  roundOf("scenarios of ./collections", 1, 1),
  roundOf("scenarios of ./collections", 1, 0, 1),
  roundOf("pairs", 1, 1),
  roundOf("triples", 1, 0),
  roundOf("asynchronous pairs", 2, 0),
  roundOf("scenarios of ./sync", 2, 1, 1),
  roundOf("pairs", 2, 1),
  roundOf("triples", 2, 0),
  roundOf("scenarios of ./sync", 3, 1, 1),
  roundOf("pairs", 3, 0),
  roundOf("triples", 0, 1),
  roundOf("pairs", 1, 2),
  roundOf("triples", 1, 1),
  roundOf("scenarios of ./sync", 3, 0, 2),
  roundOf("scenarios of ./collections", 2, 1),
];

const began = performance.now();
const COUNTS = ["schedules", "kills", "stops", "states"] as const;
const NOTHING = { schedules: 0, kills: 0, stops: 0, states: 0 };
const total = { ...NOTHING };
const failures: Failure[] = [];
const now = performance.now.bind(performance);
const leftMs = () => minutes * 60_000 - (now() - began);
let shownAt = 0;

/** Shows how far it is: what was explored before, and of the scenario that is being explored. */
function show(what: string, isLast = false, more: typeof total = NOTHING): void {
  if (!isLast && (!process.stdout.isTTY || now() - shownAt < 250)) return;
  shownAt = now();
  const [schedules, kills, stops, states] = COUNTS.map((name) => total[name] + more[name]);
  const seconds = Math.round((now() - began) / 1000);
  const line =
    `${seconds} s  ${schedules} schedules, ${kills} with a kill, ${stops} with a stop, ` +
    `${states} states, ${failures.length} failures  ${what}`;
  process.stdout.write(
    process.stdout.isTTY && !isLast
      ? `\r\x1b[K${line.slice(0, process.stdout.columns - 1)}`
      : `${line}\n`,
  );
}

function fail(failure: Failure): void {
  failures.push(failure);
  const { scenario, what, deviations, trace } = failure;
  console.log(
    `\n\nFAILURE ${scenario}: ${what}\n${JSON.stringify(deviations)}\n${trace.join("\n")}\n`,
  );
}

function textOf({ preemptions, crashes, reorderings }: Bounds): string {
  const rest = reorderings === 0 ? "" : `, ${reorderings} reorderings`;
  return `${preemptions} preemptions, ${crashes} kills or stops${rest}`;
}

/** Explores all schedules of a round; returns whether the time has sufficed. */
function exploreAll({ name, bounds }: Round): boolean {
  for (const scenario of SCENARIOS[name]()) {
    if (!scenario.name.includes(values.only)) continue;
    if (leftMs() <= 0) return false;
    const what = `${scenario.name}: ${textOf(bounds)}`;
    const report = explore(scenario, bounds, {
      limitMs: leftMs(),
      onSchedule: (soFar) => show(what, false, soFar),
    });
    for (const name of COUNTS) total[name] += report[name];
    report.failures.forEach(fail);
    if (!report.isComplete) return false;
  }
  return true;
}

function wanderAll(): void {
  const random = new Random(seed);
  for (let number = 0; leftMs() > 0; number++) {
    const scenario = random.chance(0.2)
      ? random.oneOf(SCENARIOS["scenarios of ./sync"]())
      : random.chance(0.2)
      ? scenarioOf(...random.oneOf(asyncPairs()))
      : scenarioOf(...wanderings(random));
    if (!scenario.name.includes(values.only)) continue;
    const { failure, hasKill, hasStop } = wander(scenario, () => random.number());
    total.schedules++;
    if (hasKill) total.kills++;
    if (hasStop) total.stops++;
    if (failure !== null) fail(shrunk(scenario, failure));
    show(`${scenario.name}: random`);
  }
}

console.log(`seed ${seed}`);
await outsideOfJobs(() => {
  if (!values.random) {
    for (const round of ROUNDS) {
      if (!exploreAll(round)) break;
      show(`all ${round.name}: ${textOf(round.bounds)}`, true);
    }
  }
  wanderAll();
});
show("in all", true);
if (failures.length === 0) console.log("No schedule failed.");
else console.log(`${failures.length} schedules failed; --seed ${seed} repeats the random ones.`);
process.exitCode = failures.length === 0 ? 0 : 1;

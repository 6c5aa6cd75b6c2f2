/**
 * Explores schedules of this module's backends on the simulated kernel (tests/simulation), and of ./sync in simulated
 * memory: first all scenarios with more and more preemptions, kills and stops, then random schedules of two to four
 * programs, until the time is over. `npm run simulate -- --minutes 10`.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { explore, shrunk, wander } from "../tests/simulation/explorer.ts";
import type { Bounds, Failure } from "../tests/simulation/scenario.ts";
import { pairs, scenarioOf, wanderings } from "../tests/simulation/scenarios.ts";
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

/** The bounds of the rounds: each explores all scenarios, and takes about ten times as long as the one before. */
const ROUNDS: readonly Bounds[] = [
  { preemptions: 1, crashes: 0, reorderings: 1 },
  { preemptions: 0, crashes: 1, reorderings: 1 },
  { preemptions: 2, crashes: 0, reorderings: 2 },
  { preemptions: 1, crashes: 1, reorderings: 1 },
  { preemptions: 3, crashes: 0, reorderings: 1 },
  { preemptions: 2, crashes: 1, reorderings: 1 },
  { preemptions: 1, crashes: 2, reorderings: 1 },
];

const SYNC = Object.values(SYNC_SCENARIOS);

const began = performance.now();
const total = { schedules: 0, kills: 0, stops: 0, known: 0 };
const failures: Failure[] = [];
const now = performance.now.bind(performance);
const leftMs = () => minutes * 60_000 - (now() - began);
let shownAt = 0;

function show(what: string, isLast = false): void {
  if (!isLast && (!process.stdout.isTTY || now() - shownAt < 250)) return;
  shownAt = now();
  const { schedules, kills, stops } = total;
  const seconds = Math.round((now() - began) / 1000);
  const line =
    `${seconds} s  ${schedules} schedules, ${kills} with a kill, ${stops} with a stop, ` +
    `${failures.length} failures  ${what}`;
  process.stdout.write(
    process.stdout.isTTY && !isLast ? `\r\x1b[K${line.slice(0, 110)}` : `${line}\n`,
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
  return `${preemptions} preemptions, ${crashes} kills or stops, ${reorderings} reorderings in ./sync`;
}

/** Explores all schedules of a round; returns whether the time has sufficed. */
function exploreAll(bounds: Bounds): boolean {
  for (const scenario of [...pairs().map((pair) => scenarioOf(...pair)), ...SYNC]) {
    if (!scenario.name.includes(values.only)) continue;
    if (leftMs() <= 0) return false;
    const report = explore(scenario, bounds, { limitMs: leftMs() });
    for (const name of ["schedules", "kills", "stops", "known"] as const) {
      total[name] += report[name];
    }
    report.failures.forEach(fail);
    show(`${scenario.name}: ${textOf(bounds)}`);
    if (!report.isComplete) return false;
  }
  return true;
}

function wanderAll(): void {
  const random = new Random(seed);
  for (let number = 0; leftMs() > 0; number++) {
    const scenario = random.chance(0.2) ? random.oneOf(SYNC) : scenarioOf(...wanderings(random));
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
if (!values.random) {
  for (const bounds of ROUNDS) {
    if (!exploreAll(bounds)) break;
    show(`all scenarios: ${textOf(bounds)}`, true);
  }
}
wanderAll();
show("in all", true);
if (failures.length === 0) console.log("No schedule failed.");
else console.log(`${failures.length} schedules failed; --seed ${seed} repeats the random ones.`);
process.exitCode = failures.length === 0 ? 0 : 1;

/**
 * Shows that the simulation finds faults: applies each deliberate fault of tests/simulation/mutants.ts to a copy of the
 * sources, one at a time, and explores its scenario. A fault is caught if a schedule fails that does not fail without
 * it. `npm run test:mutants`.
 */
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { outsideOfJobs } from "../tests/simulation/event_loop.ts";
import { explore, kindOf } from "../tests/simulation/explorer.ts";
import type { Bounds } from "../tests/simulation/scenario.ts";
import { COLLECTION_SCENARIOS } from "../tests/simulation/collection_scenarios.ts";
import { QUEUE_SCENARIOS } from "../tests/simulation/queue_scenarios.ts";
import type { Mutant } from "../tests/simulation/mutants.ts";
import { scenarioOf } from "../tests/simulation/scenarios.ts";
import { ALL_MUTANTS, mutated } from "./all_mutants.ts";
import { LIFETIME_SCENARIOS } from "../tests/simulation/lifetime_scenarios.ts";
import { SYNC_SCENARIOS } from "../tests/simulation/sync_scenarios.ts";

const usage = `Usage: npm run test:mutants -- [options]

  --only <text>            only mutants whose file or name contains the text
  --trace                  shows the schedule by which each mutant is caught
  --programs <a,b,...>     looks in this scenario instead of the mutant's own
  --preemptions <number>   with so many preemptions
  --crashes <number>       and so many kills and stops
  --reorderings <number>   and so many loads and stores that take effect late or early`;

/** What the simulation and this script import. */
const SOURCES = [
  "backends",
  "core",
  "ffi",
  "sync",
  "collections",
  "tests/simulation",
  "scripts/random.ts",
];
/** A mutant that is explored for longer runs for ever. */
const LIMIT_MS = 180_000;

interface Task {
  readonly programs: readonly string[];
  readonly bounds: Bounds;
  /** The kinds of failures that occur without a fault, if they are known: then the first other one suffices. */
  readonly known: readonly string[] | null;
}

interface Found {
  readonly kinds: readonly string[];
  readonly trace: readonly string[];
  readonly schedules: number;
}

/** The kinds of failures of the unchanged sources, by scenario and bounds. */
const withoutFault = new Map<string, Promise<readonly string[]>>();

const { values } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    trace: { type: "boolean", default: false },
    programs: { type: "string" },
    preemptions: { type: "string" },
    crashes: { type: "string" },
    reorderings: { type: "string" },
    task: { type: "string" },
    help: { type: "boolean" },
  },
});
if (values.help) console.log(usage);
else if (values.task !== undefined) {
  const task = JSON.parse(values.task);
  console.log(JSON.stringify(await outsideOfJobs(() => find(task))));
} else await main();

/** Explores a scenario until a failure occurs that is not known. This runs in a copy of the sources. */
function find({ programs, bounds, known }: Task): Found {
  const isNew = ({ what }: { what: string }) => known?.includes(kindOf(what)) === false;
  const [name] = programs;
  const scenario = SYNC_SCENARIOS[name!] ?? COLLECTION_SCENARIOS[name!] ?? QUEUE_SCENARIOS[name!] ??
    LIFETIME_SCENARIOS[name!] ??
    scenarioOf(...programs);
  const { failures, schedules } = explore(scenario, bounds, {
    limitMs: LIMIT_MS,
    isEnough: isNew,
  });
  const trace = failures.find(isNew);
  return {
    kinds: failures.map(({ what }) => kindOf(what)),
    trace: trace === undefined ? [] : [JSON.stringify(trace.deviations), ...trace.trace],
    schedules,
  };
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "mutants-"));
  try {
    copySources(folder);
    const chosen = ALL_MUTANTS.filter(({ name, file }) => `${file}: ${name}`.includes(values.only));
    let missed = 0;
    for (const mutant of chosen) if (!await isCaught(folder, mutant)) missed++;
    console.log(
      missed === 0
        ? `The simulation catches all ${chosen.length} faults that it can see.`
        : `The simulation has missed ${missed} of ${chosen.length} faults.`,
    );
    process.exitCode = missed === 0 ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function copySources(folder: string): void {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const files = readdirSync(root).filter((name) => name.endsWith(".ts"));
  mkdirSync(join(folder, "scripts"));
  for (const path of [...SOURCES, ...files, "scripts/mutants.ts", "scripts/all_mutants.ts"]) {
    cpSync(join(root, path), join(folder, path), { recursive: true });
  }
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
}

/** Runs a mutant and says what has become of it. Returns `false` if it was missed. */
async function isCaught(folder: string, mutant: Mutant): Promise<boolean> {
  const { name, file, equivalent } = mutant;
  const began = performance.now();
  const programs = values.programs?.split(",") ?? mutant.programs;
  const bounds = {
    ...mutant.bounds,
    preemptions: Number(values.preemptions ?? mutant.bounds.preemptions),
    crashes: Number(values.crashes ?? mutant.bounds.crashes),
    reorderings: Number(values.reorderings ?? mutant.bounds.reorderings ?? 0),
  };
  const task = { programs, bounds };
  const known = await failuresWithout(folder, task);
  const path = join(folder, file);
  const text = readFileSync(path, "utf8");
  writeFileSync(path, mutated(text, mutant));
  const found = await run(folder, { ...task, known });
  writeFileSync(path, text);
  const kind = found.kinds.find((kind) => !known.includes(kind));
  const seconds = `${((performance.now() - began) / 1000).toFixed(1)} s`;
  const { preemptions, crashes, reorderings } = bounds;
  const where = `${programs.join(" + ")}, ${preemptions}+${crashes}+${reorderings}, ${seconds}`;
  const result = kind !== undefined
    ? `caught: ${kind.split("\n")[0]}`
    : equivalent !== undefined
    ? `cannot be seen: ${equivalent}`
    : "MISSED";
  console.log(`${name} (${where}): ${result}`);
  if (values.trace) console.log(found.trace.join("\n"));
  return kind !== undefined || equivalent !== undefined;
}

/** Returns the kinds of failures of the unchanged sources. */
function failuresWithout(folder: string, task: Omit<Task, "known">) {
  const key = JSON.stringify(task);
  let kinds = withoutFault.get(key);
  if (kinds === undefined) {
    kinds = run(folder, { ...task, known: null }).then((found) => found.kinds);
    withoutFault.set(key, kinds);
  }
  return kinds;
}

async function run(folder: string, task: Task): Promise<Found> {
  const script = join(folder, "scripts/mutants.ts");
  const args = ["--disable-warning=ExperimentalWarning", script, "--task", JSON.stringify(task)];
  const options = { timeout: 2 * LIMIT_MS, maxBuffer: 2 ** 26 };
  try {
    return JSON.parse((await promisify(execFile)(process.execPath, args, options)).stdout);
  } catch (error) {
    const { killed } = error as { killed?: boolean };
    if (!killed) throw error;
    return { kinds: ["the exploration does not end"], trace: [], schedules: 0 };
  }
}

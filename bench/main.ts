/**
 * Measures the module in each runtime: its calls against plain C and Qt itself, in one interleaved run, then
 * `./sync` against plain C, and if wanted what people use today: `npm run bench`.
 */
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, tmpdir, type } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { type Contender, findContenders, type Folders, run } from "./contenders.ts";
import { removeLeftovers } from "./leftovers.ts";
import { quick, thorough } from "./measuring.ts";
import { fill, published, today } from "./page.ts";
import { describeMachine, performance } from "./performance.ts";
import { goalLine, goalsOf, pageTable, rowsOf, type Samples, tableOf } from "./report.ts";

/** Of the calls: each contender runs once per round as a process of its own. */
const callRounds = 5;

const usage = `usage: npm run bench -- [--peers] [--write] [--rounds N] [--json FILE]

The exit code tells of wrong results, not of goals that are not met.

  --peers      also the same jobs with SQLite, LMDB, Redis, sockets, process.send, Python and Qt
  --write      write the tables to docs/performance.md, and with --peers the chart beside it
  --part PART  only "calls" (those of SharedMemory) or "sync"
  --rounds N   how often everything is started anew (default ${callRounds} for the calls, ${thorough.rounds} for the rest)
  --only NAME  only this runtime, and each measure of the sync part with as few processes as it can have;
               may be given more than once
  --quick      as short as can be: for a look whether it works
  --json FILE  also write all samples, medians and goals of the calls to FILE
  --page FILE, --chart FILE  instead of docs/performance.md and .svg
  --help       print this
`;

function rounds(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1) throw new TypeError(`--rounds ${text}`);
  return number;
}

function parseOptions() {
  const { values } = parseArgs({
    options: {
      peers: { type: "boolean", default: false },
      write: { type: "boolean", default: false },
      part: { type: "string" },
      rounds: { type: "string" },
      only: { type: "string", multiple: true },
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      page: { type: "string" },
      chart: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    process.exit();
  }
  const { peers, write, part, only, json } = values;
  if (part !== undefined && part !== "calls" && part !== "sync") {
    throw new TypeError(`--part ${part}`);
  }
  const effort = values.quick ? quick : thorough;
  const page = values.page ?? published.page;
  const chart = values.chart ?? published.chart;
  return {
    part,
    json,
    only,
    withPeers: peers,
    write: write ? { page, chart } : undefined,
    rounds: rounds(values.rounds, values.quick ? 1 : callRounds),
    effort: { ...effort, rounds: rounds(values.rounds, effort.rounds) },
  };
}

function options(): ReturnType<typeof parseOptions> {
  try {
    return parseOptions();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    console.error(`${error.message}\n\n${usage}`);
    process.exit(2);
  }
}

/** A new folder for key files in memory, `null` where there is no tmpfs. */
function memoryFolder(): string | null {
  const tmpfs = "/dev/shm"; // as shm_overview(7) has it
  const TMPFS_MAGIC = 0x01021994;
  try {
    return statfsSync(tmpfs).type === TMPFS_MAGIC ? mkdtempSync(join(tmpfs, "bench-")) : null;
  } catch {
    return null;
  }
}

/** All rounds; a contender that goes wrong is out of all of them, and named in `faults`. */
async function runRounds(
  contenders: Contender[],
  rounds: number,
  faults: string[],
  signal: AbortSignal,
): Promise<Samples> {
  const samples: Samples = new Map(contenders.map(({ name }) => [name, []]));
  const folders: Folders = { usual: mkdtempSync(join(tmpdir(), "bench-")), memory: memoryFolder() };
  const all = [folders.usual, folders.memory].filter((folder) => folder !== null);
  process.once("exit", () => {
    for (const folder of all) {
      removeLeftovers(folder);
      rmSync(folder, { recursive: true });
    }
  });
  for (let round = 1; round <= rounds; round++) {
    // Nobody always comes after the same one: ext4 is slow to make files where many were deleted.
    const first = (round - 1) % contenders.length;
    for (const contender of [...contenders.slice(first), ...contenders.slice(0, first)]) {
      const { name } = contender;
      const own = samples.get(name);
      if (own === undefined) continue;
      const key = `bench-${process.pid}-${round}-${name.replaceAll(/\W/g, "")}`;
      process.stderr.write(`round ${round} of ${rounds}: ${name}\n`);
      let fault: string | null = null;
      try {
        own.push(await run(contender, key, folders, signal));
      } catch (error) {
        fault = error instanceof Error ? error.message : String(error);
      }
      const leftovers = all.flatMap(removeLeftovers);
      signal.throwIfAborted();
      if (leftovers.length > 0) fault ??= `left behind ${leftovers.join(", ")}`;
      if (fault === null) continue;
      faults.push(`${name}: ${fault}`);
      samples.delete(name);
    }
  }
  return samples;
}

async function measureCalls(
  rounds: number,
  json: string | undefined,
  page: string | undefined,
): Promise<string[]> {
  const { present, absent } = findContenders();
  console.log(`load average ${machine.load.toFixed(2)} at the start, rounds: ${rounds}`);
  console.log(`key files in ${tmpdir()} (TMPDIR)\n`);
  for (const { name, version } of present) console.log(`${name.padEnd(8)}${version}`);
  for (const { name, reason } of absent) {
    console.log(`${name.padEnd(8)}does not take part: ${reason}`);
  }
  const faults: string[] = [];
  const samples = await runRounds(present, rounds, faults, interrupt.signal);
  const rows = rowsOf(samples);
  const goals = goalsOf(samples);
  console.log(`\n${tableOf(rows)}\n`);
  console.log(`load average ${loadavg()[0]!.toFixed(2)} at the end\n\nGoals`);
  for (const goal of goals) console.log(goalLine(goal));
  if (page !== undefined) {
    const versions = present.map(({ name, version }) => `${name} ${version}`).join(", ");
    fill(page, { calls: `${today()}, ${description}. ${versions}.\n\n${pageTable(rows)}` });
  }
  if (json !== undefined) {
    const report = {
      machine,
      contenders: present.map(({ name, version }) => ({ name, version })),
      absent,
      samples: Object.fromEntries(samples),
      medians: rows,
      goals,
      faults,
    };
    writeFileSync(json, JSON.stringify(report, null, 2) + "\n");
  }
  return faults;
}

const { part, json, rounds: callsRounds, ...performanceOptions } = options();
const interrupt = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => interrupt.abort());
}
const machine = {
  cpu: cpus()[0]?.model.trim() ?? "unknown CPU",
  cores: availableParallelism(),
  kernel: `${type()} ${release()}`,
  load: loadavg()[0]!,
};
const description = describeMachine(machine.cpu, machine.cores, machine.kernel);
console.log(description);

const faults: string[] = [];
try {
  if (part !== "sync") {
    faults.push(...await measureCalls(callsRounds, json, performanceOptions.write?.page));
  }
  if (part !== "calls") {
    const { signal } = interrupt;
    faults.push(...await performance({ ...performanceOptions, machine: description, signal }));
  }
} catch (error) {
  if (!interrupt.signal.aborted) throw error;
  process.exit(130);
}
for (const fault of faults) console.error(`\nWRONG  ${fault}`);
process.exitCode = faults.length > 0 ? 1 : 0;

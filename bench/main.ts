/**
 * Measures the module in each runtime: its calls against plain C and Qt itself, in one interleaved run, then
 * `./sync`, the collections and the messages against plain C, and if wanted what people use today: `npm run bench`.
 */
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, tmpdir, type } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { findCallers, measureCalls } from "./calls_bench.ts";
import { collectionsPerformance } from "./collections_page.ts";
import { type Effort, quick, thorough } from "./measuring.ts";
import { messagingPerformance } from "./messaging_page.ts";
import { fill, published, today } from "./page.ts";
import { describeMachine, performance } from "./performance.ts";
import { runtimeNames } from "./programs.ts";
import { goalLine, goalsOf, pageTable, rowsOf, tableOf } from "./report.ts";

const usage = `usage: npm run bench -- [--peers] [--write] [--rounds N] [--json FILE]

The exit code reports wrong results. A goal that was missed does not change it.

  --peers      also measure the same jobs with SQLite, LMDB, Redis, sockets, process.send, Python and Qt
  --write      also write the tables to docs/performance.md, and with --peers the charts beside it
  --part PART  only "calls" (those of SharedMemory), "sync", "collections" (the map and the limiter) or
               "messaging" (the queue, the topic and the value)
  --rounds N   how often all processes are started (default ${thorough.alone.rounds} for views and hand-offs, ${thorough.rounds} for the rest)
  --only NAME  measure only this runtime, beside C and Qt, and each measure of the other parts with the
               smallest number of processes, if it is short; may be given more than once
  --quick      as short as possible, to check that the benchmark works
  --json FILE  also write all samples, medians and goals of the calls to FILE
  --page FILE, --chart FILE, --collections-chart FILE
               instead of docs/performance.md and .svg, and docs/collections.svg
  --help       print this
`;

const parts = ["calls", "sync", "collections", "messaging"];

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
      "collections-chart": { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    process.exit();
  }
  const { peers, write, part, only, json } = values;
  if (part !== undefined && !parts.includes(part)) {
    throw new TypeError(`--part ${part}`);
  }
  for (const name of only ?? []) {
    if (!runtimeNames.some((known) => known === name)) throw new TypeError(`--only ${name}`);
  }
  const effort = values.quick ? quick : thorough;
  const page = values.page ?? published.page;
  const chart = values.chart ?? published.chart;
  const collectionsChart = values["collections-chart"] ?? published.collectionsChart;
  return {
    part,
    json,
    runtimes: runtimeNames.filter((name) => only?.includes(name) ?? true),
    isShort: only !== undefined,
    withPeers: peers,
    write: write ? { page, chart, collectionsChart } : undefined,
    effort: {
      ...effort,
      rounds: rounds(values.rounds, effort.rounds),
      alone: { ...effort.alone, rounds: rounds(values.rounds, effort.alone.rounds) },
    },
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

function effortText({ rounds, turns, turnMs, alone }: Effort): string {
  const count = rounds * turns;
  return `${count} ${
    count === 1 ? "turn" : "turns"
  } of ${turnMs} ms for the calls, by processes started anew ${times(rounds)}; ` +
    `for views and hand-offs they were started ${times(alone.rounds)}.`;
}

function times(count: number): string {
  return count === 1 ? "once" : `${count} times`;
}

async function reportCalls(
  { effort, runtimes, json, write }: ReturnType<typeof parseOptions>,
): Promise<string[]> {
  const { present, absent } = findCallers(runtimes);
  console.log(`load average ${machine.load.toFixed(2)} at the start`);
  console.log(`key files in ${tmpdir()} (TMPDIR)\n`);
  for (const { name, version } of present) console.log(`${name.padEnd(8)}${version}`);
  for (const { name, reason } of absent) {
    console.log(`${name.padEnd(8)}does not take part: ${reason}`);
  }
  const faults: string[] = [];
  const samples = await measureCalls(present, runtimes, effort, interrupt.signal, faults);
  const rows = rowsOf(samples);
  const goals = goalsOf(samples);
  console.log(`\n${tableOf(rows)}\n`);
  console.log(`load average ${loadavg()[0]!.toFixed(2)} at the end\n\nGoals`);
  for (const goal of goals) console.log(goalLine(goal));
  if (write !== undefined) {
    const versions = present.map(({ name, version }) => `${name} ${version}`).join(", ");
    const heading = `${today()}, ${description}. ${versions}. ${effortText(effort)}`;
    fill(write.page, { calls: `${heading}\n\n${pageTable(rows)}` });
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

const chosen = options();
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
  const isChosen = (part: string) => (chosen.part ?? part) === part;
  const options = { ...chosen, machine: description, signal: interrupt.signal };
  if (isChosen("calls")) faults.push(...await reportCalls(chosen));
  if (isChosen("sync")) faults.push(...await performance(options));
  if (isChosen("collections")) faults.push(...await collectionsPerformance(options));
  if (isChosen("messaging")) faults.push(...await messagingPerformance(options));
} catch (error) {
  if (!interrupt.signal.aborted) throw error;
  process.exit(130);
}
for (const fault of faults) console.error(`\nWRONG  ${fault}`);
process.exitCode = faults.length > 0 ? 1 : 0;

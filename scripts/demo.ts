/**
 * The demonstration: processes in every installed runtime, and real Qt, increment one counter in one
 * segment under one lock. `node scripts/demo.ts --help` explains it.
 */
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { SharedMemory } from "../mod.ts";
import { allEnded, killAll, startWorkers, type Worker } from "./demo/crew.ts";
import { grouped, openDisplay, printTable } from "./demo/display.ts";
import { countWord, Phase, PHASE_WORD, pidWord, segmentBytes, TOTAL_WORD } from "./demo/layout.ts";
import { type Options, parseOptions } from "./demo/options.ts";
import { SegmentResources } from "./demo/traces.ts";
import { findRuntime, type Runtime } from "./runtimes.ts";

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;
const EXIT_CODES: Readonly<Record<string, number>> = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

function findRuntimes({ runtimes, chosen }: Options): Runtime[] {
  const found: Runtime[] = [];
  for (const runtime of runtimes.map(findRuntime)) {
    if ("missing" in runtime) console.error(`Without ${runtime.name}: ${runtime.missing}`);
    else found.push(runtime);
  }
  if (found.length === 0 || chosen && found.length < runtimes.length) {
    throw new Error("not every runtime that is needed is installed");
  }
  return found;
}

/** Opens the gate when everyone stands before it; if that does not happen, stops everyone. */
async function openGate(workers: readonly Worker[], words: BigUint64Array): Promise<boolean> {
  const timeout = performance.now() + START_TIMEOUT_MS;
  const areReady = () => workers.every(({ slot }) => Atomics.load(words, pidWord(slot)) !== 0n);
  const canBecomeReady = () =>
    Atomics.load(words, PHASE_WORD) === Phase.Waiting &&
    workers.every(({ hasEnded }) => !hasEnded) && performance.now() < timeout;
  while (!areReady() && canBecomeReady()) await delay(5);
  const next = areReady() ? Phase.Running : Phase.Stopping;
  // A signal may have stopped everyone in the meantime.
  const last = Atomics.compareExchange(words, PHASE_WORD, Phase.Waiting, next);
  return last === Phase.Waiting && next === Phase.Running;
}

/** Shows the progress until the last worker has ended. */
async function watch(workers: readonly Worker[], words: BigUint64Array, seconds: number) {
  const display = openDisplay(workers);
  const start = performance.now();
  const progress = () => ({
    counts: workers.map(({ slot }) => Number(words[countWord(slot)])),
    total: Number(words[TOTAL_WORD]),
    elapsed: (performance.now() - start) / 1000,
    seconds,
  });
  const timer = setInterval(() => display.show(progress()), display.intervalMs);
  try {
    await allEnded(workers, seconds * 1000 + STOP_TIMEOUT_MS);
  } finally {
    clearInterval(timer);
    display.close(progress());
  }
}

/** Prints the result and returns what is wrong with it. */
function verify(workers: readonly Worker[], words: BigUint64Array): string[] {
  const problems: string[] = [];
  const total = Number(words[TOTAL_WORD]);
  const slots = workers.map(({ slot }) => Number(words[countWord(slot)]));
  const slotSum = slots.reduce((sum, count) => sum + count, 0);
  const reportSum = workers.reduce((sum, { report }) => sum + (report?.count ?? 0), 0);
  let rateSum = 0;

  const rows = workers.map(({ name, child, title, report, failure }, index) => {
    const count = slots[index] ?? 0;
    const who = `${name} (process ${child.pid ?? "not started"})`;
    if (failure !== undefined) problems.push(`${who} ${failure}`);
    else if (report?.count !== count) {
      problems.push(`${who} reports ${report?.count}, but its slot in the segment holds ${count}`);
    }
    const rate = report && report.seconds > 0 ? report.count / report.seconds : 0;
    rateSum += rate;
    const share = slotSum > 0 ? `${(100 * count / slotSum).toFixed(1)} %` : "";
    return [name, `${child.pid ?? ""}`, title, grouped(count), grouped(rate), share];
  });
  const header = ["worker", "pid", "runtime", "increments", "per second", "share"];
  console.log();
  printTable([header, ...rows, ["total", "", "", grouped(total), grouped(rateSum)]], [0, 2]);

  const sums = `${grouped(total)} in the total, ${grouped(slotSum)} in the workers' slots, ` +
    `${grouped(reportSum)} in their reports`;
  console.log(`\nCounted: ${sums}.`);
  if (total !== slotSum || total !== reportSum) problems.push(`the counts differ: ${sums}`);
  return problems;
}

/** Checks that the last detach removed everything, and returns what it did not. */
function findLeftovers(key: string, traces: SegmentResources): string[] {
  const remaining = traces.remaining().map((trace) => `left behind: ${trace}`);
  if (!traces.tablesReadable && new SharedMemory(key).attach()) {
    remaining.push("left behind: a segment that can be attached");
  }
  if (remaining.length === 0) {
    console.log(`Nothing left behind: ${traces.description}.`);
  }
  return remaining;
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  const { seconds, locked } = options;
  const runtimes = findRuntimes(options);
  const key = `shared-memory-demo-${process.pid}-${Date.now()}`;
  const traces = new SegmentResources(key);
  const problems: string[] = [];
  const workers: Worker[] = [];
  let signal: string | undefined;
  {
    using memory = new SharedMemory(key);
    // Before there is a segment, so that no signal can end us and leave it behind.
    for (const name of Object.keys(EXIT_CODES)) {
      process.on(name, () => {
        if (signal !== undefined) killAll(workers, `a second signal, ${name}`);
        signal ??= name;
        if (memory.isAttached()) Atomics.store(words, PHASE_WORD, Phase.Stopping);
      });
    }
    const bytes = segmentBytes(runtimes.length * options.workers);
    if (!memory.create(bytes)) throw new Error(memory.errorString());
    const words = memory.view(BigUint64Array);
    try {
      workers.push(...startWorkers(runtimes, options.workers, { key, seconds, locked }));
      console.log(
        `${workers.length} workers, one segment of ${bytes} bytes, ` +
          `${locked ? "one lock" : "WITHOUT the lock"}, ${seconds} s; key ${key}`,
      );
      const opened = await openGate(workers, words);
      if (traces.note() === 0 && traces.tablesReadable) {
        problems.push("the segment is not in /proc/sysvipc, where leftovers would be looked for");
      }
      if (opened) await watch(workers, words, seconds);
      else if (signal === undefined) problems.push("not every worker became ready");
    } finally {
      Atomics.store(words, PHASE_WORD, Phase.Stopping);
      await allEnded(workers, STOP_TIMEOUT_MS);
    }
    traces.note();
    if (signal !== undefined) console.log(`Stopped by ${signal}.`);
    problems.push(...verify(workers, words));
    if (!memory.detach()) problems.push(memory.errorString());
  }
  problems.push(...findLeftovers(key, traces));
  for (const problem of problems) console.error(`FAILED: ${problem}`);
  if (problems.length > 0) return 1;
  console.log("All counts are equal.");
  return signal === undefined ? 0 : EXIT_CODES[signal] ?? 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`FAILED: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

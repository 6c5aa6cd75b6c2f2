/**
 * Random load and faults in all installed runtimes together, until the time is over; then the verdict.
 * `node scripts/soak.ts --help` explains it.
 */
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { SharedMemory, SystemSemaphore, SystemSemaphoreMode } from "../mod.ts";
import { Random } from "./random.ts";
import { findRuntime, type Runtime } from "./runtimes.ts";
import { Crew } from "./soak/crew.ts";
import { printTally, type Progress, showProgress } from "./soak/display.ts";
import { disturb } from "./soak/faults.ts";
import { judgeCounters, judgeLeftovers, judgePool } from "./soak/judge.ts";
import { KeyFiles } from "./soak/key_files.ts";
import { controlBytes, counterBytes, Keys, PERMITS } from "./soak/layout.ts";
import { Leftovers } from "./soak/leftovers.ts";
import { describeLocks } from "./soak/locks.ts";
import { parseOptions } from "./soak/options.ts";
import { QtPeer } from "./soak/qt_peer.ts";

const WATCH_MS = 200;

function findRuntimes(): Runtime[] {
  const found: Runtime[] = [];
  for (const runtime of (["deno", "bun", "node"] as const).map(findRuntime)) {
    if ("missing" in runtime) console.error(`Without ${runtime.name}: ${runtime.missing}`);
    else found.push(runtime);
  }
  if (found.length === 0) throw new Error("no runtime is installed");
  return found;
}

function created(key: string, size: number): SharedMemory {
  const memory = new SharedMemory(key);
  if (!memory.create(size)) throw new Error(memory.errorString());
  return memory;
}

/** Waits until the time is over, a signal ends it, or something has failed. */
async function wait(crew: Crew, isOver: () => boolean): Promise<void> {
  while (!isOver() && crew.problems.length === 0) {
    await delay(WATCH_MS);
    crew.watch();
  }
}

async function main(): Promise<number> {
  const { minutes, workers, seed, without } = parseOptions(process.argv.slice(2));
  const runtimes = findRuntimes();
  const base = `shared-memory-soak-${process.pid}-${Date.now()}`;
  const keys = new Keys(base);
  const leftovers = new Leftovers();
  const [all, deleted] = [
    new KeyFiles([...keys.segments, ...keys.semaphores]),
    new KeyFiles([keys.deleted]),
  ];
  const qt = without.includes("qt") ? null : QtPeer.start(keys.reset);
  const slots = runtimes.length * (workers + (qt === null ? 0 : 1));
  const random = new Random(seed);
  let isStopped = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => isStopped = true);

  const memory = created(keys.control, controlBytes(slots));
  const counters = keys.counters.map((key) => created(key, counterBytes(slots)));
  const pool = new SystemSemaphore(keys.pool, PERMITS, SystemSemaphoreMode.Create);
  console.log(`${slots} workers for ${minutes} minutes; --seed ${seed}; keys ${base}`);
  const start = performance.now();
  const crew = new Crew(
    runtimes,
    workers,
    qt?.folder ?? null,
    memory,
    base,
    random,
    () => describeLocks(all),
  );
  const faults = { kills: 0, stops: 0, deletions: 0 };
  const elapsed = () => (performance.now() - start) / 1000;
  const progress: Progress = {
    ...{ crew, faults, elapsed, seconds: minutes * 60 },
    get qtRounds() {
      return qt?.rounds ?? null;
    },
  };
  const isOver = () => isStopped || elapsed() >= minutes * 60 || crew.problems.length > 0;
  const close = showProgress(progress);
  await Promise.all([wait(crew, isOver), disturb(crew, deleted, random, faults, without, isOver)]);
  await crew.stop();
  await qt?.end();
  close();
  printTally(progress);

  if (qt?.pid !== undefined) crew.pids.add(qt.pid);
  crew.pids.add(process.pid);
  const problems = [...crew.problems, ...judgeCounters(counters, crew), ...judgePool(pool)];
  for (const one of [memory, ...counters, pool]) one[Symbol.dispose]();
  problems.push(...judgeLeftovers(keys, crew, leftovers, all, deleted, qt));
  for (const problem of problems) console.error(`FAILED: ${problem}`);
  if (problems.length > 0) {
    console.error(`\nFAILED; --seed ${seed} makes the same choices again.`);
    return 1;
  }
  console.log("\nPASSED: every count is exact, every lock works, nothing is left behind.");
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`FAILED: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

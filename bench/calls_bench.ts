/** Measures what `SharedMemory` does in each runtime beside plain C and Qt itself, which take turns. */
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type Contender as Loner, findContenders, run } from "./contenders.ts";
import { removeLeftovers } from "./leftovers.ts";
import { type Effort, type Entry, measure } from "./measuring.ts";
import { available, bareCalls, type Contender, cppQt, ours } from "./programs.ts";
import { calls, type Samples } from "./report.ts";

/** V8 needs a second to compile all that `create()` and `detach()` call as best it can. */
const warmUpMs = 1000;

/** A new folder on a tmpfs, `null` where there is none. */
function memoryFolder(): string | null {
  const tmpfs = "/dev/shm"; // shm_overview(7)
  const TMPFS_MAGIC = 0x01021994;
  try {
    return statfsSync(tmpfs).type === TMPFS_MAGIC ? mkdtempSync(join(tmpfs, "bench-")) : null;
  } catch {
    return null;
  }
}

/** Who makes the calls, and whose versions are told. */
export function findCallers(): ReturnType<typeof available<Contender>> {
  const runtimes = (["deno", "bun", "node"] as const)
    .map((name) => [name, () => ours(name, "call_jobs.ts")] as const);
  return available([["bare C", bareCalls], ["C++ Qt", cppQt], ...runtimes]);
}

function add(samples: Samples, name: string, title: string, values: readonly number[]): void {
  const own = samples.get(name) ?? {};
  samples.set(name, own);
  (own[title] ??= []).push(...values);
}

/** The calls, each in turns of all who make them. */
async function measureTurns(
  callers: readonly Contender[],
  effort: Effort,
  folders: { usual: string; memory: string | null },
  signal: AbortSignal,
  faults: string[],
): Promise<Samples> {
  const samples: Samples = new Map();
  const options = { combine: "rate", isCounted: false } as const;
  const warm = effort.warmUpMs === 0 ? effort : { ...effort, warmUpMs };
  for (const { title, job, inMemory } of calls) {
    const keys = inMemory ? folders.memory : folders.usual;
    if (keys === null) continue;
    process.stderr.write(`${title}\n`);
    const entryOf = (contender: Contender): Entry => (
      { name: contender.name, contender, job, count: 1 }
    );
    const place = { folder: keys, keys, signal, faults };
    const turnsOfAll = await measure(callers.map(entryOf), options, warm, place);
    for (const [name, turns] of turnsOfAll) {
      add(samples, name, title, turns);
    }
  }
  return samples;
}

/** The rest, `rounds` times; one who goes wrong is out of all of them, and named in `faults`. */
async function measureAlone(
  loners: readonly Loner[],
  rounds: number,
  directory: string,
  signal: AbortSignal,
  faults: string[],
): Promise<Samples> {
  const samples: Samples = new Map(loners.map(({ name }) => [name, {}]));
  for (let round = 1; round <= rounds; round++) {
    for (const loner of loners) {
      const { name } = loner;
      if (!samples.has(name)) continue;
      const key = `bench-${process.pid}-${round}-${name.replaceAll(/\W/g, "")}`;
      process.stderr.write(`round ${round} of ${rounds}: ${name}\n`);
      let fault: string | null = null;
      try {
        const sample = await run(loner, key, directory, signal);
        for (const [title, ns] of Object.entries(sample)) add(samples, name, title, [ns]);
      } catch (error) {
        fault = error instanceof Error ? error.message : String(error);
      }
      const leftovers = removeLeftovers(directory);
      signal.throwIfAborted();
      if (leftovers.length > 0) fault ??= `left behind ${leftovers.join(", ")}`;
      if (fault === null) continue;
      faults.push(`${name}: ${fault}`);
      samples.delete(name);
    }
  }
  return samples;
}

/** All of it, by contender; what goes wrong is told in `faults`. */
export async function measureCalls(
  callers: readonly Contender[],
  effort: Effort,
  rounds: number,
  signal: AbortSignal,
  faults: string[],
): Promise<Samples> {
  const usual = mkdtempSync(join(tmpdir(), "bench-"));
  const memory = memoryFolder();
  try {
    const samples = await measureTurns(callers, effort, { usual, memory }, signal, faults);
    const { present } = findContenders();
    for (const [name, own] of await measureAlone(present, rounds, usual, signal, faults)) {
      samples.set(name, { ...samples.get(name), ...own });
    }
    return samples;
  } finally {
    for (const folder of [usual, memory]) {
      if (folder === null) continue;
      removeLeftovers(folder);
      rmSync(folder, { recursive: true });
    }
  }
}

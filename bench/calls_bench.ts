/** Measures what `SharedMemory` does in each runtime beside plain C and Qt itself, which take turns. */
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { measureAlone } from "./alone.ts";
import { removeLeftovers } from "./leftovers.ts";
import { type Effort, type Entry, measure } from "./measuring.ts";
import { available, bareCalls, type Contender, cppQt, ours, type RuntimeName } from "./programs.ts";
import { addSamples, calls, type Samples } from "./report.ts";

/** It takes V8 so long to compile all that `create()` and `detach()` call as best it can: after a second it is at it still. */
const warmUpMs = 3000;

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
export function findCallers(
  runtimes: readonly RuntimeName[],
): ReturnType<typeof available<Contender>> {
  const own = runtimes.map((name) => [name, () => ours(name, "call_jobs.ts")] as const);
  return available([["bare C", bareCalls], ["C++ Qt", cppQt], ...own]);
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
    const found: string[] = [];
    const place = { folder: keys, keys, signal, faults: found };
    const turnsOfAll = await measure(callers.map(entryOf), options, warm, place);
    for (const [name, turns] of turnsOfAll) addSamples(samples, name, title, turns);
    faults.push(...found.map((fault) => `${title}: ${fault}`));
  }
  return samples;
}

/** All of it, by contender; what goes wrong is told in `faults`. */
export async function measureCalls(
  callers: readonly Contender[],
  runtimes: readonly RuntimeName[],
  effort: Effort,
  signal: AbortSignal,
  faults: string[],
): Promise<Samples> {
  const usual = mkdtempSync(join(tmpdir(), "bench-"));
  const memory = memoryFolder();
  try {
    const samples = await measureTurns(callers, effort, { usual, memory }, signal, faults);
    const alone = await measureAlone(runtimes, effort.alone, usual, signal, faults);
    for (const [name, own] of alone) {
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

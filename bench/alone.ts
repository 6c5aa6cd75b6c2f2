/** Measures in a process alone what compares with something of its own: views, and waiting for the lock. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { removeLeftovers } from "./leftovers.ts";
import type { Effort } from "./measuring.ts";
import { available, compileBare, here, runtime, type RuntimeName } from "./programs.ts";
import { addSamples, type Samples } from "./report.ts";

/** One whose whole run is the arguments of each of its parts. */
interface Loner {
  name: string;
  command: string;
  /** That keep to `key` and to files in `directory`. */
  parts(key: string, directory: string, effort: Effort["alone"]): string[][];
}

function bareC(): Loner {
  const parts: Loner["parts"] = (key, directory, { ms }) => [[String(ms), join(directory, key)]];
  return { name: "bare C", command: compileBare().command, parts };
}

function ours(name: RuntimeName): Loner {
  const [command, args] = runtime(name, "--allow-ffi");
  const [, handOffArgs] = runtime(name); // for the other process, and for the socket
  const parts: Loner["parts"] = (key, directory, { ms, handOffs }) => [
    [...args, join(here, "views.ts"), key, String(ms)],
    [...handOffArgs, join(here, "hand_off.ts"), key, directory, String(handOffs)],
  ];
  return { name, command, parts };
}

/** Runs it once. Its key files go into `directory`, so that none can be missed. */
async function run(
  { name, command, parts }: Loner,
  key: string,
  directory: string,
  effort: Effort["alone"],
  signal: AbortSignal,
): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const args of parts(key, directory, effort)) {
    const { stdout } = await promisify(execFile)(
      command,
      args,
      { env: { ...process.env, TMPDIR: directory, NO_COLOR: "1" }, signal, timeout: 120_000 },
    );
    Object.assign(found, JSON.parse(stdout));
  }
  for (const [measure, ns] of Object.entries(found)) {
    if (!(ns > 0)) throw new Error(`${name}: ${measure} took ${ns} ns`);
  }
  return found;
}

/** Whoever of `runtimes` goes wrong is out of all rounds, and named in `faults`. */
export async function measureAlone(
  runtimes: readonly RuntimeName[],
  effort: Effort["alone"],
  directory: string,
  signal: AbortSignal,
  faults: string[],
): Promise<Samples> {
  const { present } = available<Loner>([
    ["bare C", bareC],
    ...runtimes.map((name) => [name, () => ours(name)] as const),
  ]);
  const samples: Samples = new Map(present.map(({ name }) => [name, {}]));
  for (let round = 1; round <= effort.rounds; round++) {
    for (const loner of present) {
      const { name } = loner;
      if (!samples.has(name)) continue;
      const key = `bench-${process.pid}-${round}-${name.replaceAll(/\W/g, "")}`;
      process.stderr.write(`round ${round} of ${effort.rounds}: ${name}\n`);
      let fault: string | null = null;
      try {
        const found = await run(loner, key, directory, effort, signal);
        for (const [title, ns] of Object.entries(found)) addSamples(samples, name, title, [ns]);
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

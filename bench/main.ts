/**
 * Measures the module in each runtime against plain C and Qt itself, in one interleaved run:
 * `npm run bench`.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, tmpdir, type } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { type Contender, findContenders, run } from "./contenders.ts";
import { removeLeftovers } from "./leftovers.ts";
import { goalLine, goalsOf, rowsOf, type Samples, tableOf } from "./report.ts";

const usage = `usage: npm run bench -- [--rounds N] [--json FILE]

Every contender runs once per round as a process of its own.
The exit code tells of wrong results, not of goals that are not met.

  --rounds N   number of rounds (default 7)
  --json FILE  also write all samples, medians and goals to FILE
  --help       print this
`;

interface Options {
  rounds: number;
  json: string | undefined;
}

function parseOptions(): Options {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "7" },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    process.exit();
  }
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new TypeError(`--rounds ${values.rounds}`);
  return { rounds, json: values.json };
}

function options(): Options {
  try {
    return parseOptions();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    console.error(`${error.message}\n\n${usage}`);
    process.exit(2);
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
  const directory = mkdtempSync(join(tmpdir(), "bench-"));
  process.once("exit", () => {
    removeLeftovers(directory);
    rmSync(directory, { recursive: true });
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
        own.push(await run(contender, key, directory, signal));
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

const { rounds, json } = options();
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
const { present, absent } = findContenders();
console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.kernel}`);
console.log(`load average ${machine.load.toFixed(2)} at the start, rounds: ${rounds}`);
console.log(`key files in ${tmpdir()} (TMPDIR)\n`);
for (const { name, version } of present) console.log(`${name.padEnd(8)}${version}`);
for (const { name, reason } of absent) {
  console.log(`${name.padEnd(8)}does not take part: ${reason}`);
}

const faults: string[] = [];
const samples = await runRounds(present, rounds, faults, interrupt.signal).catch((error) => {
  if (!interrupt.signal.aborted) throw error;
  process.exit(130);
});
const rows = rowsOf(samples);
const goals = goalsOf(samples);
console.log(`\n${tableOf(rows)}\n`);
console.log(`load average ${loadavg()[0]!.toFixed(2)} at the end\n\nGoals`);
for (const goal of goals) console.log(goalLine(goal));
for (const fault of faults) console.error(`\nWRONG  ${fault}`);
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
process.exitCode = faults.length > 0 ? 1 : 0;

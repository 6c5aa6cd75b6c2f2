/** Has each runtime measure how long a message takes to a process that sleeps. */
import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { ways } from "./latency_pair.ts";
import { removeLeftovers } from "./leftovers.ts";
import type { Effort, Place } from "./measuring.ts";
import type { Setup } from "./peers/contenders.ts";
import { here, runtime, type RuntimeName } from "./programs.ts";
import { median } from "./timing.ts";
import { ratioVerdict, type Verdict } from "./verdicts.ts";

export interface LatencyRow {
  way: string;
  name: string;
  /** Of a message in ns: the time that half of them take at most, and 99 of 100. */
  p50: number;
  p99: number;
}

/** A subscriber hears of a message at most this number of times later than a round trip on a socket takes. */
const targetToRoundTrip = 2;

/** Returns the times in ns of the messages of one run, by the ways. */
async function run(
  name: RuntimeName,
  key: string,
  { keys, folder, signal }: Place,
  messages: number,
  redis: Setup | undefined,
): Promise<Record<string, number[]>> {
  const [command, args] = runtime(name);
  const own = join(folder, key);
  mkdirSync(own);
  const socket = redis?.env?.["BENCH_REDIS"];
  const { stdout } = await promisify(execFile)(
    command,
    [
      ...args,
      join(here, "latency.ts"),
      key,
      own,
      String(messages),
      ...(socket === undefined ? [] : [socket]),
    ],
    {
      env: { ...process.env, TMPDIR: keys, NO_COLOR: "1", NODE_NO_WARNINGS: "1" },
      signal,
      timeout: 120_000,
      maxBuffer: 2 ** 26,
    },
  );
  return JSON.parse(stdout);
}

function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;
}

/** @param redis the server, if it is to be measured too */
export async function measureLatency(
  names: readonly RuntimeName[],
  { alone: { rounds, handOffs } }: Effort,
  place: Place,
  redis: Setup | undefined,
): Promise<{ rows: LatencyRow[]; verdicts: Verdict[] }> {
  const { keys, signal, faults } = place;
  const times = new Map<RuntimeName, Record<string, number[]>>(names.map((name) => [name, {}]));
  const ratios = new Map<RuntimeName, number[]>(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const name of names) {
      if (!times.has(name)) continue;
      process.stderr.write(`a message to a sleeper: round ${round + 1} of ${rounds}, ${name}\n`);
      const key = `bench-latency-${process.pid}-${round}-${name}`;
      let fault: string | undefined;
      try {
        const found = await run(name, key, place, handOffs, redis);
        const own = times.get(name)!;
        for (const [way, all] of Object.entries(found)) (own[way] ??= []).push(...all);
        ratios.get(name)!.push(median(found[ways.topic]!) / median(found[ways.echo]!));
      } catch (error) {
        fault = error instanceof Error ? error.message : String(error);
      }
      const leftovers = removeLeftovers(keys);
      signal.throwIfAborted();
      if (leftovers.length > 0) fault ??= `left behind ${leftovers.join(", ")}`;
      if (fault === undefined) continue;
      faults.push(`${name}, a message to a sleeper: ${fault}`);
      times.delete(name);
    }
  }
  const rows = Object.values(ways).flatMap((way) =>
    [...times].flatMap(([name, own]): LatencyRow[] => {
      const sorted = own[way]?.toSorted((a, b) => a - b);
      if (sorted === undefined) return [];
      return [{ way, name, p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) }];
    })
  );
  const verdicts = names.map((name) =>
    ratioVerdict(
      `${ways.topic}, half of all`,
      name,
      ways.echo,
      targetToRoundTrip,
      times.has(name) ? median(ratios.get(name)!) : undefined,
    )
  );
  return { rows, verdicts };
}

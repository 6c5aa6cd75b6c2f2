/** The part of `npm run bench` about the queue, the topic and the value, and what it writes to docs/performance.md. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { type LatencyRow, measureLatency } from "./latency_bench.ts";
import { measureMessaging, type MessagingRow } from "./messaging_bench.ts";
import { publishing } from "./messaging_measures.ts";
import { fill, today } from "./page.ts";
import { versionsOf } from "./peer_table.ts";
import { type Setup, startRedis } from "./peers/contenders.ts";
import type { PerformanceOptions } from "./performance.ts";
import { type Absent, available, c, ours, runtimeNames, Unavailable } from "./programs.ts";
import { bareC } from "./sync_measures.ts";
import { duration, markdownTable, times } from "./table.ts";
import { verdictTable } from "./verdicts.ts";

/** What a row is compared with, and what each of the woken costs. */
function comparison(
  { name, ns, ratios, woken }: MessagingRow,
  rows: readonly MessagingRow[],
): string {
  const compared = Object.entries(ratios).map(([other, ratio]) => `${times(ratio)} ${other}`);
  const alone = rows.find((row) => row.name === name && row.title === publishing);
  if (woken !== undefined && alone !== undefined) {
    compared.push(`${duration(Math.max(0, ns - alone.ns) / woken)} for each`);
  }
  return compared.join(", ");
}

function messagingTable(rows: readonly MessagingRow[]): string {
  let last = "";
  return markdownTable(
    ["operation", "program", "processes", "time", "compared with"],
    rows.map((row) => {
      const { title, name, count, ns } = row;
      const cells = [
        title === last ? "" : title,
        name,
        String(count),
        duration(ns),
        comparison(row, rows),
      ];
      last = title;
      return cells;
    }),
  );
}

function latencyTable(rows: readonly LatencyRow[]): string {
  const names = [...new Set(rows.map(({ name }) => name))];
  const ways = [...new Set(rows.map(({ way }) => way))];
  return markdownTable(
    ["", ...names.flatMap((name) => [`${name}: half take at most`, "99 % take at most"])],
    ways.map((way) => [
      way,
      ...names.flatMap((name) => {
        const row = rows.find((row) => row.name === name && row.way === way);
        return row === undefined ? ["", ""] : [duration(row.p50), duration(row.p99)];
      }),
    ]),
  );
}

async function findRedis(folder: string, absent: Absent[]): Promise<Setup | undefined> {
  try {
    return await startRedis(folder);
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    absent.push({ name: "Redis", reason: error.message });
    return undefined;
  }
}

/** Returns what went wrong. */
export async function messagingPerformance(options: PerformanceOptions): Promise<string[]> {
  const { effort, withPeers, write, machine, runtimes, isShort, signal } = options;
  const own = runtimes.map((name) => [name, () => ours(name, "messaging_jobs.ts")] as const);
  const { present, absent } = available([[bareC, () => c("ring")], ...own]);
  for (const { name, reason } of absent) console.log(`${name} does not take part: ${reason}`);

  const faults: string[] = [];
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  const keys = join(folder, "keys");
  mkdirSync(keys);
  const place = { folder, keys, signal, faults };
  const load = loadavg()[0]!;
  const redis = withPeers ? await findRedis(folder, absent) : undefined;
  try {
    const found = await measureMessaging(present, effort, place, isShort);
    const names = runtimeNames.filter((name) => present.some((one) => one.name === name));
    const latency = await measureLatency(names, effort, place, redis);
    const verdicts = [...found.verdicts, ...latency.verdicts];
    console.log(`\n${messagingTable(found.rows)}\n\n${latencyTable(latency.rows)}`);
    console.log(`\n${verdictTable(verdicts)}`);
    if (write !== undefined) {
      const when = `${today()}, ${machine}, load average ${load.toFixed(1)} at the start.`;
      const { rounds, turns, turnMs, alone } = effort;
      const many = `${
        rounds * turns
      } turns of ${turnMs} ms, by processes started anew ${rounds} times.`;
      const messages = `${alone.rounds * alone.handOffs} messages.`;
      const redisText = redis === undefined ? "" : ` Redis ${redis.version}.`;
      fill(write.page, {
        messaging: `${when} ${versionsOf(present, absent)} ${many}\n\n${
          messagingTable(found.rows)
        }`,
        "messaging-latency": `${when}${redisText} ${messages}\n\n${latencyTable(latency.rows)}`,
        "messaging-targets": verdictTable(verdicts),
      });
    }
  } finally {
    redis?.stop?.();
    rmSync(folder, { recursive: true });
  }
  return faults;
}

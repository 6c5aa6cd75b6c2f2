/** The part of `npm run bench` about `./sync`, and what it writes: docs/performance.md and its chart. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { chartOf } from "./chart.ts";
import type { Effort } from "./measuring.ts";
import { fill, format, today } from "./page.ts";
import { measurePeers } from "./peers_bench.ts";
import { peerTable, versionsOf } from "./peer_table.ts";
import { available, c, cppQt, ours, type RuntimeName } from "./programs.ts";
import { measureSync, type SyncRow } from "./sync_bench.ts";
import { atomics, bareC, qt } from "./sync_measures.ts";
import { duration, markdownTable, times } from "./table.ts";
import { verdictTable } from "./verdicts.ts";

export interface PerformanceOptions {
  effort: Effort;
  withPeers: boolean;
  /** Where to put the page's tables and the charts, or nowhere. */
  write: { page: string; chart: string; collectionsChart: string } | undefined;
  /** The machine, in a line. */
  machine: string;
  runtimes: readonly RuntimeName[];
  /** Whether to measure each with its smallest number of processes only. */
  isShort: boolean;
  signal: AbortSignal;
}

function syncTable(rows: readonly SyncRow[]): string {
  let last = "";
  return markdownTable(
    ["operation", "program", "processes", "time", `to ${bareC}`, `to ${qt}`, `to ${atomics}`],
    rows.map(({ title, count, name, ns, ratios }) => {
      const cells = [
        title === last ? "" : title,
        name,
        String(count),
        duration(ns),
        times(ratios[bareC]),
        times(ratios[qt]),
        times(ratios[atomics]),
      ];
      last = title;
      return cells;
    }),
  );
}

/** Returns what went wrong. */
export async function performance(options: PerformanceOptions): Promise<string[]> {
  const { effort, withPeers, write, machine, runtimes, isShort, signal } = options;
  const own = runtimes.map((name) => [name, () => ours(name)] as const);
  const { present, absent } = available([[bareC, () => c()], [qt, cppQt], ...own]);
  for (const { name, reason } of absent) console.log(`${name} does not take part: ${reason}`);

  const faults: string[] = [];
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  const keys = join(folder, "keys");
  mkdirSync(keys);
  const place = { folder, keys, signal, faults };
  try {
    const { rows, verdicts } = await measureSync(present, effort, place, isShort);
    console.log(`\n${syncTable(rows)}\n\n${verdictTable(verdicts)}`);
    const runtimesPresent = present.filter(({ name }) => name !== bareC && name !== qt);
    const peersEffort = { ...effort, rounds: Math.min(2, effort.rounds) }; // some are slow
    const peers = withPeers ? await measurePeers(runtimesPresent, peersEffort, place) : undefined;
    if (peers !== undefined) {
      console.log(`\n${peerTable(peers.rows)}`);
      for (const { name, reason } of peers.absent) console.log(`${name} is left out: ${reason}`);
    }
    if (write !== undefined) {
      const versions = versionsOf(present, absent);
      const tables: Record<string, string> = {
        run: `${today()}, ${machine}. ${versions}`,
        sync: syncTable(rows),
        targets: verdictTable(verdicts),
      };
      if (peers !== undefined) {
        tables["peers"] = `${today()}, ${machine}. ${versionsOf(peers.present, peers.absent)}\n\n${
          peerTable(peers.rows)
        }`;
        writeFileSync(write.chart, chartOf(peers.rows, `${machine}, ${today()}`));
        format(write.chart);
      }
      fill(write.page, tables);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return faults;
}

export function describeMachine(cpu: string, cores: number, kernel: string): string {
  return `${cpu}, ${cores} ${cores === 1 ? "core" : "cores"}, ${kernel}, ${process.arch}`;
}

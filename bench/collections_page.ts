/** The part of `npm run bench` about `./collections`, and what it writes: docs/performance.md and its chart. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { chartOf } from "./chart.ts";
import { type CollectionRow, measureCollections } from "./collections_bench.ts";
import { measureCollectionPeers, type Memory } from "./collection_peers.ts";
import type { Effort } from "./measuring.ts";
import { entries } from "./map_data.ts";
import { fill, format, today } from "./page.ts";
import { peerTable, versionsOf } from "./peer_table.ts";
import type { PerformanceOptions } from "./performance.ts";
import { available, c, ours } from "./programs.ts";
import { bareC } from "./sync_measures.ts";
import { duration, markdownTable, times } from "./table.ts";
import { verdictTable } from "./verdicts.ts";

function perSecond(ns: number): string {
  return `${(1e3 / ns).toPrecision(2)} million`;
}

function collectionTable(rows: readonly CollectionRow[]): string {
  let last = "";
  return markdownTable(
    [
      "operation",
      "program",
      "processes",
      "time",
      `to ${bareC}`,
      "half take at most",
      "99 % take at most",
      "in a second",
    ],
    rows.map(({ title, count, name, ns, toC, p50, p99 }) => {
      const cells = [
        title === last ? "" : title,
        name,
        String(count),
        duration(ns),
        times(toC),
        duration(p50),
        duration(p99),
        perSecond(ns),
      ];
      last = title;
      return cells;
    }),
  );
}

function memoryTable(memory: readonly Memory[]): string {
  return markdownTable(
    ["", `${entries.toLocaleString("en-US")} entries`, "each"],
    memory.map(({ name, bytes, isOurs }) => [
      isOurs ? `**this module (${name})**` : name,
      `${(bytes / 2 ** 20).toFixed(1)} MiB`,
      `${(bytes / entries).toFixed(0)} bytes`,
    ]),
  );
}

function turnsText({ rounds, turns, turnMs }: Effort): string {
  return `${rounds * turns} turns of ${turnMs} ms, by processes started anew ${rounds} times.`;
}

/** Returns what went wrong. */
export async function collectionsPerformance(options: PerformanceOptions): Promise<string[]> {
  const { effort, withPeers, write, machine, runtimes, isShort, signal } = options;
  const own = runtimes.map((name) => [name, () => ours(name, "collection_jobs.ts")] as const);
  const { present, absent } = available([[bareC, () => c("map")], ...own]);
  for (const { name, reason } of absent) console.log(`${name} does not take part: ${reason}`);

  const faults: string[] = [];
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  const keys = join(folder, "keys");
  mkdirSync(keys);
  const place = { folder, keys, signal, faults };
  const load = loadavg()[0]!;
  try {
    const { rows, verdicts } = await measureCollections(present, effort, place, isShort);
    console.log(`\n${collectionTable(rows)}\n\n${verdictTable(verdicts)}`);
    const runtimesPresent = present.filter(({ name }) => name !== bareC);
    const peersEffort = { ...effort, rounds: Math.min(2, effort.rounds) }; // some are slow
    const peers = withPeers
      ? await measureCollectionPeers(runtimesPresent, peersEffort, place)
      : undefined;
    if (peers !== undefined) {
      console.log(`\n${peerTable(peers.rows)}\n\n${verdictTable(peers.verdicts)}`);
      console.log(`\n${memoryTable(peers.memory)}`);
      for (const { name, reason } of peers.absent) console.log(`${name} is left out: ${reason}`);
    }
    if (write !== undefined) {
      const when = `${today()}, ${machine}, load average ${load.toFixed(1)} at the start.`;
      const tables: Record<string, string> = {
        collections: `${when} ${versionsOf(present, absent)} ${turnsText(effort)}\n\n${
          collectionTable(rows)
        }`,
        "collections-targets": verdictTable(verdicts),
      };
      if (peers !== undefined) {
        const who = versionsOf(peers.present, peers.absent);
        tables["collections-peers"] = `${when} ${who} ${turnsText(peersEffort)}\n\n${
          peerTable(peers.rows)
        }`;
        tables["collections-peers-targets"] = verdictTable(peers.verdicts);
        tables["collections-memory"] = memoryTable(peers.memory);
        writeFileSync(write.collectionsChart, chartOf(peers.rows, `${machine}, ${today()}`));
        format(write.collectionsChart);
      }
      fill(write.page, tables);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return faults;
}

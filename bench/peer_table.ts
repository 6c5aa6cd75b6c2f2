/** What the peers took, as a table, and who took part. */
import type { PeerRow } from "./peers_bench.ts";
import type { Absent, Contender } from "./programs.ts";
import { duration, markdownTable } from "./table.ts";

export function peerTable(rows: readonly PeerRow[]): string {
  const names = [...new Set(rows.map(({ name }) => name))];
  const titles = [...new Set(rows.map(({ title }) => title))];
  return markdownTable(
    ["", ...titles],
    names.map((name) => [
      rows.some((row) => row.name === name && row.isOurs) ? `**this module (${name})**` : name,
      ...titles.map((title) => {
        const ns = rows.find((row) => row.name === name && row.title === title)?.ns;
        return ns === undefined ? "" : duration(ns);
      }),
    ]),
  );
}

export function versionsOf(present: readonly Contender[], absent: readonly Absent[]): string {
  const versions = present.map(({ name, version }) =>
    version.startsWith(name) ? version : `${name} ${version}`
  );
  const missing = absent.map(({ name, reason }) => `${name} (${reason})`);
  const left = missing.length === 0 ? "" : ` Left out: ${missing.join("; ")}.`;
  return `${[...new Set(versions)].join(", ")}.${left}`;
}

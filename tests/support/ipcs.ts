/** What macOS has of System V objects, by its command `ipcs`, as there is no `/proc`. */
import { spawnSync } from "node:child_process";

/** The names that Linux has for columns of `ipcs -a`. */
const NAMES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  shm: { ID: "shmid", KEY: "key", NATTCH: "nattch", SEGSZ: "size", CPID: "cpid", LPID: "lpid" },
  sem: { ID: "semid", KEY: "key", NSEMS: "nsems" },
};

/** The segments or semaphore sets: the text of each column under the name that Linux has for it. */
export function ipcsRows(table: "shm" | "sem"): Record<string, string>[] {
  const { stdout } = spawnSync("ipcs", ["-a", table === "shm" ? "-m" : "-s"], { encoding: "utf8" });
  return parseIpcs(stdout, table);
}

/** The same of what `ipcs` has printed. */
export function parseIpcs(text: string, table: "shm" | "sem"): Record<string, string>[] {
  const lines = text.split("\n").map((line) => line.trim().split(/\s+/));
  const heading = lines.find(([first]) => first === "T") ?? [];
  const rows = lines.filter(([first]) => first === (table === "shm" ? "m" : "s"));
  return rows.map((row) =>
    Object.fromEntries(heading.flatMap((title, column) => {
      const name = NAMES[table]![title];
      return name === undefined ? [] : [[name, row[column]!]];
    }))
  );
}

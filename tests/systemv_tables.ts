/** What the kernel says about System V objects, for tests of what Qt and other peers find there. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { ftok, ipcObjects, segmentFile, semaphoreFile } from "./support.ts";

/** A row of `/proc/sysvipc/shm` or `sem`: the text of each column under its heading. */
export type Row = Readonly<Record<string, string>>;

/** The object of a System V key, if there is one. */
export function systemVRow(table: "shm" | "sem", key: number): Row | undefined {
  const [heading, ...lines] = readFileSync(`/proc/sysvipc/${table}`, "utf8").trim().split("\n")
    .map((line) => line.trim().split(/\s+/));
  const row = lines.find(([value]) => Number(value) === key);
  return row && Object.fromEntries(heading!.map((name, column) => [name, row[column]!]));
}

/** The segment of a Qt key, which must exist. */
export function segmentRow(key: string): Row {
  return existing("shm", segmentFile(key));
}

/** The semaphore of a Qt key, which must exist. */
export function semaphoreRow(key: string): Row {
  return existing("sem", semaphoreFile(key));
}

function existing(table: "shm" | "sem", path: string): Row {
  const row = systemVRow(table, ftok(path));
  if (row === undefined) throw new Error(`no ${table} object belongs to ${path}`);
  return row;
}

/** Notes what belongs to a key now; the function it returns says what of that is still there. */
export function watchObjects(key: string): () => string[] {
  const objects = [
    `shm ${segmentRow(key)["shmid"]}`,
    `sem ${semaphoreRow(key)["semid"]}`,
    basename(segmentFile(key)),
    basename(semaphoreFile(key)),
  ];
  return () => ipcObjects().filter((object) => objects.includes(object));
}

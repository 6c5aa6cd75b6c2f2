/** What the kernel says about System V objects, for tests of what Qt and other peers find there. */
import assert from "node:assert/strict";
import { basename } from "node:path";
import { ftok, ipcObjects, type Row, segmentFile, semaphoreFile, systemVOnly } from "./support.ts";
import { systemVRows, until, untilBlocked } from "./support.ts";

export type { Row };

/** The object of a System V key, if there is one. */
export function systemVRow(table: "shm" | "sem", key: number): Row | undefined {
  return systemVRows(table).find((row) => (Number(row["key"]) | 0) === key);
}

/** The segment of a Qt key, which must exist. */
export function segmentRow(key: string): Row {
  return existing("shm", segmentFile(key));
}

/** Asserts how often the segment of a Qt key is attached; Windows only tells that it is there. */
export function assertAttached(key: string, count: number): void {
  if (systemVOnly.skip === undefined) assert.equal(Number(segmentRow(key)["nattch"]), count);
  else assert.equal(ipcObjects().includes(segmentFile(key)), count > 0);
}

/** Waits until the segment of a Qt key is attached so often; Windows does not tell. */
export async function untilAttached(key: string, count: number, what: string): Promise<void> {
  if (systemVOnly.skip !== undefined) return await untilBlocked(key);
  await until(() => Number(segmentRow(key)["nattch"]) === count, what);
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

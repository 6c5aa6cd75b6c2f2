/** What the kernel has, as the model says it must be. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { ftok, semaphoreValue } from "../support/support.ts";
import { MEMORY_KEYS, type Names, OWN_PATHS, pathOf, SEMAPHORE_KEYS } from "./names.ts";
import type { World } from "./world.ts";

/** Of each segment of the system: its size and how many are attached. */
function segmentTable(): Map<number, string> {
  const rows = readFileSync("/proc/sysvipc/shm", "utf8").trim().split("\n").slice(1);
  return new Map(rows.map((row) => {
    const [key, , , size, , , attached] = row.trim().split(/\s+/);
    return [Number(key), `${size} bytes, ${attached} attached`];
  }));
}

/** A line for everything there is, and for nothing where there must be nothing. */
export function actualSystem(world: World, names: Names): Record<string, unknown> {
  const table = segmentTable();
  const result: Record<string, unknown> = {};
  for (const path of [...MEMORY_KEYS.map(pathOf), ...OWN_PATHS]) {
    const hasFile = statSync(names.full(path), { throwIfNoEntry: false }) !== undefined;
    result[`segment ${path}`] = hasFile ? table.get(ftok(names.full(path))) ?? null : null;
    result[`file ${path}`] = hasFile;
  }
  for (const key of MEMORY_KEYS) {
    const value = semaphoreValue(names.full(key));
    const place = world.place(pathOf(key));
    result[`lock ${key}`] = value === 0 ? "held" : value === -1 || value === 1 ? "free" : value;
    result[`lock file ${key}`] = isUnknown(place) || existsSync(names.semaphorePath(key));
  }
  for (const key of SEMAPHORE_KEYS) {
    const value = semaphoreValue(names.full(key));
    result[`semaphore ${key}`] = value === -1 ? null : value;
    result[`semaphore file ${key}`] = existsSync(names.semaphorePath(key));
  }
  return result;
}

export function expectedSystem(world: World): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const path of [...MEMORY_KEYS.map(pathOf), ...OWN_PATHS]) {
    const { segment, hasFile } = world.place(path);
    const row = segment && `${segment.bytes.length} bytes, ${segment.users.size} attached`;
    result[`segment ${path}`] = row;
    result[`file ${path}`] = hasFile;
  }
  for (const key of MEMORY_KEYS) {
    result[`lock ${key}`] = world.holders.has(key) ? "held" : "free";
    result[`lock file ${key}`] = isUnknown(world.place(pathOf(key)));
  }
  for (const key of SEMAPHORE_KEYS) {
    const semaphore = world.semaphores.get(key);
    result[`semaphore ${key}`] = semaphore?.value ?? null;
    result[`semaphore file ${key}`] = semaphore !== undefined;
  }
  return result;
}

/** Where there is a segment its lock may not be there, as it is made when it is needed. */
function isUnknown({ segment, wasNative }: { segment: unknown; wasNative: boolean }): boolean {
  return segment !== null || wasNative;
}

/** SQLite as the runtime has it: a file in WAL mode, which a power cut may set back but not break. */
import { statSync } from "node:fs";
import process from "node:process";
import { limits } from "../map_data.ts";
import type { LocalStore } from "./map_jobs.ts";

interface Statement {
  run(...values: unknown[]): unknown;
  get(...values: unknown[]): unknown;
}

interface Database {
  exec(sql: string): unknown;
  prepare(sql: string): Statement;
  close(): void;
}

export async function open(folder: string): Promise<{ local: LocalStore }> {
  const file = `${folder}/entries.sqlite`;
  const { Database, DatabaseSync } = await import(
    process.versions["bun"] ? "bun:sqlite" : "node:sqlite"
  );
  const database: Database = new (Database ?? DatabaseSync)(file);
  database.exec("PRAGMA busy_timeout = 10000");
  database.exec("PRAGMA journal_mode = WAL");
  database.exec("PRAGMA synchronous = NORMAL");
  database.exec("CREATE TABLE entries (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID");
  database.exec("CREATE TABLE numbers (name TEXT PRIMARY KEY, value REAL) WITHOUT ROWID");
  const get = database.prepare("SELECT value FROM entries WHERE name = ?");
  const set = database.prepare(
    "INSERT INTO entries VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
  );
  const incr = database.prepare(
    "INSERT INTO numbers VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1",
  );
  const number = database.prepare("SELECT value FROM numbers WHERE name = ?");
  // The value is when the allowance is whole again: that is at ?3 if nothing was used, and ?4 at most.
  const take = database.prepare(
    "INSERT INTO numbers VALUES (?1, ?3) ON CONFLICT DO UPDATE SET value = max(value + ?2, ?3) " +
      "WHERE value + ?2 <= ?4 RETURNING value",
  );
  const interval = limits.window / limits.limit;
  const local: LocalStore = {
    fill(keys, valueOf) {
      database.exec("BEGIN");
      keys.forEach((key, i) => void set.run(key, valueOf(i)));
      database.exec("COMMIT");
    },
    get: (key) => (get.get(key) as { value: Uint8Array }).value,
    set: (key, value) => void set.run(key, value),
    incr: (key) => void incr.run(key),
    number: (key) => (number.get(key) as { value: number } | undefined)?.value ?? 0,
    take(key) {
      const now = performance.timeOrigin + performance.now();
      const row = take.get(key, interval, now + interval, now + limits.burst * interval);
      return row !== undefined && row !== null;
    },
    bytes() {
      database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
      return statSync(file).size;
    },
    close: () => database.close(),
  };
  return { local };
}

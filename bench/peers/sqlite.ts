/** SQLite as the runtime has it: a file in WAL mode, which a power cut may set back but not break. */
import process from "node:process";
import type { PollingStore } from "./jobs.ts";

interface Statement {
  run(...values: unknown[]): unknown;
  get(...values: unknown[]): unknown;
}

interface Database {
  exec(sql: string): unknown;
  prepare(sql: string): Statement;
  close(): void;
}

export async function open(folder: string, index: number): Promise<{ store: PollingStore }> {
  const file = `${folder}/counters.sqlite`;
  const { Database, DatabaseSync } = await import(
    process.versions["bun"] ? "bun:sqlite" : "node:sqlite"
  );
  const database: Database = new (Database ?? DatabaseSync)(file);
  database.exec("PRAGMA busy_timeout = 10000");
  if (index === 0) {
    database.exec("PRAGMA journal_mode = WAL");
    database.exec("CREATE TABLE numbers (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID");
    database.exec("CREATE TABLE blobs (id INTEGER PRIMARY KEY, bytes BLOB)");
    database.exec("INSERT INTO numbers VALUES ('total', 0), ('ping', 0), ('pong', 0)");
    database.exec("INSERT INTO blobs VALUES (1, NULL)");
  }
  database.exec("PRAGMA synchronous = NORMAL");
  const increment = database.prepare("UPDATE numbers SET value = value + 1 WHERE name = 'total'");
  const set = database.prepare("UPDATE numbers SET value = ? WHERE name = ?");
  const get = database.prepare("SELECT value FROM numbers WHERE name = ?");
  const write = database.prepare("UPDATE blobs SET bytes = ? WHERE id = 1");
  const read = database.prepare("SELECT bytes FROM blobs WHERE id = 1");
  const value = (name: string) => (get.get(name) as { value: number }).value;
  return {
    store: {
      increment: () => void increment.run(),
      total: () => value("total"),
      set: (name, value) => void set.run(value, name),
      get: value,
      write: (bytes) => void write.run(bytes),
      read: () => (read.get() as { bytes: Uint8Array }).bytes,
      close: () => database.close(),
    },
  };
}

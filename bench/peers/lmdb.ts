/** LMDB by the npm package `lmdb`, which the benchmark installs into its own folder; not forced onto the disk. */
import { createRequire } from "node:module";
import process from "node:process";
import type { PollingStore } from "./jobs.ts";

interface Database {
  get(key: string): number;
  getBinary(key: string): Uint8Array;
  putSync(key: string, value: unknown): void;
  transactionSync(action: () => void): void;
  resetReadTxn(): void;
  close(): Promise<void>;
}

export function open(folder: string, index: number): Promise<{ store: PollingStore }> {
  const require = createRequire(`${process.env["BENCH_LMDB"]}/`);
  const path = `${folder}/numbers.mdb`;
  const options = { path, noSync: true, mapSize: 64 * 2 ** 20 };
  const numbers: Database = require("lmdb").open(options);
  const blobs: Database = require("lmdb").open({
    ...options,
    path: `${path}-blobs`,
    encoding: "binary",
  });
  if (index === 0) { for (const name of ["total", "ping", "pong"]) numbers.putSync(name, 0); }
  const get = (name: string) => {
    numbers.resetReadTxn(); // or it goes on seeing what was there at first
    return numbers.get(name);
  };
  return Promise.resolve({
    store: {
      increment: () =>
        numbers.transactionSync(() => numbers.putSync("total", numbers.get("total") + 1)),
      total: () => get("total"),
      set: (name, value) => numbers.putSync(name, value),
      get,
      write: (bytes) => blobs.putSync("mib", bytes),
      read() {
        blobs.resetReadTxn();
        return blobs.getBinary("mib");
      },
      close() {
        void numbers.close();
        void blobs.close();
      },
    },
  });
}

/** LMDB by the npm package `lmdb`; not forced onto the disk. */
import { statSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";
import { limits } from "../map_data.ts";
import type { LocalStore } from "./map_jobs.ts";

interface Database {
  get(key: string): number | undefined;
  getBinary(key: string): Uint8Array;
  putSync(key: string, value: unknown): void;
  transactionSync<Result>(action: () => Result): Result;
  resetReadTxn(): void;
  close(): Promise<void>;
}

export function open(folder: string): Promise<{ local: LocalStore }> {
  const require = createRequire(`${process.env["BENCH_LMDB"]}/`);
  const options = { noSync: true, mapSize: 256 * 2 ** 20 };
  const path = `${folder}/entries.mdb`;
  const values: Database = require("lmdb").open({ ...options, path, encoding: "binary" });
  const numbers: Database = require("lmdb").open({ ...options, path: `${folder}/numbers.mdb` });
  const interval = limits.window / limits.limit;
  const local: LocalStore = {
    fill(keys, valueOf) {
      values.transactionSync(() => keys.forEach((key, i) => values.putSync(key, valueOf(i))));
    },
    get(key) {
      values.resetReadTxn(); // or it goes on seeing what was there at first
      return values.getBinary(key);
    },
    set: (key, value) => values.putSync(key, value),
    incr: (key) => numbers.transactionSync(() => numbers.putSync(key, (numbers.get(key) ?? 0) + 1)),
    number(key) {
      numbers.resetReadTxn();
      return numbers.get(key) ?? 0;
    },
    take: (key) =>
      numbers.transactionSync(() => {
        const now = performance.timeOrigin + performance.now();
        const whole = Math.max(numbers.get(key) ?? 0, now) + interval;
        if (whole > now + limits.burst * interval) return false;
        numbers.putSync(key, whole);
        return true;
      }),
    bytes: () => statSync(path).size,
    close() {
      void values.close();
      void numbers.close();
    },
  };
  return Promise.resolve({ local });
}

import type { Libc } from "../unix/libc.ts";
import { userName } from "../unix/users.ts";
import { readTableIfAny } from "./proc_tables.ts";

/** Returns the name of the user who owns the segment or semaphore set of a key, for an error text; "" if unknown. */
export function ownerOf(libc: Libc, table: "shm" | "sem", key: number): string {
  const row = readTableIfAny(libc, table).find((row) => row["key"] === key);
  return row === undefined ? "" : userName(libc, row["uid"]!);
}

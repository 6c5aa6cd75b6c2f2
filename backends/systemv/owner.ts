import type { Libc } from "../unix/libc.ts";
import { readTableIfAny } from "./proc_tables.ts";

/** Whose the segment or semaphore set of a key is, for the text of a refusal; "" if unknown. */
export function ownerOf(libc: Libc, table: "shm" | "sem", key: number): string {
  const row = readTableIfAny(libc, table).find((row) => row["key"] === key);
  return row === undefined ? "" : libc.userName(row["uid"]!);
}

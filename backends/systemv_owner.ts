import type { Libc } from "./libc.ts";
import { readTableIfAny } from "./systemv_tables.ts";

/** Whose the segment or semaphore set of a key is, for the text of a refusal; "" if unknown. */
export function ownerOf(libc: Libc, table: "shm" | "sem", key: number): string {
  const row = readTableIfAny(libc, table).find((row) => row["key"] === key);
  return row === undefined ? "" : libc.userName(row["uid"]!);
}

/** The text of a refusal to use what another user could change or remove at will. */
export function othersText(what: string, owner: string): string {
  const whose = owner === "" ? "another user" : `${owner}, another user`;
  return `permission denied: the ${what} belongs to ${whose}; use a key or a TMPDIR of your own, or ` +
    "share with others on purpose (the option permissions)";
}

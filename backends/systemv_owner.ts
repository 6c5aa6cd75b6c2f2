import type { Libc } from "./libc.ts";

/** Whose the segment or semaphore set of a key is, for the text of a refusal; "" if unknown. */
export function ownerOf(libc: Libc, table: "shm" | "sem", key: number): string {
  const text = libc.readFile(`/proc/sysvipc/${table}`);
  if (typeof text === "number") return "";
  const [header = "", ...lines] = text.trim().split("\n");
  const column = header.trim().split(/\s+/).indexOf("uid");
  for (const line of lines) {
    const fields = line.trim().split(/\s+/);
    if (Number(fields[0]) === key) return libc.userName(Number(fields[column]));
  }
  return "";
}

/** The text of a refusal to use what another user could change or remove at will. */
export function othersText(what: string, owner: string): string {
  const whose = owner === "" ? "another user" : `${owner}, another user`;
  return `permission denied: the ${what} belongs to ${whose}; use a key or a TMPDIR of your own, or ` +
    "share with others on purpose (the option permissions)";
}

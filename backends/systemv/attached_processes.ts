import {
  type FileStatus,
  linkStatus,
  pathStatus,
  readFile,
  readFolder,
  readLink,
} from "../unix/files.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { keyOf } from "./key_file.ts";
import type { Row } from "./proc_tables.ts";

/** The folder for the temporary files of a process without a `TMPDIR`. */
const USUAL_FOLDER = "/tmp";

/** A process that has a segment attached, and what this user can find out from it about the segment's key file. */
export interface AttachedProcess {
  readonly pid: number;
  /** The number of times that the process has the segment attached. */
  readonly count: number;
  /**
   * The key file, which this module keeps open; `null` if the process has none open, such as one of another program.
   */
  readonly keyFile: { readonly path: string; readonly isDeleted: boolean } | null;
  /** The folder for key files in the process's environment, and the status of that folder as the process sees it. */
  readonly folder: { readonly path: string; readonly status: FileStatus } | null;
}

/** Finds the processes that have these segments attached, by the ids of the segments. */
export function processesAttachedTo(libc: Libc, segments: readonly Row[]) {
  const found = new Map<number, AttachedProcess[]>();
  const names = segments.length === 0 ? [] : readFolder(libc, "/proc");
  if (typeof names === "number") return found;
  const keys = new Map(segments.map((row) => [row["shmid"]!, row["key"]!]));
  for (const pid of names.map(Number).filter(Number.isInteger)) {
    for (const [id, count] of countsOf(libc, pid)) {
      const key = keys.get(id);
      if (key === undefined) continue;
      const process = {
        pid,
        count,
        keyFile: openKeyFile(libc, pid, key),
        folder: folderOf(libc, pid),
      };
      found.set(id, [...found.get(id) ?? [], process]);
    }
  }
  return found;
}

/** Counts how often a process has each segment attached, by the ids of the segments. */
function countsOf(libc: Libc, pid: number): Map<number, number> {
  const counts = new Map<number, number>();
  const maps = readFile(libc, `/proc/${pid}/maps`);
  if (typeof maps === "number" || !maps.includes("/SYSV")) return counts;
  // Each line reads: address permissions offset major:minor inode /SYSV51026c34
  for (const [, text] of maps.matchAll(/^\S+ \S+ \S+ \S+ (\d+) +\/SYSV[0-9a-f]{8}/gm)) {
    const id = Number(text);
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

/** Finds the key file of a System V key among the files that a process has open. */
function openKeyFile(libc: Libc, pid: number, key: number): AttachedProcess["keyFile"] {
  const descriptors = readFolder(libc, `/proc/${pid}/fd`);
  if (typeof descriptors === "number") return null;
  for (const descriptor of descriptors) {
    const link = `/proc/${pid}/fd/${descriptor}`;
    const text = readLink(libc, link);
    const [, path, deleted] = /^(.*\/qipc_sharedmemory_[A-Za-z]*?[0-9a-f]{40})( \(deleted\))?$/s
      .exec(String(text)) ?? [];
    if (path === undefined) continue;
    const status = linkStatus(libc, link);
    if (typeof status === "number" || keyOf(status) !== key) continue;
    return { path, isDeleted: deleted !== undefined };
  }
  return null;
}

function folderOf(libc: Libc, pid: number): AttachedProcess["folder"] {
  const process = pathStatus(libc, cString(`/proc/${pid}`), false);
  if (typeof process === "number" || process.uid !== libc.c.geteuid()) return null;
  const environment = readFile(libc, `/proc/${pid}/environ`);
  if (typeof environment === "number") return null;
  const lines = environment.split("\0");
  const path = lines.find((line) => line.startsWith("TMPDIR="))?.slice("TMPDIR=".length) ||
    USUAL_FOLDER;
  // The process may have another root folder, as in a container.
  const status = pathStatus(libc, cString(`/proc/${pid}/root${path}`), true);
  return typeof status === "number" ? null : { path, status };
}

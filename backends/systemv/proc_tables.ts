import { GETNCNT, GETPID, GETVAL, GETZCNT } from "../unix/linux_constants.ts";
import { type ErrnoTable, orElse } from "../failure.ts";
import { EACCES, EIDRM, EINVAL, ENOENT, failure } from "../unix/errno.ts";
import type { ProcessInfo } from "../inventory.ts";
import { userName } from "../unix/users.ts";
import { allAtOnce, type FileStatus, folderInSteps, pathStatus, readFile } from "../unix/files.ts";
import { cString, FOREIGN_ATTEMPTS, type Libc } from "../unix/libc.ts";
import { isRunning, seesAllProcesses } from "../unix/processes.ts";
import { hasPidOfAnother } from "./last_user.ts";
import { FOLDER_ERRORS, keyOf } from "./key_file.ts";

const TABLE_ERRORS: ErrnoTable = {
  [ENOENT]: [
    "Unsupported",
    "there is no /proc/sysvipc, where the kernel lists System V objects: mount /proc; a kernel without System V IPC " +
    "has none",
  ],
};

/** A row of `/proc/sysvipc/shm` or `sem`, which has a number under each heading. */
export type Row = Readonly<Record<string, number>>;

/** Reads the table of the system's segments or semaphore sets, of all users. */
export function readTable(libc: Libc, table: "shm" | "sem"): Row[] {
  return allAtOnce(tableInSteps(libc, table));
}

/** The number of rows after which {@linkcode tableInSteps} yields. */
const ROWS_AT_ONCE = 16;

/** Does what {@linkcode readTable} does, and yields after some rows. */
export function* tableInSteps(libc: Libc, table: "shm" | "sem"): Generator<undefined, Row[]> {
  const [header, ...lines] = read(libc, `/proc/sysvipc/${table}`).trim().split("\n");
  const names = header!.trim().split(/\s+/);
  const rows: Row[] = [];
  for (const line of lines) {
    const fields = line.trim().split(/\s+/);
    // The permissions are octal, all other numbers are decimal.
    rows.push(Object.fromEntries(names.map((name, column) => {
      return [name, parseInt(fields[column]!, name === "perms" ? 8 : 10)];
    })));
    if (rows.length % ROWS_AT_ONCE === 0) yield;
  }
  return rows;
}

/** Reads the table if possible. The result is empty where it cannot be read, as `/proc` may be missing. */
export function readTableIfAny(libc: Libc, table: "shm" | "sem"): Row[] {
  return libc.os === "linux" ? orElse(() => readTable(libc, table), () => []) : [];
}

/**
 * Returns the time at which the object with `key` was created or last changed, in s since 1970; `undefined` if there
 * is no such object or no table.
 */
export function changeTimeOf(libc: Libc, table: "shm" | "sem", key: number): number | undefined {
  return readTableIfAny(libc, table).find((row) => row["key"] === key)?.["ctime"];
}

/** Returns the name of the user who owns the segment or semaphore set of a key, for an error text; "" if unknown. */
export function ownerOf(libc: Libc, table: "shm" | "sem", key: number): string {
  const row = readTableIfAny(libc, table).find((row) => row["key"] === key);
  return row === undefined ? "" : userName(libc, row["uid"]!);
}

/**
 * Returns the time at which a semaphore set was last changed in any way, in s since 1970; `null` if it is not known.
 */
export function lastChange(libc: Libc, id: number): number | null {
  const row = readTableIfAny(libc, "sem").find(({ semid }) => semid === id);
  return row === undefined ? null : Math.max(row["otime"]!, row["ctime"]!);
}

/** Whether a key can be one that Qt made from a file: 0x51DDIIII. */
export function isQtKey(key: number): boolean {
  return key >>> 24 === "Q".charCodeAt(0);
}

/** Whether a System V key belongs to the same file as `fileKey`, with any project id. */
export function isOfFile(key: number, fileKey: number): boolean {
  return ((key ^ fileKey) & 0xffffff) === 0;
}

/** A file that this module or Qt has created in the folder of the key files. */
export interface KeyFileEntry {
  readonly path: string;
  /**
   * The kind of object that the file belongs to: a segment, a lock or semaphore, or a segment that is being filled;
   * or the kind of a mark.
   */
  readonly kind:
    | "sharedmemory"
    | "systemsem"
    | "creating"
    | "unfinished"
    | "inherited";
  /**
   * The SHA-1 of the user's key, which a segment and its lock have in common; for a mark, the System V key and the
   * namespace.
   */
  readonly hash: string;
  /** The System V key that the file leads to; 0 if it is a mark. */
  readonly key: number;
  readonly status: FileStatus;
}

const NAME = /^qipc_(sharedmemory|systemsem|creating)_[A-Za-z]*?([0-9a-f]{40})$/;
const MARK = /^qipc_(unfinished|inherited)_([0-9a-f]{8}_[0-9a-f]+)(?:_next\d+)?$/;

/** Whether a path is the path of a mark, and not of a key file. */
export function isMarkPath(path: string): boolean {
  return MARK.test(path.slice(path.lastIndexOf("/") + 1));
}

/**
 * Reads the key files and marks of a folder, of all users. A file whose status cannot be read, such as one that
 * another user has mounted there, is left out.
 */
export function readKeyFiles(libc: Libc, folder: string): KeyFileEntry[] {
  return allAtOnce(keyFilesInSteps(libc, folder));
}

/** The number of files after which {@linkcode keyFilesInSteps} yields. */
const FILES_AT_ONCE = 16;

/** Does what {@linkcode readKeyFiles} does, and yields after some files. */
export function* keyFilesInSteps(libc: Libc, folder: string): Generator<undefined, KeyFileEntry[]> {
  const names = yield* folderInSteps(libc, folder || "/");
  if (typeof names === "number") throw failure("open", names, FOLDER_ERRORS, folder);
  const entries: KeyFileEntry[] = [];
  for (const name of names.sort()) {
    const isMark = MARK.test(name);
    const [, kind, hash] = (isMark ? MARK : NAME).exec(name) ?? [];
    if (hash === undefined) continue;
    const path = `${folder}/${name}`;
    const status = pathStatus(libc, cString(path), false);
    if (typeof status === "number") continue; // for instance, the file has been deleted since
    const key = isMark ? 0 : keyOf(status);
    entries.push({ path, kind: kind as KeyFileEntry["kind"], hash, key, status });
    if (entries.length % FILES_AT_ONCE === 0) yield;
  }
  return entries;
}

/** The known state of a semaphore; `null` stands for a value that this user may not read. */
export interface SemaphoreState {
  readonly value: number | null;
  readonly waiting: number | null;
  readonly last: ProcessInfo | null;
}

/** Reads the state of a semaphore; returns `null` if it has been removed. */
export function semaphoreState(libc: Libc, id: number): SemaphoreState | null {
  let isGone = false;
  const get = (command: number) => {
    for (let attempt = 0; attempt < FOREIGN_ATTEMPTS; attempt++) {
      const value = libc.c.semctl(id, 0, command, 0n);
      if (value !== -1) return value;
      const errno = libc.errno();
      isGone ||= errno === EINVAL || errno === EIDRM;
      if (isGone || errno === EACCES) break;
    }
    return null;
  };
  const [value, down, zero, last] = [get(GETVAL), get(GETNCNT), get(GETZCNT), get(GETPID)];
  if (isGone) return null;
  const waiting = down === null || zero === null ? null : down + zero;
  return { value, waiting, last: processOf(libc, last ?? 0) };
}

/**
 * Whether a semaphore whose last user has no pid here was never used at all, rather than by a process of another pid
 * namespace. A time of use alone does not prove a use: the end of a process that waited leaves one too.
 */
export function wasNeverUsed(libc: Libc, hasTimeOfUse: boolean): boolean {
  return !hasTimeOfUse || seesAllProcesses(libc);
}

/**
 * Returns the process that holds a lock of value 0, or that used a semaphore last. A process that has only got the
 * same pid later does not count as alive.
 */
export function holderOf(libc: Libc, row: Row, last: ProcessInfo | null): ProcessInfo | null {
  if (last?.alive !== true) return last;
  const time = Math.max(row["otime"]!, row["ctime"]!);
  return hasPidOfAnother(libc, last.pid, time) ? { pid: last.pid, alive: false } : last;
}

/**
 * Describes the process of a pid; returns `null` for 0, which stands for a process of another pid namespace or for
 * none.
 */
export function processOf(libc: Libc, pid: number): ProcessInfo | null {
  return pid === 0 ? null : { pid, alive: isRunning(libc, pid) };
}

function read(libc: Libc, path: string): string {
  const text = readFile(libc, path);
  if (typeof text === "number") throw failure("open", text, TABLE_ERRORS, path);
  return text;
}

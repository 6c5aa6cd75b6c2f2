import { ESRCH } from "./errno.ts";
import { NO_PATH, pathStatus, readFile } from "./files.ts";
import { cString, type Libc } from "./libc.ts";
import { PROC_PID_INIT_INO, SYS_GETTID } from "./linux_constants.ts";
import { once } from "./once.ts";

/**
 * Whether a process of any user is running. A zombie is not running. Neither is a process that was given the pid of
 * an earlier one: its start time differs from `startTime` in the lower 16 bits. Without `/proc`, these two cases
 * cannot be recognized.
 */
export function isRunning(libc: Libc, pid: number, startTime?: number): boolean {
  if (libc.c.kill(pid, 0) !== 0 && libc.errno() === ESRCH) return false;
  const stat = processStatus(libc, pid);
  if (stat === null) return true;
  if (startTime !== undefined && (Number(stat[19]) & 0xffff) !== startTime) return false;
  return stat[0] !== "Z" || Number(stat[17]) > 1; // state, num_threads
}

/** Returns when a process started, in clock ticks since the system started; `null` if that is not known. */
export function startTime(libc: Libc, pid: number): number | null {
  const stat = processStatus(libc, pid);
  return stat && Number(stat[19]);
}

/**
 * Returns the fields of proc(5) that follow the name in parentheses, starting with the state; `null` if they are
 * hidden. The fields of the first thread are those of the process. They are read from its own file because qemu-user
 * makes up `/proc/PID/stat` for the process itself.
 */
function processStatus(libc: Libc, pid: number): string[] | null {
  if (libc.os !== "linux" || hasOtherProc(libc)) return null;
  const stat = readFile(libc, `/proc/${pid}/task/${pid}/stat`);
  return typeof stat === "number" ? null : stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** What the system tells of a process. */
export interface KnownProcess {
  readonly pid: number;
  /** The command and its arguments; none if they are hidden, and for a process that has ended. */
  readonly words: readonly string[];
  /** The name of the first thread; `null` if it is not known. */
  readonly name: string | null;
  readonly state: "running" | "stopped" | "dead" | null;
}

/** Returns what the system tells of the process with a number, or of the process of the thread with that number. */
export function processDetails(libc: Libc, number: number): KnownProcess {
  const unknown = { pid: number, words: [], name: null } as const;
  if (libc.c.kill(number, 0) !== 0 && libc.errno() === ESRCH) return { ...unknown, state: "dead" };
  if (libc.os !== "linux" || hasOtherProc(libc)) return { ...unknown, state: null };
  const status = readFile(libc, `/proc/${number}/status`);
  if (typeof status === "number") return { ...unknown, state: null };
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1];
  const command = readFile(libc, `/proc/${number}/cmdline`);
  const words = typeof command === "number" ? [] : command.replace(/\0+$/, "").split("\0");
  return {
    pid: Number(field("Tgid") ?? number),
    words: words.filter((word) => word !== ""),
    name: field("Name") ?? null,
    state: STATES[field("State")?.[0] ?? ""] ?? "running",
  };
}

/** The letters of states in proc(5). A process in another state goes on by itself. */
const STATES: Readonly<Record<string, "stopped" | "dead">> = {
  T: "stopped",
  t: "stopped",
  Z: "dead",
  X: "dead",
};

/** Whether /proc belongs to another pid namespace. Then what it says about a pid is about another process. */
const hasOtherProc = once((libc: Libc): boolean => {
  const stat = readFile(libc, "/proc/self/stat");
  return typeof stat === "string" && Number.parseInt(stat) !== libc.c.getpid();
});

/** Whether the calling thread is the first one of the process, not that of a worker. Only for Linux. */
export function isMainThread(libc: Libc): boolean {
  return threadId(libc) === libc.c.getpid();
}

/** Returns the number (tid) of the calling thread. Only for Linux. */
export function threadId({ arch, c, ffi }: Libc): number {
  const number = ffi.usize(BigInt(SYS_GETTID[arch]!));
  return c.syscall(number, 0, NO_PATH, 0, 0, NO_PATH);
}

/** Returns the number of the pid namespace of this process; 0 if that is not known. */
export const pidNamespace = once((libc: Libc): number => {
  const status = pathStatus(libc, cString("/proc/self/ns/pid"), true);
  return typeof status === "object" ? status.inode : 0;
});

/** Whether each process of the system has a pid in this namespace. Otherwise the pid of a process outside is 0. */
export function seesAllProcesses(libc: Libc): boolean {
  return libc.os !== "linux" || pidNamespace(libc) === PROC_PID_INIT_INO;
}

/** Returns an id that no other start of this system and no other machine has; `""` if that is not known. */
export const bootId = once((libc: Libc): string => {
  const text = libc.os === "linux" ? readFile(libc, "/proc/sys/kernel/random/boot_id") : "";
  return typeof text === "string" ? text.trim() : "";
});

/** What the backends read of `/proc`, as in proc(5). */
import { EACCES, ENOENT } from "../../backends/unix/errno.ts";
import { PROC_PID_INIT_INO, S_IFDIR } from "../../backends/unix/linux_constants.ts";
import { inodeAt } from "./files.ts";
import {
  type Caller,
  type IpcTable,
  type OpenFile,
  pidFor,
  type Process,
  UPTIME_MS,
} from "./state.ts";

interface ProcFile {
  /** The content of a file. */
  readonly text?: string;
  /** The names in a folder. */
  readonly names?: readonly string[];
  /** The file that a link leads to, if a process has it open or it is under its root. */
  readonly open?: Pick<OpenFile, "inode" | "path" | "isDeleted">;
  /** What `statx` says. */
  readonly status?: Readonly<Record<string, number>>;
}

/** The number of a clock tick per second, `sysconf(_SC_CLK_TCK)`. */
export const TICKS = 100;
/** The inodes of the first namespaces; those of the others follow from 0xf0000000. */
const IPC_INIT_INO = 0xefffffff;
const DEVICE = 0x16;

/** The line that the maps of each process have, as it has a stack as long as it has memory. */
const STACK = "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n";

const COLUMNS = {
  shm: "key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap",
  sem: "key semid perms nsems uid gid cuid cgid otime ctime",
};

/** Returns a file of `/proc` as the caller sees it, or a negative errno. */
export function procFile(caller: Caller, path: string): ProcFile | number {
  const { state, process } = caller;
  const [, first = "", ...rest] = path.split("/").filter((name) => name !== "");
  switch (path.replace(/\/$/, "")) {
    case "/proc": {
      const pids = state.processes.map(({ stage, leader }, i) => {
        return stage === "reaped" || leader !== i ? 0 : pidFor(state, i, process);
      }).filter((pid) => pid !== 0);
      return { names: ["1", ...pids.map(String), "self", "sysvipc"] };
    }
    case "/proc/sysvipc/shm":
      return { text: segments(caller) };
    case "/proc/sysvipc/sem":
      return { text: semaphores(caller) };
    case "/proc/locks":
      return { text: locks(caller) };
    case "/proc/sys/kernel/random/boot_id":
      return { text: "5157dc4a-7d4e-4d5c-9e0c-0d9c0a7b1c11\n" };
    case "/proc/uptime":
      return { text: `${((UPTIME_MS + state.now) / 1000).toFixed(2)} 0.00\n` };
    case "/proc/sys/kernel/overflowuid":
      return { text: "65534\n" };
  }
  const index = first === "self"
    ? caller.index
    : state.processes.findIndex(({ stage }, i) =>
      stage !== "reaped" && String(pidFor(state, i, process)) === first
    );
  return index < 0 ? -ENOENT : ofProcess(caller, index, rest);
}

function ofProcess(
  caller: Caller,
  index: number,
  [name = "", ...rest]: string[],
): ProcFile | number {
  const { state } = caller;
  const process = state.processes[index]!;
  const pid = pidFor(state, index, caller.process);
  const file = [name, ...rest].join("/");
  if (file === "") return { status: { ...inode(pid, process.uid), mode: S_IFDIR | 0o555 } };
  if (file === "stat" || file === `task/${pid}/stat`) return { text: stat(process, pid) };
  if (file === "uid_map") return { text: "         0          0 4294967295\n" };
  // The rest says so much of a process that only its user and root may see it.
  const { uid } = caller.process;
  const isVisible = uid === 0 || uid === process.uid;
  if (["maps", "environ", "fd", "root", "ns"].includes(name) && !isVisible) return -EACCES;
  if (file === "ns/pid") return { status: inode(PROC_PID_INIT_INO + 4 * process.pids, 0) };
  if (file === "ns/ipc") return { status: inode(IPC_INIT_INO + 4 * process.ipc, 0) };
  const hasMemory = process.stage === "running";
  if (file === "maps") return { text: hasMemory ? STACK + maps(caller, process) : "" };
  if (file === "environ") {
    const entries = hasMemory ? Object.entries(process.environ) : [];
    return { text: entries.map(([key, value]) => `${key}=${value}\0`).join("") };
  }
  if (file === "fd") return { names: [...process.fds.keys()].map(String) };
  if (name === "fd") {
    const id = process.fds.get(Number(rest[0]));
    if (id === undefined) return -ENOENT;
    const open = state.opens.get(id);
    if (open === undefined || open.inode === -1) return { status: inode(0, 0) }; // a pipe, or a file of /proc
    return { open };
  }
  if (name === "root" && process.stage !== "zombie") {
    const path = `/${rest.join("/")}`;
    const found = inodeAt(caller, path, true, process.mounts);
    return found < 0 ? found : { open: { inode: found, path, isDeleted: false } };
  }
  return -ENOENT;
}

function inode(ino: number, uid: number) {
  return {
    ...{ dev: DEVICE, ino, mode: 0o100444, uid, gid: 0, links: 1, size: 0, blocks: 0 },
    ...{ ctime: 0, mtime: 0 },
  };
}

function stat({ started, stage }: Process, pid: number): string {
  const ticks = Math.floor((UPTIME_MS + started) * TICKS / 1000);
  const letter = stage === "zombie" ? "Z" : "S";
  return `${pid} (simulated) ${letter} 1 ${"0 ".repeat(15)}1 0 ${ticks} 0\n`;
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}

/** Lists the mappings that are shared; a segment's line has its id in place of the inode. */
function maps({ state }: Caller, { maps, ipc }: Process): string {
  return [...maps].sort(([a], [b]) => a - b).map(([address, { kind, id, length }]) => {
    const range = `${hex(address, 8)}-${hex(address + length, 8)}`;
    if (kind === "zeros") return `${range} rw-p 00000000 00:00 0 \n`;
    if (kind === "segment") {
      const key = hex(state.ipc[ipc]!.shm.objects.get(id)!.shownKey >>> 0, 8);
      return `${range} rw-s 00000000 00:01 ${id}                          /SYSV${key} (deleted)\n`;
    }
    const { inode, path, isDeleted } = state.opens.get(id)!;
    const { device, number } = state.inodes.get(inode)!;
    const minor = hex(state.devices[device]!.minor, 2);
    const name = isDeleted ? `${path} (deleted)` : path;
    return `${range} rw-s 00000000 00:${minor} ${number}                   ${name}\n`;
  }).join("");
}

function rows<T>(columns: string, { objects }: IpcTable<T>, row: (object: T) => unknown[]): string {
  const sorted = [...objects].sort(([a], [b]) => a % 32768 - b % 32768);
  const lines = sorted.map(([id, object]) => {
    const [key, ...others] = row(object);
    return [key, id, ...others].join(" ");
  });
  return [columns, ...lines, ""].join("\n");
}

function segments({ state, process }: Caller): string {
  const pid = (index: number) => pidFor(state, index, process);
  return rows(COLUMNS.shm, state.ipc[process.ipc]!.shm, (segment) => {
    const { key, mode, size, creator, last, attached, uid, gid, cuid, cgid } = segment;
    const { atime, dtime, ctime } = segment;
    return [
      ...[key, mode.toString(8), size, pid(creator), pid(last), attached, uid, gid, cuid, cgid],
      ...[atime, dtime, ctime, 0, 0],
    ];
  });
}

function semaphores({ state, process }: Caller): string {
  return rows(COLUMNS.sem, state.ipc[process.ipc]!.sem, (set) => {
    const { key, mode, uid, gid, cuid, cgid, otime, ctime } = set;
    return [key, mode.toString(8), 1, uid, gid, cuid, cgid, otime, ctime];
  });
}

/** Lists the file locks, except the `flock` of a process that has no pid in the caller's namespace. */
function locks({ state, process }: Caller): string {
  let text = "";
  let count = 0;
  for (const { device, number, locks } of state.inodes.values()) {
    for (const { byte, exclusive, process: holder } of locks) {
      const pid = pidFor(state, holder, process);
      if (pid === 0 && byte < 0) continue;
      const [kind, shown, range] = byte < 0
        ? ["FLOCK ", pid, "0 EOF"]
        : ["OFDLCK", -1, `${byte} ${byte}`];
      const type = exclusive ? "WRITE" : "READ";
      const minor = hex(state.devices[device]!.minor, 2);
      text += `${++count}: ${kind} ADVISORY  ${type} ${shown} 00:${minor}:${number} ${range}\n`;
    }
  }
  return text;
}

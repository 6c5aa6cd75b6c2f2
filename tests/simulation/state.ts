/**
 * The state of the simulated Linux: plain data without references between objects, so that `clone()` is cheap and two
 * states can be compared. Objects refer to each other by numbers.
 */
import type { Fingerprint } from "./fingerprint.ts";
import { addOrdering, cloneOrdering, type Ordering } from "./ordering.ts";

/** The numbers of errors that only the kernel knows; the others are in backends/unix/errno.ts. */
export const EBADF = 9;
export const EXDEV = 18;
export const ENODEV = 19;
export const EISDIR = 21;
export const ENOTEMPTY = 39;

export const PAGE = 4096;
/** The time of the real-time clock, in ms since 1970, and of the monotonic clock, in ms, when `now` is 0. */
export const EPOCH_MS = 1_800_000_000_000;
export const UPTIME_MS = 1_000_000;

/** What System V objects have in common (`struct kern_ipc_perm`). */
export interface IpcObject {
  key: number;
  mode: number;
  uid: number;
  gid: number;
  cuid: number;
  cgid: number;
  ctime: number;
}

/** A System V segment. The processes are indexes, -1 for none. */
export interface Segment extends IpcObject {
  size: number;
  attached: number;
  creator: number;
  last: number;
  atime: number;
  dtime: number;
  /** The key that `/proc/PID/maps` shows, which IPC_RMID does not change. */
  shownKey: number;
  /** The content. It is replaced by another array when it changes; bytes beyond its end are 0. */
  bytes: Uint8Array;
}

/** A System V set of one semaphore. Larger sets are not simulated. */
export interface SemaphoreSet extends IpcObject {
  value: number;
  /** The process that changed it last, -1 for none. */
  last: number;
  otime: number;
  /** The processes that wait, in their order. */
  waiters: number[];
}

/** The objects of a kind, by id. An id is an index, which is given in turn, and the number of turns above it. */
export interface IpcTable<T> {
  objects: Map<number, T>;
  next: number;
  last: number;
  turn: number;
}

/** The limits of sysctl, as in proc_sys_kernel(5). */
export interface IpcLimits {
  readonly shmall: number;
  readonly shmmax: number;
  readonly shmmni: number;
  readonly semmns: number;
  readonly semmni: number;
}

export interface IpcNamespace {
  shm: IpcTable<Segment>;
  sem: IpcTable<SemaphoreSet>;
  limits: IpcLimits;
}

/** A lock of a file: with `flock` (`byte` is -1), or of one byte of an open file description. */
export interface FileLock {
  readonly byte: number;
  readonly open: number;
  readonly exclusive: boolean;
  readonly process: number;
}

/** A file system. The options may be changed at any time. */
export interface Device {
  /** The minor device number. */
  readonly minor: number;
  isFull: boolean;
  isReadOnly: boolean;
  /** Whether the number of a deleted file is given to the next new file, as on ext4, or to none, as on tmpfs. */
  reusesInodes: boolean;
  /** The next number, if none is reused. */
  nextInode: number;
  /** The distance of the numbers. With 0x10000 all files of the device have the same `ftok` key. */
  inodeStep: number;
}

export interface Inode {
  device: number;
  number: number;
  mode: number;
  uid: number;
  gid: number;
  links: number;
  /** Whether O_TMPFILE has created it, and it has had no name yet. Only then can a file without a name get one. */
  isTemporary: boolean;
  ctime: number;
  mtime: number;
  size: number;
  /** The number of bytes for which memory has been allocated. */
  reserved: number;
  bytes: Uint8Array;
  /** The text of a symbolic link. */
  text: string;
  /** The inodes of the names in a folder; `null` for other files. */
  entries: Map<string, number> | null;
  locks: FileLock[];
}

/** An open file description. */
export interface OpenFile {
  /** The inode, or -1 for a file of `/proc`. */
  inode: number;
  /** The path that `/proc/PID/fd` shows. */
  path: string;
  isDeleted: boolean;
  flags: number;
  /** The content of a file of `/proc` since it was read first. */
  text: string | null;
  position: number;
}

/** What a process has mapped: a segment, an open file description, or private zeros (`id` is -1). */
export interface Mapping {
  readonly kind: "segment" | "file" | "zeros";
  readonly id: number;
  readonly length: number;
}

export type SemStep = readonly [op: number, flags: number];

/** A blocked call. */
export interface Wait {
  readonly until: number;
  /** The semaphore set that a `semop` waits for, -1 for other calls. */
  readonly set: number;
  readonly steps: readonly SemStep[];
  /** The word that a futex waits for. */
  readonly word: string;
  /** Set by the process that ended the wait: 0, or the errno. */
  readonly result: number | null;
}

/** How far the end of a process has come: the kernel gives up memory, then semaphores, then files. */
export type Stage = "running" | "no memory" | "no semaphores" | "zombie" | "reaped";

export interface Process {
  /** The process whose thread this is: the index of the process itself, or of another one. */
  readonly leader: number;
  /** The pid in the pid namespace of the process, and in the initial one. */
  readonly pid: number;
  readonly hostPid: number;
  readonly uid: number;
  readonly gid: number;
  readonly ipc: number;
  readonly pids: number;
  readonly mounts: number;
  /** When the process started, as `now`. */
  readonly started: number;
  readonly environ: Readonly<Record<string, string>>;
  stage: Stage;
  fds: Map<number, number>;
  maps: Map<number, Mapping>;
  /** What is added to the semaphores at the end of the process, by the ids of the sets. */
  undo: Map<number, number>;
  wait: Wait | null;
  /** The messages that the other threads of the process have sent. */
  inbox: readonly string[];
  /** Whether the thread ends when its call returns. */
  isEnding: boolean;
}

/** Memory that the threads of a process share. */
export interface Words {
  readonly leader: number;
  bytes: Uint8Array;
}

export interface State {
  /** The virtual time in ms. Only the explorer changes it. */
  now: number;
  processes: Process[];
  ipc: IpcNamespace[];
  devices: Device[];
  /** The root folder of each mount namespace. */
  roots: number[];
  inodes: Map<number, Inode>;
  opens: Map<number, OpenFile>;
  /** The processes that wait for a futex, in their order. */
  sleepers: number[];
  /** The memory that threads share, by its addresses. */
  words: Map<number, Words>;
  /** When loads and stores take effect; `null` if each does at once. */
  ordering: Ordering | null;
}

export interface ProcessOptions {
  readonly pid?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** The numbers of the namespaces; 0 is the initial one. */
  readonly ipc?: number;
  readonly pids?: number;
  readonly mounts?: number;
  readonly started?: number;
  readonly environ?: Readonly<Record<string, string>>;
}

export interface BootOptions {
  readonly processes: readonly ProcessOptions[];
  readonly limits?: Partial<IpcLimits>;
  readonly device?: Partial<Device>;
  /** Whether all mount namespaces have the same `/tmp` and `/dev/shm`, instead of ones of their own. */
  readonly sharesFolders?: boolean;
}

const LIMITS: IpcLimits = {
  shmall: 2 ** 40,
  shmmax: 2 ** 50,
  shmmni: 4096,
  semmns: 1_024_000_000,
  semmni: 32_000,
};

/** Starts a system with these processes. */
export function boot(options: BootOptions): State {
  const { processes } = options;
  const count = (kind: "ipc" | "mounts") => 1 + Math.max(0, ...processes.map((p) => p[kind] ?? 0));
  const table = () => ({ objects: new Map(), next: 0, last: -1, turn: 0 });
  const state: State = {
    now: 0,
    processes: [],
    ipc: Array.from({ length: count("ipc") }, () => {
      return { shm: table(), sem: table(), limits: { ...LIMITS, ...options.limits } };
    }),
    devices: [],
    roots: [],
    inodes: new Map(),
    opens: new Map(),
    sleepers: [],
    words: new Map(),
    ordering: null,
  };
  for (const process of processes) addProcess(state, process);
  const folder = (device: number, mode: number, entries: [string, number][] = []) => {
    const root = { uid: 0, gid: 0 };
    return addInode(state, device, root, 0o040000 | mode, { entries: new Map(entries) });
  };
  const addDevice = () => {
    const usual = { isFull: false, isReadOnly: false, reusesInodes: false };
    const minor = 0x20 + state.devices.length;
    const device = { minor, ...usual, nextInode: 11, inodeStep: 1, ...options.device };
    return state.devices.push(device) - 1;
  };
  let folders: readonly number[] | undefined;
  for (let i = 0; i < count("mounts"); i++) {
    if (folders === undefined || !options.sharesFolders) {
      folders = [folder(addDevice(), 0o1777), folder(addDevice(), 0o1777)];
    }
    const device = addDevice();
    const dev = folder(device, 0o755, [["shm", folders[1]!]]);
    state.roots.push(folder(device, 0o755, [["tmp", folders[0]!], ["dev", dev]]));
  }
  return state;
}

/** Starts another process, and returns its index. A pid may be used again when its process has been reaped. */
export function addProcess(state: State, options: ProcessOptions): number {
  const index = state.processes.length;
  const { pid = 501 + index, uid = 0, gid = uid, ipc = 0, pids = 0, mounts = 0 } = options;
  return state.processes.push({
    leader: index,
    ...{ pid, uid, gid, ipc, pids, mounts, hostPid: pids === 0 ? pid : 10_000 + index },
    started: options.started ?? state.now,
    environ: options.environ ?? { TMPDIR: "/tmp" },
    stage: "running",
    fds: new Map([[0, -1], [1, -1], [2, -1]]),
    maps: new Map(),
    undo: new Map(),
    wait: null,
    inbox: [],
    isEnding: false,
  }) - 1;
}

/** Creates a file without a name, and returns its id: the device and the number that `statx` shows. */
export function addInode(
  state: State,
  device: number,
  { uid, gid }: { uid: number; gid: number },
  mode: number,
  more: Partial<Inode> = {},
): number {
  const on = state.devices[device]!;
  const base = device * 2 ** 32;
  let number = on.nextInode;
  if (on.reusesInodes) {
    for (number = 11; state.inodes.has(base + number);) {
      number += on.inodeStep;
    }
  } else on.nextInode += on.inodeStep;
  state.inodes.set(base + number, {
    ...{ device, number, mode, uid, gid, links: 1, ctime: seconds(state), size: 0, reserved: 0 },
    mtime: seconds(state),
    ...{ bytes: NO_BYTES, text: "", isTemporary: false, entries: null, locks: [] },
    ...more,
  });
  return base + number;
}

export const NO_BYTES = new Uint8Array(0);

/** The real-time clock in seconds, as the kernel notes it in objects. */
export function seconds(state: State): number {
  return Math.floor((EPOCH_MS + state.now) / 1000);
}

function copied<K, V>(map: Map<K, V>, copy: (value: V) => V): Map<K, V> {
  const result = new Map<K, V>();
  for (const [key, value] of map) result.set(key, copy(value));
  return result;
}

/** Copies a state. Records that are only replaced, never changed, are shared by the copies. */
export function clone(state: State): State {
  return {
    now: state.now,
    processes: clonedProcesses(state),
    ipc: state.ipc.map(({ shm, sem, limits }) => ({
      shm: { ...shm, objects: copied(shm.objects, (segment) => ({ ...segment })) },
      sem: {
        ...sem,
        objects: copied(sem.objects, (set) => ({ ...set, waiters: set.waiters.slice() })),
      },
      limits,
    })),
    devices: state.devices.map((device) => ({ ...device })),
    roots: state.roots,
    inodes: copied(state.inodes, (inode) => ({
      ...inode,
      entries: inode.entries && new Map(inode.entries),
      locks: inode.locks.slice(),
    })),
    opens: copied(state.opens, (open) => ({ ...open })),
    sleepers: state.sleepers.slice(),
    words: copied(state.words, (words) => ({ ...words })),
    ordering: state.ordering && cloneOrdering(state.ordering),
  };
}

function clonedProcesses({ processes }: State): Process[] {
  const clones: Process[] = [];
  for (const [index, process] of processes.entries()) {
    if (process.stage === "reaped") clones.push(process);
    else if (process.leader !== index) {
      const { fds, maps, undo } = clones[process.leader]!;
      clones.push({ ...process, fds, maps, undo });
    } else {
      const { fds, maps, undo } = process;
      clones.push({ ...process, fds: new Map(fds), maps: new Map(maps), undo: new Map(undo) });
    }
  }
  return clones;
}

/** Adds all of a state that its future depends on to a hash. */
export function addState(hash: Fingerprint, state: State): void {
  const { now, processes, ipc, devices, inodes, opens, sleepers } = state;
  const addOpen = (id: number) => {
    const open = opens.get(id);
    if (open === undefined) return; // a standard descriptor
    const { inode, path, isDeleted, flags, position } = open;
    hash.add(inode).addText(path).add(isDeleted ? 1 : 0).add(flags).add(position);
  };
  hash.add(now).addAll(sleepers);
  if (state.ordering !== null) addOrdering(hash, state.ordering);
  for (const [index, process] of processes.entries()) {
    const { leader, stage, fds, maps, undo, wait, inbox, isEnding } = process;
    hash.addText(stage).add(fds.size).add(maps.size).add(undo.size);
    if (leader !== index) hash.add(leader).add(isEnding ? 1 : 0);
    for (const text of inbox) hash.addText(text);
    for (const [fd, id] of fds) {
      hash.add(fd).add(id);
      addOpen(id);
    }
    for (const [address, { kind, id, length }] of maps) {
      hash.add(address).addText(kind).add(id).add(length);
      if (kind === "file") addOpen(id);
    }
    for (const [id, value] of undo) hash.add(id).add(value);
    if (wait === null) continue;
    hash.add(wait.until).add(wait.set).addText(wait.word).add(wait.result ?? -1);
    for (const step of wait.steps) hash.addAll(step);
  }
  for (const { shm, sem } of ipc) {
    for (const { objects, next, last, turn } of [shm, sem]) {
      hash.add(objects.size).add(next).add(last).add(turn);
    }
    for (const [id, segment] of shm.objects) {
      addObject(hash, id, segment);
      const { size, attached, creator, last, atime, dtime, shownKey, bytes } = segment;
      hash.add(size).add(attached).add(creator).add(last).add(atime).add(dtime).add(shownKey);
      hash.addAll(bytes);
    }
    for (const [id, set] of sem.objects) {
      addObject(hash, id, set);
      hash.add(set.value).add(set.last).add(set.otime).addAll(set.waiters);
    }
  }
  for (const [address, { bytes }] of state.words) hash.add(address).addAll(bytes);
  for (const { nextInode } of devices) hash.add(nextInode);
  hash.add(inodes.size);
  for (const [id, inode] of inodes) {
    const { mode, uid, gid, links, isTemporary, ctime, mtime, size, reserved, bytes, text } = inode;
    hash.add(id).add(mode).add(uid).add(gid).add(links).add(isTemporary ? 1 : 0).add(ctime);
    hash.add(mtime).add(size).add(reserved).addAll(bytes).addText(text).add(inode.locks.length);
    hash.add(inode.entries?.size ?? -1);
    for (const [name, entry] of inode.entries ?? []) hash.addText(name).add(entry);
    for (const { byte, open, exclusive } of inode.locks) {
      hash.add(byte).add(open).add(exclusive ? 1 : 0);
    }
  }
}

function addObject(
  hash: Fingerprint,
  id: number,
  { key, mode, uid, gid, cuid, cgid, ctime }: IpcObject,
): void {
  hash.add(id).add(key).add(mode).add(uid).add(gid).add(cuid).add(cgid).add(ctime);
}

/** The process that makes a call. */
export interface Caller {
  readonly state: State;
  readonly index: number;
  readonly process: Process;
  /** 0: the first attempt; 1: another attempt of a blocked call; 2: the same, after its timeout. */
  readonly mode: 0 | 1 | 2;
}

export type Out = string | readonly string[] | Uint8Array | Readonly<Record<string, number>> | null;

/** What the kernel's functions return: a result, a negative errno, a result with data, or that the process waits. */
export type Answer = number | { readonly ret: number; readonly out: Out } | {
  readonly wait: number;
};

export type Calls = Readonly<Record<string, (caller: Caller, ...args: never[]) => Answer>>;

/**
 * Blocks the caller until `until`, and returns that. A call that is blocked already stays so. The caller returns what
 * the one who ends the wait has written into `wait.result`.
 */
export function block(process: Process, state: State, until: number, rest: Partial<Wait> = {}) {
  process.wait ??= { until, set: -1, steps: [], word: "", result: null, ...rest };
  return { wait: process.wait.until - state.now };
}

/** Ends the wait of a process. The process notices this with its next attempt. */
export function wake(process: Process, result: number): void {
  if (process.wait !== null) process.wait = { ...process.wait, result };
}

/** Whether a process may use an object or a file in the ways `wanted`: 4 to read, 2 to write, 1 to search. */
export function isAllowed(
  { mode, uid, gid, cuid = uid, cgid = gid }: {
    mode: number;
    uid: number;
    gid: number;
    cuid?: number;
    cgid?: number;
  },
  process: Process,
  wanted: number,
): boolean {
  if (process.uid === 0) return true;
  const isOwner = process.uid === uid || process.uid === cuid;
  const isMember = process.gid === gid || process.gid === cgid;
  const granted = isOwner ? mode >> 6 : isMember ? mode >> 3 : mode;
  return (wanted & ~granted & 7) === 0;
}

/** The pid of a process as another one sees it; 0 in a namespace in which it has none. */
export function pidFor(state: State, index: number, viewer: Process): number {
  const process = state.processes[index];
  if (process === undefined) return 0;
  if (viewer.pids === process.pids) return process.pid;
  return viewer.pids === 0 ? process.hostPid : 0;
}

import { S_IFMT, S_IFREG } from "../unix/linux_constants.ts";
import { ENOENT, ESRCH, failure } from "../unix/errno.ts";
import {
  type Inspection,
  type Inventory,
  type KeyFileInfo,
  type LockInfo,
  PERSISTENT,
  type ProcessInfo,
  type SegmentInfo,
  type SemaphoreInfo,
  userLookup,
} from "../inventory.ts";
import {
  type FileStatus,
  linkStatus,
  pathStatus,
  readFile,
  readFolder,
  readStart,
} from "../unix/files.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { seesAllProcesses } from "../unix/processes.ts";
import { loginName, ownUid } from "../unix/users.ts";
import { FOLDER, isMarked, isPersistent, PosixFile, posixName } from "./object_file.ts";
import { ownerOfRecord } from "./lock.ts";
import { SEM_BYTES, valueOf } from "./mapped_semaphore.ts";
import { shellWord } from "../shell_word.ts";
import { readSharedLocks } from "../unix/proc_locks.ts";

/** The parts of the names that Qt creates from keys. */
export const QT_SEGMENT = "qipc_sharedmemory_";
export const QT_SEMAPHORE = "qipc_systemsem_";

interface Entry {
  readonly name: string;
  readonly path: string;
  readonly status: FileStatus;
  /** The processes that use the object through this module, or have it mapped or open. */
  readonly users: readonly number[];
  /**
   * Whether a process that cannot be seen from here uses the object through this module; `null` if that is not known.
   */
  readonly isRelied: boolean | null;
  /** Whether all processes could be examined. Only then is a use by other programs certain to be noticed. */
  readonly areAllSeen: boolean;
}

/** The inspection of the POSIX objects that this module created, and of those with Qt's names. */
export class PosixInspection implements Inspection {
  readonly #libc: Libc;
  /** The prefix of the file name of a semaphore. */
  readonly #prefix: string;
  readonly #owner = userLookup((uid) => loginName(this.#libc, uid));

  constructor(libc: Libc, semaphorePrefix: string) {
    this.#libc = libc;
    this.#prefix = semaphorePrefix;
  }

  inventory(allUsers: boolean): Inventory {
    const entries = this.#entries(allUsers);
    const isSemaphore = ({ name, status }: Entry) =>
      this.#prefix === "" ? status.bytes === SEM_BYTES : name.startsWith(this.#prefix);
    const semaphores = new Map(
      entries.filter(isSemaphore).map((entry) => [entry.name.slice(this.#prefix.length), entry]),
    );
    const segments = entries.filter((entry) => !isSemaphore(entry));
    const locks = new Map(
      segments.map((entry) => [entry, semaphores.get(lockNameOf(entry.name, this.#prefix))]),
    );
    const isLock = new Set(locks.values());
    return {
      folder: FOLDER,
      segments: segments.map((entry) => this.#segment(entry, locks.get(entry))),
      semaphores: [...semaphores.values()].filter((entry) => !isLock.has(entry))
        .map((entry) => this.#semaphore(entry)),
      keyFiles: [],
    };
  }

  /** Removes an object, or returns why it was kept. An object that a process starts to use at this moment is kept. */
  remove(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null {
    const { keyFile, orphan } = thing;
    // Other programs do not lock an object to say that they use it.
    const reason = orphan ? this.#reasonToKeep(keyFile!) : null;
    if (reason !== null) return reason;
    // It may have been kept since it was listed.
    const respectsPersistence = thing.kind === "segment" && !thing.persistent;
    const isRemoved = this.#remove(keyFile!, orphan, respectsPersistence);
    const lock = thing.kind === "segment" ? thing.lock : null;
    if (isRemoved && lock !== null) this.#remove(lock.keyFile, orphan);
    return isRemoved ? null : "has come into use meanwhile";
  }

  #reasonToKeep(path: string): string | null {
    const { segments, semaphores } = this.inventory(false);
    const found = [...segments, ...semaphores].find(({ keyFile }) => keyFile === path);
    return found === undefined || found.stale ? null : found.reason;
  }

  #remove(path: string, anyones: boolean, respectsPersistence = false): boolean {
    const name = posixName("object", path.slice(FOLDER.length), "", 0o600);
    return PosixFile.removeUnused(this.#libc, name, { anyones, respectsPersistence });
  }

  #entries(allUsers: boolean): Entry[] {
    const names = readFolder(this.#libc, FOLDER);
    if (names === ENOENT) return [];
    if (typeof names === "number") throw failure("open", names, {}, FOLDER);
    const user = ownUid(this.#libc);
    const found = names.flatMap((name) => {
      const path = FOLDER + name;
      const status = pathStatus(this.#libc, cString(path), false);
      if (typeof status === "number" || (status.mode & S_IFMT) !== S_IFREG) return [];
      if (status.uid !== user && !allUsers) return [];
      const isQts = name.includes(QT_SEGMENT) || name.includes(QT_SEMAPHORE);
      return isMarked(status) || isQts ? [{ name, path, status }] : [];
    });
    if (found.length === 0) return [];
    // Each tmpfs has the same inode numbers, for example that of another container, so the device is compared too.
    const locked = readSharedLocks(this.#libc);
    const { users, areAllSeen } = this.#users(found);
    return found.map((entry) => {
      const { inode, device } = entry.status;
      const locks = (locked.get(inode) ?? []).filter((lock) => lock.device === device);
      const pids = [...locks.map(({ pid }) => pid), ...users.get(entry.path) ?? []];
      const isTested = pids.length === 0 && entry.status.uid === user;
      const isRelied = isTested && PosixFile.isUsed(this.#libc, entry.path);
      return { ...entry, users: [...new Set(pids)].sort((a, b) => a - b), isRelied, areAllSeen };
    });
  }

  /** Returns which processes have which of these files mapped or open, and whether all processes could be examined. */
  #users(files: readonly { path: string; status: FileStatus }[]) {
    const users = new Map<string, number[]>();
    const processes = readFolder(this.#libc, "/proc");
    if (typeof processes === "number") return { users, areAllSeen: false };
    const pids = processes.map(Number).filter(Number.isInteger);
    // If the first process is hidden, so are the processes of other users.
    let areAllSeen = seesAllProcesses(this.#libc) && pids.includes(1);
    const paths = new Map(
      files.map(({ path, status: { device, inode } }) => [`${device} ${inode}`, path]),
    );
    for (const pid of pids) {
      const used = this.#inodesOf(pid);
      // The first process of the system may be hidden even from root, but it uses no such objects.
      if (used === null && pid !== 1) areAllSeen = false;
      for (const inode of used ?? []) {
        const path = paths.get(inode);
        if (path !== undefined) users.set(path, [...users.get(path) ?? [], pid]);
      }
    }
    return { users, areAllSeen };
  }

  /** Returns the device and inode of each file that a process has mapped or open; `null` if that is not known. */
  #inodesOf(pid: number): Set<string> | null {
    const found = new Set<string>();
    const maps = readFile(this.#libc, `/proc/${pid}/maps`);
    const descriptors = readFolder(this.#libc, `/proc/${pid}/fd`);
    for (const result of [maps, descriptors]) {
      // A process that has ended meanwhile uses nothing.
      if (typeof result === "number") return isGone(result) ? found : null;
    }
    // The format of a line: address permissions offset major:minor inode path
    for (const [, minor, inode] of String(maps).matchAll(/^\S+ \S+ \S+ \w+:(\w+) (\d+) /gm)) {
      const low = Number(BigInt.asUintN(32, BigInt(inode!)));
      found.add(`${parseInt(minor!, 16) & 0xff} ${low}`);
    }
    for (const descriptor of descriptors as string[]) {
      const status = linkStatus(this.#libc, `/proc/${pid}/fd/${descriptor}`);
      if (typeof status === "object") found.add(`${status.device} ${status.inode}`);
    }
    return found;
  }

  #segment(entry: Entry, lock: Entry | undefined): SegmentInfo {
    const { status, users } = entry;
    return {
      kind: "segment",
      ...this.#thing(entry, lock),
      size: status.bytes,
      attached: users.length,
      creator: null,
      last: null,
      persistent: isPersistent(status),
      unfinished: false,
      lock: lock === undefined ? null : this.#lock(lock),
    };
  }

  #semaphore(entry: Entry): SemaphoreInfo {
    const { value, waiting } = semaphoreState(this.#libc, entry.path);
    const { users } = entry;
    return { kind: "semaphore", ...this.#thing(entry), value, waiting, last: null, users };
  }

  #lock(entry: Entry): LockInfo {
    const { value, holder, waiting } = semaphoreState(this.#libc, entry.path);
    return { id: entry.status.inode, keyFile: entry.path, value, holder, waiting };
  }

  #thing({ name, path, status, users, isRelied, areAllSeen }: Entry, lock?: Entry) {
    const { uid, inode, mode } = status;
    const ours = isMarked(status);
    const isOwn = uid === ownUid(this.#libc);
    const [stale, reason] = users.length > 0
      ? [false, `in use by process ${users.join(", ")}`]
      : isRelied
      ? [
        false,
        "in use by a process that cannot be seen from here, for example in another container",
      ]
      : !isOwn
      ? [false, "another user's, so its users are not known"]
      : isRelied === null
      ? [false, "its mode does not let this user see its users"]
      : lock !== undefined && (lock.users.length > 0 || lock.isRelied !== false)
      ? [
        false,
        `its lock is in use by ${
          lock.users.length > 0
            ? `process ${lock.users.join(", ")}`
            : "a process that cannot be seen"
        }`,
      ]
      : isPersistent(status)
      ? [false, PERSISTENT]
      : ours
      ? [true, "no process uses it"]
      : areAllSeen
      ? [true, "created by another program, and no process has it mapped or open"]
      : [
        false,
        "created by another program, and not all processes can be examined, so its users are not known; " +
        `if no program uses it, rm ${shellWord(path)} removes it`,
      ];
    return {
      type: "posix",
      nativeKey: `/${name.startsWith(this.#prefix) ? name.slice(this.#prefix.length) : name}`,
      keyFile: path,
      id: inode,
      owner: this.#owner(uid),
      isOwn,
      mode: mode & (ours ? 0o666 : 0o777), // without the mark
      stale,
      orphan: !ours,
      reason,
    } as const;
  }
}

/** Returns the name of the file of a segment's lock. @param prefix the prefix of the file names of semaphores */
export function lockNameOf(name: string, prefix: string): string {
  if (name.startsWith(QT_SEGMENT)) return QT_SEMAPHORE + name.slice(QT_SEGMENT.length);
  return prefix === "" ? `${name}_sem` : name;
}

/** Reads the state of a semaphore from its `sem_t`, which has the same layout in glibc and musl. */
export function semaphoreState(libc: Libc, path: string): {
  value: number | null;
  waiting: number | null;
  holder: ProcessInfo | null;
} {
  const bytes = readStart(libc, path, SEM_BYTES);
  if (typeof bytes === "number" || bytes.length < SEM_BYTES) {
    return { value: null, waiting: null, holder: null };
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const { holder, areAsleep } = ownerOfRecord(libc, view);
  const waiting = areAsleep ? null : view.getUint32(4, true);
  return { value: valueOf(view.getInt32(0, true)), waiting, holder };
}

/** Whether an error number says that the process no longer exists. */
function isGone(errno: number): boolean {
  return errno === ENOENT || errno === ESRCH;
}

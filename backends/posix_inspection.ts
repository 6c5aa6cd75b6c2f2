import { S_IFMT, S_IFREG } from "./constants.ts";
import { ENOENT, failure } from "./errno.ts";
import type {
  Inspection,
  Inventory,
  KeyFileInfo,
  LockInfo,
  ProcessInfo,
  SegmentInfo,
  SemaphoreInfo,
} from "./inventory.ts";
import { cString, type FileStatus, type Libc } from "./libc.ts";
import { FOLDER, isMarked, PosixFile, posixName } from "./posix_file.ts";
import { noteHolder } from "./posix_lock.ts";
import { SEM_BYTES, valueOf } from "./posix_mapped_semaphore.ts";
import { readSharedLocks } from "./systemv_tables.ts";

/** What every name that Qt makes of a key has. */
const QT_SEGMENT = "qipc_sharedmemory_";
const QT_SEMAPHORE = "qipc_systemsem_";

interface Entry {
  readonly name: string;
  readonly path: string;
  readonly status: FileStatus;
  /** The processes that use it: through this module, or have it mapped. */
  readonly users: readonly number[];
}

/** The POSIX objects of this module's, and those with Qt's names. */
export class PosixInspection implements Inspection {
  readonly #libc: Libc;
  /** What stands before the name of a semaphore. */
  readonly #prefix: string;

  constructor(libc: Libc, semaphorePrefix: string) {
    this.#libc = libc;
    this.#prefix = semaphorePrefix;
  }

  inventory(): Inventory {
    const entries = this.#entries();
    const isSemaphore = ({ name, status }: Entry) =>
      this.#prefix === "" ? status.bytes === SEM_BYTES : name.startsWith(this.#prefix);
    const semaphores = new Map(
      entries.filter(isSemaphore).map((entry) => [entry.name.slice(this.#prefix.length), entry]),
    );
    const segments = entries.filter((entry) => !isSemaphore(entry));
    const locks = new Map(
      segments.map((entry) => [entry, semaphores.get(this.#lockName(entry.name))]),
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

  /** Returns why not. Whoever comes to use it at this moment keeps it. */
  remove(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null {
    const { keyFile, orphan } = thing;
    const isRemoved = this.#remove(keyFile!, orphan);
    const lock = thing.kind === "segment" ? thing.lock : null;
    if (isRemoved && lock !== null) this.#remove(lock.keyFile, orphan);
    return isRemoved ? null : "came into use meanwhile";
  }

  #remove(path: string, orphan: boolean): boolean {
    const name = posixName("object", path.slice(FOLDER.length), "", 0o600);
    return PosixFile.removeUnused(this.#libc, name, orphan);
  }

  #entries(): Entry[] {
    const names = this.#libc.readFolder(FOLDER);
    if (names === ENOENT) return [];
    if (typeof names === "number") throw failure("opendir", names, {}, FOLDER);
    const locked = readSharedLocks(this.#libc);
    const found = names.flatMap((name) => {
      const path = FOLDER + name;
      const status = this.#libc.pathStatus(cString(path), false);
      if (typeof status === "number" || (status.mode & S_IFMT) !== S_IFREG) return [];
      const isQts = name.includes(QT_SEGMENT) || name.includes(QT_SEMAPHORE);
      return isMarked(status) || isQts ? [{ name, path, status }] : [];
    });
    if (found.length === 0) return [];
    const mapped = this.#mappedBy(found.map(({ path }) => path));
    return found.map((entry) => {
      const pids = [...locked.get(entry.status.inode) ?? [], ...mapped.get(entry.path) ?? []];
      return { ...entry, users: [...new Set(pids)].sort((a, b) => a - b) };
    });
  }

  /** Which processes have which of these files mapped, as far as this user may know. */
  #mappedBy(paths: readonly string[]): Map<string, number[]> {
    const processes = this.#libc.readFolder("/proc");
    const users = new Map<string, number[]>();
    if (typeof processes === "number") return users;
    for (const pid of processes.map(Number).filter(Number.isInteger)) {
      const maps = this.#libc.readFile(`/proc/${pid}/maps`);
      if (typeof maps === "number" || !maps.includes(FOLDER)) continue;
      for (const path of paths) {
        if (maps.includes(` ${path}\n`)) users.set(path, [...users.get(path) ?? [], pid]);
      }
    }
    return users;
  }

  #segment(entry: Entry, lock: Entry | undefined): SegmentInfo {
    const { status, users } = entry;
    return {
      kind: "segment",
      ...this.#thing(entry),
      size: status.bytes,
      attached: users.length,
      creator: null,
      last: null,
      unfinished: false,
      lock: lock === undefined ? null : this.#lock(lock),
    };
  }

  #semaphore(entry: Entry): SemaphoreInfo {
    const { value, waiting } = this.#state(entry);
    const { users } = entry;
    return { kind: "semaphore", ...this.#thing(entry), value, waiting, last: null, users };
  }

  #lock(entry: Entry): LockInfo {
    const { value, holder, waiting } = this.#state(entry);
    return { id: entry.status.inode, keyFile: entry.path, value, holder, waiting };
  }

  #thing({ name, path, status, users }: Entry) {
    const { uid, inode, mode } = status;
    const ours = isMarked(status);
    const reason = users.length > 0
      ? `in use by process ${users.join(", ")}`
      : ours
      ? "no process uses it"
      : "made by another program, and no process has it mapped";
    return {
      type: "posix",
      nativeKey: `/${name.startsWith(this.#prefix) ? name.slice(this.#prefix.length) : name}`,
      keyFile: path,
      id: inode,
      owner: { uid, name: this.#libc.loginName(uid) },
      isOwn: uid === this.#libc.c.geteuid(),
      mode: mode & 0o777,
      stale: users.length === 0,
      orphan: !ours,
      reason,
    } as const;
  }

  /** What is in a `sem_t`: the same in glibc and musl. */
  #state({ path }: Entry): {
    value: number | null;
    waiting: number | null;
    holder: ProcessInfo | null;
  } {
    const bytes = this.#libc.readBytes(path);
    if (typeof bytes === "number" || bytes.length < SEM_BYTES) {
      return { value: null, waiting: null, holder: null };
    }
    const view = new DataView(bytes.buffer);
    const { pid, areAsleep } = noteHolder(view);
    const holder = pid === null ? null : { pid, alive: this.#libc.isRunning(pid) };
    const waiting = areAsleep ? null : view.getUint32(4, true);
    return { value: valueOf(view.getInt32(0, true)), waiting, holder };
  }

  #lockName(name: string): string {
    if (name.startsWith(QT_SEGMENT)) return QT_SEMAPHORE + name.slice(QT_SEGMENT.length);
    return this.#prefix === "" ? `${name}_sem` : name;
  }
}

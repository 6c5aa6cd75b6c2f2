import { ipcNamespace, isMakerText, isSemaphoreText, readMark, segmentText } from "./marks.ts";
import {
  type Inspection,
  type Inventory,
  type KeyFileInfo,
  type LockInfo,
  PERSISTENT,
  type SegmentInfo,
  type SemaphoreInfo,
  userLookup,
} from "../inventory.ts";
import { orElse } from "../failure.ts";
import { pathStatus, realpath } from "../unix/files.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { loginName, ownUid } from "../unix/users.ts";
import { shellWord } from "../shell_word.ts";
import { type AttachedProcess, processesAttachedTo } from "./attached_processes.ts";
import { SystemVCleanup } from "./cleanup.ts";
import { isMarkedPersistent, KeyFile, keyFilePath, lockPath } from "./key_file.ts";
import { isMarkedRemoved } from "./orphan_semaphores.ts";
import { readSharedLocks, type SharedLock } from "../unix/proc_locks.ts";
import {
  holderOf,
  isMarkPath,
  isQtKey,
  type KeyFileEntry,
  processOf,
  readKeyFiles,
  readTable,
  type Row,
  semaphoreState,
} from "./proc_tables.ts";

/** The age in seconds at which a file that leads to no object no longer belongs to a process that is about to use it. */
const SETTLED_SECONDS = 3;

/** The folder for the key files of programs without a `TMPDIR`. */
const USUAL_FOLDER = "/tmp";

/** The decision whether an object is stale, and the reason. */
interface Verdict {
  readonly stale: boolean;
  readonly reason: string;
}

const UNSEEN =
  "in use by a process that cannot be seen from here, for example in another container";
const OTHERS = "another user's, so its users are not known";

const stale = (reason: string): Verdict => ({ stale: true, reason });
const keep = (reason: string): Verdict => ({ stale: false, reason });

/** Lists and removes the System V segments, semaphores and key files of this module and Qt. */
export class SystemVInspection implements Inspection {
  readonly #libc: Libc;
  readonly #folder: () => string;
  readonly #cleanup: SystemVCleanup;

  constructor(libc: Libc, folder: () => string) {
    this.#libc = libc;
    this.#folder = folder;
    this.#cleanup = new SystemVCleanup(libc);
  }

  inventory(allUsers: boolean): Inventory {
    return new Scan(this.#libc, this.#folder(), allUsers).inventory();
  }

  remove(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null {
    return this.#cleanup.remove(thing);
  }
}

/** A segment of this user that is in use, and whose key file is not in the folder. */
interface Unnamed {
  readonly row: Row;
  readonly processes: readonly AttachedProcess[];
}

type Files<Key> = ReadonlyMap<Key, readonly KeyFileEntry[]>;

/** One scan of the existing objects. */
class Scan {
  readonly #libc: Libc;
  readonly #folder: string;
  readonly #user: number;
  /** Whether the caller wants the objects of a user. */
  readonly #isWanted: (uid: number) => boolean;
  readonly #now = Date.now() / 1000;
  // The order of these reads matters: an object that is created meanwhile is missing in a table, and then its file is
  // new.
  readonly #segments: readonly Row[];
  readonly #semaphores: ReadonlyMap<number, Row>;
  readonly #sharedLocks: ReadonlyMap<number, readonly SharedLock[]>;
  readonly #files: readonly KeyFileEntry[];
  /** The key files of segments by their System V key. Other users may have created files with the same key. */
  readonly #segmentFiles: Files<number>;
  readonly #semaphoreFiles: Files<number>;
  /** The key files of locks by the hash of the user's key. */
  readonly #lockFiles: Files<string>;
  readonly #namedFiles: Files<string>;
  /** The parts of the existing keys that do not depend on the project id. */
  readonly #segmentNumbers: ReadonlySet<number>;
  readonly #semaphoreNumbers: ReadonlySet<number>;
  /** The System V keys of the files in the usual folder, if the scan is of another folder. */
  readonly #foreignKeys: ReadonlySet<number>;
  readonly #unnamed: ReadonlyMap<number, Unnamed>;
  readonly #owner = userLookup((uid) => loginName(this.#libc, uid));
  readonly #relied = new Map<KeyFileEntry, boolean>();

  constructor(libc: Libc, folder: string, allUsers: boolean) {
    this.#libc = libc;
    this.#folder = folder;
    const user = ownUid(libc);
    this.#user = user;
    this.#isWanted = (uid) => allUsers || uid === user;
    this.#segments = readTable(libc, "shm");
    this.#semaphores = new Map(readTable(libc, "sem").map((row) => [row["key"]!, row]));
    this.#sharedLocks = readSharedLocks(libc);
    this.#files = readKeyFiles(libc, folder);
    this.#foreignKeys = this.#keysOfUsualFolder();
    const ofSemaphores = this.#files.filter(({ kind }) => kind === "systemsem");
    const named = this.#files.filter(({ kind }) => kind === "sharedmemory");
    const unfinished = this.#files.filter(({ kind }) => kind === "creating");
    this.#segmentFiles = Map.groupBy([...named, ...unfinished], ({ key }) => key);
    this.#semaphoreFiles = Map.groupBy(ofSemaphores, ({ key }) => key);
    this.#lockFiles = Map.groupBy(ofSemaphores, ({ hash }) => hash);
    this.#namedFiles = Map.groupBy(named, ({ hash }) => hash);
    this.#segmentNumbers = new Set(this.#segments.map(({ key }) => numberOf(key!)));
    this.#semaphoreNumbers = new Set([...this.#semaphores.keys()].map(numberOf));
    this.#unnamed = this.#findUnnamed();
  }

  inventory(): Inventory {
    const segments = this.#segments.flatMap((row) => this.#segment(row) ?? []);
    const withSegment = new Set(
      this.#segments.map((row) => fileOf(row, this.#segmentFiles)?.hash),
    );
    const isLock = (file: KeyFileEntry | undefined) =>
      file?.kind === "systemsem" && withSegment.has(file.hash);
    const semaphores = [...this.#semaphores.values()].flatMap((row) => {
      const file = fileOf(row, this.#semaphoreFiles);
      return isLock(file) ? [] : this.#semaphore(row, file) ?? [];
    });
    const inUse = new Map(
      semaphores.flatMap(({ keyFile, id, stale }) => stale ? [] : [[keyFile?.slice(-40), id]]),
    );
    const keyFiles = this.#files.flatMap((file) =>
      isLock(file) || !this.#isWanted(file.status.uid)
        ? []
        : this.#keyFile(file, inUse.get(file.hash)) ?? []
    );
    return { folder: this.#folder || "/", segments, semaphores, keyFiles };
  }

  #keysOfUsualFolder(): ReadonlySet<number> {
    const usual = realpath(this.#libc, USUAL_FOLDER);
    if (typeof usual === "number" || usual === this.#folder) return new Set();
    const files = orElse(() => readKeyFiles(this.#libc, usual), () => []); // this user has no files there
    return new Set(files.map(({ key }) => key));
  }

  #findUnnamed(): Map<number, Unnamed> {
    const rows = this.#segments.filter((row) =>
      row["uid"] === this.#user && row["nattch"]! > 0 && this.#isLost(row) &&
      !this.#segmentFiles.has(row["key"]!)
    );
    const processes = processesAttachedTo(this.#libc, rows);
    return new Map(rows.map((row) => {
      const id = row["shmid"]!;
      return [id, { row, processes: processes.get(id) ?? [] }];
    }));
  }

  #segment(row: Row): SegmentInfo | null {
    if (!this.#isWanted(row["uid"]!)) return null;
    const file = fileOf(row, this.#segmentFiles);
    const isOwn = row["uid"] === this.#user;
    if (file === undefined && !(isOwn && this.#isLost(row))) return null;
    const unfinished = file?.kind === "creating";
    const info = {
      kind: "segment",
      type: "systemv",
      orphan: file === undefined,
      nativeKey: unfinished ? null : file?.path ?? null,
      keyFile: file?.path ?? null,
      id: row["shmid"]!,
      size: row["size"]!,
      owner: this.#owner(row["uid"]!),
      isOwn,
      mode: row["perms"]! & 0o777,
      attached: row["nattch"]!,
      creator: processOf(this.#libc, row["cpid"]!),
      last: processOf(this.#libc, row["lpid"]!),
      persistent: file !== undefined && isMarkedPersistent(this.#libc, file.status, row["ctime"]!),
      unfinished,
      lock: file === undefined ? null : this.#lock(file),
    } as const;
    return { ...info, ...this.#judgeSegment(info, file) };
  }

  #judgeSegment(info: Omit<SegmentInfo, keyof Verdict>, file: KeyFileEntry | undefined): Verdict {
    const { id, attached, creator, lock, persistent, unfinished } = info;
    if (attached > 0) return keep(file === undefined ? this.#unnamedText(id) : "in use");
    const holder = lock?.holder;
    // The lock is needed to create the segment, attach to it or remove it.
    if (holder?.alive) return keep(`process ${holder.pid} holds its lock`);
    const users = this.#usersOf(file && this.#lockFile(file));
    if (users.length > 0) {
      return keep(`its lock is also a semaphore of process ${users.join(", ")}`);
    }
    if (persistent) return keep(PERSISTENT);
    if (file !== undefined && !unfinished) return stale("no process is attached");
    const what = unfinished ? "not finished" : "no key file leads to it";
    if (creator?.alive) return keep(`${what}, and its creator, process ${creator.pid}, is alive`);
    if (creator === null && !(unfinished && this.#isSettled(file!))) {
      return keep(`${what}, and its creator is not known`);
    }
    return stale(`${what}, no process is attached, and its creator has ended`);
  }

  /** Finds the key file of a segment's lock. Other users may have created such files too. */
  #lockFile(segment: KeyFileEntry): KeyFileEntry | undefined {
    const files = this.#lockFiles.get(segment.hash) ?? [];
    const path = lockPath(segment.path);
    return files.find((file) => file.path === path) ??
      files.find(({ status }) => status.uid === segment.status.uid);
  }

  #lock(segment: KeyFileEntry): LockInfo | null {
    const file = this.#lockFile(segment);
    const row = file && this.#semaphores.get(file.key);
    if (row === undefined) return null;
    const id = row["semid"]!;
    const state = semaphoreState(this.#libc, id);
    if (state === null) return null;
    const { value, waiting, last } = state;
    const holder = value === 0 ? holderOf(this.#libc, row, last) : null;
    return { id, keyFile: file!.path, value, holder, waiting };
  }

  #semaphore(row: Row, file: KeyFileEntry | undefined): SemaphoreInfo | null {
    if (!this.#isWanted(row["uid"]!)) return null;
    const isOwn = row["uid"] === this.#user;
    const isMarked = isMarkedRemoved(row);
    const isOurs = isMarked || row["nsems"] === 1 && this.#isLost(row);
    if (file === undefined && !(isOwn && isOurs)) return null;
    const id = row["semid"]!;
    const state = semaphoreState(this.#libc, id);
    if (state === null) return null; // the semaphore was removed after the table was read
    const info = {
      kind: "semaphore",
      type: "systemv",
      orphan: file === undefined && !isMarked,
      nativeKey: file?.path ?? null,
      keyFile: file?.path ?? null,
      id,
      owner: this.#owner(row["uid"]!),
      isOwn,
      mode: row["perms"]! & 0o777,
      ...state,
      users: this.#usersOf(file),
    } as const;
    return { ...info, ...this.#judgeSemaphore(info, row, file) };
  }

  #judgeSemaphore(
    info: Omit<SemaphoreInfo, keyof Verdict>,
    row: Row,
    file: KeyFileEntry | undefined,
  ): Verdict {
    const { id, isOwn, users, waiting } = info;
    const last = holderOf(this.#libc, row, info.last);
    if (users.length > 0) return keep(`in use by process ${users.join(", ")}`);
    if (!isOwn) return keep(OTHERS);
    if (waiting === null) return keep("its mode does not let this user see its users");
    if (waiting > 0) return keep(`in use: ${waiting} waiting`);
    if (last === null) return keep("the process that used it last is not known");
    if (last.alive) return keep(`process ${last.pid}, which used it last, is alive`);
    // A process that is attached to a segment may have the lock open without a trace.
    if (file === undefined && isMarkedRemoved(row)) {
      return stale(`process ${last.pid} was killed while it removed the semaphore`);
    }
    if (file === undefined) {
      return keep(`no key file leads to it; if no program uses it, ipcrm -s ${id} removes it`);
    }
    const unnamed = [...this.#unnamed.values()].find((one) => this.#mayBeLock(one, file));
    if (unnamed !== undefined) {
      const pids = unnamed.processes.map(({ pid }) => pid).join(", ") || "not known";
      const segment = unnamed.row["shmid"];
      return keep(
        `may be the lock of segment ${segment}, which is in use (process ${pids}) without a key file ` +
          `here; the semaphore is stale once these processes have ended; if no program uses it, ipcrm -s ${id} removes it`,
      );
    }
    if (this.#isRelied(file)) return keep(UNSEEN);
    return stale(`process ${last.pid}, which used it last, has ended`);
  }

  #keyFile(file: KeyFileEntry, semaphore: number | undefined): KeyFileInfo | null {
    const isMark = isMarkPath(file.path);
    const numbers = file.kind === "systemsem" ? this.#semaphoreNumbers : this.#segmentNumbers;
    if (!isMark && numbers.has(numberOf(file.key))) return null;
    return {
      kind: "key file",
      type: "systemv",
      orphan: false,
      nativeKey: file.kind === "creating" || isMark ? null : file.path,
      keyFile: file.path,
      owner: this.#owner(file.status.uid),
      isOwn: file.status.uid === this.#user,
      ...this.#judgeKeyFile(file, semaphore),
    };
  }

  #judgeKeyFile(file: KeyFileEntry, semaphore: number | undefined): Verdict {
    const { path, status } = file;
    if (status.uid !== this.#user) return keep(OTHERS);
    if (!this.#isSettled(file)) return keep("created just now");
    if (isMarkPath(path)) return this.#judgeMark(file);
    const users = this.#usersOf(file);
    if (users.length > 0) return keep(`in use by process ${users.join(", ")}`);
    // A process that uses the semaphore may be creating a segment.
    if (semaphore !== undefined) return keep(`semaphore ${semaphore} has the same key`);
    if (this.#isRelied(file)) return keep(UNSEEN);
    return stale("leads to no object");
  }

  /** Judges a note about an object, which the text of the note names. */
  #judgeMark(file: KeyFileEntry): Verdict {
    const [key, namespace] = file.hash.split("_").map((part) => parseInt(part, 16));
    if (namespace !== ipcNamespace(this.#libc)) return keep("a note of another IPC namespace");
    const text = readMark(this.#libc, file.path);
    if (text === null) {
      return keep("a note of another machine, or from before the last start of this one");
    }
    const isThere = file.kind === "unfinished"
      ? this.#segments.some((row) =>
        row["key"] === key! && (text === segmentText(row["shmid"]!, row["ctime"]!) ||
          isMakerText(this.#libc, text, row["cpid"]!))
      )
      : isSemaphoreText(text, this.#semaphores.get(key!)?.["semid"] ?? -1);
    return isThere
      ? keep("a note about an object that exists")
      : stale("a note about an object that does not exist");
  }

  /**
   * Whether any process, visible or not, relies on a key file of this user, or on that of the segment whose lock it
   * leads to.
   */
  #isRelied(file: KeyFileEntry): boolean {
    let isRelied = this.#relied.get(file);
    if (isRelied === undefined) {
      const segments = file.kind === "systemsem" ? this.#namedFiles.get(file.hash) ?? [] : [];
      isRelied = segments.some((segment) => this.#isRelied(segment)) || this.#isShared(file);
      this.#relied.set(file, isRelied);
    }
    return isRelied;
  }

  #isShared({ path, status }: KeyFileEntry): boolean {
    if (status.uid !== this.#user) return false;
    return orElse(() => {
      const file = KeyFile.open(this.#libc, keyFilePath(path));
      const isSole = file === null || file.isSole();
      file?.close();
      return !isSole;
    }, () => true); // the answer is unknown, so a process may rely on it
  }

  /** Whether a semaphore may be the lock of a segment whose key file is not in the folder. */
  #mayBeLock({ row, processes }: Unnamed, file: KeyFileEntry): boolean {
    const known = processes.find(({ keyFile }) => keyFile !== null)?.keyFile;
    if (known) return known.isDeleted && known.path.endsWith(file.hash);
    if (this.#hasLockOfSameKey(row)) return false;
    const folder = pathStatus(this.#libc, cString(this.#folder || "/"), true);
    if (typeof folder === "number") return true;
    if (folder.device !== (row["key"]! >>> 16 & 0xff)) return false;
    const seen = processes.reduce((sum, { count }) => sum + count, 0);
    return seen < row["nattch"]! || processes.some((one) =>
      one.folder === null ||
      one.folder.status.inode === folder.inode && one.folder.status.device === folder.device
    );
  }

  /**
   * Whether a segment and its lock have the same key, as with a file that a program has chosen. Every attach acquires
   * the lock, so a semaphore that was last used before the last attach is only left over. A semaphore whose key file
   * is here belongs to that file, which has the inode number of a deleted file.
   */
  #hasLockOfSameKey({ key, atime }: Row): boolean {
    const semaphore = this.#semaphores.get(key!);
    return semaphore !== undefined && semaphore["otime"]! >= atime! &&
      !this.#semaphoreFiles.has(key!);
  }

  /** Returns the text for a segment that is in use without a key file here: where the file is, and what to do. */
  #unnamedText(id: number): string {
    const here = `in use, without a key file in ${this.#folder || "/"}`;
    const { row, processes = [] } = this.#unnamed.get(id) ?? {};
    const deleted = processes.find(({ keyFile }) => keyFile?.isDeleted)?.keyFile;
    if (deleted) return `${here}: ${deleted.path} was deleted`;
    if (row !== undefined && this.#hasLockOfSameKey(row)) {
      return `${here}: a program has chosen another file for it and its lock`;
    }
    for (const { pid, keyFile, folder } of processes) {
      const place = keyFile?.path.replace(/\/[^/]*$/, "") ?? folder?.path;
      if (place === undefined || place === this.#folder) continue;
      const command = `TMPDIR=${shellWord(place || "/")} shared-memory list`;
      return `${here}, as process ${pid} has another TMPDIR: ${command}`;
    }
    return `${here}: it was deleted, is in another TMPDIR, or a program has chosen another file`;
  }

  /**
   * Whether the key file may have been deleted. It may also be in another folder, or be a file that was chosen as a
   * native key.
   */
  #isLost({ key }: Row): boolean {
    return isQtKey(key!) && !this.#foreignKeys.has(key!);
  }

  #isSettled(file: KeyFileEntry): boolean {
    return file.status.changed < this.#now - SETTLED_SECONDS;
  }

  #usersOf(file: KeyFileEntry | undefined): readonly number[] {
    if (file === undefined) return [];
    const { inode, device } = file.status;
    const locks = this.#sharedLocks.get(inode) ?? [];
    const own = locks.filter((lock) => lock.device === device);
    // On some file systems the two devices differ. Then only the file itself tells whether one of these locks is its
    // own.
    const found = own.length === 0 && locks.length > 0 && this.#isRelied(file) ? locks : own;
    return found.map(({ pid }) => pid);
  }
}

/** Returns the part of a System V key that is the same for all project ids of a file. */
function numberOf(key: number): number {
  return key & 0xffffff;
}

/**
 * Returns the file that leads to an object. Of several files with the same key, that of the object's owner is
 * preferred.
 */
function fileOf(row: Row, files: Files<number>): KeyFileEntry | undefined {
  const found = files.get(row["key"]!) ?? [];
  return found.find(({ status }) => status.uid === row["uid"]) ?? found[0];
}

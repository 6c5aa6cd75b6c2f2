import { ipcNamespace, isMakerText, isSemaphoreText, readMark, segmentText } from "./marks.ts";
import type {
  Inspection,
  Inventory,
  KeyFileInfo,
  LockInfo,
  SegmentInfo,
  SemaphoreInfo,
  UserInfo,
} from "../inventory.ts";
import { BackendError } from "../failure.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { shellWord } from "../shell_word.ts";
import { type AttachedProcess, processesAttachedTo } from "./attached_processes.ts";
import { SystemVCleanup } from "./cleanup.ts";
import { KeyFile, keyFilePath, lockPath } from "./key_file.ts";
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

/** A file this old that leads to nothing is not of a process which is just about to use it. */
const SETTLED_SECONDS = 3;

/** Where the key files of programs without a `TMPDIR` are. */
const USUAL_FOLDER = "/tmp";

/** Why something is left over, or why it is not. */
interface Verdict {
  readonly stale: boolean;
  readonly reason: string;
}

const UNSEEN =
  "in use by a process that cannot be seen from here, as of another container, which relies on its key file";
const OTHERS = "another user's, so who uses it is not known";

const stale = (reason: string): Verdict => ({ stale: true, reason });
const keep = (reason: string): Verdict => ({ stale: false, reason });

/** The System V segments, semaphores and key files of ours and Qt's. */
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

/** A segment of this user's that is in use, whose key file the folder does not have. */
interface Unnamed {
  readonly row: Row;
  readonly processes: readonly AttachedProcess[];
}

type Files<Key> = ReadonlyMap<Key, readonly KeyFileEntry[]>;

/** One look at what there is. */
class Scan {
  readonly #libc: Libc;
  readonly #folder: string;
  readonly #user: number;
  /** Whether the objects of a user are wanted. */
  readonly #isWanted: (uid: number) => boolean;
  readonly #now = Date.now() / 1000;
  // In this order: what is made meanwhile is missing in a table, and then its file is new.
  readonly #segments: readonly Row[];
  readonly #semaphores: ReadonlyMap<number, Row>;
  readonly #sharedLocks: ReadonlyMap<number, readonly SharedLock[]>;
  readonly #files: readonly KeyFileEntry[];
  /** By the System V key; other users may have made files that lead to the same. */
  readonly #segmentFiles: Files<number>;
  readonly #semaphoreFiles: Files<number>;
  /** By the hash of the user's key. */
  readonly #lockFiles: Files<string>;
  readonly #namedFiles: Files<string>;
  /** What keys of other project ids have in common with the keys that there are. */
  readonly #segmentNumbers: ReadonlySet<number>;
  readonly #semaphoreNumbers: ReadonlySet<number>;
  /** The System V keys of the usual folder, if that is not the one to look at. */
  readonly #foreignKeys: ReadonlySet<number>;
  readonly #unnamed: ReadonlyMap<number, Unnamed>;
  readonly #owners = new Map<number, UserInfo>();
  readonly #relied = new Map<KeyFileEntry, boolean>();

  constructor(libc: Libc, folder: string, allUsers: boolean) {
    this.#libc = libc;
    this.#folder = folder;
    const user = libc.ownUid();
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
    const usual = this.#libc.realpath(USUAL_FOLDER);
    if (typeof usual === "number" || usual === this.#folder) return new Set();
    try {
      return new Set(readKeyFiles(this.#libc, usual).map(({ key }) => key));
    } catch (error) {
      if (error instanceof BackendError) return new Set(); // this user has nothing there
      throw error;
    }
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
      unfinished,
      lock: file === undefined ? null : this.#lock(file),
    } as const;
    return { ...info, ...this.#judgeSegment(info, file) };
  }

  #judgeSegment(info: Omit<SegmentInfo, keyof Verdict>, file: KeyFileEntry | undefined): Verdict {
    const { id, attached, creator, lock, unfinished } = info;
    if (attached > 0) return keep(file === undefined ? this.#unnamedText(id) : "in use");
    const holder = lock?.holder;
    // That is what it takes to make it, attach to it or remove it.
    if (holder?.alive) return keep(`process ${holder.pid} holds its lock`);
    const users = this.#usersOf(file && this.#lockFile(file));
    if (users.length > 0) {
      return keep(`its lock is also a semaphore of process ${users.join(", ")}`);
    }
    if (file !== undefined && !unfinished) return stale("nobody is attached");
    const what = unfinished ? "not finished" : "no key file leads to it";
    if (creator?.alive) return keep(`${what}, and process ${creator.pid}, which made it, lives`);
    if (creator === null && !(unfinished && this.#isSettled(file!))) {
      return keep(`${what}, and who made it is not known`);
    }
    return stale(`${what}, nobody is attached, and who made it has ended`);
  }

  /** The key file of the lock of a segment, of which other users may have made others. */
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
    if (state === null) return null; // removed since the table was read
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
    if (waiting === null) return keep("its mode does not let this user look who uses it");
    if (waiting > 0) return keep(`in use: ${waiting} waiting`);
    if (last === null) return keep("who used it last is not known");
    if (last.alive) return keep(`process ${last.pid}, which used it last, lives`);
    // Whoever is attached to a segment may have its lock open without a trace.
    if (file === undefined && isMarkedRemoved(row)) {
      return stale(`process ${last.pid} was killed while it removed it`);
    }
    if (file === undefined) {
      return keep(`no key file leads to it; if nobody uses it, ipcrm -s ${id} removes it`);
    }
    const unnamed = [...this.#unnamed.values()].find((one) => this.#mayBeLock(one, row, file));
    if (unnamed !== undefined) {
      const pids = unnamed.processes.map(({ pid }) => pid).join(", ") || "not known";
      const segment = unnamed.row["shmid"];
      return keep(
        `may be the lock of segment ${segment}, which is in use (process ${pids}) without a key file ` +
          `here; it is stale once its processes have ended, and if nobody uses it ipcrm -s ${id} removes it`,
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
    if (!this.#isSettled(file)) return keep("made just now");
    if (isMarkPath(path)) return this.#judgeMark(file);
    const users = this.#usersOf(file);
    if (users.length > 0) return keep(`in use by process ${users.join(", ")}`);
    // Who uses that may be making a segment.
    if (semaphore !== undefined) return keep(`semaphore ${semaphore} has the same key`);
    if (this.#isRelied(file)) return keep(UNSEEN);
    return stale("leads to nothing");
  }

  /** Of a note about an object, which its text names. */
  #judgeMark(file: KeyFileEntry): Verdict {
    const [key, namespace] = file.hash.split("_").map((part) => parseInt(part, 16));
    if (namespace !== ipcNamespace(this.#libc)) return keep("a note of another container");
    const text = readMark(this.#libc, file.path);
    if (text === null) return keep("a note of another machine, or from before the last start");
    const isThere = file.kind === "unfinished"
      ? this.#segments.some((row) =>
        row["key"] === key! && (text === segmentText(row["shmid"]!, row["ctime"]!) ||
          isMakerText(this.#libc, text, row["cpid"]!))
      )
      : isSemaphoreText(text, this.#semaphores.get(key!)?.["semid"] ?? -1);
    return isThere ? keep("a note about an object that there is") : stale("a note about nothing");
  }

  /** Whether a process relies on a key file of this user's, or on that of the segment whose lock it is, seen or not. */
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
    try {
      const file = KeyFile.open(this.#libc, keyFilePath(path));
      if (file === null) return false;
      const isSole = file.isSole();
      file.close();
      return !isSole;
    } catch (error) {
      if (error instanceof BackendError) return true; // it is not known, so it may be
      throw error;
    }
  }

  /** Whether a semaphore may be the lock of a segment whose key file is not here. */
  #mayBeLock({ row, processes }: Unnamed, semaphore: Row, file: KeyFileEntry): boolean {
    const known = processes.find(({ keyFile }) => keyFile !== null)?.keyFile;
    if (known) return known.isDeleted && known.path.endsWith(file.hash);
    if (this.#hasLockOfSameKey(row)) return false;
    // Every attach takes the lock.
    if (semaphore["otime"]! < row["atime"]!) return false;
    const folder = this.#libc.pathStatus(cString(this.#folder || "/"), true);
    if (typeof folder === "number") return true;
    if (folder.device !== (row["key"]! >>> 16 & 0xff)) return false;
    const seen = processes.reduce((sum, { count }) => sum + count, 0);
    return seen < row["nattch"]! || processes.some((one) =>
      one.folder === null ||
      one.folder.status.inode === folder.inode && one.folder.status.device === folder.device
    );
  }

  /**
   * Whether a segment and its lock have one key, as of a file that a program has chosen. Not so if the semaphore is
   * another file's that has got the inode of a deleted one, or was left over: every attach takes the lock.
   */
  #hasLockOfSameKey({ key, atime }: Row): boolean {
    const semaphore = this.#semaphores.get(key!);
    return semaphore !== undefined && semaphore["otime"]! >= atime! &&
      !this.#semaphoreFiles.has(key!);
  }

  /** Of a segment that is in use: where its key file is, and what to do. */
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

  /** Whether the key file may be gone. It may also be in another folder, or a native key's. */
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
    // On some file systems the two devices differ: the file itself tells whether one of these is its lock.
    const found = own.length === 0 && locks.length > 0 && this.#isRelied(file) ? locks : own;
    return found.map(({ pid }) => pid);
  }

  #owner(uid: number): UserInfo {
    let owner = this.#owners.get(uid);
    if (owner === undefined) {
      owner = { uid, name: this.#libc.loginName(uid) };
      this.#owners.set(uid, owner);
    }
    return owner;
  }
}

/** The part of a System V key that keys of all project ids have of a file. */
function numberOf(key: number): number {
  return key & 0xffffff;
}

/** The file that leads to an object: its owner's, if there are several of the same number. */
function fileOf(row: Row, files: Files<number>): KeyFileEntry | undefined {
  const found = files.get(row["key"]!) ?? [];
  return found.find(({ status }) => status.uid === row["uid"]) ?? found[0];
}

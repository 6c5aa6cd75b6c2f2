import type {
  Inspection,
  Inventory,
  KeyFileInfo,
  LockInfo,
  SegmentInfo,
  SemaphoreInfo,
  UserInfo,
} from "./inventory.ts";
import { cString, type Libc } from "./libc.ts";
import { SystemVCleanup } from "./systemv_cleanup.ts";
import { KeyFile, keyFilePath } from "./systemv_key_file.ts";
import {
  isMarkPath,
  isOfFile,
  isQtKey,
  type KeyFileEntry,
  processesAttachedTo,
  processOf,
  readKeyFiles,
  readSharedLocks,
  readTable,
  type Row,
  semaphoreState,
} from "./systemv_tables.ts";

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
    return new Look(this.#libc, this.#folder(), allUsers).inventory();
  }

  remove(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null {
    return this.#cleanup.remove(thing);
  }
}

/** One look at what there is. */
class Look {
  readonly #libc: Libc;
  readonly #folder: string;
  readonly #user: number;
  /** Whether the objects of a user are wanted. */
  readonly #isWanted: (uid: number) => boolean;
  readonly #now = Date.now() / 1000;
  // In this order: what is made meanwhile is missing in a table, and then its file is new.
  readonly #segments: readonly Row[];
  readonly #semaphores: ReadonlyMap<number, Row>;
  readonly #users: ReadonlyMap<number, readonly number[]>;
  readonly #files: readonly KeyFileEntry[];
  readonly #segmentFiles: ReadonlyMap<number, KeyFileEntry>;
  readonly #semaphoreFiles: ReadonlyMap<number, KeyFileEntry>;
  /** The key files of locks and semaphores by the hash of the key. */
  readonly #lockFiles: ReadonlyMap<string, KeyFileEntry>;
  /** The System V keys of the usual folder, if that is not the one to look at. */
  readonly #foreignKeys: ReadonlySet<number>;

  constructor(libc: Libc, folder: string, allUsers: boolean) {
    this.#libc = libc;
    this.#folder = folder;
    const user = libc.ownUid();
    this.#user = user;
    const isWanted = (uid: number) => allUsers || uid === user;
    this.#segments = readTable(libc, "shm").filter((row) => isWanted(row["uid"]!));
    this.#semaphores = new Map(
      readTable(libc, "sem").filter((row) => isWanted(row["uid"]!))
        .map((row) => [row["key"]!, row]),
    );
    this.#users = readSharedLocks(libc);
    this.#files = readKeyFiles(libc, folder);
    this.#isWanted = isWanted;
    const usual = libc.realpath(USUAL_FOLDER);
    const isElsewhere = typeof usual === "string" && usual !== folder;
    const foreign = isElsewhere ? readKeyFiles(libc, usual) : [];
    this.#foreignKeys = new Set(foreign.map(({ key }) => key));
    const ofSemaphores = this.#files.filter(({ kind }) => kind === "systemsem");
    const others = this.#files.filter(({ kind }) => kind === "sharedmemory" || kind === "creating");
    this.#segmentFiles = new Map(others.map((file) => [file.key, file]));
    this.#semaphoreFiles = new Map(ofSemaphores.map((file) => [file.key, file]));
    this.#lockFiles = new Map(ofSemaphores.map((file) => [file.hash, file]));
  }

  inventory(): Inventory {
    const segments = this.#segments.flatMap((row) => this.#segment(row) ?? []);
    const withSegment = new Set(segments.map(({ keyFile }) => keyFile?.slice(-40)));
    const isLock = (file: KeyFileEntry | undefined) =>
      file?.kind === "systemsem" && withSegment.has(file.hash);
    const unnamed = segments.find((one) =>
      one.isOwn && one.keyFile === null && one.attached > 0 && !this.#isOfOtherFolder(one)
    );
    const retired = new Set(
      this.#files.flatMap(({ kind, key }) => kind === "removing" ? [key] : []),
    );
    const semaphores = [...this.#semaphores.values()].flatMap((row) => {
      const file = this.#semaphoreFiles.get(row["key"]!);
      const isOther = isLock(file) || file === undefined && retired.has(row["key"]!);
      return isOther ? [] : this.#semaphore(row, file, unnamed) ?? [];
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

  #segment(row: Row): SegmentInfo | null {
    const file = this.#segmentFiles.get(row["key"]!);
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
      lock: file === undefined ? null : this.#lock(file.hash),
    } as const;
    return { ...info, ...this.#judgeSegment(info, file) };
  }

  #judgeSegment(info: Omit<SegmentInfo, keyof Verdict>, file: KeyFileEntry | undefined): Verdict {
    const { attached, creator, lock, unfinished } = info;
    if (attached > 0 && file === undefined) {
      const folder = this.#folder || "/";
      return keep(
        `in use, without a key file in ${folder}: it was deleted, or is in another TMPDIR`,
      );
    }
    if (attached > 0) return keep("in use");
    const holder = lock?.holder;
    // That is what it takes to make it, attach to it or remove it.
    if (holder?.alive) return keep(`process ${holder.pid} holds its lock`);
    const users = this.#usersOf(this.#lockFiles.get(file?.hash ?? ""));
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

  #lock(hash: string): LockInfo | null {
    const file = this.#lockFiles.get(hash);
    const row = file && this.#semaphores.get(file.key);
    if (row === undefined) return null;
    const id = row["semid"]!;
    const state = semaphoreState(this.#libc, id);
    if (state === null) return null;
    const { value, waiting, last } = state;
    return { id, keyFile: file!.path, value, holder: value === 0 ? last : null, waiting };
  }

  #semaphore(
    row: Row,
    file: KeyFileEntry | undefined,
    unnamed: SegmentInfo | undefined,
  ): SemaphoreInfo | null {
    const isOwn = row["uid"] === this.#user;
    if (file === undefined && !(isOwn && row["nsems"] === 1 && this.#isLost(row))) return null;
    const id = row["semid"]!;
    const state = semaphoreState(this.#libc, id);
    if (state === null) return null; // removed since the table was read
    const info = {
      kind: "semaphore",
      type: "systemv",
      orphan: file === undefined,
      nativeKey: file?.path ?? null,
      keyFile: file?.path ?? null,
      id,
      owner: this.#owner(row["uid"]!),
      isOwn,
      mode: row["perms"]! & 0o777,
      ...state,
      users: this.#usersOf(file),
    } as const;
    return { ...info, ...this.#judgeSemaphore(info, file, unnamed) };
  }

  #judgeSemaphore(
    info: Omit<SemaphoreInfo, keyof Verdict>,
    file: KeyFileEntry | undefined,
    unnamed: SegmentInfo | undefined,
  ): Verdict {
    const { id, isOwn, last, users, waiting } = info;
    if (users.length > 0) return keep(`in use by process ${users.join(", ")}`);
    if (!isOwn || waiting === null) return keep("another user's, so who uses it is not known");
    if (waiting > 0) return keep(`in use: ${waiting} waiting`);
    if (last === null) return keep("who used it last is not known");
    if (last.alive) return keep(`process ${last.pid}, which used it last, lives`);
    // Whoever is attached to a segment may have its lock open without a trace.
    if (file === undefined) {
      return keep(`no key file leads to it; if nobody uses it, ipcrm -s ${id} removes it`);
    }
    if (unnamed !== undefined) {
      return keep(
        `may be the lock of segment ${unnamed.id}, which is in use though its key file was deleted; it is stale ` +
          `once the processes that are attached have ended, and if nobody uses it ipcrm -s ${id} removes it`,
      );
    }
    if (this.#isRelied(file)) return keep(UNSEEN);
    return stale(`process ${last.pid}, which used it last, has ended`);
  }

  #keyFile(file: KeyFileEntry, semaphore: number | undefined): KeyFileInfo | null {
    const isOther = file.kind === "removing" || isMarkPath(file.path);
    const table = file.kind === "systemsem" ? this.#semaphores.values() : this.#segments;
    if (!isOther && [...table].some(({ key }) => isOfFile(key!, file.key))) return null;
    return {
      kind: "key file",
      type: "systemv",
      orphan: false,
      nativeKey: file.kind === "creating" || isOther ? null : file.path,
      keyFile: file.path,
      owner: this.#owner(file.status.uid),
      isOwn: file.status.uid === this.#user,
      ...this.#judgeKeyFile(file, semaphore),
    };
  }

  #judgeKeyFile(file: KeyFileEntry, semaphore: number | undefined): Verdict {
    const { kind, path } = file;
    if (isMarkPath(path)) return this.#judgeMark(file);
    if (kind === "removing" && this.#isSettled(file) && !this.#isRelied(file)) {
      return stale("a process was killed while it removed a semaphore");
    }
    if (!this.#isSettled(file)) return keep("made just now");
    const users = this.#usersOf(file);
    if (users.length > 0) return keep(`in use by process ${users.join(", ")}`);
    // Who uses that may be making a segment.
    if (semaphore !== undefined) return keep(`semaphore ${semaphore} has the same key`);
    if (this.#isRelied(file)) return keep(UNSEEN);
    return stale("leads to nothing");
  }

  /** Of a note about an object, which its text names. */
  #judgeMark(file: KeyFileEntry): Verdict {
    if (!this.#isSettled(file)) return keep("made just now");
    const text = this.#libc.readLink(file.path);
    const [, what, number] = /^(id|pid) (\d+)$/.exec(String(text)) ?? [];
    const isThere = what === "pid"
      ? this.#libc.isRunning(Number(number))
      : file.kind === "unfinished"
      ? this.#segments.some((row) => row["shmid"] === Number(number))
      : [...this.#semaphores.values()].some((row) => row["semid"] === Number(number));
    return isThere ? keep("a note about an object that there is") : stale("a note about nothing");
  }

  /** Whether a process relies on a key file of this user's, or on that of the segment whose lock it is, seen or not. */
  #isRelied({ kind, hash, path, status }: KeyFileEntry): boolean {
    const segment = kind === "systemsem" &&
      this.#files.find((other) => other.kind === "sharedmemory" && other.hash === hash);
    if (segment && this.#isRelied(segment)) return true;
    if (status.uid !== this.#user) return false;
    const file = KeyFile.open(this.#libc, keyFilePath(path));
    if (file === null) return false;
    const isSole = file.isSole();
    file.close();
    return !isSole;
  }

  /**
   * Whether the key file of a segment surely was in another folder: on another file system, or the environment of
   * every process that is attached says so.
   */
  #isOfOtherFolder({ id, attached }: SegmentInfo): boolean {
    const row = this.#segments.find(({ shmid }) => shmid === id)!;
    const folder = this.#libc.pathStatus(cString(this.#folder || "/"), true);
    if (typeof folder === "object" && folder.device !== (row["key"]! >>> 16 & 0xff)) return true;
    const users = processesAttachedTo(this.#libc, id);
    return users.length > 0 && users.reduce((sum, { count }) => sum + count, 0) >= attached &&
      users.every(({ pid }) => this.#usesOtherFolder(pid));
  }

  #usesOtherFolder(pid: number): boolean {
    const environment = this.#libc.readFile(`/proc/${pid}/environ`);
    if (typeof environment === "number") return false;
    const value = environment.split("\0").find((line) => line.startsWith("TMPDIR="))?.slice(7);
    const folder = this.#libc.realpath(value || USUAL_FOLDER);
    return typeof folder === "string" && folder !== (this.#folder || "/");
  }

  /** Whether the key file may be gone. It may also be in another folder, or a native key's. */
  #isLost({ key }: Row): boolean {
    return isQtKey(key!) && !this.#foreignKeys.has(key!);
  }

  #isSettled(file: KeyFileEntry): boolean {
    return file.status.changed < this.#now - SETTLED_SECONDS;
  }

  #usersOf(file: KeyFileEntry | undefined): readonly number[] {
    return file === undefined ? [] : this.#users.get(file.status.inode) ?? [];
  }

  #owner(uid: number): UserInfo {
    return { uid, name: this.#libc.loginName(uid) };
  }
}

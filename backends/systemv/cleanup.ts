import { AccessMode } from "../../errors.ts";
import { _SC_PAGESIZE, IPC_CREAT, IPC_EXCL, IPC_SET, SHMID_DS } from "../unix/linux_constants.ts";
import { EACCES, EEXIST, failure } from "../unix/errno.ts";
import type { KeyFileInfo, SegmentInfo, SemaphoreInfo } from "../inventory.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { KeyFile, keyFilePath, lockPath, segmentPath } from "./key_file.ts";
import { enterLock } from "./lock_section.ts";
import { SystemVSegments } from "./segments.ts";
import { Mark } from "./marks.ts";
import { Shm } from "./shm.ts";
import { SystemVSemaphores } from "./semaphores.ts";
import { removeOrphanSemaphores } from "./orphan_semaphores.ts";
import { holderOf, isMarkPath, isOfFile, readTable, semaphoreState } from "./proc_tables.ts";
import { PRIVATE } from "../types.ts";

const CAME_INTO_USE = "has come into use meanwhile";
/** The reason for keeping a file on which another process holds LOCK_SH. */
const RELIED_ON = "its key file is in use by another process, perhaps in another container";

/** Removes stale objects in ways that harm no process that begins to use them at the same moment. */
export class SystemVCleanup {
  readonly #libc: Libc;
  readonly #shm: Shm;
  readonly #segments: SystemVSegments;
  readonly #semaphores: SystemVSemaphores;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#shm = new Shm(libc);
    // This class creates no view of what it attaches, so that no size is too large.
    const pageBytes = Number(libc.c.sysconf(_SC_PAGESIZE));
    this.#segments = new SystemVSegments(libc, Number.MAX_SAFE_INTEGER, pageBytes);
    this.#semaphores = new SystemVSemaphores(libc);
  }

  /**
   * Removes an object. Returns `null`, or the reason why the object stays, for example that it came into use.
   *
   * @throws {BackendError} if a call fails
   */
  remove(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null {
    const { kind, keyFile } = thing;
    if (kind === "segment") {
      if (keyFile === null) return this.#removeUnnamed(thing);
      return thing.unfinished
        ? this.#removeUnfinished(keyFile, thing)
        : this.#removeSegment(keyFile, thing);
    }
    if (kind === "semaphore") {
      return keyFile === null
        ? this.#removeMarked(thing)
        : this.#removeSemaphore(keyFile, thing.id);
    }
    if (isMarkPath(keyFile!)) return this.#removeMark(keyFile!);
    return keyFile!.includes("/qipc_systemsem_")
      ? this.#removeSemaphore(keyFile!, null)
      : this.#removeSegmentFile(keyFile!);
  }

  /**
   * Removes a segment in the usual way: this process attaches and detaches, and the last process to detach removes
   * it, unless it has become persistent since it was listed.
   */
  #removeSegment(path: string, info: SegmentInfo): string | null {
    const { id, mode, persistent } = info;
    if (this.#shm.isUnfinishedAt(keyFilePath(path), id)) return this.#removeUnfinished(path, info);
    const lock = this.#semaphores.lock(lockPath(path), mode);
    try {
      const segment = this.#segments.attach(path, AccessMode.ReadOnly, lock, mode);
      if (!persistent) segment.respectPersistence?.();
      segment.free();
      segment.release({ lockHeld: false, wait: true });
    } catch (error) {
      lock.close();
      if (this.#isThere(id)) throw error;
    }
    return this.#isThere(id) ? CAME_INTO_USE : null;
  }

  /**
   * Removes an unfinished segment of a dead creator, under the lock, as the next process that creates the segment
   * would do. If its key file has the final name, processes of other containers may rely on the file, which then stays.
   */
  #removeUnfinished(path: string, { id, mode, lock, unfinished }: SegmentInfo): string | null {
    const remove = () => {
      if (this.#shm.status(id)?.attached !== 0) return CAME_INTO_USE;
      return this.#withFile(path, (file) => {
        const isSole = file.isSole();
        if (!unfinished) {
          if (!this.#shm.isUnfinished(file.key, id)) return CAME_INTO_USE;
          new Mark(this.#libc, "unfinished", file.key).clear();
        } else if (!isSole) return RELIED_ON;
        this.#shm.remove(id);
        if (isSole) file.unlink();
        return null;
      });
    };
    return lock === null ? remove() : this.#locked(lock.keyFile, mode, remove);
  }

  /**
   * Removes a segment whose key file, and so its lock, is not known. Without permissions only root can still attach,
   * which protects the removal as well as the lock would.
   */
  #removeUnnamed({ id, mode }: SegmentInfo): string | null {
    // The table is read instead of IPC_STAT, which needs permissions as well.
    const look = () => readTable(this.#libc, "shm").find(({ shmid }) => shmid === id);
    const row = look();
    if (row === undefined) return null; // another process has removed it
    const status = new Uint8Array(SHMID_DS.bytes);
    const view = new DataView(status.buffer);
    view.setUint32(SHMID_DS.uid, row["uid"]!, true);
    view.setUint32(SHMID_DS.gid, row["gid"]!, true);
    if (this.#libc.c.shmctl(id, IPC_SET, status) === -1) {
      throw failure("shmctl", this.#libc.errno());
    }
    if (look()?.["nattch"] === 0) this.#shm.remove(id);
    if (!this.#isThere(id)) return null;
    view.setUint16(SHMID_DS.mode, mode, true);
    this.#libc.c.shmctl(id, IPC_SET, status);
    return CAME_INTO_USE;
  }

  /** Removes a segment's key file that leads to no segment. */
  #removeSegmentFile(path: string): string | null {
    const remove = () =>
      this.#withFile(path, (file) => {
        if (this.#isUsed("shm", file)) return CAME_INTO_USE;
        if (!file.isSole()) return RELIED_ON;
        file.unlink();
        return null;
      });
    const isSole = this.#withFile(path, (file) => file.isSole());
    if (isSole === false) return RELIED_ON;
    if (path.includes("/qipc_creating_")) return remove();
    // Segments are created under the lock. No lock exists now, as a stale one was removed before this.
    const lock = lockPath(path);
    const isLocked = this.#withFile(lock, (file) => this.#isUsed("sem", file));
    const isUsed = this.#withFile(path, (file) => this.#isUsed("shm", file));
    return isLocked || isUsed ? CAME_INTO_USE : this.#locked(lock, PRIVATE, remove);
  }

  /** Removes a semaphore and its key file, or with an `id` of `null` a file that leads to no semaphore. */
  #removeSemaphore(path: string, id: number | null): string | null {
    return this.#withFile(path, (file) => {
      // An object of this module that opens the file at this moment waits for LOCK_SH, and then creates the file and
      // the semaphore again, as Qt does.
      const isRelied = () => !file.isSole() || this.#withFile(segmentPath(path), isShared) === true;
      if (isRelied()) return RELIED_ON;
      if (id === null && this.#isUsed("sem", file)) return CAME_INTO_USE;
      const { c } = this.#libc;
      // If there is no semaphore one is created, so that a process that has already looked up the key finds it
      // removed too.
      const flags = id === null ? PRIVATE | IPC_CREAT | IPC_EXCL : 0;
      const found = c.semget(file.key, 1, flags);
      if (found === -1) {
        const errno = this.#libc.errno();
        if (errno === EEXIST) return CAME_INTO_USE;
        throw failure("semget", errno, {}, path);
      }
      if (id !== null && !(found === id && this.#isUnused(id))) return CAME_INTO_USE;
      this.#semaphores.remove(found, file);
      return null;
    });
  }

  /** Removes a mark about an object that does not exist. */
  #removeMark(path: string): string | null {
    this.#libc.c.unlink(cString(path));
    return null;
  }

  /** Removes a semaphore whose earlier removal was interrupted. */
  #removeMarked({ id }: SemaphoreInfo): string | null {
    removeOrphanSemaphores(this.#libc);
    return semaphoreState(this.#libc, id!) === null ? null : CAME_INTO_USE;
  }

  /** Whether a key file leads to an existing object, with any project id. */
  #isUsed(table: "shm" | "sem", file: KeyFile): boolean {
    return readTable(this.#libc, table).some(({ key }) => isOfFile(key!, file.key));
  }

  #isUnused(id: number): boolean {
    const state = semaphoreState(this.#libc, id);
    const row = readTable(this.#libc, "sem").find(({ semid }) => semid === id);
    if (state === null || row === undefined) return false;
    return state.waiting === 0 && holderOf(this.#libc, row, state.last)?.alive === false;
  }

  /** Calls `action` under the lock of a key, and then removes the lock if there is no segment. */
  #locked(path: string, mode: number, action: () => string | null): string | null {
    const lock = this.#semaphores.lock(path, mode);
    const segment = keyFilePath(segmentPath(path));
    const exists = () => this.#shm.idAt(segment) !== -1;
    try {
      if (!enterLock(lock, exists)) return CAME_INTO_USE;
      try {
        return action();
      } finally {
        this.#segments.abandon(segment, lock);
      }
    } finally {
      lock.close();
    }
  }

  /** Calls `action` with the key file at a path and returns its result, or `null` if there is no file. */
  #withFile<T>(path: string, action: (file: KeyFile) => T): T | null {
    const file = KeyFile.open(this.#libc, keyFilePath(path));
    if (file === null) return null;
    try {
      return action(file);
    } finally {
      file.close();
    }
  }

  #isThere(id: number): boolean {
    return this.#shm.status(id) !== null || this.#libc.errno() === EACCES;
  }
}

function isShared(file: KeyFile): boolean {
  return !file.isSole();
}

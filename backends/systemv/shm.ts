import { IPC_RMID, IPC_SET, IPC_STAT } from "../unix/linux_constants.ts";
import { EPERM } from "../unix/errno.ts";
import type { Libc } from "../unix/libc.ts";
import { KeyFile, type KeyPath } from "./key_file.ts";
import { isMakerText, Mark, segmentText } from "./marks.ts";

/** The status of a segment, as `shmctl(IPC_STAT)` reports it. */
export interface Status {
  readonly size: number;
  readonly attached: number;
  /** Whether the segment has been removed already, and exists only until its last user detaches. */
  readonly removed: boolean;
  readonly users: readonly [uid: number, cuid: number];
  /** The time at which the segment was created or its owner was last set, in seconds since 1970. */
  readonly changed: number;
  /** The process that created the segment; 0 if it belongs to another pid namespace. */
  readonly creator: number;
  /**
   * Whether the creator may still be filling the segment, or may have been killed while it did. Only the mark tells
   * for sure.
   */
  readonly mayBeUnfinished: boolean;
}

/**
 * The permissions of a segment that is filled where other processes can find it. They allow the same as 0600, as a
 * user who may not read a segment may not attach to it. No program chooses them by accident, and even so the segment
 * counts as unfinished only if there is also a mark.
 */
export const UNFINISHED_MODE = 0o633;

/** Calls `shmget` and `shmctl` for the segments of the system. */
export class Shm {
  readonly #libc: Libc;
  readonly #statusBuffer: Uint8Array;
  readonly #statusView: DataView;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#statusBuffer = new Uint8Array(libc.constants.SHMID_DS.bytes);
    this.#statusView = new DataView(this.#statusBuffer.buffer);
  }

  /** Returns the id of the segment that a path leads to, or -1 if there is none. */
  idAt(path: KeyPath): number {
    const key = KeyFile.keyAt(this.#libc, path);
    return key === null ? -1 : this.idOf({ key });
  }

  /** Returns the id of the segment of a key, whichever users may use it, or -1 if there is none. */
  idOf({ key }: { readonly key: number }): number {
    return this.#libc.c.shmget(key, 0n, 0);
  }

  /** Returns the status of a segment, or `null` if there is no such segment or this user may not read its status. */
  status(id: number): Status | null {
    if (this.#libc.c.shmctl(id, IPC_STAT, this.#statusBuffer) === -1) return null;
    const { SHM_DEST, SHMID_DS } = this.#libc.constants;
    const view = this.#statusView;
    const attached = SHMID_DS.nattchBytes === 2
      ? view.getUint16(SHMID_DS.nattch, true)
      : Number(view.getBigUint64(SHMID_DS.nattch, true));
    const mode = this.#mode;
    return {
      size: Number(view.getBigUint64(SHMID_DS.segsz, true)),
      attached,
      changed: Number(view.getBigInt64(SHMID_DS.ctime, true)),
      removed: (mode & SHM_DEST) !== 0,
      creator: view.getInt32(SHMID_DS.cpid, true),
      mayBeUnfinished: (mode & 0o777) === UNFINISHED_MODE,
      users: [view.getUint32(SHMID_DS.uid, true), view.getUint32(SHMID_DS.cuid, true)],
    };
  }

  /** Whether a segment has a mark which says that its creator has not filled it yet. */
  isUnfinished(key: number, id: number): boolean {
    const status = this.status(id);
    if (!status?.mayBeUnfinished) return false;
    const text = new Mark(this.#libc, "unfinished", key).read();
    return text === segmentText(id, status.changed) ||
      isMakerText(this.#libc, text, status.creator);
  }

  /** Whether the segment `id` that a path leads to has a mark which says that its creator has not filled it yet. */
  isUnfinishedAt(path: KeyPath, id: number): boolean {
    const key = KeyFile.keyAt(this.#libc, path);
    return key !== null && this.isUnfinished(key, id);
  }

  /** The permissions and flags of the segment whose status was just read. */
  get #mode(): number {
    return this.#statusView.getUint16(this.#libc.constants.SHMID_DS.mode, true);
  }

  /**
   * Sets the permissions of the segment whose status was just read.
   *
   * @returns `false` if this user may not do so, or the segment no longer exists
   */
  setMode(id: number, mode: number): boolean {
    this.#statusView.setUint16(this.#libc.constants.SHMID_DS.mode, mode, true);
    return this.#libc.c.shmctl(id, IPC_SET, this.#statusBuffer) === 0;
  }

  /** Removes a segment. Returns `false` if this user may not do so. */
  remove(id: number): boolean {
    return this.#libc.c.shmctl(id, IPC_RMID, this.#statusBuffer) === 0 ||
      this.#libc.errno() !== EPERM;
  }
}

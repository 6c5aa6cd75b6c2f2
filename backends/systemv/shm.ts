import { IPC_RMID, IPC_SET, IPC_STAT } from "../unix/linux_constants.ts";
import { EPERM } from "../unix/errno.ts";
import type { Libc } from "../unix/libc.ts";
import { KeyFile, type KeyPath } from "./key_file.ts";
import { isMakerText, Mark, segmentText } from "./marks.ts";

/** What `shmctl(IPC_STAT)` tells of a segment. */
export interface Status {
  readonly size: number;
  readonly attached: number;
  /** Removed already; it goes with its last user. */
  readonly removed: boolean;
  readonly users: readonly [uid: number, cuid: number];
  /** When it was made or its owner was last set, in seconds since 1970. */
  readonly changed: number;
  /** The process that made it; 0 if that is of another pid namespace. */
  readonly creator: number;
  /** Whether it may be that its creator is still filling it, or was killed at that: its mark says so. */
  readonly mayBeUnfinished: boolean;
}

/**
 * The permissions of a segment that is filled where others can find it, which allow what 0600 does: who may not read
 * it may not attach to it. No program chooses these by accident, and yet it is unfinished only if there is a mark too.
 */
export const UNFINISHED_MODE = 0o633;

/** The segments of the system by id, as `shmget` and `shmctl` see them. */
export class Shm {
  readonly #libc: Libc;
  readonly #statusBuffer: Uint8Array;
  readonly #statusView: DataView;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#statusBuffer = new Uint8Array(libc.constants.SHMID_DS.bytes);
    this.#statusView = new DataView(this.#statusBuffer.buffer);
  }

  /** The id of the segment that a path leads to, -1 if there is none. */
  idAt(path: KeyPath): number {
    const key = KeyFile.keyAt(this.#libc, path);
    return key === null ? -1 : this.idOf({ key });
  }

  /** The same of a key, whoever may use the segment. */
  idOf({ key }: { readonly key: number }): number {
    return this.#libc.c.shmget(key, 0n, 0);
  }

  /** `null` if there is no such segment, or it is none of this user's. */
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

  /** Whether its mark says that the creator of a segment has not filled it yet. */
  isUnfinished(key: number, id: number): boolean {
    const status = this.status(id);
    if (!status?.mayBeUnfinished) return false;
    const text = new Mark(this.#libc, "unfinished", key).read();
    return text === segmentText(id, status.changed) ||
      isMakerText(this.#libc, text, status.creator);
  }

  /** The same of the segment `id` that a path leads to. */
  isUnfinishedAt(path: KeyPath, id: number): boolean {
    const key = KeyFile.keyAt(this.#libc, path);
    return key !== null && this.isUnfinished(key, id);
  }

  /** Of the segment whose status was just read. */
  get #mode(): number {
    return this.#statusView.getUint16(this.#libc.constants.SHMID_DS.mode, true);
  }

  /**
   * Sets the permissions of the segment whose status was just read.
   *
   * @returns `false` if this user may not, or the segment is gone
   */
  setMode(id: number, mode: number): boolean {
    this.#statusView.setUint16(this.#libc.constants.SHMID_DS.mode, mode, true);
    return this.#libc.c.shmctl(id, IPC_SET, this.#statusBuffer) === 0;
  }

  /** Removes a segment; `false` if this user may not. */
  remove(id: number): boolean {
    return this.#libc.c.shmctl(id, IPC_RMID, this.#statusBuffer) === 0 ||
      this.#libc.errno() !== EPERM;
  }
}

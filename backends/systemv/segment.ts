import { SECTION_MS } from "../timing.ts";
import type { KeyFile, KeyPath } from "./key_file.ts";
import type { Mark } from "./marks.ts";
import { enterLock } from "./lock_section.ts";
import type { Range } from "./address_range.ts";
import type { Shm } from "./shm.ts";
import { isSoleSoon } from "./sole_user.ts";
import { failure } from "../unix/errno.ts";
import type { Libc } from "../unix/libc.ts";
import type { Lock, ReleaseOptions, Segment } from "../types.ts";

/** What stays of a segment when nobody is attached any more: its id, its key file and its lock. */
export class SegmentResources {
  readonly id: number;
  readonly file: KeyFile;
  readonly #libc: Libc;
  readonly #shm: Shm;
  readonly #lock: Lock | null;
  /** Says that the segment is not filled yet, where others can find it already. */
  #mark: Mark | null;
  #isDiscarded = false;

  constructor(
    libc: Libc,
    shm: Shm,
    id: number,
    file: KeyFile,
    lock: Lock | null,
    mark: Mark | null = null,
  ) {
    this.#libc = libc;
    this.#shm = shm;
    this.id = id;
    this.file = file;
    this.#lock = lock;
    this.#mark = mark;
  }

  /** Lets others attach to the segment, which is filled. */
  finish(permissions: number): void {
    if (this.#shm.status(this.id) === null || !this.#shm.setMode(this.id, permissions)) {
      throw failure("shmctl", this.#libc.errno());
    }
    this.#unmark();
  }

  #unmark(): void {
    this.#mark?.clear();
    this.#mark = null;
  }

  /** Removes what nobody else has found; the lock is the caller's. */
  discard(): void {
    this.#shm.remove(this.id);
    this.file.unlink();
    this.#isDiscarded = true;
  }

  /** As `Segment.release`. */
  release({ lockHeld, wait, exiting = false }: ReleaseOptions): void {
    if (this.#isDiscarded) return this.file.close();
    try {
      let locked = lockHeld || this.#lock?.isOwner === true && this.#lock.acquire(0); // its maker removes it
      // Before anybody else can have the lock: who finds the segment unused, and this process still relying on the
      // file, leaves the file to it.
      if (!locked) {
        this.#lock?.letGo?.();
        this.file.unshare();
      }
      for (; !this.#releaseOnce(locked, wait, exiting); locked = false);
    } finally {
      this.#lock?.close();
      this.file.close();
    }
  }

  /** `false` if it has to look again: who left meanwhile could not have the lock, and relies on us. */
  #releaseOnce(lockHeld: boolean, wait: boolean, exiting: boolean): boolean {
    const lock = this.#lock;
    if (!lockHeld && lock !== null) {
      if (!this.#isUnused()) return true;
      const locked = wait
        ? enterLock(lock, () => !this.#isUnused())
        : lock.acquire(SECTION_MS) || exiting && lock.isHeldHere();
      if (!locked) return true; // its holder looks whether somebody has left meanwhile
    }
    // Whoever holds the lock may be about to attach, so what counts is what is true under it.
    if (this.#isUnused()) return this.#remove();
    const isSole = lock?.isOwner === true && this.file.isSole();
    if (!isSole) this.file.unshare();
    lock?.handOver(true, isSole);
    return lock === null || !this.#isUnused();
  }

  #isUnused(): boolean {
    const status = this.#shm.status(this.id);
    return status === null ? this.#shm.idOf(this.file) === -1 : status.attached === 0;
  }

  /**
   * Removes what belongs to the segment; the file last, so that who is killed in between leaves nothing
   * that is not found. Qt also deletes a file that only lent its inode. The file stays for others who rely on it,
   * such as processes of other containers.
   *
   * Returns `false` if those were about to leave, and could not have the lock.
   */
  #remove(): boolean {
    this.#unmark();
    const removed = this.#shm.remove(this.id); // another user's can only be left
    const isSole = removed && isSoleSoon(this.#libc, this.file);
    // A chosen file goes with the object that made it, and no other.
    const mayUnlink = isSole && (this.file.created || !this.file.isExplicit && this.#lock !== null);
    const isReplaced = mayUnlink && this.file.unlink() === "replaced";
    const lock = this.#lock;
    // Another segment may have the name now, and the same lock; or another container has, and has the file alone.
    if (lock !== null && removed && !(isReplaced && this.#shm.idAt(this.file.keyPath) !== -1)) {
      lock.remove(isSole && (!isReplaced || this.file.isExplicit));
    } else {
      lock?.release();
    }
    if (isSole || !removed || lock === null) return true;
    const isLeft = this.file.isSole();
    this.file.unshare();
    return !isLeft;
  }
}

/** A segment of System V, attached. */
export class SystemVSegment implements Segment {
  readonly size: number;
  readonly #resources: SegmentResources;
  readonly #range: Range;

  constructor(resources: SegmentResources, range: Range, size: number) {
    this.#resources = resources;
    this.#range = range;
    this.size = size;
  }

  get address(): bigint {
    return this.#range.address;
  }

  /** Lets others attach to it. */
  finish(permissions: number): void {
    this.#resources.finish(permissions);
  }

  /** Lets others find it under `path`; `false` if another program has made one there meanwhile. */
  publish(path: KeyPath): boolean {
    return this.#resources.file.rename(path.path);
  }

  unmap(): boolean {
    return this.#range.replaceWithZeros();
  }

  free(): void {
    this.#range.free();
  }

  release(options: ReleaseOptions): void {
    this.#resources.release(options);
  }

  /** Removes what was never published; whoever leaves it then lets go of nothing else. */
  discard(): void {
    this.#resources.discard();
  }
}

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

/** The parts of a segment that outlive its last user: its id, its key file and its lock. */
export class SegmentResources {
  readonly id: number;
  readonly file: KeyFile;
  readonly #libc: Libc;
  readonly #shm: Shm;
  readonly #lock: Lock | null;
  /** The mark that says that the segment is not filled yet, for a segment that other processes can already find. */
  #mark: Mark | null;
  #isDiscarded = false;
  /** Whether this object leaves the segment in place as long as the segment is persistent. */
  #isToStay = false;

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

  /** Lets other processes attach to the segment, which is now filled. */
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

  /** Implements `Segment.setPersistent`. */
  setPersistent(isPersistent: boolean): void {
    this.file.setPersistent(isPersistent, this.since);
    this.#isToStay = isPersistent;
  }

  /** When the segment was created, in seconds since 1970; 0 if it is gone. */
  get since(): number {
    return this.#shm.status(this.id)?.changed ?? 0;
  }

  /** Implements `Segment.respectPersistence`. */
  respectPersistence(): void {
    this.#isToStay = true;
  }

  /** Removes a segment that no other process has found, and its key file. The lock stays with the caller. */
  discard(): void {
    this.#shm.remove(this.id);
    this.file.unlink();
    this.#isDiscarded = true;
  }

  /** Implements `Segment.release`. */
  release({ lockHeld, wait, exiting = false }: ReleaseOptions): void {
    if (this.#isDiscarded) return this.file.close();
    try {
      // Its creator removes the lock, as Qt does, which waits for it: a peer that holds it may be about to detach too.
      let locked = lockHeld || this.#lock?.isOwner === true && this.#lock.acquire(SECTION_MS);
      // LOCK_SH of the files is released before another process can acquire the lock. Otherwise that process might
      // find the segment unused but the file still relied on, and would leave the file to this process.
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

  /**
   * Releases the resources once. Returns `false` if the caller must repeat this: another process has left the segment
   * meanwhile, could not acquire the lock, and relies on this process for the removal.
   */
  #releaseOnce(lockHeld: boolean, wait: boolean, exiting: boolean): boolean {
    const lock = this.#lock;
    if (!lockHeld && lock !== null) {
      if (!this.#isUnused()) return true;
      const locked = wait
        ? enterLock(lock, () => !this.#isUnused() || this.#isReplaced())
        : lock.acquire(SECTION_MS) || exiting && lock.isHeldHere();
      if (!locked) {
        // The holder of the lock looks for users that have left meanwhile, but only for those of its own segment.
        if (this.#isUnused() && this.#isReplaced()) this.#shm.remove(this.id);
        return true;
      }
    }
    // A holder of the lock may be about to attach, so only what is found under the lock counts.
    if (this.#isUnused()) return this.#remove();
    const isSole = lock?.isOwner === true && this.file.isSole();
    if (!isSole) this.file.unshare();
    lock?.handOver?.(true, isSole);
    return lock === null || !this.#isUnused();
  }

  /** Whether the segment is to be removed: no process is attached, and this object need not leave it in place. */
  #isUnused(): boolean {
    const status = this.#shm.status(this.id);
    const isToStay = status !== null && this.#isToStay && this.file.isPersistent(status.changed);
    if (isToStay) return false;
    return status === null ? this.#shm.idOf(this.file) === -1 : status.attached === 0;
  }

  /**
   * Whether another segment has replaced this one, which no process can find any more. The lock is then that of the other
   * segment, whose users may hold it for as long as they like.
   */
  #isReplaced(): boolean {
    const id = this.#shm.idAt(this.file.keyPath);
    return id !== -1 && id !== this.id;
  }

  /**
   * Removes the segment, then its key file and its lock. The file is deleted after the segment, so that a segment
   * left by a process that is killed in between can still be found. Qt also deletes a chosen file that only lends its
   * inode number; this module keeps it unless it created it. The file also stays if other processes rely on it, such
   * as processes of other containers.
   *
   * @returns `false` if those processes have left meanwhile without being able to acquire the lock
   */
  #remove(): boolean {
    this.#unmark();
    const removed = this.#shm.remove(this.id); // a segment of another user may have to stay
    const isSole = removed && isSoleSoon(this.#libc, this.file);
    // A chosen file is deleted only by the object that created it.
    const mayUnlink = isSole && (this.file.created || !this.file.isExplicit && this.#lock !== null);
    const isReplaced = mayUnlink && this.file.unlink() === "replaced";
    const lock = this.#lock;
    // A file that has replaced this one may lead to another segment, which uses the same lock: then the lock stays.
    // If it leads to no segment in this namespace, it may belong to another container: then only the lock's key file
    // stays.
    if (lock !== null && removed && !(isReplaced && this.#shm.idAt(this.file.keyPath) !== -1)) {
      lock.remove?.(isSole && (!isReplaced || this.file.isExplicit));
    } else {
      lock?.release();
    }
    if (isSole || !removed || lock === null) return true;
    const isLeft = this.file.isSole();
    this.file.unshare();
    return !isLeft;
  }
}

/** An attached System V segment. */
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

  /** Lets other processes attach to the segment, which is now filled. */
  finish(permissions: number): void {
    this.#resources.finish(permissions);
  }

  /**
   * Lets other processes find the segment at `path`. Returns `false` if another program has created one there
   * meanwhile.
   */
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

  setPersistent(isPersistent: boolean): void {
    this.#resources.setPersistent(isPersistent);
  }

  respectPersistence(): void {
    this.#resources.respectPersistence();
  }

  requirePersistable(): void {
    this.#resources.file.requirePersistable(this.#resources.since);
  }

  /** Makes the segment persistent before other processes can find it. If it is not published, it is removed anyway. */
  beginPersistent(): void {
    this.#resources.file.setPersistent(true, Infinity);
  }

  /** Removes a segment that was never published. The next `release()` then only closes the key file. */
  discard(): void {
    this.#resources.discard();
  }
}

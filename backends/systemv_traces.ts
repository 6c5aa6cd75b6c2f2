import { SECTION_MS } from "./pause.ts";
import type { KeyFile } from "./systemv_key_file.ts";
import type { Mark } from "./systemv_marks.ts";
import type { SystemVSegments } from "./systemv_segment.ts";
import type { Lock } from "./types.ts";

/** What stays of a segment when nobody is attached any more: its id, its key file and its lock. */
export class Traces {
  readonly id: number;
  readonly file: KeyFile;
  readonly #system: SystemVSegments;
  readonly #lock: Lock | null;
  /** Says that the segment is not filled yet, where others can find it already. */
  #mark: Mark | null;
  #isDiscarded = false;

  constructor(
    system: SystemVSegments,
    id: number,
    file: KeyFile,
    lock: Lock | null,
    mark: Mark | null = null,
  ) {
    this.#system = system;
    this.id = id;
    this.file = file;
    this.#lock = lock;
    this.#mark = mark;
  }

  /** The segment is filled. */
  unmark(): void {
    this.#mark?.clear();
    this.#mark = null;
  }

  /** Removes what nobody else has found; the lock is the caller's. */
  discard(): void {
    this.#system.remove(this.id);
    this.file.unlink();
    this.#isDiscarded = true;
  }

  /** As `Segment.leave`. */
  leave(held: boolean, wait: boolean, ending = false): void {
    if (this.#isDiscarded) return this.file.close();
    try {
      let locked = held || this.#lock?.isOwner === true && this.#lock.acquire(0); // its maker removes it
      // Before anybody else can have the lock: who finds the segment unused, and this process still relying on the
      // file, leaves the file to it.
      if (!locked) {
        this.#lock?.letGo?.();
        this.file.unshare();
      }
      for (; !this.#leaveOnce(locked, wait, ending); locked = false);
    } finally {
      this.#lock?.close();
      this.file.close();
    }
  }

  /** `false` if it has to look again: who left meanwhile could not have the lock, and relies on us. */
  #leaveOnce(held: boolean, wait: boolean, ending: boolean): boolean {
    const lock = this.#lock;
    if (!held && lock !== null) {
      if (!this.#isUnused()) return true;
      const locked = wait
        ? this.#system.enter(lock, () => !this.#isUnused())
        : lock.acquire(SECTION_MS) || ending && lock.isHeldHere();
      if (!locked) return true; // its holder looks whether somebody has left meanwhile
    }
    // Whoever holds the lock may be about to attach, so what counts is what is true under it.
    if (this.#isUnused()) return this.#remove();
    const isSole = lock?.isOwner === true && this.file.isSole();
    if (!isSole) this.file.unshare();
    lock?.bequeath(true, isSole);
    return lock === null || !this.#isUnused();
  }

  #isUnused(): boolean {
    const status = this.#system.status(this.id);
    return status === null ? !this.#system.exists(this.file) : status.attached === 0;
  }

  /**
   * Removes what belongs to the segment; the file last, so that who is killed in between leaves nothing
   * that is not found. Qt also deletes a file that only lent its inode. The file stays for others who rely on it,
   * such as processes of other containers.
   *
   * Returns `false` if those were about to leave, and could not have the lock.
   */
  #remove(): boolean {
    this.unmark();
    const removed = this.#system.remove(this.id); // another user's can only be left
    const isSole = removed && this.#system.isSoleSoon(this.file);
    // A chosen file goes with the object that made it, and no other.
    const mayUnlink = isSole && (this.file.created || !this.file.isNative && this.#lock !== null);
    const isReplaced = mayUnlink && this.file.unlink() === "replaced";
    const lock = this.#lock;
    // Another segment may have the name now, and the same lock; or another container has, and has the file alone.
    if (lock !== null && removed && !(isReplaced && this.#system.hasSegment(this.file, lock))) {
      lock.remove(isSole && (!isReplaced || this.file.isNative));
    } else {
      lock?.release();
    }
    if (isSole || !removed || lock === null) return true;
    const isLeft = this.file.isSole();
    this.file.unshare();
    return !isLeft;
  }
}

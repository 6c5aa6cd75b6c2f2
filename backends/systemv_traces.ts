import { Failure } from "./errno.ts";
import { SECTION_MS } from "./pause.ts";
import type { KeyFile } from "./systemv_key_file.ts";
import type { SystemVSegments } from "./systemv_segment.ts";
import type { Lock } from "./types.ts";

/** What stays of a segment when nobody is attached any more: its id, its key file and its lock. */
export class Traces {
  readonly id: number;
  readonly file: KeyFile;
  readonly #system: SystemVSegments;
  readonly #lock: Lock | null;

  constructor(system: SystemVSegments, id: number, file: KeyFile, lock: Lock | null) {
    this.#system = system;
    this.id = id;
    this.file = file;
    this.#lock = lock;
  }

  /** As `Segment.leave`. */
  leave(held: boolean, wait: boolean, ending = false): void {
    try {
      for (let locked = held; !this.#leaveOnce(locked, wait, ending); locked = false);
    } finally {
      this.#lock?.close();
      this.file.close();
    }
  }

  /** `false` if it has to look again: who left meanwhile could not have the lock, and relies on us. */
  #leaveOnce(held: boolean, wait: boolean, ending: boolean): boolean {
    const lock = this.#lock;
    let locked = held || lock?.isOwner === true && lock.acquire(0); // its maker removes it
    if (!locked && lock !== null) {
      if (!this.#isUnused()) return true;
      locked = wait
        ? this.#enter(lock)
        : lock.acquire(SECTION_MS) || ending && lock.isHeldHere() || this.#leaveToHolder(lock);
      if (!locked) return true;
    }
    // Whoever holds the lock may be about to attach, so what counts is what is true under it.
    if (this.#isUnused()) {
      this.#remove();
      return true;
    }
    lock?.bequeath(true);
    return lock === null || !this.#isUnused();
  }

  #enter(lock: Lock): boolean {
    try {
      return this.#system.enter(lock, () => !this.#isUnused());
    } catch (error) {
      if (error instanceof Failure && this.#leaveToHolder(lock)) return true;
      throw error;
    }
  }

  /** Marks it for whoever holds the lock, who looks when he has given it up; `true` if he has by now. */
  #leaveToHolder(lock: Lock): boolean {
    this.#system.markLeft(this.id);
    return lock.acquire(0);
  }

  #isUnused(): boolean {
    const status = this.#system.status(this.id);
    return status === null ? !this.#system.exists(this.file) : status.attached === 0;
  }

  /**
   * Removes what belongs to the segment; the file last, so that who is killed in between leaves nothing
   * that is not found. Qt also deletes a file that only lent its inode.
   */
  #remove(): void {
    const removed = this.#system.remove(this.id); // another user's can only be left
    const mayUnlink = removed && (this.#lock !== null || this.file.created);
    let replaced = mayUnlink && this.file.unlink(true) === "replaced";
    // By the file of the lock alone, if that is of the same name and was made again.
    if (replaced && this.#lock !== null && this.file.isNative) {
      replaced = this.#system.hasSegment(this.#lock);
    }
    // Or else another segment has the name now, and the same lock.
    if (removed && !replaced) this.#lock?.remove();
    else this.#lock?.release();
  }
}

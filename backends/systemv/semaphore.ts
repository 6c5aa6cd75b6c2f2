import { SystemSemaphoreMode } from "../../errors.ts";
import { orElse } from "../failure.ts";
import { ERANGE, failure } from "../unix/errno.ts";
import type { Libc } from "../unix/libc.ts";
import { seesAllProcesses } from "../unix/processes.ts";
import { IPC_RMID } from "../unix/linux_constants.ts";
import { KeyFile, type KeyPath, segmentPath } from "./key_file.ts";
import { isOfLivingWriter, isSemaphoreText, type Mark } from "./marks.ts";
import { SemaphoreSet, type SemaphoreTools } from "./semaphore_set.ts";

/** The largest value, and the largest step, of a System V semaphore. */
export const SEMVMX = 32767;

/** A counting semaphore, which its last user removes if the object that created it has left. */
export class SystemVSemaphore extends SemaphoreSet {
  protected readonly isLock = false;
  readonly #initialValue: number;
  /** The text that the mark had when this object first looked at the key file; it does not concern this object. */
  #oldMark: string | null = null;
  /** The key of the file whose mark that is. */
  #markedKey = -1;

  constructor(tools: SemaphoreTools, path: KeyPath, initialValue: number) {
    super(tools, path, tools.operations);
    this.#initialValue = initialValue;
  }

  override open(mode: SystemSemaphoreMode): boolean {
    this.#markedKey = -1;
    return super.open(mode);
  }

  protected beforeLookup(file: KeyFile, mode: SystemSemaphoreMode): boolean {
    // A mark that is set after a first attempt with the same file is for this object too.
    if (mode === SystemSemaphoreMode.Open && this.#markedKey !== file.key) {
      this.#markedKey = file.key;
      const text = file.created ? null : this.mark(file).read();
      // A living process that leaves the semaphore may already have counted this object as one of its users.
      this.#oldMark = isOfLivingWriter(this.libc, text) ? null : text;
    }
    // A process that deletes the file holds LOCK_EX of it: one that uses this module only for a moment, another
    // program perhaps longer.
    return file.share();
  }

  protected beforeCreation(): "create" {
    return "create";
  }

  protected setInitialValue(id: number): number {
    const { c, constants } = this.libc;
    return c.semctl(id, 0, constants.SETVAL, BigInt(this.#initialValue));
  }

  protected afterOpening(file: KeyFile): void {
    file.noteSemaphoreUse();
  }

  /** Sets the initial value if the process that created the semaphore has ended before it did so. */
  protected repair(): "held" | "repaired" {
    const isUnset = this.#isUnset();
    if (!this.isAbandonedFor(0, isUnset)) return "held";
    // By now another process may have added to the value, which SETVAL would not keep.
    const first = this.operations.firstValue(this.#initialValue);
    const set = () => this.#isUnset() && first.apply(this.id) === 0;
    return this.file?.claiming(set) === true ? "repaired" : "held";
  }

  /**
   * Whether the semaphore has no initial value yet, although no process is about to set it. That is not known of
   * processes in other pid namespaces, nor of a chosen key, whose semaphore another program may initialize at any time,
   * nor on macOS, where no process can say that it is creating the semaphore.
   */
  #isUnset(): boolean {
    if (this.libc.os !== "linux" || this.path.isExplicit || this.lastUser() !== 0) return false;
    // The creator is looked for first: if there is none, a value that is not set afterwards never will be.
    return !this.file!.isBeingCreated() && seesAllProcesses(this.libc) &&
      this.get("GETVAL") === 0 && this.lastUser() === 0 && this.stateOf(0) === "gone";
  }

  release(count = 1): void {
    if (count > this.#room()) throw failure("semop", ERANGE, this.errors, this.nativeKey);
    this.modify(count);
  }

  /** Returns how far the value may rise, where the system does not check this itself: macOS would continue from 0. */
  #room(): number {
    if (this.libc.os !== "darwin") return SEMVMX;
    return SEMVMX - Math.max(0, this.get("GETVAL"));
  }

  /**
   * Closes the semaphore, and removes it if this object is its owner or inherits that task, and no other object uses
   * it. In Qt the owner removes the semaphore even while others use it. Here the task passes to the last user: the
   * object that releases LOCK_SH after the mark was set, and then acquires LOCK_EX. LOCK_EX is held only to remove
   * the semaphore or to check whether it is in use; an object that opens the semaphore at that moment waits for
   * LOCK_SH.
   *
   * Only a mark set since this object first looked at the key file passes the task on, or one whose writer was alive then, as
   * an older mark may come from another namespace that no longer exists. So each object that inherits the task but is not the last user sets the mark
   * again, for the objects that have opened the semaphore since.
   */
  close(): void {
    if (this.file !== null) this.#leave(this.file);
    this.drop();
  }

  #leave(file: KeyFile): void {
    const mark = this.mark(file);
    if (!this.isOwner) {
      file.unshare();
      const text = mark.read();
      if (text === this.#oldMark || !isSemaphoreText(text, this.id)) return;
    }
    if (!file.isSole()) {
      this.offer(mark);
      // The other users may have left before they could see the mark.
      if (!file.isSole()) {
        if (!this.readStatus()) mark.clear(); // the last user has just removed the semaphore
        return;
      }
    }
    this.#remove(mark);
  }

  /**
   * Removes the semaphore, and its key file too if no process relies on the file. The file is deleted first, so that
   * a process which still finds the file also finds the semaphore, and learns of its removal. If this process is
   * killed in between, the semaphore has a mark by which it can be found.
   *
   * @param mark the mark that may exist for the semaphore
   */
  #remove(mark: Mark): void {
    const file = this.file!;
    const mayUnlink = this.#isSegmentUnused() && (!this.path.isExplicit || file.created);
    if (!mayUnlink || this.markForRemoval(file)) {
      if (mayUnlink) file.unlink();
      removeWithMark(this.libc, this.id, file, mark);
    } else mark.clear();
    this.drop();
  }

  /** Whether no process relies on the key file of the segment whose lock this semaphore may be. */
  #isSegmentUnused(): boolean {
    if (this.path.isExplicit) return true; // the segment has the same key file
    const path = { ...this.path, path: segmentPath(this.nativeKey) };
    return orElse(() => {
      const segment = KeyFile.open(this.libc, path);
      const isUnused = segment === null || segment.isSole();
      segment?.close();
      return isUnused;
    }, ({ code }) => code === "KeyError"); // the name is too long for a segment; or the file belongs to another user
  }
}

/**
 * Removes the semaphore that a key file has led to, and then the mark that may exist for it: if this process is killed in
 * between, the mark still leads to the semaphore. If another process has removed the semaphore and created another one
 * with the same file, while this process was stopped, and has left that one to its last user, it is removed instead.
 */
export function removeWithMark(libc: Libc, id: number, file: KeyFile, mark: Mark): void {
  const { c } = libc;
  if (c.semctl(id, 0, IPC_RMID, 0n) !== 0) {
    const next = c.semget(file.key, 1, 0);
    if (next !== -1 && isSemaphoreText(mark.read(), next)) {
      if (file.isSemaphoreUsed()) return;
      c.semctl(next, 0, IPC_RMID, 0n);
    }
  }
  mark.clear();
}

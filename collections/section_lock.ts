import process from "node:process";
import { processText } from "../backends/process_text.ts";
import { perProcess } from "../context.ts";
import { SyncError } from "../sync/errors.ts";
import { DamagedLog, RECOVERED, WRITER } from "./ring_log.ts";

/** What a section needs of its mutex: a {@linkcode Mutex} has it. */
export interface SectionMutex {
  readonly isHeld: boolean;
  readonly wasAbandoned: boolean;
  tryLock(timeoutMs?: number): boolean;
  unlock(): void;
}

/** A section is a part of a collection that one writer at a time changes, such as a stripe of a map. */
export interface Section {
  /** The words among which `WRITER` is. */
  readonly words: Int32Array;
  /** Repairs the section after a writer was killed or stopped in the middle of a change. */
  recover(this: void): void;
  /** Empties the section, whatever its bytes are. */
  reset(this: void): void;
  /** The name of the class in error texts. */
  readonly name: string;
  /** What the section is in error texts, such as "the part of the map with this key". */
  readonly part: string;
}

/** The lock of the section that this thread is changing. There is at most one, and only during a call. */
interface Current {
  held: SectionLock | null;
}

const currentOfThread = perProcess((): Current => ({ held: null }));

/**
 * The lock of a section. While a writer changes the section, the word `WRITER` has its pid. A writer that finds another
 * pid there, although it has the mutex, knows that the last writer was killed or stopped in the middle, and repairs the
 * section first.
 *
 * The lock is never held when a call has ended. Code may be stopped in the middle while its thread lives: by a timeout of
 * `node:vm`, or by the end of the stack. The next call of the thread finds the lock held then, and releases it.
 */
export class SectionLock {
  declare private readonly section: Section;
  declare private readonly words: Int32Array;
  declare private readonly mutex: SectionMutex;
  declare private readonly current: Current;
  declare private readonly pid: number;

  constructor(section: Section, mutex: SectionMutex) {
    this.section = section;
    this.words = section.words;
    this.mutex = mutex;
    this.current = currentOfThread();
    this.pid = process.pid;
  }

  /**
   * Calls `change` with the section locked. If it finds that the bytes cannot be those of a section, the section is
   * repaired, and `change` is called again.
   *
   * @throws {SyncError} `Busy` if another thread holds the lock for all of `timeoutMs`; `Damaged` if the bytes of its
   * mutex, or again and again those of the section, have been overwritten
   */
  change<Result>(
    method: string,
    timeoutMs: number,
    change: () => Result,
  ): Result {
    // All in one function, and what is rare elsewhere, since engines inline functions only to a certain depth.
    const { current, mutex, words } = this;
    if (current.held !== null) current.held.abandon();
    current.held = this; // first, and null at the end: code may be stopped on entry to each function in between
    let isLocked = false;
    let isWhole = false;
    try {
      isLocked = mutex.tryLock() || mutex.tryLock(timeoutMs);
      if (!isLocked) throw this.busy(method, timeoutMs);
      // The word is loaded once in each section, after the mutex was locked.
      const isLeft = words[WRITER] !== 0 || mutex.wasAbandoned;
      words[WRITER] = this.pid;
      if (isLeft) this.repair();
      const result = change();
      isWhole = true;
      return result;
    } catch (error) {
      if (!isLocked) throw this.notLocked(method, error);
      const result = this.changeRepaired(method, change, error);
      isWhole = true;
      return result;
    } finally {
      if (isLocked) {
        if (isWhole) words[WRITER] = 0;
        mutex.unlock();
        current.held = null;
      }
    }
  }

  /** Calls `change` again after it has thrown `error`, if that was because of the bytes of the section. */
  private changeRepaired<Result>(method: string, change: () => Result, error: unknown): Result {
    if (!(error instanceof DamagedLog)) throw error;
    this.repair();
    try {
      return change();
    } catch (again) {
      if (!(again instanceof DamagedLog)) throw again;
      const { section } = this;
      section.reset();
      throw new SyncError(
        "Damaged",
        `${section.name}.${method}: the bytes of ${section.part} are being overwritten; it is empty now`,
      );
    }
  }

  private repair(): void {
    this.section.recover();
    this.words[RECOVERED]!++;
  }

  /** Returns what is thrown instead of an error with which the mutex was not locked. */
  private notLocked(method: string, error: unknown): unknown {
    if (!(error instanceof SyncError)) return error;
    this.current.held = null;
    if (error.code === "Busy") return error;
    return new SyncError(error.code, `${this.section.name}.${method}: ${error.message}`);
  }

  /** Releases a lock that a call of this thread has not released. */
  private abandon(): void {
    const { mutex } = this;
    try {
      if (mutex.isHeld || mutex.tryLock()) mutex.unlock();
    } catch (error) {
      if (error instanceof RangeError) throw error; // the end of the stack: the next call does it
      // Its bytes were overwritten: the next change of this section says so.
    }
    this.current.held = null; // only now: code may be stopped here too
  }

  /** Returns the error of a call that has waited for the lock for all of `timeoutMs`. */
  busy(method: string, timeoutMs: number): SyncError {
    const { section } = this;
    const pid = Atomics.load(this.words, WRITER);
    const holder = pid === 0 ? "other processes have" : `${processText(pid)} has`;
    return new SyncError(
      "Busy",
      `${section.name}.${method}: ${holder} been changing ${section.part} for ${timeoutMs} ms; the process ` +
        "may be stopped (SIGSTOP, a debugger). Reading goes on",
    );
  }
}

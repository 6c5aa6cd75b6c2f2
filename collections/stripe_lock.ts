import process from "node:process";
import { perProcess } from "../context.ts";
import { SyncError } from "../sync/errors.ts";
import { recover } from "./map_recovery.ts";
import { type MapStripe, WRITER } from "./map_stripe.ts";
import { DamagedLog } from "./ring_log.ts";

/** What a stripe needs of its mutex: a {@linkcode Mutex} has it. */
export interface StripeMutex {
  readonly isHeld: boolean;
  readonly wasAbandoned: boolean;
  tryLock(timeoutMs?: number): boolean;
  unlock(): void;
}

/** The stripe that this thread is changing. There is at most one, and only during a call. */
interface Section {
  held: StripeLock | null;
}

const sectionOfThread = perProcess((): Section => ({ held: null }));

/**
 * The lock of a stripe. While a writer changes the stripe, the word `WRITER` has its pid. A writer that finds another pid
 * there, although it has the mutex, knows that the last writer was killed or stopped in the middle, and repairs the
 * stripe first.
 *
 * The lock is never held when a call has ended. Code may be stopped in the middle while its thread lives: by a timeout of
 * `node:vm`, or by the end of the stack. The next call of the thread finds the lock held then, and releases it.
 */
export class StripeLock {
  declare readonly stripe: MapStripe;
  declare private readonly mutex: StripeMutex;
  declare private readonly section: Section;
  declare private readonly pid: number;
  /** The name of the class in error texts. */
  declare private readonly name: string;

  constructor(stripe: MapStripe, mutex: StripeMutex, name = "SharedMap") {
    this.stripe = stripe;
    this.mutex = mutex;
    this.section = sectionOfThread();
    this.pid = process.pid;
    this.name = name;
  }

  /**
   * Calls `change` with the stripe locked. If it finds that the bytes cannot be those of a stripe, the stripe is
   * repaired, and `change` is called again.
   *
   * @throws {SyncError} `Busy` if another thread holds the lock for all of `timeoutMs`; `Damaged` if the bytes of its
   * mutex, or again and again those of the stripe, have been overwritten
   */
  change<Result>(
    method: string,
    timeoutMs: number,
    change: () => Result,
  ): Result {
    this.lock(method, timeoutMs);
    let isWhole = false;
    try {
      if (this.begin()) recover(this.stripe);
      let result: Result;
      try {
        result = change();
      } catch (error) {
        result = this.changeRepaired(method, change, error);
      }
      isWhole = true;
      return result;
    } finally {
      this.unlock(isWhole);
    }
  }

  /** Calls `change` again after it has thrown `error`, if that was because of the bytes of the stripe. */
  private changeRepaired<Result>(method: string, change: () => Result, error: unknown): Result {
    if (!(error instanceof DamagedLog)) throw error;
    recover(this.stripe);
    try {
      return change();
    } catch (again) {
      if (!(again instanceof DamagedLog)) throw again;
      this.stripe.reset();
      throw new SyncError(
        "Damaged",
        `${this.name}.${method}: the bytes of the map are being overwritten; its part with this key is empty now`,
      );
    }
  }

  private lock(method: string, timeoutMs: number): void {
    const { section } = this;
    if (section.held !== null) section.held.abandon();
    if (!this.take(method, timeoutMs)) throw this.busy(method, timeoutMs);
    section.held = this;
  }

  /** Notes that this process changes the stripe; returns whether the last writer has left it in the middle of a change. */
  private begin(): boolean {
    const { words } = this.stripe;
    const isLeft = Atomics.load(words, WRITER) !== 0 || this.mutex.wasAbandoned;
    words[WRITER] = this.pid;
    return isLeft;
  }

  private take(method: string, timeoutMs: number): boolean {
    try {
      return this.mutex.tryLock() || this.mutex.tryLock(timeoutMs);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      throw new SyncError(error.code, `${this.name}.${method}: ${error.message}`);
    }
  }

  private unlock(isWhole: boolean): void {
    if (isWhole) this.stripe.words[WRITER] = 0;
    this.section.held = null;
    this.mutex.unlock();
  }

  /** Releases a lock that a call of this thread has not released. */
  private abandon(): void {
    this.section.held = null;
    try {
      if (this.mutex.isHeld) this.mutex.unlock();
    } catch {
      // Its bytes were overwritten: the next change of this stripe says so.
    }
  }

  private busy(method: string, timeoutMs: number): SyncError {
    const pid = Atomics.load(this.stripe.words, WRITER);
    const holder = pid === 0 ? "other processes have" : `process ${pid} has`;
    return new SyncError(
      "Busy",
      `${this.name}.${method}: ${holder} been changing the part of the map with this key for ${timeoutMs} ms; the process ` +
        "may be stopped (SIGSTOP, a debugger). Reading goes on",
    );
  }
}

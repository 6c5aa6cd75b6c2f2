import process from "node:process";
import type { ThreadCode } from "../../ffi/types.ts";
import { IS_TAKEN, type Kernel32, slice } from "../win32/kernel32.ts";
import { type BackgroundWait, type Lock, waitOf } from "../types.ts";
import { bareName, nameBeside, wideName } from "../win32/names.ts";

/** How long a call into the kernel waits at most; when it is over, a dead holder is found. */
const SLICE_MS = 500;
/** The same on another thread, for which the end of a Node program waits. */
const BACKGROUND_SLICE_MS = 200;
/**
 * How long nobody may have the lock between its being taken on another thread and the event loop's
 * turn, before somebody else takes it over. Whoever was only slow learns that.
 */
const PENDING_MS = 1000;
/** How long one waits for the mutex who has the semaphore: whoever looks at the mutex is faster. */
const HANDOVER_MS = 100;
/** More than a peer's mistakes have added to the value. */
const SURPLUS_MAX = 1000;

const BACKGROUND: ThreadCode = {
  take: `({ WaitForMultipleObjects }, _memory, handles, ms) =>
    (${IS_TAKEN})(WaitForMultipleObjects(2, handles, 1, ms))`,
  giveBack: `({ ReleaseSemaphore }, _memory, _handles, _ms, semaphore, pending) => {
    const previous = new Uint8Array(4);
    ReleaseSemaphore(pending, 1, previous);
    ReleaseSemaphore(semaphore, 1, previous);
  }`,
};

/** The locks that objects of this thread hold, by identity. */
export type Holders = Set<string>;

/** The handles of a lock. */
interface Handles {
  /** Qt's semaphore: 0 while somebody holds the lock, else 1. */
  readonly semaphore: bigint;
  /** `<name>_holder`, the mutex that whoever of us holds the lock owns too. */
  readonly holder: bigint;
  /** `<name>_pending`, a semaphore: 0 while another thread has taken the lock for one that has to come. */
  readonly pending: bigint;
  /** In C memory: semaphore and holder; semaphore and pending. */
  readonly semaphoreAndHolder: bigint;
  readonly semaphoreAndPending: bigint;
  /** How many calls on other threads wait. */
  inFlight: number;
}

/**
 * Qt's lock of a segment, a semaphore of value 1, which the kernel does not give back for the dead.
 * So whoever of us holds it owns a mutex as well, and of that the kernel tells the next one when its
 * owner has died: then the semaphore is that one's.
 *
 * - Both are taken in one call, or none is. A mutex belongs to a thread: a wait on another thread
 *   takes `pending` with the semaphore instead, and if the process is killed before this thread
 *   has the mutex, the others find that out by time.
 * - They are released one after the other. Who is killed in these few nanoseconds leaves a free lock
 *   and an abandoned mutex; should a Qt program take the lock then before one of us does, the next of us
 *   takes it for the dead one's.
 * - A Qt program that is killed with the lock keeps it, as among Qt programs.
 */
export class WindowsLock implements Lock {
  readonly isOwner = false;
  readonly nativeKey: string;
  readonly #kernel: Kernel32;
  readonly #holders: Holders;
  #handles: Handles | null = null;
  #isHeld = false;
  /** Since when nobody but a call on another thread seems to have the lock. */
  #pendingSince: number | null = null;

  constructor(kernel: Kernel32, name: string, holders: Holders) {
    this.#kernel = kernel;
    this.nativeKey = name;
    this.#holders = holders;
  }

  get identity(): string {
    return bareName(this.nativeKey);
  }

  /** Opened until it is closed, so that the mutex outlives its owner. */
  #opened(): Handles {
    return this.#handles ??= this.#open();
  }

  #open(): Handles {
    const name = this.nativeKey;
    const made: bigint[] = [];
    const note = (handle: bigint) => {
      made.push(handle);
      return handle;
    };
    const kernel = this.#kernel;
    try {
      const semaphore = note(kernel.openSemaphore(name, wideName(name), 1));
      const holder = note(kernel.openMutex(name, nameBeside(name, "_holder")));
      const pending = note(kernel.openSemaphore(name, nameBeside(name, "_pending"), 1, 1));
      const both = kernel.allocateHandles(semaphore, holder, semaphore, pending);
      return {
        semaphore,
        holder,
        pending,
        semaphoreAndHolder: both,
        semaphoreAndPending: both + 16n,
        inFlight: 0,
      };
    } catch (error) {
      for (const handle of made) kernel.c.CloseHandle(handle);
      throw error;
    }
  }

  acquire(timeoutMs = Infinity): boolean {
    const handles = this.#opened();
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const left = deadline - performance.now();
      const result = this.#kernel.waitForBoth(handles.semaphoreAndHolder, slice(left, SLICE_MS));
      const isTaken = result === "timeout" ? this.#look(handles) : this.#isOnlyHolder(handles);
      if (isTaken) return this.#take();
      if (performance.now() >= deadline) return false; // Windows may wait a little less than it is told
    }
  }

  #take(): true {
    this.#isHeld = true;
    this.#holders.add(this.identity);
    this.#pendingSince = null;
    return true;
  }

  /**
   * A thread gets a mutex again that it owns. Then another object of it holds the lock, so a peer has
   * raised the value above 1, and not to give back what was taken mends that.
   */
  #isOnlyHolder({ holder }: Handles): boolean {
    if (!this.#holders.has(this.identity)) return true;
    this.#kernel.c.ReleaseMutex(holder);
    return false;
  }

  /** Looks who has a lock that could not be had, and returns whether it is ours now. */
  #look(handles: Handles): boolean {
    const { semaphore, holder, pending } = handles;
    if (this.#holders.has(this.identity)) return false;
    const result = this.#kernel.wait(holder, 0);
    if (result === "timeout") {
      this.#pendingSince = null; // one of us who lives
      return false;
    }
    const died = result === "abandoned";
    // It may have become free since, or the dead one was about to release it.
    const isFree = this.#kernel.wait(semaphore, 0) === "taken";
    if (isFree || died || this.#isLost(pending)) {
      if (!isFree) this.#kernel.releaseSemaphore(pending, 1); // or it is at its maximum of 1
      return true;
    }
    this.#kernel.c.ReleaseMutex(holder);
    return false;
  }

  /** Whether the lock was taken on another thread, and nobody has come for it. Otherwise a Qt program has it. */
  #isLost(pending: bigint): boolean {
    if (this.#kernel.wait(pending, 0) === "taken") {
      this.#kernel.releaseSemaphore(pending, 1);
      this.#pendingSince = null;
      return false;
    }
    this.#pendingSince ??= performance.now();
    return performance.now() - this.#pendingSince >= PENDING_MS;
  }

  acquireSlice(timeoutMs: number): BackgroundWait {
    const handles = this.#opened();
    const { semaphoreAndPending, semaphore, pending } = handles;
    const ms = slice(timeoutMs, BACKGROUND_SLICE_MS);
    const call = this.#kernel.background(BACKGROUND)(semaphoreAndPending, ms, semaphore, pending);
    const claim = () => {
      if (!call.claim() || !this.#confirm(handles)) return false;
      if (handles === this.#handles) return this.#take();
      this.#unlock(handles); // closed meanwhile
      return false;
    };
    return waitOf(call, this.#keep(handles, call.over, claim), claim);
  }

  /** Keeps the handles as long as a call on another thread uses them. */
  async #keep(handles: Handles, over: Promise<void>, claim: () => boolean): Promise<void> {
    handles.inFlight++;
    try {
      await over;
    } finally {
      handles.inFlight--;
      if (handles !== this.#handles) {
        claim();
        this.#closeUnused(handles);
      }
    }
  }

  /** Whether what another thread has taken is this thread's, which then owns the mutex. */
  #confirm({ semaphore, holder, pending }: Handles): boolean {
    const kernel = this.#kernel;
    // Held by another object of this thread: the value was above 1.
    const isHeldHere = this.#holders.has(this.identity);
    const isOwned = !isHeldHere && kernel.wait(holder, HANDOVER_MS) !== "timeout";
    const isTakenOver = kernel.wait(pending, 0) === "taken";
    kernel.releaseSemaphore(pending, 1);
    if (isOwned && !isTakenOver) return true;
    if (isOwned) kernel.c.ReleaseMutex(holder);
    else if (!isTakenOver && !isHeldHere) kernel.releaseSemaphore(semaphore, 1);
    return false;
  }

  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#holders.delete(this.identity);
    if (this.#handles !== null) this.#unlock(this.#handles);
  }

  /** While the mutex is ours none of us can take the lock, so what the value has above 1 is a peer's mistake. */
  #unlock({ semaphore, holder }: Handles): void {
    const surplus = this.#kernel.releaseSemaphore(semaphore, 1) ?? SURPLUS_MAX;
    for (let i = 0; i < Math.min(surplus, SURPLUS_MAX); i++) this.#kernel.wait(semaphore, 0);
    this.#kernel.c.ReleaseMutex(holder);
  }

  takeOver(_stale: () => boolean, timeoutMs: number): boolean {
    return this.acquire(timeoutMs); // which finds a dead holder by itself
  }

  handOver(held: boolean): void {
    if (held) this.release();
  }

  /** The kernel does that. */
  remove(): void {
    this.close();
  }

  close(): void {
    this.release();
    const handles = this.#handles;
    this.#handles = null;
    if (handles !== null) this.#closeUnused(handles);
  }

  /** A handle that another thread is about to wait for must not become another object's. */
  #closeUnused({ inFlight, semaphore, holder, pending, semaphoreAndHolder }: Handles): void {
    if (inFlight > 0) return;
    for (const handle of [semaphore, holder, pending]) this.#kernel.c.CloseHandle(handle);
    this.#kernel.c.LocalFree(semaphoreAndHolder);
  }

  /** The kernel does not tell of others. */
  holder(): number | null {
    return this.isHeldHere() ? process.pid : null;
  }

  isHeldHere(): boolean {
    return this.#holders.has(this.identity);
  }
}

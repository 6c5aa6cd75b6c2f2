import process from "node:process";
import type { ThreadCode } from "../../ffi/types.ts";
import { InFlight } from "../in_flight.ts";
import { IS_TAKEN, type Kernel32, slice } from "../win32/kernel32.ts";
import { type BackgroundWait, type Lock, waitOf } from "../types.ts";
import { bareName, nameBeside, wideName } from "../win32/names.ts";

/** The longest time that a call into the kernel waits. After it, the lock checks for a dead holder. */
const SLICE_MS = 500;
/** The longest time that a call on another thread waits; the end of a Node program waits for such a call. */
const BACKGROUND_SLICE_MS = 200;
/**
 * How long a lock that another thread has taken may wait for the event loop to confirm it, before another process takes
 * it over. If the event loop was only slow, it learns that the lock was taken over.
 */
const PENDING_MS = 1000;
/** How long a thread that has the semaphore waits for the mutex. A thread that only checks the mutex is faster. */
const HANDOVER_MS = 100;
/** The maximum excess of the value that is corrected. No mistake of a peer adds more. */
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
  /** Qt's semaphore: 0 while a process holds the lock, otherwise 1. */
  readonly semaphore: bigint;
  /** The mutex `<name>_holder`, which the holder of the lock also owns if it uses this module. */
  readonly holder: bigint;
  /**
   * The semaphore `<name>_pending`: 0 while a background thread has taken the lock and its caller has not confirmed it
   * yet.
   */
  readonly pending: bigint;
  /** The address of two handles in C memory: the semaphore and the holder. */
  readonly semaphoreAndHolder: bigint;
  /** The address of two handles in C memory: the semaphore and the pending semaphore. */
  readonly semaphoreAndPending: bigint;
  /** The calls on other threads that use the handles. */
  readonly calls: InFlight;
}

/**
 * Qt's lock of a segment: a semaphore of value 1, which the kernel does not release for a process that dies. A process
 * of this module that holds the lock therefore owns a mutex as well. If the process dies, the kernel tells the next
 * process that waits for the mutex, and the semaphore then belongs to that process.
 *
 * - Both are acquired in one call, or neither is. A mutex belongs to a thread: a wait on another thread acquires
 *   `pending` together with the semaphore instead. If the process is killed before this thread owns the mutex, other
 *   processes find that out by time.
 * - They are released one after the other. A process that is killed in these few nanoseconds leaves a free lock and an
 *   abandoned mutex. If a Qt program acquires the lock before a process of this module does, that process takes it for
 *   the lock of the dead one.
 * - A Qt program that is killed while it holds the lock keeps it, as among Qt programs.
 */
export class WindowsLock implements Lock {
  readonly nativeKey: string;
  readonly #kernel: Kernel32;
  readonly #holders: Holders;
  #handles: Handles | null = null;
  #isHeld = false;
  /** The time since which only a call on another thread seems to have the lock. */
  #pendingSince: number | null = null;

  constructor(kernel: Kernel32, name: string, holders: Holders) {
    this.#kernel = kernel;
    this.nativeKey = name;
    this.#holders = holders;
  }

  get identity(): string {
    return bareName(this.nativeKey);
  }

  /** Returns the handles, which stay open until `close`, so that the mutex outlives its owner. */
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
        calls: new InFlight(() => {
          for (const handle of made) kernel.c.CloseHandle(handle);
          kernel.c.LocalFree(both);
        }),
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
   * Whether no other object of this thread holds the lock. A thread can acquire its own mutex again, which happens here
   * only if a peer has raised the value above 1. The mutex is then released, but the semaphore is not, which corrects
   * the value.
   */
  #isOnlyHolder({ holder }: Handles): boolean {
    if (!this.#holders.has(this.identity)) return true;
    this.#kernel.c.ReleaseMutex(holder);
    return false;
  }

  /** Checks which process holds a lock that could not be acquired. Returns whether this object holds it now. */
  #look(handles: Handles): boolean {
    const { semaphore, holder, pending } = handles;
    if (this.#holders.has(this.identity)) return false;
    const result = this.#kernel.wait(holder, 0);
    if (result === "timeout") {
      this.#pendingSince = null; // a living user of this module holds it
      return false;
    }
    const died = result === "abandoned";
    // The lock may have become free since, or the dead process was about to release it.
    const isFree = this.#kernel.wait(semaphore, 0) === "taken";
    if (isFree || died || this.#isLost(pending)) {
      if (!isFree) this.#kernel.releaseSemaphore(pending, 1); // fails if the value is already 1, its maximum
      return true;
    }
    this.#kernel.c.ReleaseMutex(holder);
    return false;
  }

  /** Whether another thread took the lock and its caller never came for it. If not, a Qt program holds it. */
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
    return waitOf(call, handles.calls.keep(call.over, claim), claim);
  }

  /**
   * Acquires the mutex for a lock that another thread has taken. Returns `false` if this thread may not keep the lock.
   */
  #confirm({ semaphore, holder, pending }: Handles): boolean {
    const kernel = this.#kernel;
    // If another object of this thread holds the lock, the value was above 1.
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

  /**
   * Releases the semaphore, then the mutex. While this thread owns the mutex, no other user of this module can take the
   * lock, so any value above 1 is a peer's mistake and is corrected.
   */
  #unlock({ semaphore, holder }: Handles): void {
    const surplus = this.#kernel.releaseSemaphore(semaphore, 1) ?? SURPLUS_MAX;
    for (let i = 0; i < Math.min(surplus, SURPLUS_MAX); i++) this.#kernel.wait(semaphore, 0);
    this.#kernel.c.ReleaseMutex(holder);
  }

  close(): void {
    this.release();
    this.#handles?.calls.close();
    this.#handles = null;
  }

  /** Returns this process, or `null`: the kernel does not tell which other process holds the lock. */
  holder(): number | null {
    return this.isHeldHere() ? process.pid : null;
  }

  isHeldHere(): boolean {
    return this.#holders.has(this.identity);
  }
}

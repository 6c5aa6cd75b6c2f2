import { timeoutOf, type Wait, waitOf, type WaitOptions } from "../core/waiter.ts";
import { BackendError } from "../backends/failure.ts";
import type { HeldNode } from "../backends/mutex/held_list.ts";
import { sharedMutexBackend } from "../backends/mutex/mod.ts";
import { type LockOutcome, MutexAbi, type MutexBackend } from "../backends/mutex/types.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import type { SharedAttachment } from "../registry.ts";
import { refuseThenable } from "../core/thenable.ts";
import { requireStack, requireStackToUndo } from "../core/stack.ts";
import { AsyncQueue } from "./retry_queue.ts";
import { SyncError } from "./errors.ts";
import { HEADER_BYTES, PrimitiveKind, Slot } from "./slot.ts";
import { SLICE_MS } from "../backends/timing.ts";

/** In the header: where it can be used, and whether who had it has left without giving it back. */
const [SCOPE_WORD, ABANDONED_WORD] = [2, 3];

const LOOK_MS = 1000;

const PROMISE_TO_WITH_LOCK =
  "Mutex.withLock: fn returned a promise, for which the mutex does not wait; use withLockAsync()";

/** Gives back what this thread holds in a segment. */
let abandon: (attachment: SharedAttachment, mutexes: MutexBackend) => void;
const watched = new WeakSet<SharedAttachment>();

/** The thread's list of what it holds leads through the segment, which must not go before. */
function releaseBeforeEnd(attachment: SharedAttachment, mutexes: MutexBackend): void {
  if (watched.has(attachment)) return;
  watched.add(attachment);
  attachment.beforeEnd(() => {
    abandon(attachment, mutexes);
    mutexes.close?.(attachment);
  });
}

/**
 * A lock inside a segment, which costs no system call while nobody else wants it, but for Windows. It belongs
 * to the thread that has locked it, and to the object.
 *
 * It is robust: if the process or the thread that holds it ends in whatever way, or detaches, the next one
 * gets it at once, and {@linkcode Mutex.wasAbandoned} tells it to look after what the mutex protects.
 *
 * On Linux its bytes are a `pthread_mutex_t` behind a header, for C programs of the same C library; on
 * Windows they name a mutex of the kernel, and on macOS they say which thread holds it. docs/sync.md has
 * the layouts, and what was tested.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "../mod.ts";
 * import { Mutex } from "./mod.ts";
 *
 * using memory = SharedMemory.open("accounts", {
 *   size: Mutex.BYTES + 16,
 *   initialize: (bytes) => void Mutex.create(bytes),
 * });
 * const mutex = Mutex.at(memory.view(Uint8Array));
 * const accounts = memory.view(Float64Array, Mutex.BYTES, 2);
 * mutex.withLock((wasAbandoned) => {
 *   if (wasAbandoned) accounts.fill(0); // somebody may have been killed between the two lines below
 *   accounts[0]! -= 5;
 *   accounts[1]! += 5;
 * });
 * ```
 */
export class Mutex {
  // `private` and `declare` rather than `#`, for speed: see Slot.

  /** The bytes it takes. */
  static readonly BYTES = 64;
  /** What its place in the segment must be a multiple of, in bytes. */
  static readonly ALIGNMENT = 8;
  declare private readonly slot: Slot;
  declare private readonly mutexes: MutexBackend;
  declare private readonly mutex: HeldNode;
  /** The header, also once the buffer of the segment was transferred away, and until that has been detached. */
  declare private readonly words: Int32Array;
  /** Who waits for it here; none before anybody has. */
  private queue: AsyncQueue | null = null;
  private isTaken = false;
  private isToRepair = false;
  /** Whether the last try failed since this thread has it already. */
  private isOfThread = false;
  /** When it was last looked whether the holder lives, in ms. */
  private looked = -Infinity;
  /** How often it was taken: tells one time from another. */
  private holds = 0;

  static {
    abandon = (attachment, mutexes) => {
      for (const { owner } of [...mutexes.held]) {
        if (!(owner instanceof Mutex)) continue; // that of another copy of this module
        if (owner.slot.attachment === attachment) owner.release(true);
      }
    };
  }

  private constructor(call: string, slot: Slot, mutexes: MutexBackend) {
    this.slot = slot;
    this.mutexes = mutexes;
    this.mutex = orSyncError(
      call,
      () => mutexes.join(slot.address(HEADER_BYTES), slot.attachment),
    );
    this.mutex.owner = this;
    this.words = new Int32Array(mutexes.arrayBuffer(slot.address(0), HEADER_BYTES));
    releaseBeforeEnd(slot.attachment, mutexes);
  }

  /**
   * Makes a mutex, which nobody holds.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @throws {SyncError} `AlreadyExists` if there is something already, `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one
   * @throws {UnsupportedError} on systems that have no shared memory, or no robust mutexes
   */
  static create(view: ArrayBufferView, byteOffset = 0): Mutex {
    const call = "Mutex.create";
    const slot = new Slot(call, view, byteOffset, Mutex.ALIGNMENT);
    slot.require(call, Mutex.BYTES);
    const mutexes = sharedMutexBackend();
    slot.make(call, PrimitiveKind.Mutex, Mutex.BYTES, () => {
      slot.words[SCOPE_WORD] = mutexes.scope();
      mutexes.init(slot.address(HEADER_BYTES));
    }, mutexes.abi);
    return new Mutex(call, slot, mutexes);
  }

  /**
   * Joins a mutex that has been made.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @throws {SyncError} `NotFound` if there is none; `WrongKind` if there is something else, or if it was
   * made with another C library, in another namespace of pids (another container) or in another session of
   * Windows; `Damaged`, `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one
   * @throws {UnsupportedError} on systems that have no shared memory, or no robust mutexes
   */
  static at(view: ArrayBufferView, byteOffset = 0): Mutex {
    const call = "Mutex.at";
    const slot = new Slot(call, view, byteOffset, Mutex.ALIGNMENT);
    const library = slot.join(call, PrimitiveKind.Mutex, Mutex.BYTES);
    const mutexes = sharedMutexBackend();
    if (library !== mutexes.abi) {
      const made = Object.entries(MutexAbi).find(([, number]) => number === library)?.[0];
      throw new SyncError(
        "WrongKind",
        `${call}: it was made with another C library (${made ?? library}), which lays it out in ` +
          "another way; use lock() of a SharedMemory",
      );
    }
    if (slot.words[SCOPE_WORD] !== mutexes.scope()) {
      throw new SyncError(
        "WrongKind",
        `${call}: it was made in another ${mutexes.scopeName}; use lock() of a SharedMemory`,
      );
    }
    const mutex = new Mutex(call, slot, mutexes);
    mutex.requireIntact("at");
    return mutex;
  }

  /** Whether this object holds it. */
  get isHeld(): boolean {
    return this.isTaken;
  }

  /**
   * While this object holds it: whether whoever had it before has left without giving it back, perhaps in the
   * middle of a change, or has given it back from a `withLock` that failed after it was told so itself.
   */
  get wasAbandoned(): boolean {
    return this.isTaken && this.isToRepair;
  }

  /**
   * Locks it for this object, and blocks the thread, and so the event loop, until it can be had.
   *
   * @throws {SyncError} `Deadlock` if this thread holds it already, through whatever object; `NotAttached`
   * after detach; `Damaged` if its bytes have been overwritten
   */
  lock(): void {
    if (!this.take("lock", 0)) this.wait("lock", Infinity);
  }

  /**
   * The same, but waits no longer than `timeoutMs`; without an argument it only tries.
   *
   * @returns `false` if it could not be had in that time, and at once if this thread holds it already, through whatever
   * object: the thread could not release it while it waits
   * @throws {SyncError} as {@linkcode Mutex.lock}, except for `Deadlock`
   * @throws {TypeError | RangeError} if `timeoutMs` is not a number of ms
   */
  tryLock(wait: number | WaitOptions = 0): boolean {
    const timeoutMs = timeoutOf("Mutex.tryLock", wait, 0);
    return this.take("tryLock", 0) || (!this.isOfThread && this.wait("tryLock", timeoutMs));
  }

  /**
   * Locks it for this object without blocking the event loop. Those who wait through one object are served in
   * their order, each when the one before has called {@linkcode Mutex.unlock}. What other processes and threads
   * give back is seen at most 16 ms later.
   *
   * @returns `false` if it could not be had within `timeout`. Rejects with the reason of `signal` if that
   * is aborted first; then it is not locked
   * @throws {SyncError} (rejects) `NotAttached` also if it is detached meanwhile, `Damaged`
   * @throws {TypeError | RangeError} (rejects) if `timeout` is not a number of ms
   * @throws {RangeError} if too little stack is left, as a rule at once instead of returning a promise; nothing is done then
   *
   * @example
   * ```ts
   * import { SharedMemory } from "../mod.ts";
   * import { Mutex } from "./mod.ts";
   *
   * using memory = SharedMemory.open("queue", {
   *   size: Mutex.BYTES,
   *   initialize: (bytes) => void Mutex.create(bytes),
   * });
   * const mutex = Mutex.at(memory.view(Uint8Array));
   * if (await mutex.lockAsync({ timeout: 500, signal: AbortSignal.timeout(10_000) })) {
   *   mutex.unlock();
   * }
   * ```
   */
  lockAsync(options: WaitOptions = {}): Promise<boolean> {
    requireStack(); // before there is a promise
    return this.tryLockAsync(options);
  }

  /** `lockAsync()`, once there is stack for it. */
  private async tryLockAsync(options: WaitOptions): Promise<boolean> {
    return await this.acquireAsync("lockAsync", waitOf("Mutex.lockAsync", options)) !== null;
  }

  /**
   * Gives it back. Whoever has been told that it was abandoned, and calls this, says that what it protects is
   * in order again.
   *
   * @throws {SyncError} `NotOwner` if this object does not hold it, `NotAttached` after detach, `Damaged` if
   * its bytes were overwritten while it was held: then others may have held it too
   */
  unlock(): void {
    if (!this.isTaken) throw this.notHeld();
    // Not by release(): JavaScriptCore takes functions apart only to a certain depth.
    if (this.queue !== null) requireStackToUndo();
    if (this.isToRepair) this.tellNext(false);
    const isUnlocked = this.mutexes.unlock(this.mutex);
    this.isTaken = false; // now: if the stack overflowed before, it is held still
    if (this.queue !== null) this.queue.tryAgain();
    if (!isUnlocked) throw this.damaged("unlock");
  }

  /** What unlock() of an object that does not hold it throws. */
  private notHeld(): SyncError {
    this.slot.requireUsable("unlock");
    return new SyncError("NotOwner", "Mutex.unlock: this object does not hold it; lock() first");
  }

  /**
   * Calls `fn` with the mutex locked, and unlocks whatever happens.
   *
   * If `fn` was told that the mutex was abandoned and throws, the next one is told so too.
   *
   * @param fn gets what {@linkcode Mutex.wasAbandoned} is. It must be done when it returns; use
   * {@linkcode Mutex.withLockAsync} otherwise
   * @returns what `fn` returns
   * @throws {SyncError} as {@linkcode Mutex.lock}
   * @throws {TypeError} if `fn` returns a promise
   */
  withLock<Result>(fn: (wasAbandoned: boolean) => Result, options?: WaitOptions): Result {
    const timeout = options === undefined
      ? Infinity
      : timeoutOf("Mutex.withLock", options, Infinity);
    if (!this.acquire("withLock", timeout)) throw timedOut("withLock", timeout);
    const hold = this.holds;
    let isRepaired = false;
    try {
      const result = fn(this.isToRepair);
      refuseThenable(result, PROMISE_TO_WITH_LOCK);
      isRepaired = true;
      return result;
    } finally {
      this.endHold(hold, isRepaired);
    }
  }

  /**
   * Calls `fn` with the mutex locked, waits for its promise, and unlocks whatever happens. It never blocks the
   * event loop. Calls on one object follow each other.
   *
   * @param fn gets what {@linkcode Mutex.wasAbandoned} is
   * @returns what `fn` returns
   * @throws {SyncError} (rejects) `Timeout` after the timeout, otherwise as {@linkcode Mutex.lockAsync}
   * @throws (rejects) the reason of `signal` if that is aborted before `fn` is called
   * @throws {RangeError} if too little stack is left, as a rule at once instead of returning a promise; nothing is done then
   */
  withLockAsync<Result>(
    fn: (wasAbandoned: boolean) => Result | PromiseLike<Result>,
    options: WaitOptions = {},
  ): Promise<Result> {
    requireStack(); // before there is a promise
    return this.callLockedAsync(fn, options);
  }

  /** `withLockAsync()`, once there is stack for it. */
  private async callLockedAsync<Result>(
    fn: (wasAbandoned: boolean) => Result | PromiseLike<Result>,
    options: WaitOptions,
  ): Promise<Result> {
    const wait = waitOf("Mutex.withLockAsync", options);
    const hold = await this.acquireAsync("withLockAsync", wait);
    if (hold === null) {
      throw timedOut("withLockAsync", wait.timeout);
    }
    let isRepaired = false;
    try {
      const result = await fn(this.isToRepair);
      isRepaired = true;
      return result;
    } finally {
      this.endHold(hold, isRepaired);
    }
  }

  /** Takes it, within a time if need be; `false` after it. */
  private acquire(method: string, timeoutMs: number): boolean {
    return this.take(method, 0) || this.wait(method, timeoutMs);
  }

  /** The same of one that could not be had at once. */
  private wait(method: string, timeoutMs: number): boolean {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      if (this.isOfThread) throw this.deadlock(method);
      const left = deadline - performance.now();
      if (timeoutMs === 0 || left <= 0) return false;
      if (this.take(method, Math.min(left, SLICE_MS))) return true;
    }
  }

  /** Returns which hold it is, or `null` after the timeout. */
  private async acquireAsync(method: string, wait: Wait): Promise<number | null> {
    let hold = 0;
    const attempt = () => {
      // What an asynchronous call of this thread holds it will give back.
      if (this.isTaken) {
        this.requireIntact(method);
        return false;
      }
      if (!this.take(method, 0)) return false;
      hold = this.holds;
      return true;
    };
    if (this.queue?.isEmpty === false || !attempt()) {
      if (wait.timeout === 0) return null;
      this.queue ??= new AsyncQueue();
      if (!await this.queue.wait(attempt, wait)) return null;
    }
    try {
      wait.signal?.throwIfAborted();
    } catch (reason) {
      this.endHold(hold, false);
      throw reason;
    }
    if (!this.isTaken || this.holds !== hold) {
      this.slot.requireUsable(method);
      throw new SyncError(
        "NotOwner",
        `Mutex.${method}: it was given back before this call returned`,
      );
    }
    return hold;
  }

  /**
   * `false` if somebody else has it for all of `ms`, or this thread has it. This and what it calls are small, and
   * what seldom happens is elsewhere, since the engines take only small functions apart where they are called.
   */
  private take(method: string, ms: number): boolean {
    requireStack();
    if (this.isTaken || !this.slot.isIntact) return this.takeNotFree(method, "own");
    const outcome = this.mutexes.lock(this.mutex, ms);
    if (outcome !== "taken") return this.takeNotFree(method, outcome);
    this.hold();
    return true;
  }

  /** Goes on where it could not simply be taken. */
  private takeNotFree(method: string, outcome: Exclude<LockOutcome, "taken">): boolean {
    if (outcome === "abandoned") {
      this.words[ABANDONED_WORD] = 1; // in the segment: who repairs may be killed too, or fail
      this.hold();
      return true;
    }
    this.requireIntact(method);
    this.isOfThread = outcome === "own";
    if (outcome === "own") return false;
    if (outcome === "held") {
      this.requireLivingHolder(method);
      return false;
    }
    if (outcome === "damaged") throw this.damaged(method);
    if (outcome === "unrecoverable") {
      throw new SyncError(
        "Damaged",
        `Mutex.${method}: a program has given it up for ever (ENOTRECOVERABLE), without ` +
          "pthread_mutex_consistent(); make it anew",
      );
    }
    throw new SyncError("System", `Mutex.${method}: it was refused [${outcome.refused}]`);
  }

  /** Looks once in a second whether whoever holds it can give it back. */
  private requireLivingHolder(method: string): void {
    const now = performance.now();
    if (now - this.looked < LOOK_MS) return;
    this.looked = now;
    const thread = this.mutexes.vanishedOwner(this.mutex);
    if (thread === null) return;
    throw new SyncError(
      "Damaged",
      `Mutex.${method}: its bytes say that thread ${thread} holds it, which does not exist; make it ` +
        "anew when nobody uses it",
    );
  }

  /** It has been taken. */
  private hold(): void {
    this.isToRepair = this.words[ABANDONED_WORD] !== 0;
    this.isTaken = true;
    this.holds++;
  }

  /** Gives it back; `false` if its bytes were overwritten meanwhile. */
  private release(isAbandoned: boolean): boolean {
    if (isAbandoned !== this.isToRepair) this.tellNext(isAbandoned);
    const isUnlocked = this.mutexes.unlock(this.mutex);
    this.isTaken = false;
    if (this.queue !== null) this.queue.tryAgain();
    return isUnlocked;
  }

  /** Notes for the next one, in the segment, whether what it protects may be half changed. */
  private tellNext(isAbandoned: boolean): void {
    if (this.slot.isUsable && !this.slot.isIntact) return; // what is there now is not ours
    this.words[ABANDONED_WORD] = isAbandoned ? 1 : 0;
  }

  /** Gives it back, unless that has been done since, and perhaps the mutex taken again. */
  private endHold(hold: number, isRepaired: boolean): void {
    if (!this.isTaken || this.holds !== hold) return;
    if (!this.release(this.isToRepair && !isRepaired)) throw this.damaged("unlock");
  }

  /** Whether its bytes are what they were when it was joined. */
  private get isIntact(): boolean {
    return this.slot.isIntact && this.mutexes.isMutex(this.mutex);
  }

  /** Throws if its bytes are not what they were when it was joined, or the segment is gone. */
  private requireIntact(method: string): void {
    // Once the segment has been detached or the buffer transferred away, nothing is intact.
    if (this.isIntact) return;
    this.slot.requireUsable(method);
    throw this.damaged(method);
  }

  /** What is thrown if its bytes have been overwritten. */
  private damaged(method: string): SyncError {
    return new SyncError(
      "Damaged",
      `Mutex.${method}: its bytes have been overwritten; others may hold it too, so make it anew ` +
        "when nobody uses it",
    );
  }

  /** What is thrown if this thread has it. */
  private deadlock(method: string): SyncError {
    return new SyncError(
      "Deadlock",
      `Mutex.${method}: this thread holds it already, and would wait for itself; it is not recursive`,
    );
  }

  /** @internal What `console.log` shows of it. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: this.slot.isUsable,
      held: this.isHeld,
      abandoned: this.wasAbandoned,
    }));
  }
}

/** What the system refuses, as the error that this module throws. */
function orSyncError<Result>(call: string, act: () => Result): Result {
  try {
    return act();
  } catch (error) {
    if (!(error instanceof BackendError)) throw error;
    throw new SyncError(error.reason, `${call}: ${error.message}`);
  }
}

function timedOut(method: string, timeoutMs: number): SyncError {
  return new SyncError("Timeout", `Mutex.${method}: another thread held it for ${timeoutMs} ms`);
}

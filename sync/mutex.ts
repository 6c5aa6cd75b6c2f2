import process from "node:process";
import { timeoutOf, type Wait, waitOf, type WaitOptions } from "../core/waiter.ts";
import { BackendError } from "../backends/failure.ts";
import type { HeldNode } from "../backends/mutex/held_list.ts";
import { sharedMutexBackend } from "../backends/mutex/mod.ts";
import { describeProcess, processText } from "../backends/process_text.ts";
import { type LockOutcome, MutexAbi, type MutexBackend } from "../backends/mutex/types.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import type { SharedAttachment } from "../registry.ts";
import { checkFunction, refuseThenable } from "../core/arguments.ts";
import { requireStack, requireStackToUndo } from "../core/stack.ts";
import { AsyncQueue } from "./retry_queue.ts";
import { SyncError } from "./errors.ts";
import { HEADER_BYTES, kindText, PrimitiveKind, Slot } from "./slot.ts";
import { SLICE_MS } from "../backends/timing.ts";

/** These words of the header say where the mutex can be used, and whether its holder ended without releasing it. */
const [SCOPE_WORD, ABANDONED_WORD] = [2, 3];

/** After this time, in ms, a waiting call checks again that the holder exists. */
const LOOK_MS = 1000;

const PROMISE_TO_WITH_LOCK =
  "Mutex.withLock: fn returned a promise, for which the mutex does not wait; use withLockAsync()";

/** Releases the mutexes that this thread holds in a segment, and marks them as abandoned. */
let abandon: (attachment: SharedAttachment, mutexes: MutexBackend) => void;
const watched = new WeakSet<SharedAttachment>();

/**
 * Releases the mutexes in a segment before it is unmapped, since the thread's list of held mutexes leads through it.
 */
function releaseBeforeEnd(attachment: SharedAttachment, mutexes: MutexBackend): void {
  if (watched.has(attachment)) return;
  watched.add(attachment);
  attachment.beforeEnd(() => {
    abandon(attachment, mutexes);
    mutexes.close?.(attachment);
  });
}

/**
 * A mutex is a lock inside a segment. While no other thread wants it, it needs no system call, except on Windows. The
 * thread and the object that locked it own it. It is not recursive.
 *
 * The mutex is robust: if the process or thread that holds it ends in any way, or detaches, the next one acquires it at
 * once, and {@linkcode Mutex.wasAbandoned} tells it that the protected data may be half changed.
 *
 * On Linux the bytes are a `pthread_mutex_t` behind a header, for C programs that use the same C library. On Windows
 * they name a mutex of the kernel, and on macOS they say which thread holds the mutex. docs/sync.md describes the
 * layouts and what was tested.
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
 *   if (wasAbandoned) accounts.fill(0); // a process may have been killed between the two lines below
 *   accounts[0]! -= 5;
 *   accounts[1]! += 5;
 * });
 * ```
 */
export class Mutex {
  // `private` and `declare` rather than `#`, for speed: see Slot.

  /** A mutex takes this number of bytes. */
  static readonly BYTES = 64;
  /** A mutex must begin at a multiple of this number of bytes in the segment. */
  static readonly ALIGNMENT = 8;
  /** This text says in the declaration of a layout what lies there: a mutex, and the version of its bytes. */
  static readonly KIND: string = kindText("Mutex");
  declare private readonly slot: Slot;
  declare private readonly mutexes: MutexBackend;
  declare private readonly mutex: HeldNode;
  /**
   * The header. It stays usable after the buffer of the segment was transferred away, until the segment is detached.
   */
  declare private readonly words: Int32Array;
  /** The asynchronous calls of this object that wait for the mutex; `null` before the first one. */
  private queue: AsyncQueue | null = null;
  private isTaken = false;
  private isToRepair = false;
  /** Whether the last attempt failed because this thread holds the mutex already. */
  private isOfThread = false;
  /** When a waiting call last checked that the holder exists, in ms. */
  private looked = -Infinity;
  /** How often this object has acquired the mutex. The number tells one hold from another. */
  private holds = 0;

  static {
    abandon = (attachment, mutexes) => {
      for (const { owner } of [...mutexes.held]) {
        if (!(owner instanceof Mutex)) continue; // the mutex belongs to another copy of this module
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
   * Creates an unlocked mutex in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the mutex begins in the view, in bytes
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   * @throws {UnsupportedError} on systems without shared memory or robust mutexes
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
   * Returns an object for a mutex that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the mutex begins in the view, in bytes
   * @throws {SyncError} `NotFound` if there is no mutex; `WrongKind` if the place holds something else, or if the mutex
   * was created with another C library, in another namespace of pids (another container) or in another session of
   * Windows; `Damaged` if its bytes have been overwritten; `NotAttached` if the segment is not attached; `ReadOnly` if
   * it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   * @throws {UnsupportedError} on systems without shared memory or robust mutexes
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
        `${call}: it was created with another C library (${
          made ?? library
        }), which lays it out in ` +
          "another way; use lock() of a SharedMemory",
      );
    }
    if (slot.words[SCOPE_WORD] !== mutexes.scope()) {
      throw new SyncError(
        "WrongKind",
        `${call}: it was created in another ${mutexes.scopeName}; use lock() of a SharedMemory`,
      );
    }
    const mutex = new Mutex(call, slot, mutexes);
    mutex.requireIntact("at");
    return mutex;
  }

  /**
   * Makes a mutex anew whose users have all ended: in `adopt` of `SharedMemory.open()`, before another process attaches. A
   * mutex that was created in another container can only so be used again. If the mutex was held, the next holder is told
   * that it was abandoned.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the mutex begins in the view, in bytes
   * @throws as {@linkcode Mutex.at}, but not for a mutex of another C library or container, or overwritten bytes
   *
   * @example
   * ```ts
   * import { SharedMemory } from "../mod.ts";
   * import { Mutex } from "./mod.ts";
   *
   * using memory = SharedMemory.open("ledger", {
   *   size: Mutex.BYTES,
   *   lifetime: "until-removed",
   *   initialize: (bytes) => void Mutex.create(bytes),
   *   adopt: (bytes) => void Mutex.renew(bytes),
   * });
   * Mutex.at(memory.bytes).withLock((wasAbandoned) => console.log(wasAbandoned)); // false
   * memory.remove();
   * ```
   */
  static renew(view: ArrayBufferView, byteOffset = 0): Mutex {
    const call = "Mutex.renew";
    const slot = new Slot(call, view, byteOffset, Mutex.ALIGNMENT);
    const library = slot.join(call, PrimitiveKind.Mutex, Mutex.BYTES);
    const mutexes = sharedMutexBackend();
    const address = slot.address(HEADER_BYTES);
    // First: this process, too, may be killed in the middle, and the next one renews the mutex again.
    if (library !== mutexes.abi || mutexes.wasHeld(address)) slot.words[ABANDONED_WORD] = 1;
    mutexes.init(address);
    slot.words[SCOPE_WORD] = mutexes.scope();
    slot.setDetail(PrimitiveKind.Mutex, mutexes.abi);
    return new Mutex(call, slot, mutexes);
  }

  /** This property is `true` while this object holds the mutex. */
  get isHeld(): boolean {
    return this.isTaken;
  }

  /**
   * This property is `true` if this object holds the mutex and the previous holder may have left the protected data
   * half changed: it ended or detached without unlocking the mutex, or it was itself told of this and its `withLock` or
   * `withLockAsync` failed.
   */
  get wasAbandoned(): boolean {
    return this.isTaken && this.isToRepair;
  }

  /**
   * Locks the mutex for this object. It blocks the thread, and so the event loop, until it has acquired the mutex.
   *
   * @throws {SyncError} `Deadlock` if this thread holds the mutex already, through this or another object;
   * `NotAttached` if the segment has been detached; `Damaged` if the bytes of the mutex have been overwritten
   */
  lock(): void {
    // This does not call take(), since JavaScriptCore inlines functions only to a certain depth.
    requireStack();
    const outcome = this.isTaken || !this.slot.isIntact ? "own" : this.mutexes.lock(this.mutex, 0);
    if (outcome === "taken") this.hold();
    else if (!this.takeNotFree("lock", outcome)) this.wait("lock", Infinity);
  }

  /**
   * Locks the mutex for this object like {@linkcode Mutex.lock}, but waits for at most `timeoutMs`. Without an argument
   * it tries once and does not wait.
   *
   * @returns `false` if the mutex was not free in that time. If this thread holds it already, through this or another
   * object, it returns `false` at once: the thread could not release the mutex while it waits
   * @throws {SyncError} as {@linkcode Mutex.lock}, except for `Deadlock`
   * @throws {TypeError | RangeError} if `timeoutMs` is not a number of ms
   */
  tryLock(wait: number | WaitOptions = 0): boolean {
    if (wait === 0) {
      requireStack(); // this does not call take(), as in lock()
      const outcome = this.isTaken || !this.slot.isIntact
        ? "own"
        : this.mutexes.lock(this.mutex, 0);
      if (outcome !== "taken") return this.takeNotFree("tryLock", outcome);
      this.hold();
      return true;
    }
    const timeoutMs = timeoutOf("Mutex.tryLock", wait, 0);
    return this.take("tryLock", 0) || (!this.isOfThread && this.wait("tryLock", timeoutMs));
  }

  /**
   * Locks the mutex for this object without blocking the event loop. The calls on one object acquire the mutex in their
   * order, each after {@linkcode Mutex.unlock} for the call before it. If another process or thread releases the mutex,
   * a waiting call notices it at most 16 ms later.
   *
   * @returns a promise of `false` if the mutex was not free within `timeout`, otherwise of `true`. It rejects with the
   * reason of `signal` if the signal is aborted first; the mutex is then not locked
   * @throws {SyncError} (rejects) `NotAttached` if the segment has been detached or is detached during the wait,
   * `Damaged` if the bytes of the mutex have been overwritten
   * @throws {TypeError | RangeError} (rejects) if `timeout` is not a number of ms
   * @throws {RangeError} if too little stack is left. As a rule it then throws instead of returning a promise, and
   * nothing has been done
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
    requireStack(); // before the promise is created
    return this.tryLockAsync(options);
  }

  /** Does what `lockAsync()` does, once there is stack for it. */
  private async tryLockAsync(options: WaitOptions): Promise<boolean> {
    return await this.acquireAsync("lockAsync", waitOf("Mutex.lockAsync", options)) !== null;
  }

  /**
   * Releases the mutex. If {@linkcode Mutex.wasAbandoned} is `true`, this call also states that the protected data is
   * consistent again.
   *
   * @throws {SyncError} `NotOwner` if this object does not hold the mutex, `NotAttached` if the segment has been
   * detached, `Damaged` if its bytes were overwritten while it was held: another thread may have held it too
   */
  unlock(): void {
    if (!this.isTaken || this.isToRepair || this.queue !== null) return this.unlockRarely();
    // This does not call release(), since JavaScriptCore inlines functions only to a certain depth.
    const isUnlocked = this.mutexes.unlock(this.mutex);
    this.isTaken = false; // only now: if the stack overflows before, the mutex is still held
    if (!isUnlocked) throw this.damaged("unlock");
  }

  /** Does what `unlock` does, if more is to be done than to release the mutex. */
  private unlockRarely(): void {
    if (!this.isTaken) throw this.notHeld();
    requireStackToUndo();
    if (!this.release(false)) throw this.damaged("unlock");
  }

  /** Returns the error that unlock() throws if this object does not hold the mutex. */
  private notHeld(): SyncError {
    this.slot.requireUsable("unlock");
    return new SyncError("NotOwner", "Mutex.unlock: this object does not hold it; lock() first");
  }

  /**
   * Locks the mutex, calls `fn`, and unlocks the mutex when `fn` returns or throws.
   *
   * If `fn` was told that the mutex was abandoned and throws, the next holder is told so too.
   *
   * @param fn gets the value of {@linkcode Mutex.wasAbandoned}. It must not return a promise; use
   * {@linkcode Mutex.withLockAsync} for an asynchronous function
   * @returns what `fn` returns
   * @throws {SyncError} as {@linkcode Mutex.lock}
   * @throws {TypeError} if `fn` returns a promise
   */
  withLock<Result>(fn: (wasAbandoned: boolean) => Result, options?: WaitOptions): Result {
    checkFunction("Mutex.withLock", "fn", fn);
    const timeout = options === undefined
      ? Infinity
      : timeoutOf("Mutex.withLock", options, Infinity);
    if (!this.acquire("withLock", timeout)) throw this.timedOut("withLock", timeout);
    const hold = this.holds;
    let result: Result;
    try {
      result = fn(this.isToRepair);
      refuseThenable(result, PROMISE_TO_WITH_LOCK);
    } catch (error) {
      this.endFailed(hold);
      throw error;
    }
    this.endHold(hold, true);
    return result;
  }

  /**
   * Locks the mutex, calls `fn`, waits for its promise, and unlocks the mutex when the promise is settled or `fn`
   * throws. It never blocks the event loop. The calls on one object run one after the other.
   *
   * @param fn gets the value of {@linkcode Mutex.wasAbandoned}
   * @returns what `fn` returns
   * @throws {SyncError} (rejects) `Timeout` after the timeout, otherwise as {@linkcode Mutex.lockAsync}
   * @throws (rejects) the reason of `signal` if the signal is aborted before `fn` is called
   * @throws {RangeError} if too little stack is left. As a rule it then throws instead of returning a promise, and
   * nothing has been done
   */
  withLockAsync<Result>(
    fn: (wasAbandoned: boolean) => Result | PromiseLike<Result>,
    options: WaitOptions = {},
  ): Promise<Result> {
    requireStack(); // before the promise is created
    return this.callLockedAsync(fn, options);
  }

  /** Does what `withLockAsync()` does, once there is stack for it. */
  private async callLockedAsync<Result>(
    fn: (wasAbandoned: boolean) => Result | PromiseLike<Result>,
    options: WaitOptions,
  ): Promise<Result> {
    checkFunction("Mutex.withLockAsync", "fn", fn);
    const wait = waitOf("Mutex.withLockAsync", options);
    const hold = await this.acquireAsync("withLockAsync", wait);
    if (hold === null) {
      throw this.timedOut("withLockAsync", wait.timeout);
    }
    let result: Result;
    try {
      result = await fn(this.isToRepair);
    } catch (error) {
      this.endFailed(hold);
      throw error;
    }
    this.endHold(hold, true);
    return result;
  }

  /** Acquires the mutex within `timeoutMs`; returns `false` after it. */
  private acquire(method: string, timeoutMs: number): boolean {
    return this.take(method, 0) || this.wait(method, timeoutMs);
  }

  /** Waits for a mutex that was not free at once, for at most `timeoutMs`; returns `false` after it. */
  private wait(method: string, timeoutMs: number): boolean {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      if (this.isOfThread) throw this.deadlock(method);
      if (timeoutMs === 0) return false;
      const left = deadline - performance.now();
      if (left <= 0) return this.take(method, 0); // it may be free by now, if this process was stopped
      if (this.take(method, Math.min(left, SLICE_MS))) return true;
    }
  }

  /** Acquires the mutex without blocking; returns the number of the hold, or `null` after the timeout. */
  private async acquireAsync(method: string, wait: Wait): Promise<number | null> {
    let hold = 0;
    const attempt = () => {
      // Another asynchronous call of this object holds the mutex and will release it.
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
        `Mutex.${method}: it was released before this call returned`,
      );
    }
    return hold;
  }

  /**
   * Acquires the mutex; returns `false` if another thread holds it for all of `ms`, or if this thread holds it. This
   * function and those it calls are small, and rare cases are elsewhere, since engines inline only small functions.
   */
  private take(method: string, ms: number): boolean {
    requireStack();
    if (this.isTaken || !this.slot.isIntact) return this.takeNotFree(method, "own");
    const outcome = this.mutexes.lock(this.mutex, ms);
    if (outcome !== "taken") return this.takeNotFree(method, outcome);
    this.hold();
    return true;
  }

  /** Handles the outcomes of an attempt other than `taken`; returns whether the mutex was acquired. */
  private takeNotFree(method: string, outcome: Exclude<LockOutcome, "taken">): boolean {
    if (outcome === "abandoned") {
      this.words[ABANDONED_WORD] = 1; // in the segment: the process that repairs the data may be killed or fail too
      this.hold();
      return true;
    }
    this.requireIntact(method);
    if (outcome === "own" && this.isLeft) {
      this.words[ABANDONED_WORD] = 1;
      this.hold();
      return true;
    }
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
        `Mutex.${method}: a program released it as not recoverable (ENOTRECOVERABLE), without ` +
          "pthread_mutex_consistent(); create it again",
      );
    }
    throw new SyncError("System", `Mutex.${method}: it was refused [${outcome.refused}]`);
  }

  /** Throws if the thread that holds the mutex does not exist. It checks this at most once a second. */
  private requireLivingHolder(method: string): void {
    const now = performance.now();
    if (now - this.looked < LOOK_MS) return;
    this.looked = now;
    const thread = this.mutexes.vanishedOwner(this.mutex);
    if (thread === null) return;
    throw new SyncError(
      "Damaged",
      `Mutex.${method}: its bytes say that thread ${thread} holds it, which does not exist; create it ` +
        "again when no process uses it",
    );
  }

  /** Whether code was stopped when this object had locked the mutex, and before it noted that: by a timeout of `node:vm`. */
  private get isLeft(): boolean {
    return !this.isTaken && [...this.mutexes.held].some((node) => node === this.mutex);
  }

  /** Notes that this object has acquired the mutex. */
  private hold(): void {
    this.isToRepair = this.words[ABANDONED_WORD] !== 0;
    this.isTaken = true;
    this.holds++;
  }

  /** Releases the mutex; returns `false` if its bytes were overwritten while it was held. */
  private release(isAbandoned: boolean): boolean {
    if (isAbandoned !== this.isToRepair) this.tellNext(isAbandoned);
    const isUnlocked = this.mutexes.unlock(this.mutex);
    this.isTaken = false;
    if (this.queue !== null) this.queue.tryAgain();
    return isUnlocked;
  }

  /** Notes in the segment, for the next holder, whether the protected data may be half changed. */
  private tellNext(isAbandoned: boolean): void {
    if (this.slot.isUsable && !this.slot.isIntact) return; // the place holds something else now
    this.words[ABANDONED_WORD] = isAbandoned ? 1 : 0;
  }

  /** Releases the mutex if it is still held since `hold`: `fn` may have unlocked it, and perhaps locked it again. */
  private endHold(hold: number, isRepaired: boolean): void {
    if (!this.isTaken || this.holds !== hold) return;
    if (!this.release(this.isToRepair && !isRepaired)) throw this.damaged("unlock");
  }

  /** Does what `endHold` does after `fn` has thrown. Overwritten bytes do not hide that error: the next call says so. */
  private endFailed(hold: number): void {
    try {
      this.endHold(hold, false);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
    }
  }

  /** Whether the bytes of the mutex are what they were when it was joined. */
  private get isIntact(): boolean {
    return this.slot.isIntact && this.mutexes.isMutex(this.mutex);
  }

  /** Throws if the bytes of the mutex are not what they were when it was joined, or the segment was detached. */
  private requireIntact(method: string): void {
    // Once the segment has been detached or the buffer transferred away, nothing is intact.
    if (this.isIntact) return;
    this.slot.requireUsable(method);
    throw this.damaged(method);
  }

  /** Returns the error for a mutex whose bytes have been overwritten. */
  private damaged(method: string): SyncError {
    return new SyncError(
      "Damaged",
      `Mutex.${method}: its bytes have been overwritten; others may hold it too, so create it again ` +
        "when no process uses it",
    );
  }

  /** Returns the error for a call that would wait for a mutex that this thread holds. */
  private deadlock(method: string): SyncError {
    return new SyncError(
      "Deadlock",
      `Mutex.${method}: this thread holds it already, and would wait for itself; it is not recursive`,
    );
  }

  /** Returns the error for a mutex that was not free in time. It names who holds the mutex at this moment. */
  private timedOut(method: string, timeoutMs: number): SyncError {
    return new SyncError(
      "Timeout",
      `Mutex.${method}: it was not free for ${timeoutMs} ms; ${this.holderText()}`,
    );
  }

  /** Says who holds the mutex, as far as that can be known. */
  private holderText(): string {
    if (this.isTaken) return "another call of this object holds it";
    const number = this.slot.isUsable ? this.mutexes.holder(this.mutex) : null;
    if (number === null) return "another thread or process held it";
    const isOwn = describeProcess(number).pid === process.pid;
    return `${isOwn ? "another call or thread of this process" : processText(number)} holds it`;
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: this.slot.isUsable,
      held: this.isHeld,
      abandoned: this.wasAbandoned,
    }));
  }
}

/** Calls `act`, and turns what the system refuses into the error that this module throws. */
function orSyncError<Result>(call: string, act: () => Result): Result {
  try {
    return act();
  } catch (error) {
    if (!(error instanceof BackendError)) throw error;
    throw new SyncError(error.reason, `${call}: ${error.message}`);
  }
}

import { timeoutOf, type Wait, Waiter, waitOf, type WaitOptions } from "../core/waiter.ts";
import { ThreadError } from "../ffi/threads.ts";
import type { Usize } from "../ffi/types.ts";
import { futexFor, futexId } from "../backends/futex/mod.ts";
import { BACKGROUND_SLICE_MS, delay, nextPause, sleepSync, SLICE_MS } from "../backends/timing.ts";
import type { Futex } from "../backends/futex/types.ts";
import { SyncError } from "./errors.ts";
import { requireStack } from "../core/stack.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { HEADER_BYTES, PrimitiveKind, Slot } from "./slot.ts";

const [SEQUENCE_WORD, ID_WORD] = [2, 3];
/** More than can wait. */
const ALL = 2 ** 31 - 1;

/** The clock is slow to read, and not needed to wait for ever. */
function deadlineIn(ms: number): number {
  return ms === Infinity ? Infinity : performance.now() + ms;
}

/** How to wait for an {@linkcode Event} without blocking the event loop. */
export interface EventWaitOptions extends WaitOptions {
  /** What {@linkcode Event.sequence} was before the caller looked whether it has to wait; what it is now if left out. */
  readonly since?: number | undefined;
}

/**
 * Wakes those who wait for a change of what is in the segment, in whatever process or thread. What has changed
 * they see there: an event only says that it is time to look, so it may be notified too often, and `wait` may
 * return without need.
 *
 * No notification is lost between looking and waiting: {@linkcode Event.waitUntil} does both in the right order,
 * and so does `wait` with the {@linkcode Event.sequence} from before the look. A process that is killed
 * while it waits harms nobody: if it was the one to be woken, the others look by themselves a second later.
 *
 * Who waits sleeps in the kernel; before macOS 14.4 it looks after pauses of at most 16 ms.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "../mod.ts";
 * import { Event } from "./mod.ts";
 *
 * using memory = SharedMemory.open("jobs", {
 *   size: Event.BYTES + 4,
 *   initialize: (bytes) => void Event.create(bytes),
 * });
 * const hasChanged = Event.at(memory.view(Uint8Array));
 * const jobs = memory.view(Int32Array, Event.BYTES, 1);
 *
 * const waiting = hasChanged.waitUntilAsync(() => Atomics.load(jobs, 0) > 0);
 * Atomics.add(jobs, 0, 1); // as a rule another process does that
 * hasChanged.notify();
 * console.log(await waiting); // true
 * ```
 */
export class Event {
  /** The bytes it takes. */
  static readonly BYTES = 16;
  /** What its place in the segment must be a multiple of, in bytes. */
  static readonly ALIGNMENT = 8;
  // `private` and `declare` rather than `#`, for speed: see Slot.

  declare private readonly slot: Slot;
  declare private readonly futex: Futex | null;
  /** Its sequence, for the sleeper. */
  declare private readonly word: Usize | undefined;
  /** Those of this object who wait without blocking, and since what sequence. */
  readonly #waiters = new Map<Waiter, number>();
  #isServed = false;

  private constructor(slot: Slot) {
    this.slot = slot;
    const id = slot.words[ID_WORD]! >>> 0;
    this.futex = futexFor(id, () => slot.isUsable ? this.now : undefined);
    this.word = this.futex?.address(slot.address(4 * SEQUENCE_WORD));
  }

  /**
   * Makes an event.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @throws {SyncError} `AlreadyExists` if there is something already, `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one
   */
  static create(view: ArrayBufferView, byteOffset = 0): Event {
    const slot = new Slot("Event.create", view, byteOffset, Event.ALIGNMENT);
    slot.make(
      "Event.create",
      PrimitiveKind.Event,
      HEADER_BYTES,
      () => slot.words[ID_WORD] = futexId(),
    );
    return new Event(slot);
  }

  /**
   * Joins an event that has been made.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @throws {SyncError} `NotFound` if there is none, `WrongKind` if there is something else,
   * `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one
   */
  static at(view: ArrayBufferView, byteOffset = 0): Event {
    const slot = new Slot("Event.at", view, byteOffset, Event.ALIGNMENT);
    slot.join("Event.at", PrimitiveKind.Event, HEADER_BYTES);
    return new Event(slot);
  }

  /**
   * Another number after each notification.
   *
   * @throws {SyncError} `NotAttached` after detach
   */
  get sequence(): number {
    this.slot.requireUsable("sequence");
    return this.now;
  }

  /** The sequence as it is now. */
  private get now(): number {
    return Atomics.load(this.slot.words, SEQUENCE_WORD) >>> 0;
  }

  /**
   * Blocks the thread, and so the event loop, until the event is notified.
   *
   * @param timeoutMs how long at most; for ever if left out
   * @param since what the sequence was before the caller looked whether it has to wait: it does not wait if
   * there was a notification in between. What it is now if left out
   * @returns `false` if there was no notification in that time
   * @throws {SyncError} `NotAttached` after detach
   * @throws {TypeError | RangeError} if `timeoutMs` is not a number of ms, or `since` not a number
   */
  wait(wait: number | EventWaitOptions = Infinity, since?: number): boolean {
    const timeoutMs = timeoutOf("Event.wait", wait, Infinity);
    if (typeof wait === "object") since = wait.since;
    this.slot.requireUsable("wait");
    return this.sleep(this.checkSince("wait", since), deadlineIn(timeoutMs));
  }

  /**
   * The same without blocking the event loop.
   *
   * @returns `false` if there was no notification within `timeout`. Rejects with the reason of `signal` if
   * that is aborted first
   * @throws {SyncError} (rejects) `NotAttached` also if it is detached meanwhile
   * @throws {TypeError | RangeError} (rejects) if `timeout` is not a number of ms, or `since` not a number
   * @throws {RangeError} if too little stack is left, as a rule at once instead of returning a promise; nothing is done then
   */
  waitAsync(options: EventWaitOptions = {}): Promise<boolean> {
    requireStack(); // before there is a promise
    return this.waitSinceAsync(options);
  }

  /** `waitAsync()`, once there is stack for it. */
  private async waitSinceAsync(options: EventWaitOptions): Promise<boolean> {
    const { since } = options;
    return await this.waitFor("waitAsync", waitOf("Event.waitAsync", options), since);
  }

  /**
   * Blocks the thread, and so the event loop, until `condition` is true, at which it looks at once and after
   * each notification.
   *
   * @param condition whatever others change before they notify
   * @param timeoutMs how long at most; for ever if left out
   * @returns `false` if it was not true in that time
   * @throws {SyncError} `NotAttached` after detach
   * @throws {TypeError | RangeError} if `timeoutMs` is not a number of ms
   * @throws whatever `condition` throws
   */
  waitUntil(condition: () => boolean, wait: number | WaitOptions = Infinity): boolean {
    const timeoutMs = timeoutOf("Event.waitUntil", wait, Infinity);
    const deadline = deadlineIn(timeoutMs);
    for (;;) {
      this.slot.requireUsable("waitUntil");
      const since = this.now; // before the look: what is notified after it ends the wait
      if (condition()) return true;
      this.slot.requireUsable("waitUntil");
      if (!this.sleep(since, deadline)) return condition();
    }
  }

  /**
   * The same without blocking the event loop.
   *
   * @returns `false` if it was not true within `timeout`. Rejects with the reason of `signal` if that is
   * aborted first
   * @throws {SyncError} (rejects) `NotAttached` also if it is detached meanwhile
   * @throws {TypeError | RangeError} (rejects) if `timeout` is not a number of ms
   * @throws (rejects) whatever `condition` throws
   * @throws {RangeError} if too little stack is left, as a rule at once instead of returning a promise; nothing is done then
   */
  waitUntilAsync(condition: () => boolean, options: WaitOptions = {}): Promise<boolean> {
    requireStack(); // before there is a promise
    return this.lookAsync(condition, options);
  }

  /** `waitUntilAsync()`, once there is stack for it. */
  private async lookAsync(condition: () => boolean, options: WaitOptions): Promise<boolean> {
    const { timeout, signal } = waitOf("Event.waitUntilAsync", options);
    const deadline = performance.now() + timeout;
    for (;;) {
      signal?.throwIfAborted();
      this.slot.requireUsable("waitUntilAsync");
      const since = this.now;
      if (condition()) return true;
      const wait = { timeout: Math.max(0, deadline - performance.now()), signal };
      if (!await this.waitFor("waitUntilAsync", wait, since)) return condition();
    }
  }

  /** Waits without blocking the event loop; `false` after the timeout. */
  private async waitFor(method: string, wait: Wait, before?: number): Promise<boolean> {
    wait.signal?.throwIfAborted();
    this.slot.requireUsable(method);
    const since = this.checkSince(method, before);
    if (this.now !== since) return true;
    if (wait.timeout === 0) return false;
    return await this.#enter(wait, since);
  }

  /**
   * Wakes those who wait, `count` of them at once, or 1 if that is left out: enough if so many can make use of
   * what has changed. Others may look too, at most a second later, and on Windows at once.
   *
   * @throws {SyncError} `NotAttached` after detach
   * @throws {TypeError | RangeError} if `count` is not an integer of at least 1
   */
  notify(count = 1): void {
    if (typeof count !== "number") {
      throw new TypeError(`Event.notify: the count must be a number, not ${typeof count}`);
    }
    if (!Number.isInteger(count) || count < 1) {
      throw new RangeError(`Event.notify: the count must be an integer from 1, not ${count}`);
    }
    this.wake("notify", Math.min(count, ALL));
  }

  /**
   * Wakes all who wait.
   *
   * @throws {SyncError} `NotAttached` after detach
   */
  notifyAll(): void {
    this.wake("notifyAll", ALL);
  }

  /** Wakes `count`. */
  private wake(method: string, count: number): void {
    this.slot.requireUsable(method);
    // First: who is about to sleep does not, since the kernel compares, and who is woken sees it.
    const before = Atomics.add(this.slot.words, SEQUENCE_WORD, 1) >>> 0;
    this.futex?.wake(this.word!, count, before);
  }

  /** Since when a wait lasts. */
  private checkSince(method: string, since: number | undefined): number {
    if (since === undefined) return this.now;
    if (typeof since === "number") return since >>> 0;
    throw new TypeError(`Event.${method}: since must be a number, not ${typeof since}`);
  }

  /** `false` after the deadline. A second at a time: whoever was to be woken may have been killed. */
  private sleep(since: number, deadline: number): boolean {
    if (this.now === since) requireStack(); // for what it opens to sleep
    for (let ms = 0; this.now === since;) {
      const left = deadline === Infinity ? Infinity : deadline - performance.now();
      if (left <= 0) return false;
      if (this.futex !== null) {
        this.futex.wait(this.word!, since, Math.min(left, SLICE_MS));
      } else {
        sleepSync(Math.min(left, ms = nextPause(ms)));
      }
    }
    return true;
  }

  #enter(wait: Wait, since: number): Promise<boolean> {
    requireStack();
    const waiter: Waiter = new Waiter(wait, () => this.#leave(waiter));
    this.#waiters.set(waiter, since);
    if (!this.#isServed) void this.#serve();
    return waiter.promise;
  }

  /** `false` if it had its turn already. */
  #leave(waiter: Waiter): boolean {
    if (!this.#waiters.delete(waiter)) return false;
    // Whoever was woken for it may be the one who waits for all of this object, and has nobody to tell.
    if (this.#waiters.size === 0 && this.slot.isUsable) this.futex?.wake(this.word!);
    return true;
  }

  async #serve(): Promise<void> {
    this.#isServed = true;
    const { attachment } = this.slot;
    const fail = () => this.#failAll(this.slot.detached("waitAsync"));
    attachment.beforeEnd(fail);
    try {
      for (let ms = 0; this.#waiters.size > 0;) {
        if (!this.slot.isUsable) throw this.slot.detached("waitAsync");
        const now = this.now;
        if (this.#succeed(now)) ms = 0;
        if (this.#waiters.size === 0) break;
        // That the segment may go meanwhile does no harm: the kernel only looks at the word, if it is there.
        if (this.futex === null) await delay(ms = nextPause(ms));
        else await this.futex.waitInBackground(this.word!, now, BACKGROUND_SLICE_MS);
      }
    } catch (error) {
      const isOurs = error instanceof ThreadError;
      this.#failAll(isOurs ? new SyncError("System", `Event.waitAsync: ${error.message}`) : error);
    } finally {
      attachment.notBeforeEnd(fail);
      this.#isServed = false;
    }
  }

  /** Ends the waits that began at another sequence than `now`; returns whether there were any. */
  #succeed(now: number): boolean {
    let isAny = false;
    for (const [waiter, since] of this.#waiters) {
      if (since === now) continue;
      this.#waiters.delete(waiter);
      waiter.succeed();
      isAny = true;
    }
    return isAny;
  }

  #failAll(error: unknown): void {
    const waiters = [...this.#waiters.keys()];
    this.#waiters.clear();
    for (const waiter of waiters) waiter.fail(error);
  }

  /** @internal What `console.log` shows of it. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: this.slot.isUsable,
      sequence: this.slot.isUsable ? this.now : undefined,
    }));
  }
}

import { setImmediate } from "node:timers";
import { checkFunction, refuseThenable } from "../core/arguments.ts";
import { timeoutOf, type Wait, Waiter, waitOf, type WaitOptions } from "../core/waiter.ts";
import { ThreadError } from "../ffi/threads.ts";
import type { Usize } from "../ffi/types.ts";
import { futexFor, futexId } from "../backends/futex/mod.ts";
import { BACKGROUND_SLICE_MS, delay, nextPause, sleepSync, SLICE_MS } from "../backends/timing.ts";
import type { Futex } from "../backends/futex/types.ts";
import { SyncError } from "./errors.ts";
import { requireStack } from "../core/stack.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { HEADER_BYTES, kindText, PrimitiveKind, Slot } from "./slot.ts";

const [SEQUENCE_WORD, ID_WORD] = [2, 3];
/** This number exceeds the number of threads that can wait. */
const ALL = 2 ** 31 - 1;
/** The pause in ms between two looks of {@linkcode Event.doze} where the system has no futex. */
const DOZE_MS = 16;
/** After this time in ms a call that looks again and again lets the event loop go on. */
const TURN_MS = 10;

/** Returns when a timeout ends. It does not read the clock, which is slow, for an infinite timeout. */
function deadlineIn(ms: number): number {
  return ms === Infinity ? Infinity : performance.now() + ms;
}

/** Whether a deadline has passed: the event may be notified during each look, and then no wait finds that out. */
function hasPassed(deadline: number): boolean {
  return deadline !== Infinity && performance.now() >= deadline;
}

/** @throws {TypeError} if the condition returns a promise, which would always count as true */
function isTrue(method: string, condition: () => boolean): boolean {
  const result = condition();
  if (result === true || result === false) return result;
  refuseThenable(
    result,
    `Event.${method}: condition returned a promise, for which it does not wait`,
  );
  return Boolean(result);
}

/** Returns the futex for the sequence of an event; `null` where the system has none. */
function futexOf(slot: Slot): Futex | null {
  const sequence = () => Atomics.load(slot.words, SEQUENCE_WORD) >>> 0;
  return futexFor(slot.words[ID_WORD]! >>> 0, () => slot.isUsable ? sequence() : undefined);
}

/** These options say how to wait for an {@linkcode Event} without blocking the event loop. */
export interface EventWaitOptions extends WaitOptions {
  /**
   * The value of {@linkcode Event.sequence} before the caller looked whether it has to wait. If it is left out, the
   * current value is used.
   */
  readonly since?: number | undefined;
}

/**
 * An event wakes threads, in this process and in others, that wait for a change in the segment. It only says that it
 * is time to look at the segment, and does not say what has changed. So a program may notify too often, and `wait` may
 * return although nothing has changed.
 *
 * No notification is lost between the look and the wait: {@linkcode Event.waitUntil} does both in the right order,
 * and so does `wait` with the {@linkcode Event.sequence} from before the look. If a process is killed while it waits
 * and the notification was for it, the other waiters look by themselves a second later.
 *
 * A waiting thread sleeps in the kernel. Before macOS 14.4 it polls instead, with pauses of at most 16 ms.
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
  /** An event takes this number of bytes. */
  static readonly BYTES = 16;
  /** An event must begin at a multiple of this number of bytes in the segment. */
  static readonly ALIGNMENT = 8;
  /** This text says in the declaration of a layout what lies there: an event, and the version of its bytes. */
  static readonly KIND: string = kindText("Event");
  // `private` and `declare` rather than `#`, for speed: see Slot.

  declare private readonly slot: Slot;
  declare private readonly futex: Futex | null;
  /** The address of the sequence in the form that the futex takes. */
  declare private readonly word: Usize | undefined;
  /** The asynchronous waits of this object, each with the sequence at which it began. */
  readonly #waiters = new Map<Waiter, number>();
  #isServed = false;

  private constructor(slot: Slot) {
    this.slot = slot;
    this.futex = futexOf(slot);
    this.word = this.futex?.address(slot.address(4 * SEQUENCE_WORD));
  }

  /**
   * Creates an event in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where an event begins in the view, in bytes
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
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
   * Returns an object for an event that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where an event begins in the view, in bytes
   * @throws {SyncError} `NotFound` if there is no event, `WrongKind` if the place holds something else, `NotAttached`
   * if the segment is not attached, `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   */
  static at(view: ArrayBufferView, byteOffset = 0): Event {
    const slot = new Slot("Event.at", view, byteOffset, Event.ALIGNMENT);
    slot.join("Event.at", PrimitiveKind.Event, HEADER_BYTES);
    return new Event(slot);
  }

  /**
   * The sequence is an unsigned number of 32 bits that changes with each notification. Pass it to `wait` as `since`.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   */
  get sequence(): number {
    this.slot.requireUsable("sequence");
    return this.now;
  }

  /** The current sequence, without a check that the segment is attached. */
  private get now(): number {
    return Atomics.load(this.slot.words, SEQUENCE_WORD) >>> 0;
  }

  /**
   * Blocks the thread, and so the event loop, until the event is notified.
   *
   * @param timeoutMs how long to wait at most, in ms; for ever if it is left out
   * @param since the sequence before the caller looked whether it has to wait: the call returns at once if there was
   * a notification since then. If it is left out, the current sequence is used
   * @returns `false` if there was no notification in that time
   * @throws {SyncError} `NotAttached` if the segment has been detached
   * @throws {TypeError | RangeError} if `timeoutMs` is not a number of ms, or `since` not a number
   */
  wait(wait: number | EventWaitOptions = Infinity, since?: number): boolean {
    const timeoutMs = timeoutOf("Event.wait", wait, Infinity);
    if (typeof wait === "object") since = wait.since;
    this.slot.requireUsable("wait");
    return this.sleep(this.checkSince("wait", since), deadlineIn(timeoutMs));
  }

  /**
   * Waits like {@linkcode Event.wait} until the event is notified, without blocking the event loop.
   *
   * @returns a promise of `false` if there was no notification within `timeout`, otherwise of `true`. It rejects with
   * the reason of `signal` if the signal is aborted first
   * @throws {SyncError} (rejects) `NotAttached` if the segment has been detached or is detached during the wait
   * @throws {TypeError | RangeError} (rejects) if `timeout` is not a number of ms, or `since` not a number
   * @throws {RangeError} if too little stack is left. As a rule it then throws instead of returning a promise, and
   * nothing has been done
   */
  waitAsync(options: EventWaitOptions = {}): Promise<boolean> {
    requireStack(); // before the promise is created
    return this.waitSinceAsync(options);
  }

  /** Does what `waitAsync()` does, once there is stack for it. */
  private async waitSinceAsync(options: EventWaitOptions): Promise<boolean> {
    const wait = waitOf("Event.waitAsync", options);
    return await this.waitFor("waitAsync", wait, options.since);
  }

  /**
   * Blocks the thread, and so the event loop, until `condition` returns `true`. The call evaluates it at once and after
   * each notification.
   *
   * @param condition tells whether the segment is in the state to wait for; other threads change it and then notify
   * @param timeoutMs how long to wait at most, in ms; for ever if it is left out
   * @returns `false` if `condition` was not true in that time
   * @throws {SyncError} `NotAttached` if the segment has been detached
   * @throws {TypeError | RangeError} if `timeoutMs` is not a number of ms, or `condition` returns a promise
   * @throws any error that `condition` throws
   */
  waitUntil(condition: () => boolean, wait: number | WaitOptions = Infinity): boolean {
    checkFunction("Event.waitUntil", "condition", condition);
    const timeoutMs = timeoutOf("Event.waitUntil", wait, Infinity);
    const deadline = deadlineIn(timeoutMs);
    for (;;) {
      this.slot.requireUsable("waitUntil");
      const since = this.now; // before the look: a notification after it ends the wait
      if (isTrue("waitUntil", condition)) return true;
      this.slot.requireUsable("waitUntil");
      if (!this.sleep(since, deadline) || hasPassed(deadline)) {
        return isTrue("waitUntil", condition);
      }
    }
  }

  /**
   * Waits like {@linkcode Event.waitUntil} until `condition` is true, without blocking the event loop.
   *
   * @returns a promise of `false` if `condition` was not true within `timeout`, otherwise of `true`. It rejects with
   * the reason of `signal` if the signal is aborted first
   * @throws {SyncError} (rejects) `NotAttached` if the segment has been detached or is detached during the wait
   * @throws {TypeError | RangeError} (rejects) if `timeout` is not a number of ms, or `condition` returns a promise
   * @throws (rejects) any error that `condition` throws
   * @throws {RangeError} if too little stack is left. As a rule it then throws instead of returning a promise, and
   * nothing has been done
   */
  waitUntilAsync(condition: () => boolean, options: WaitOptions = {}): Promise<boolean> {
    requireStack(); // before the promise is created
    return this.lookAsync(condition, options);
  }

  /** Does what `waitUntilAsync()` does, once there is stack for it. */
  private async lookAsync(condition: () => boolean, options: WaitOptions): Promise<boolean> {
    checkFunction("Event.waitUntilAsync", "condition", condition);
    const { timeout, signal } = waitOf("Event.waitUntilAsync", options);
    const deadline = performance.now() + timeout;
    for (let turn = performance.now();;) {
      signal?.throwIfAborted();
      this.slot.requireUsable("waitUntilAsync");
      const since = this.now;
      if (isTrue("waitUntilAsync", condition)) return true;
      if (performance.now() - turn >= TURN_MS) { // after the look: the call has made use of what woke it
        await new Promise<void>((resolve) => void setImmediate(resolve));
        turn = performance.now();
      }
      const wait = { timeout: Math.max(0, deadline - performance.now()), signal };
      if (!await this.waitFor("waitUntilAsync", wait, since) || hasPassed(deadline)) {
        return isTrue("waitUntilAsync", condition);
      }
    }
  }

  /** Waits without blocking the event loop; returns `false` after the timeout. */
  private async waitFor(method: string, wait: Wait, before?: number): Promise<boolean> {
    wait.signal?.throwIfAborted();
    this.slot.requireUsable(method);
    const since = this.checkSince(method, before);
    if (this.now !== since) return true;
    if (wait.timeout === 0) return false;
    return await this.#enter(wait, since);
  }

  /**
   * Wakes `count` waiters, or 1 if it is left out. That is enough if only so many can make use of the change. Other
   * waiters may look too, at most a second later, and on Windows at once.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
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
   * Wakes all waiters.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   */
  notifyAll(): void {
    this.wake("notifyAll", ALL);
  }

  /** Changes the sequence and wakes `count` waiters. */
  private wake(method: string, count: number): void {
    this.slot.requireUsable(method);
    // The sequence changes first: the kernel compares it, so a thread that is about to sleep returns at once, and
    // a woken thread sees the change.
    const before = Atomics.add(this.slot.words, SEQUENCE_WORD, 1) >>> 0;
    this.futex?.wake(this.word!, count, before);
  }

  /**
   * @internal Sleeps until the sequence is no longer `since`, for at most 200 ms. It does not keep the program alive.
   *
   * @throws {SyncError} (rejects) `System` if the thread that waits cannot be started
   */
  async doze(since: number): Promise<void> {
    try {
      if (this.futex === null) return await delay(DOZE_MS, false);
      await this.futex.waitInBackground(this.word!, since, BACKGROUND_SLICE_MS, false);
    } catch (error) {
      throw this.#systemError(error);
    }
  }

  #systemError(error: unknown): unknown {
    if (!(error instanceof ThreadError)) return error;
    return new SyncError("System", `Event.waitAsync: ${error.message}`);
  }

  /** Returns the sequence at which a wait begins. */
  private checkSince(method: string, since: number | undefined): number {
    if (since === undefined) return this.now;
    if (typeof since === "number") return since >>> 0;
    throw new TypeError(`Event.${method}: since must be a number, not ${typeof since}`);
  }

  /** Returns `false` after the deadline. It looks every second: the waiter that was woken may have been killed. */
  private sleep(since: number, deadline: number): boolean {
    if (this.now === since) requireStack(); // sleeping opens things
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

  /** Ends a wait that has timed out or was aborted; returns `false` if it was over already. */
  #leave(waiter: Waiter): boolean {
    if (!this.#waiters.delete(waiter)) return false;
    // The background thread that waits for this whole object may have got a wake-up that no call here needs now.
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
        // The segment may be unmapped meanwhile. That does no harm: the kernel only reads the word, if it is mapped.
        if (this.futex === null) await delay(ms = nextPause(ms));
        else await this.futex.waitInBackground(this.word!, now, BACKGROUND_SLICE_MS, true);
      }
    } catch (error) {
      this.#failAll(this.#systemError(error));
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

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: this.slot.isUsable,
      sequence: this.slot.isUsable ? this.now : undefined,
    }));
  }
}

import { checkBoolean, checkOptions } from "../core/arguments.ts";
import { requireStack } from "../core/stack.ts";
import { lengthOf } from "../core/view_extent.ts";
import { checkTimeout, waitOf } from "../core/waiter.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import type { SharedMemory } from "../shared_memory.ts";
import { SyncError } from "../sync/errors.ts";
import { Event } from "../sync/event.ts";
import type { LayoutMember } from "../sync/layout_member.ts";
import { Mutex } from "../sync/mutex.ts";
import { kindText, Slot } from "../sync/slot.ts";
import type { Codec } from "./codecs.ts";
import { notConstructed } from "./common_settings.ts";
import { encodedBy } from "./encoded.ts";
import { openIn } from "./opening.ts";
import { type FailedEntry, Found, LOOK_MS, QueueCore, Sent, type Taken } from "./queue_core.ts";
import { Reason } from "./queue_entry.ts";
import { makeQueueHeader, readQueueHeader } from "./queue_header.ts";
import { type JobOwner, QueueJob } from "./queue_job.ts";
import {
  ACKED,
  CLEARED,
  CLOSED,
  DELAYED,
  DROPPED,
  FAILED,
  LATE,
  LIVE,
  LOOKED,
  QueueLog,
  READY,
  RECEIVED,
  RETRIED,
  RETURNED,
  RUNNING,
  SENT,
} from "./queue_log.ts";
import {
  checkDelay,
  checkMaxAttempts,
  checkMaxRun,
  type QueueSettings,
  queueSettings,
  type ReceiveOptions,
  requireSameQueue,
  type SendAsyncOptions,
  type SendOptions,
  type SharedQueueOpenOptions,
  type SharedQueueOptions,
  type TakeOptions,
  type TrySendOptions,
  type WorkOptions,
} from "./queue_options.ts";
import {
  checkNumber,
  LOG_BYTE,
  MUTEX_BYTE,
  mutexesByte,
  queueBytes,
  type QueueShape,
  queueShape,
  READY_BYTE,
  ROOM_BYTE,
} from "./queue_shape.ts";
import { workOn } from "./queue_work.ts";
import { RECOVERED, UNIT_BYTES } from "./ring_log.ts";
import { isBusy, WaitLine } from "./wait_line.ts";

/** A job that has failed: it was taken `maxAttempts` times, and never done. */
export interface FailedJob<Value> {
  /** The number of the job, as in {@linkcode QueueJob}. */
  readonly id: number;
  /** The value that was sent. If the codec cannot read it, this throws what the codec has thrown. */
  readonly value: Value;
  /** How often it was taken. */
  readonly attempts: number;
  /**
   * What happened last: its handler threw or `retry()` was called, its process or thread ended, or `maxRun` was over.
   */
  readonly reason: "retried" | "died" | "late";
}

/** What `stats()` returns. */
export interface SharedQueueStats {
  /** The number of jobs that can be taken now. */
  readonly ready: number;
  /** The number of jobs that wait for their time. */
  readonly delayed: number;
  /** The number of jobs that were taken, and not acked yet. */
  readonly running: number;
  /** The number of jobs that have failed and are still there. */
  readonly failed: number;
  /** The number of bytes that the values of all these jobs take. */
  readonly bytes: number;
  /** The number of bytes that there are for values. A part of it stays free, so that values can be moved. */
  readonly capacity: number;
  /** The number of jobs that there can be. */
  readonly maxJobs: number;
  /** How many jobs were ever sent. It is the sum of the next four, and of those that are there. */
  readonly sent: number;
  /** How many jobs were acked. */
  readonly acked: number;
  /** How many jobs `receive()` has returned. */
  readonly received: number;
  /** How many failed jobs `clearFailed()` and `takeFailed()` have removed. */
  readonly cleared: number;
  /** How many failed jobs were removed since there were too many of them. */
  readonly dropped: number;
  /** How many jobs were put back by `retry()`, and by handlers that threw. */
  readonly retried: number;
  /** How many jobs were put back because their process or thread had ended. */
  readonly returned: number;
  /** How many jobs were put back because `maxRun` was over. */
  readonly late: number;
  /** How long the job has run that has run for the longest time, in ms; 0 if none runs. */
  readonly oldestRun: number;
  /** How many threads hold jobs. */
  readonly members: number;
  /** How often a process was killed in the middle of a change, and another one has repaired the queue. */
  readonly recovered: number;
}

const ALIGNMENT = 64;

/**
 * A shared queue brings jobs from any number of senders to any number of receivers, in all processes: a fixed number of
 * bytes in a segment. Jobs come in the order in which they were sent, and a value may have any size up to a limit.
 *
 * `receive()` takes a job out of the queue: if the process is killed then, the job is lost. `take()` and `work()` leave it
 * there until it is acked: if the process or the worker thread that has it ends in any way, others get it. That is no
 * timer: a process that is busy or stopped keeps its jobs.
 *
 * @example
 * ```ts
 * import { json, SharedQueue } from "./mod.ts";
 *
 * interface Mail {
 *   to: string;
 * }
 * using mails = SharedQueue.open<Mail>("mails", { bytes: 2 ** 20, codec: json });
 * mails.send({ to: "ann" });
 * mails.close(); // without it, work() waits for more
 * await mails.work({ concurrency: 8 }, async ({ value }) => {
 *   await Promise.resolve(); // send the mail
 *   console.log(value.to); // ann
 * });
 * ```
 */
export class SharedQueue<Value = Uint8Array> implements Disposable {
  /** A queue must begin at a multiple of this number of bytes in the segment. */
  static readonly ALIGNMENT: number = ALIGNMENT;
  // For `declare` and `private`, see Slot.
  declare private readonly core: QueueCore;
  declare private readonly codec: Codec<Value>;
  declare private readonly maxAttempts: number;
  declare private readonly maxRun: number;
  declare private readonly receivers: WaitLine;
  declare private readonly senders: WaitLine;
  declare private readonly owner: JobOwner<Taken, Value>;
  private memory: SharedMemory | null = null;

  private constructor(core: QueueCore, { codec, maxAttempts, maxRun }: QueueSettings<Value>) {
    if (!(core instanceof QueueCore)) throw notConstructed("SharedQueue");
    this.core = core;
    this.codec = codec;
    this.maxAttempts = maxAttempts;
    this.maxRun = maxRun;
    const { slot, events } = core;
    const line = (event: Event, method: string, pause: () => number) =>
      new WaitLine({
        event,
        attachment: slot.attachment,
        pause,
        detached: () => slot.detached(method),
      });
    this.receivers = line(events.ready, "take", () => this.pause());
    this.senders = line(events.room, "sendAsync", () => LOOK_MS);
    const settled = (isOwn: boolean): boolean => {
      core.members.leave();
      return isOwn;
    };
    this.owner = {
      decode: (raw) => codec.decode(raw),
      ack: (job, isPatient) => settled(core.ack("ack", job, isPatient)),
      retry: (job, delay, isPatient) => {
        checkDelay("SharedQueue.retry", delay);
        return settled(core.retry("retry", job, delay, isPatient));
      },
    };
  }

  /**
   * Opens the queue in the segment of a key, and creates it if it does not exist. The queue is detached by `dispose`, and
   * the segment is removed with its last user, unless the options say otherwise.
   *
   * @param options those of the queue and those of `SharedMemory.open()`
   * @throws {SharedMemoryException} as `SharedMemory.open()` does; `InvalidSize` if the queue that exists is smaller
   * @throws {SyncError} as {@linkcode SharedQueue.at} does
   * @throws {TypeError | RangeError} if an option is not what it should be
   */
  static open<Value = Uint8Array>(
    key: string | NativeIpcKey,
    options: SharedQueueOpenOptions<Value>,
  ): SharedQueue<Value> {
    checkOptions("SharedQueue.open", options, "{ bytes: 65_536 }");
    const { bytes, jobBytes, members, codec, maxAttempts, maxRun, lockTimeout, ...others } =
      options;
    const own = { bytes, jobBytes, members, codec, maxAttempts, maxRun, lockTimeout };
    queueSettings("SharedQueue.open", own);
    const [queue, memory] = openIn("SharedQueue.open", key, others, {
      bytes: queueBytes(queueShape("SharedQueue.open", { ...own, bytes: bytes! })),
      create: (view) => void SharedQueue.create(view, 0, own),
      at: (view) => SharedQueue.at(view, 0, own),
      renew: (view) => SharedQueue.renew(view),
    });
    queue.memory = memory;
    return queue;
  }

  /**
   * Returns the number of bytes that a queue takes: at most `options.bytes`.
   *
   * @throws {TypeError | RangeError} if an option is not a number in its range
   */
  static bytesFor<Value>(options: SharedQueueOptions<Value>): number {
    checkOptions("SharedQueue.bytesFor", options, "{ bytes: 65_536 }");
    return queueBytes(queueShape("SharedQueue.bytesFor", { ...options, bytes: options.bytes! }));
  }

  /**
   * Creates an empty queue in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the queue begins in the view, in bytes
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room, or
   * an option is not what it should be
   */
  static create<Value = Uint8Array>(
    view: ArrayBufferView,
    byteOffset: number,
    options: SharedQueueOptions<Value>,
  ): SharedQueue<Value> {
    const call = "SharedQueue.create";
    const settings = queueSettings(call, options);
    const shape = queueShape(call, { ...options, bytes: options.bytes! });
    const slot = new Slot(call, view, byteOffset, ALIGNMENT);
    makeQueueHeader(call, slot, { ...shape, codec: settings.codecName }, () => {
      for (const byte of mutexesOf(shape)) Mutex.create(view, byteOffset + byte);
      Event.create(view, byteOffset + READY_BYTE);
      Event.create(view, byteOffset + ROOM_BYTE);
    });
    return SharedQueue.joined(slot, shape, view, byteOffset, settings);
  }

  /**
   * Returns an object for a queue that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the queue begins in the view, in bytes
   * @param options those that say how the queue is created are compared with it, as far as they are given
   * @throws {SyncError} `NotFound` if there is no queue; `WrongKind` if the place holds something else, if the queue was
   * created with other options, or if it cannot be used in this container; `Damaged` if its header was overwritten;
   * `NotAttached` if the segment is not attached; `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room, or
   * an option is not what it should be
   */
  static at<Value = Uint8Array>(
    view: ArrayBufferView,
    byteOffset = 0,
    options: SharedQueueOptions<Value> = {},
  ): SharedQueue<Value> {
    const call = "SharedQueue.at";
    const settings = queueSettings(call, options);
    const slot = new Slot(call, view, byteOffset, ALIGNMENT);
    const shape = readQueueHeader(call, slot);
    requireSameQueue(call, shape, options, settings);
    return SharedQueue.joined(slot, shape, view, byteOffset, settings);
  }

  /**
   * Makes the locks of a queue anew whose users have all ended: in `adopt` of `SharedMemory.open()`, before another
   * process attaches. The jobs stay, and those that ran are put back. {@linkcode SharedQueue.open} and `layout()` do it
   * where it is needed.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the queue begins in the view, in bytes
   * @throws as {@linkcode SharedQueue.at}, but not for the locks
   */
  static renew(view: ArrayBufferView, byteOffset = 0): void {
    const call = "SharedQueue.renew";
    const slot = new Slot(call, view, byteOffset, ALIGNMENT);
    const shape = readQueueHeader(call, slot);
    for (const byte of mutexesOf(shape)) Mutex.renew(view, byteOffset + byte);
    new QueueLog(slot, shape).totals[LOOKED] = 0; // the first one to take a job looks for those that were lost
  }

  /**
   * Returns a member of a `layout()`: a queue that is created with these options.
   *
   * @param options as for {@linkcode SharedQueue.create}. Those that say how the queue is laid out are part of the layout:
   * programs with others get a `WrongLayout`
   * @throws {TypeError | RangeError} if an option is not what it should be
   *
   * @example
   * ```ts
   * import { layout, SharedQueue, utf8 } from "./mod.ts";
   * import { Counter } from "../sync/mod.ts";
   *
   * const Site = layout({ visits: Counter, mails: SharedQueue.of({ bytes: 65_536, codec: utf8 }) });
   * using site = Site.open("site with mails");
   * site.mails.send("ann");
   * console.log(site.mails.receive()); // ann
   * ```
   */
  static of<Value = Uint8Array>(
    options: SharedQueueOptions<Value>,
  ): LayoutMember<SharedQueue<Value>> {
    const call = "SharedQueue.of";
    const { codecName } = queueSettings(call, options);
    const { units, jobs, members } = queueShape(call, { ...options, bytes: options.bytes! });
    return {
      KIND: kindText(
        "SharedQueue",
        `(${units}, ${jobs}, ${members}, ${
          codecName === "" ? "codec without a name" : JSON.stringify(codecName)
        })`,
      ),
      BYTES: SharedQueue.bytesFor(options),
      ALIGNMENT,
      create: (view, byteOffset) => SharedQueue.create(view, byteOffset, options),
      at: (view, byteOffset) => SharedQueue.at(view, byteOffset, options),
      renew: (view, byteOffset) => SharedQueue.renew(view, byteOffset),
    };
  }

  /** Returns an object for a queue whose header was read. */
  private static joined<Value>(
    slot: Slot,
    shape: QueueShape,
    view: ArrayBufferView,
    byteOffset: number,
    settings: QueueSettings<Value>,
  ): SharedQueue<Value> {
    const events = {
      ready: Event.at(view, byteOffset + READY_BYTE),
      room: Event.at(view, byteOffset + ROOM_BYTE),
    };
    const core = new QueueCore(
      slot,
      shape,
      events,
      (byte) => Mutex.at(view, byteOffset + byte),
      settings.lockTimeout,
    );
    return new SharedQueue(core, settings);
  }

  // Sending.

  /**
   * Sends a value, unless the queue is full. It never waits for that.
   *
   * @returns `false` if there is no room
   * @throws {SyncError} `InvalidSize` if the value takes more than a quarter of the queue's space for values; `Closed` if
   * the queue was closed; `Busy` if another process holds the lock of the queue for all of `lockTimeout`; `NotAttached` if
   * the segment has been detached; `Damaged` if the bytes of the queue were overwritten. Nothing is sent then
   * @throws {TypeError | RangeError} if an option is not what it should be
   * @throws whatever the codec throws
   */
  trySend(value: Value, options?: TrySendOptions): boolean {
    if (options !== undefined) return this.prepare("trySend", value, options).attempt(false);
    const bytes = this.encoded("trySend", value);
    return this.sendNow("trySend", bytes, 0, this.maxAttempts, false);
  }

  /**
   * Sends a value. While the queue is full, it blocks the thread, and so the event loop, for at most `timeout`.
   *
   * @throws {SyncError} `Full` if there is no room in that time; otherwise as {@linkcode SharedQueue.trySend}
   * @throws {TypeError | RangeError} if an option is not what it should be
   * @throws whatever the codec throws
   */
  send(value: Value, options?: SendOptions): void {
    const { timeout = 0 } = options ?? {};
    checkTimeout("SharedQueue.send", timeout);
    const { attempt, length } = this.prepare("send", value, options);
    if (attempt(timeout > 0)) return;
    if (timeout > 0 && this.senders.block(timeout, attempt)) return;
    throw this.full("send", length, timeout);
  }

  /**
   * Sends a value. While the queue is full, it waits without blocking the event loop. The calls of one object send in
   * their order.
   *
   * @throws {SyncError} (rejects) as {@linkcode SharedQueue.send}
   * @throws (rejects) the reason of `signal` if the signal is aborted first, and whatever the codec throws
   * @throws {TypeError | RangeError} (rejects) if an option is not what it should be
   */
  sendAsync(value: Value, options: SendAsyncOptions = {}): Promise<void> {
    requireStack(); // before there is a promise
    return this.sendWaiting(value, options);
  }

  /** Does what `sendAsync()` does, once there is stack for it. */
  private async sendWaiting(value: Value, options: SendAsyncOptions): Promise<void> {
    checkOptions("SharedQueue.sendAsync", options, "{ timeout: 500 }");
    const { ref = true } = options;
    checkBoolean("SharedQueue.sendAsync", "ref", ref);
    const { timeout, signal } = waitOf("SharedQueue.sendAsync", options);
    const { attempt, length } = this.prepare("sendAsync", value, options);
    if (this.senders.isEmpty && attempt(timeout > 0)) return;
    const isSent = timeout > 0 &&
      await this.senders.wait((hasSlept) => attempt(true, hasSlept), { timeout, signal, ref });
    if (!isSent) throw this.full("sendAsync", length, timeout);
  }

  /** Returns a function that tries to send a value, and the number of bytes of the value. */
  private prepare(
    method: string,
    value: Value,
    options: TrySendOptions | undefined,
  ): { attempt(this: void, willWait: boolean, hasSlept?: boolean): boolean; length: number } {
    const call = `SharedQueue.${method}`;
    if (options !== undefined) checkOptions(call, options, "{ delay: 500 }");
    const { delay = 0, maxAttempts = this.maxAttempts } = options ?? {};
    checkDelay(call, delay);
    checkMaxAttempts(call, maxAttempts);
    let bytes = this.encoded(method, value);
    if (method === "sendAsync") bytes = new Uint8Array(bytes); // the program may change them meanwhile
    return {
      attempt: (willWait, hasSlept) =>
        this.sendNow(method, bytes, delay, maxAttempts, willWait, hasSlept),
      length: lengthOf(bytes),
    };
  }

  /** Sends the bytes of a value; returns `false` if there is no room. */
  private sendNow(
    method: string,
    bytes: Uint8Array,
    delay: number,
    maxAttempts: number,
    willWait: boolean,
    hasSlept = false,
  ): boolean {
    const { core } = this;
    const length = lengthOf(bytes);
    if (length > core.log.valueMax) throw this.tooLarge(method, length);
    const most = maxAttempts === Infinity ? 0 : maxAttempts;
    const sent = core.send(method, bytes, length, delay, most, willWait, hasSlept);
    if (sent === Sent.Closed) throw this.closed(method);
    return sent === Sent.Yes;
  }

  // Receiving.

  /**
   * Takes the next value out of the queue. If this process is killed afterwards, nobody has it: use
   * {@linkcode SharedQueue.take} for what must not be lost.
   *
   * @param options with a `timeout`, the call blocks the thread, and so the event loop, for at most that time in ms while
   * there is none, and then for as long as another process holds the lock of the queue
   * @returns `undefined` if there is no value
   * @throws {SyncError} as {@linkcode SharedQueue.trySend}, but not `InvalidSize` and `Closed`
   * @throws {TypeError | RangeError} if an option is not what it should be
   * @throws whatever the codec throws: the value is lost then
   */
  receive(options?: { readonly timeout?: number | undefined }): Value | undefined {
    const { core } = this;
    if (options !== undefined) {
      checkOptions("SharedQueue.receive", options, "{ timeout: 500 }");
    }
    const { timeout = 0 } = options ?? {};
    checkTimeout("SharedQueue.receive", timeout);
    core.require("receive");
    if (timeout === 0 && core.isSurelyEmpty) return undefined;
    let found = core.receive("receive", timeout > 0, false);
    if (found === Found.None && timeout > 0) {
      this.receivers.block(timeout, (willWait) => {
        found = core.receive("receive", willWait, true); // the last attempt is not patient
        return found !== Found.None;
      });
    }
    return found === Found.Job ? this.codec.decode(core.takeValue()) : undefined;
  }

  /**
   * Takes the next value out of the queue, as {@linkcode SharedQueue.receive} does. It waits for one without blocking the
   * event loop, and does not keep the program alive, unless `ref` says so.
   *
   * @returns a promise of the value; of `undefined` after the timeout, or if the queue is closed and empty
   * @throws {SyncError} (rejects) as {@linkcode SharedQueue.receive}
   * @throws (rejects) the reason of `signal` if the signal is aborted first, and whatever the codec throws
   * @throws {TypeError | RangeError} (rejects) if an option is not what it should be
   */
  receiveAsync(options: ReceiveOptions = {}): Promise<Value | undefined> {
    requireStack(); // before there is a promise
    return this.receiveWaiting(options);
  }

  /** Does what `receiveAsync()` does, once there is stack for it. */
  private async receiveWaiting(options: ReceiveOptions): Promise<Value | undefined> {
    const { core } = this;
    let value: Value | undefined;
    await this.wait("SharedQueue.receiveAsync", options, (willWait, hasSlept) => {
      const found = core.receive("receiveAsync", willWait, hasSlept);
      if (found === Found.Job) value = this.codec.decode(core.takeValue());
      return found !== Found.None;
    });
    return value;
  }

  /**
   * Takes the next job, if there is one. It never waits for that.
   *
   * @returns the job; `undefined` if there is none
   * @throws {SyncError} `OutOfResources` if as many threads hold jobs, or look for one, as the queue has `members`; otherwise as
   * {@linkcode SharedQueue.receive}
   * @throws {TypeError | RangeError} if an option is not what it should be
   *
   * @example
   * ```ts
   * import { SharedQueue, utf8 } from "./mod.ts";
   *
   * using names = SharedQueue.open("names to greet", { bytes: 65_536, codec: utf8 });
   * names.send("ann");
   * using job = names.tryTake();
   * if (job !== undefined) {
   *   console.log(`hello ${job.value}`);
   *   job.ack(); // without this, the job is put back
   * }
   * ```
   */
  tryTake(
    options?: { readonly maxRun?: number | undefined },
  ): QueueJob<Value> | undefined {
    if (options !== undefined) {
      checkOptions("SharedQueue.tryTake", options, "{ maxRun: 500 }");
    }
    const { maxRun = this.maxRun } = options ?? {};
    checkMaxRun("SharedQueue.tryTake", maxRun);
    this.core.require("tryTake");
    if (this.core.isSurelyEmpty) return undefined;
    const found = this.takeNow("tryTake", maxRun, false, false);
    return typeof found === "object" ? found : undefined;
  }

  /**
   * Takes the next job. It waits for one without blocking the event loop, and does not keep the program alive, unless
   * `ref` says so.
   *
   * @returns a promise of the job; of `undefined` after the timeout, or if the queue is closed and empty
   * @throws {SyncError} (rejects) as {@linkcode SharedQueue.tryTake}
   * @throws (rejects) the reason of `signal` if the signal is aborted first
   * @throws {TypeError | RangeError} (rejects) if an option is not what it should be
   */
  take(options: TakeOptions = {}): Promise<QueueJob<Value> | undefined> {
    requireStack(); // before there is a promise
    return this.takeWaiting(options);
  }

  /** Does what `take()` does, once there is stack for it. */
  private async takeWaiting(options: TakeOptions): Promise<QueueJob<Value> | undefined> {
    checkOptions("SharedQueue.take", options, "{ timeout: 500 }");
    const { maxRun = this.maxRun } = options;
    checkMaxRun("SharedQueue.take", maxRun);
    let job: QueueJob<Value> | undefined;
    await this.wait("SharedQueue.take", options, (willWait, hasSlept) => {
      const found = this.takeNow("take", maxRun, willWait, hasSlept);
      if (typeof found === "object") job = found;
      return found !== Found.None;
    });
    return job;
  }

  /**
   * Calls `fn` with one job after the other, up to `concurrency` at once. A job is acked when the promise of `fn` is
   * fulfilled. If `fn` throws, the job is taken again after `backoff`; if it was taken `maxAttempts` times, it has failed.
   * `fn` may also call `ack()` and `retry()` itself. While as many threads hold jobs as the queue has `members`, it waits,
   * after a warning of the process.
   *
   * @returns a promise that is fulfilled when `signal` was aborted, or the queue was closed and is empty, and all calls of
   * `fn` are over
   * @throws {SyncError} (rejects) as {@linkcode SharedQueue.receive}
   * @throws {TypeError | RangeError} (rejects) if an argument or option is not what it should be
   */
  work(
    options: WorkOptions<QueueJob<Value>>,
    fn: (job: QueueJob<Value>) => unknown,
  ): Promise<void> {
    requireStack(); // before there is a promise
    return workOn(this, options, fn);
  }

  /** Tries to take a job. */
  private takeNow(
    method: string,
    maxRun: number,
    willWait: boolean,
    hasSlept: boolean,
  ): QueueJob<Value> | Found {
    const { core } = this;
    const { members } = core;
    if (!members.enter()) {
      members.leave();
      throw members.areOverwritten ? core.overwritten(method) : this.tooMany(method);
    }
    let isTaken = false;
    try {
      const found = core.take(method, maxRun, willWait, hasSlept);
      isTaken = found === Found.Job;
      return isTaken ? new QueueJob<Value>(core.takeJob(), this.owner) : found;
    } finally {
      if (!isTaken) members.leave();
    }
  }

  /** Waits in the line of receivers until `attempt` returns `true`; returns `false` after the timeout. */
  private async wait(
    call: string,
    options: ReceiveOptions,
    attempt: (willWait: boolean, hasSlept: boolean) => boolean,
  ): Promise<boolean> {
    checkOptions(call, options, "{ timeout: 500 }");
    const { ref = false } = options;
    checkBoolean(call, "ref", ref);
    const { timeout, signal } = waitOf(call, options);
    this.core.require(call.replace(/.*\./, ""));
    if (timeout === 0) return this.receivers.isEmpty && attempt(false, false);
    let wasBusy = false; // then the call has blocked the thread for all of `lockTimeout`
    try {
      if (this.receivers.isEmpty && attempt(true, false)) return true;
    } catch (error) {
      if (!isBusy(error)) throw error;
      wasBusy = true;
    }
    return await this.receivers.wait((hasSlept) => attempt(true, hasSlept || wasBusy), {
      timeout,
      signal,
      ref,
    });
  }

  /** Returns after which time in ms a receiver looks again. */
  private pause(): number {
    const { nextTime, clock } = this.core;
    if (nextTime === Infinity) return LOOK_MS;
    return Math.min(LOOK_MS, Math.max(1, Math.ceil(nextTime - clock.now())));
  }

  // Jobs that have failed.

  /**
   * Returns the jobs that have failed, the oldest one first. They stay.
   *
   * @param limit the largest number of jobs to return; all if left out
   * @throws {SyncError} as {@linkcode SharedQueue.receive}
   * @throws {TypeError | RangeError} if `limit` is not a number of jobs
   */
  failed(limit = Infinity): FailedJob<Value>[] {
    if (limit !== Infinity) {
      checkNumber("SharedQueue.failed", "limit", limit, 0, Number.MAX_SAFE_INTEGER);
    }
    return this.core.failed("failed", limit).map((entry) => this.failedJob(entry));
  }

  /**
   * Removes the job that failed first, and returns it; `undefined` if none has failed.
   *
   * @throws {SyncError} as {@linkcode SharedQueue.receive}
   */
  takeFailed(): FailedJob<Value> | undefined {
    const [entry] = this.core.clearFailed("takeFailed", undefined, 1);
    return entry === undefined ? undefined : this.failedJob(entry);
  }

  /**
   * Makes failed jobs ready again, as if they had never been taken.
   *
   * @param id the one job to put back; all if left out
   * @returns the number of jobs
   * @throws {SyncError} as {@linkcode SharedQueue.receive}
   * @throws {TypeError | RangeError} if `id` is not the number of a job
   */
  retryFailed(id?: number): number {
    checkId("retryFailed", id);
    return this.core.retryFailed("retryFailed", id);
  }

  /**
   * Removes failed jobs.
   *
   * @param id the one job to remove; all if left out
   * @returns the number of jobs
   * @throws {SyncError} as {@linkcode SharedQueue.receive}
   * @throws {TypeError | RangeError} if `id` is not the number of a job
   */
  clearFailed(id?: number): number {
    checkId("clearFailed", id);
    return this.core.clearFailed("clearFailed", id, Infinity).length;
  }

  /** Returns what programs see of a failed job. */
  private failedJob({ id, attempts, reason: number, raw }: FailedEntry): FailedJob<Value> {
    const reason = number === Reason.Died ? "died" : number === Reason.Late ? "late" : "retried";
    try {
      return { id, value: this.codec.decode(raw), attempts, reason };
    } catch (error) {
      return {
        id,
        get value(): never {
          throw error;
        },
        attempts,
        reason,
      };
    }
  }

  // The whole queue.

  /**
   * Closes the queue, for all processes and for good: nobody can send any more. Who waits to send gets an error. Receivers
   * get what is left, and `undefined` when nothing is.
   *
   * @throws {SyncError} as {@linkcode SharedQueue.receive}
   */
  close(): void {
    this.core.close("close");
  }

  /** Whether the queue was closed. @throws {SyncError} `NotAttached` if the segment has been detached */
  get isClosed(): boolean {
    this.core.require("isClosed");
    return this.core.word(CLOSED) !== 0;
  }

  /**
   * The number of jobs that wait: those that are ready, and those that are delayed.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   */
  get length(): number {
    this.core.require("length");
    return this.core.word(READY.count) + this.core.word(DELAYED);
  }

  /**
   * Returns numbers about the queue, of all processes, as they are at one moment.
   *
   * @throws {SyncError} as {@linkcode SharedQueue.receive}
   */
  stats(): SharedQueueStats {
    const { core } = this;
    return core.read("stats", (oldest, members) => ({
      ready: core.word(READY.count),
      delayed: core.word(DELAYED),
      running: core.word(RUNNING.count),
      failed: core.word(FAILED.count),
      bytes: core.word(LIVE) * UNIT_BYTES,
      capacity: core.log.units * UNIT_BYTES,
      maxJobs: core.log.jobs,
      sent: core.total(SENT),
      acked: core.total(ACKED),
      received: core.total(RECEIVED),
      cleared: core.total(CLEARED),
      dropped: core.total(DROPPED),
      retried: core.total(RETRIED),
      returned: core.total(RETURNED),
      late: core.total(LATE),
      oldestRun: oldest === Infinity ? 0 : Math.max(0, core.clock.now() - oldest),
      members,
      recovered: core.word(RECOVERED),
    }));
  }

  /**
   * Ends the lifetime `"until-removed"` of a queue that {@linkcode SharedQueue.open} has opened: `SharedMemory.remove()`.
   * From now on the last process to detach removes the queue.
   *
   * @throws {SharedMemoryException} as `SharedMemory.remove()` does
   * @throws {SyncError} `NotOwner` if the queue was not opened by `open()`: its segment belongs to the program
   */
  remove(): void {
    if (this.memory !== null) return this.memory.remove();
    throw new SyncError(
      "NotOwner",
      "SharedQueue.remove: the queue was not opened by SharedQueue.open(); call remove() of its SharedMemory",
    );
  }

  /**
   * Detaches the queue if `open()` has attached it: jobs that were taken through this object and not acked are put back.
   * Otherwise it does nothing: the program detaches its segment.
   */
  [Symbol.dispose](): void {
    this.memory?.[Symbol.dispose]();
  }

  /** Returns the bytes of a value. */
  private encoded(method: string, value: Value): Uint8Array {
    return encodedBy("SharedQueue", method, this.codec, value);
  }

  /** Returns the error for a value that no queue of this size can have. */
  private tooLarge(method: string, length: number): SyncError {
    const { valueMax, units } = this.core.log;
    return new SyncError(
      "InvalidSize",
      `SharedQueue.${method}: the value has ${length} bytes, and a value may have at most ${valueMax} of the ` +
        `${units * UNIT_BYTES} bytes for values; give the queue more bytes`,
    );
  }

  /** Returns the error for a value for which there was no room. */
  private full(method: string, length: number, timeout: number): SyncError {
    const { core } = this;
    const { log } = core;
    const count = core.word(READY.count) + core.word(DELAYED) + core.word(RUNNING.count) +
      core.word(FAILED.count);
    return new SyncError(
      "Full",
      `SharedQueue.${method}: there was no room for ${length} bytes for ${timeout} ms: the ${count} jobs in the queue (at ` +
        `most ${log.jobs}) take ${core.word(LIVE) * UNIT_BYTES} of ${
          log.units * UNIT_BYTES
        } bytes, of which a part ` +
        "stays free; let more receivers run, or give the queue more bytes",
    );
  }

  /** Returns the error for sending to a queue that was closed. */
  private closed(method: string): SyncError {
    return new SyncError("Closed", `SharedQueue.${method}: the queue was closed by close()`);
  }

  /** Returns the error for a thread for which there is no slot. */
  private tooMany(method: string): SyncError {
    return new SyncError(
      "OutOfResources",
      `SharedQueue.${method}: ${this.core.members.count} threads hold jobs, or look for one, as many as the queue has members; ` +
        "create it with more members",
    );
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => {
      const isUsable = this.core.slot.isIntact;
      return { attached: isUsable, length: isUsable ? this.length : undefined };
    });
  }
}

/** @throws {TypeError | RangeError} if `id` is not the number of a job, nor left out */
function checkId(method: string, id: unknown): void {
  if (id === undefined) return;
  checkNumber(`SharedQueue.${method}`, "the id of a job", id, 1, Number.MAX_SAFE_INTEGER);
}

/** Returns where the mutexes of a queue begin. */
function mutexesOf(shape: QueueShape): number[] {
  const first = LOG_BYTE + mutexesByte(shape);
  const members = Array.from({ length: shape.members }, (_, i) => first + i * Mutex.BYTES);
  return [MUTEX_BYTE, ...members];
}

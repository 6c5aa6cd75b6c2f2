import { type Clock, sharedClock } from "../backends/clock.ts";
import type { Bytes } from "../core/view_types.ts";
import { SyncError } from "../sync/errors.ts";
import type { Event } from "../sync/event.ts";
import { Mutex } from "../sync/mutex.ts";
import type { Slot } from "../sync/slot.ts";
import { Members } from "./members.ts";
import {
  attemptOf,
  ATTEMPTS_MAX,
  GENERATION,
  ID,
  LENGTH,
  memberOf,
  MOST,
  REASON,
  Reason,
  State,
  stateWord,
  TIME,
  UNTIL,
} from "./queue_entry.ts";
import {
  ACKED,
  CLEARED,
  CLOSED,
  DELAYED,
  FAILED,
  LATE,
  LOOKED,
  QueueLog,
  READY,
  RECEIVED,
  RECEIVERS,
  RETRIED,
  RETURNED,
  RUNNING,
  SENDERS,
  SENT,
  SOONEST,
  unitsFor,
} from "./queue_log.ts";
import { recoverQueue } from "./queue_recovery.ts";
import { makeRoom, NO_ROOM } from "./queue_room.ts";
import { LOG_BYTE, MUTEX_BYTE, mutexesByte, type QueueShape } from "./queue_shape.ts";
import { DamagedLog, WRITER } from "./ring_log.ts";
import { SectionLock, type SectionMutex } from "./section_lock.ts";
import { ValuePool } from "./value_pool.ts";
import { AGAIN_MS } from "./wait_line.ts";

/** Somebody looks at least so often, in ms, whether the members that hold jobs live. */
export const LOOK_MS = 1000;
/** A receiver that takes no time looks after this number of jobs. */
export const LOOK_JOBS = 256;

/** What became of a value that was to be sent. */
export const Sent = { Yes: 0, Full: 1, Closed: 2 } as const;
export type Sent = typeof Sent[keyof typeof Sent];

/** What a receiver has found: a job, nothing for now, or nothing any more, since the queue is closed and empty. */
export const Found = { Job: 0, None: 1, End: 2 } as const;
export type Found = typeof Found[keyof typeof Found];

/** A job that this process has taken, as its entry in the table was then. */
export interface Taken {
  readonly entry: number;
  readonly id: number;
  readonly attempt: number;
  /** The state word, and the generation of the member. */
  readonly word: number;
  readonly generation: number;
  /** As in the entry: a job that was late, has failed and was retried may be taken again with the same word. */
  readonly until: number;
  readonly most: number;
  readonly raw: Bytes;
}

/** A job that has failed. */
export interface FailedEntry {
  readonly id: number;
  readonly attempts: number;
  readonly reason: number;
  /** When it failed, by the clock. */
  readonly time: number;
  readonly raw: Bytes;
}

/** What wakes those that sleep: the event for receivers, and the one for senders. */
interface QueueEvents {
  readonly ready: Event;
  readonly room: Event;
}

/** Why somebody is to be woken after a change. */
const [ONE_RECEIVER, ALL_RECEIVERS, ALL_SENDERS] = [1, 2, 4];

/**
 * The changes of a queue. Each of them holds the lock of the queue, and calls no code of the program meanwhile. Who finds
 * nothing and is going to sleep notes that under the lock, in `RECEIVERS` or `SENDERS`. So who makes the change that it
 * waits for knows that somebody has to be woken; it clears the note, and wakes after the lock is released. A receiver
 * that has slept sets the note again, since others may sleep, and passes the wake on if there are more jobs.
 */
export class QueueCore {
  // For `declare`, see Slot.
  declare readonly slot: Slot;
  declare readonly log: QueueLog;
  declare readonly members: Members;
  declare readonly events: QueueEvents;
  declare private readonly lock: SectionLock;
  declare private readonly lockTimeout: number;
  declare private readonly pool: ValuePool;
  private clockOfSystem: Clock | null = null;
  private toWake = 0;
  /** How many jobs were received since this object looked at the members. */
  private unlooked = 0;
  /** When this object, which found no room, has checked last whether that is so. */
  private checked = -Infinity;
  /** When there may be a job for whom has found none: by the clock; `Infinity` if that is not known. */
  nextTime = Infinity;

  // The arguments and results of the current change: functions that are made once read them.
  declare private readonly sendLocked: () => Sent;
  declare private readonly receiveLocked: () => Found;
  declare private readonly takeLocked: () => Found;
  declare private readonly ackLocked: () => boolean;
  private value: Uint8Array = new Uint8Array(0);
  private length = 0;
  private delay = 0;
  private most = 0;
  private maxRun = 0;
  private willWait = false;
  private hasSlept = false;
  private received: Bytes | null = null;
  private taken: Taken | null = null;

  constructor(
    slot: Slot,
    shape: QueueShape,
    events: QueueEvents,
    joinMutex: (byte: number) => SectionMutex,
    lockTimeout: number,
  ) {
    this.slot = slot;
    this.events = events;
    const log = this.log = new QueueLog(slot, shape);
    this.lockTimeout = lockTimeout;
    this.pool = new ValuePool();
    const mutexes = LOG_BYTE + mutexesByte(shape);
    this.members = new Members(
      log.generations,
      (member) => joinMutex(mutexes + member * Mutex.BYTES),
    );
    this.lock = new SectionLock({
      words: log.words,
      recover: () => recoverQueue(log),
      reset: () => log.reset(),
      name: slot.name,
      part: "the queue",
    }, joinMutex(MUTEX_BYTE));
    this.sendLocked = () => this.sendHere();
    this.receiveLocked = () => this.receiveHere();
    this.takeLocked = () => this.takeHere();
    this.ackLocked = () => this.ackHere();
  }

  /** The clock by which delayed jobs wait. */
  get clock(): Clock {
    return this.clockOfSystem ??= sharedClock();
  }

  /** @throws {SyncError} if the queue was detached, or if its header was overwritten */
  require(method: string): void {
    if (this.slot.isIntact) return;
    this.slot.requireUsable(method);
    throw this.overwritten(method);
  }

  /** Returns the error for a queue whose bytes cannot be repaired. */
  overwritten(method: string): SyncError {
    return new SyncError(
      "Damaged",
      `${this.slot.name}.${method}: the queue has been overwritten; create it again when no process uses it`,
    );
  }

  /** @param isPatient whether the caller tries again if the lock is held: it does not block its thread for long then */
  private change<Result>(method: string, locked: () => Result, isPatient = false): Result {
    this.require(method);
    this.toWake = 0;
    const result = this.lock.change(
      method,
      isPatient ? Math.min(this.lockTimeout, AGAIN_MS) : this.lockTimeout,
      locked,
    );
    if (this.toWake !== 0) this.wake();
    return result;
  }

  private wake(): void {
    const { events: { ready, room }, toWake } = this;
    if ((toWake & ALL_RECEIVERS) !== 0) ready.notifyAll();
    else if ((toWake & ONE_RECEIVER) !== 0) ready.notify();
    if ((toWake & ALL_SENDERS) !== 0) room.notifyAll();
  }

  /** Lets a receiver be woken after the change, if one sleeps and there is a job. */
  private tellReceivers(isSooner = false): void {
    const { words } = this.log;
    if (words[RECEIVERS] === 0 || (words[READY.count] === 0 && !isSooner)) return;
    words[RECEIVERS] = 0;
    this.toWake |= ONE_RECEIVER;
  }

  /** Lets senders be woken after the change, if they sleep: a job has ended. */
  private tellOfEnd(): void {
    const { words } = this.log;
    if (words[SENDERS] !== 0) {
      words[SENDERS] = 0;
      this.toWake |= ALL_SENDERS;
    }
    if (words[CLOSED] !== 0 && this.isDrained) this.toWake |= ALL_RECEIVERS;
  }

  /** Whether there is no job any more that can be taken, now or later. */
  private get isDrained(): boolean {
    const { words } = this.log;
    return words[READY.count] === 0 && words[DELAYED] === 0 && words[RUNNING.count] === 0;
  }

  // Sending.

  /**
   * Adds a job.
   *
   * @param delay after which time in ms it is ready
   * @param most how often it may be taken, 0 for ever
   * @param willWait whether the caller sleeps if there is no room
   */
  send(
    method: string,
    value: Uint8Array,
    length: number,
    delay: number,
    most: number,
    willWait: boolean,
    hasSlept = false,
  ): Sent {
    this.value = value;
    this.length = length;
    this.delay = delay;
    this.most = most;
    this.willWait = willWait;
    return this.change(method, this.sendLocked, hasSlept && willWait);
  }

  private sendHere(): Sent {
    const { log, length } = this;
    const { totals, words } = log;
    if (words[CLOSED] !== 0) return Sent.Closed;
    const entry = log.freeEntry();
    const position = entry === -1 ? NO_ROOM : makeRoom(log, unitsFor(length));
    if (position === NO_ROOM) {
      const now = this.clock.now();
      if (now - this.checked >= LOOK_MS) {
        this.checked = now;
        log.requireCounts();
      }
      this.returnLost(now);
      this.tellReceivers();
      if (this.willWait) words[SENDERS] = 1;
      return Sent.Full;
    }
    const id = totals[SENT]! + 1;
    log.writeRecord(position, entry, this.value, length);
    log.writeEntry(entry, position, length, this.most, id);
    log.useEntry(entry);
    if (this.delay > 0) {
      log.makeDelayed(entry, 0, this.clock.now() + this.delay);
      this.tellReceivers(log.heap[0] === entry);
    } else {
      log.makeReady(entry, 0);
      this.tellReceivers();
    }
    totals[SENT] = id;
    log.count(entry, 1);
    return Sent.Yes;
  }

  // Receiving.

  /**
   * Whether there is certainly no job: without the lock. A job that is running may be one whose member has ended, and a
   * delayed one may have become ready.
   */
  get isSurelyEmpty(): boolean {
    const { words } = this.log;
    // The plain load comes first, as it takes less time. If an engine reuses what it loaded before, nothing is missed.
    return words[READY.count] === 0 && Atomics.load(words, READY.count) === 0 &&
      words[DELAYED] === 0 &&
      words[RUNNING.count] === 0 && words[CLOSED] === 0 && words[WRITER] === 0;
  }

  /**
   * Takes a job out of the queue; its value is then in `takeValue()`.
   *
   * @param willWait whether the caller sleeps if there is no job
   * @param hasSlept whether the caller has slept
   */
  receive(method: string, willWait: boolean, hasSlept: boolean): Found {
    this.willWait = willWait;
    this.hasSlept = hasSlept;
    return this.change(method, this.receiveLocked, hasSlept && willWait);
  }

  /** Returns the value that was received. */
  takeValue(): Bytes {
    const { received } = this;
    this.received = null;
    return received!;
  }

  private receiveHere(): Found {
    const { log } = this;
    const isToLook = ++this.unlooked >= LOOK_JOBS;
    const entry = this.nextReady(isToLook);
    if (entry === -1) return this.nothing();
    this.received = this.valueOf(entry);
    log.unlink(READY, entry);
    log.finish(entry, RECEIVED);
    this.afterTake();
    this.tellOfEnd();
    return Found.Job;
  }

  /**
   * Takes a job for this member, which has entered; it is then in `takeJob()`.
   *
   * @param maxRun the time in ms after which others may have the job although this member lives
   */
  take(method: string, maxRun: number, willWait: boolean, hasSlept: boolean): Found {
    this.maxRun = maxRun;
    this.willWait = willWait;
    this.hasSlept = hasSlept;
    return this.change(method, this.takeLocked, hasSlept && willWait);
  }

  /** Returns the job that was taken. */
  takeJob(): Taken {
    const { taken } = this;
    this.taken = null;
    return taken!;
  }

  private takeHere(): Found {
    const { log, maxRun, members: { slot, generation } } = this;
    const now = this.clock.now();
    const entry = this.nextReady(now - log.totals[LOOKED]! >= LOOK_MS);
    if (entry === -1) return this.nothing();
    const raw = this.valueOf(entry);
    const attempt = Math.min(attemptOf(log.state(entry)) + 1, ATTEMPTS_MAX);
    const word = stateWord(State.Running, attempt, slot);
    const until = maxRun === Infinity ? 0 : now + maxRun;
    log.setWord(entry, GENERATION, generation);
    log.setNumber(entry, TIME, now);
    log.setNumber(entry, UNTIL, until);
    log.unlink(READY, entry);
    log.push(RUNNING, entry);
    log.setState(entry, word); // last: what is overwritten is found before the job is taken
    this.noteUntil(until);
    this.afterTake();
    const [id, most] = [log.number(entry, ID), log.word(entry, MOST)];
    this.taken = { entry, id, attempt, word, generation, until, most, raw };
    return Found.Job;
  }

  private noteUntil(until: number): void {
    const { totals } = this.log;
    if (until !== 0 && !(totals[SOONEST]! > 0 && totals[SOONEST]! <= until)) {
      totals[SOONEST] = until;
    }
  }

  /** Returns the job that is next, -1 if there is none. */
  private nextReady(isToLook: boolean): number {
    const { log } = this;
    if (isToLook) this.returnLost(this.clock.now());
    if (log.words[DELAYED] !== 0) log.promote(this.clock.now());
    const entry = log.first(READY, State.Ready);
    if (entry !== -1 || isToLook || log.words[RUNNING.count] === 0) return entry;
    this.returnLost(this.clock.now());
    return log.first(READY, State.Ready);
  }

  /** Notes that this caller has found nothing. */
  private nothing(): Found {
    const { totals, words } = this.log;
    if (words[READY.count] !== 0) throw new DamagedLog(); // the list is empty
    if (words[CLOSED] !== 0 && this.isDrained) return Found.End;
    if (!this.willWait) return Found.None;
    words[RECEIVERS] = 1;
    const delayed = this.log.firstDelayed();
    const late = words[RUNNING.count] !== 0 && totals[SOONEST]! > 0 ? totals[SOONEST]! : Infinity;
    this.nextTime = Math.min(delayed === -1 ? Infinity : this.log.number(delayed, TIME), late);
    return Found.None;
  }

  /** Notes that others may sleep, if this caller has slept, and passes the wake on if there are more jobs. */
  private afterTake(): void {
    if (this.hasSlept) this.log.words[RECEIVERS] = 1;
    this.tellReceivers();
  }

  private valueOf(entry: number): Bytes {
    const { log } = this;
    return this.pool.copy(log.bytes, log.data, log.valueWord(entry), log.word(entry, LENGTH));
  }

  // Jobs that were taken.

  /** Whether a job that was taken is still that of its member. */
  private isHeld({ entry, id, word, generation, until }: Taken): boolean {
    const { log } = this;
    return log.state(entry) === word && log.number(entry, ID) === id &&
      log.word(entry, GENERATION) === generation && log.number(entry, UNTIL) === until;
  }

  /** Ends a job; returns `false` if it is no longer that of its member. @param isPatient as for `change()` */
  ack(method: string, job: Taken, isPatient = false): boolean {
    this.taken = job;
    const isDone = this.change(method, this.ackLocked, isPatient);
    this.taken = null;
    return isDone;
  }

  private ackHere(): boolean {
    const { log } = this;
    const job = this.taken!;
    if (!this.isHeld(job)) return false;
    log.unlink(RUNNING, job.entry);
    log.finish(job.entry, ACKED);
    this.tellOfEnd();
    return true;
  }

  /** Puts a job back that is to be taken again after `delay`; returns `false` if it is no longer that of its member. */
  retry(method: string, job: Taken, delay: number, isPatient = false): boolean {
    return this.change(method, () => {
      if (!this.isHeld(job)) return false;
      this.log.totals[RETRIED]!++;
      this.putBack(job.entry, Reason.Retried, this.clock.now(), delay);
      return true;
    }, isPatient);
  }

  private putBack(entry: number, reason: number, now: number, delay: number): void {
    const { log } = this;
    const attempt = attemptOf(log.state(entry));
    const most = log.word(entry, MOST);
    log.unlink(RUNNING, entry);
    log.setReason(entry, reason);
    if (most > 0 && attempt >= most) {
      log.makeFailed(entry, attempt, now);
      this.tellOfEnd();
    } else if (delay > 0) {
      log.makeDelayed(entry, attempt, now + delay);
      this.tellReceivers(log.heap[0] === entry);
    } else {
      log.makeReady(entry, attempt, reason !== Reason.Retried);
      this.tellReceivers();
    }
  }

  /** Puts jobs back whose member has ended, or whose time is over. They come before all others. */
  private returnLost(now: number): void {
    const { log, members } = this;
    const { totals } = log;
    this.unlooked = 0;
    totals[LOOKED] = now;
    const living = new Map<number, boolean>();
    const lost: { entry: number; id: number; reason: number }[] = [];
    let soonest = Infinity;
    let left = log.jobs;
    for (
      let entry = log.first(RUNNING, State.Running);
      entry !== -1;
      entry = log.after(entry, State.Running)
    ) {
      if (left-- === 0) throw new DamagedLog();
      const member = memberOf(log.state(entry));
      const generation = log.word(entry, GENERATION);
      let isLiving = false;
      if (log.generations[member] === generation) {
        isLiving = living.get(member) ?? members.isLiving(member, generation);
        living.set(member, isLiving);
      }
      const until = log.number(entry, UNTIL);
      const late = until > 0 && until <= now ? Reason.Late : Reason.None;
      const reason = isLiving ? late : Reason.Died;
      if (reason !== Reason.None) lost.push({ entry, id: log.number(entry, ID), reason });
      else if (until > 0) soonest = Math.min(soonest, until);
    }
    if (log.jobs - left !== log.words[RUNNING.count]) throw new DamagedLog();
    totals[SOONEST] = soonest;
    // The one that was sent first comes first again.
    lost.sort((a, b) => b.id - a.id);
    for (const { entry, reason } of lost) {
      totals[reason === Reason.Died ? RETURNED : LATE]!++;
      this.putBack(entry, reason, now, 0);
    }
  }

  // Jobs that have failed.

  /** Returns the jobs that have failed, the oldest one first. */
  failed(method: string, limit: number): FailedEntry[] {
    return this.change(method, () => this.visitFailed(limit, () => true));
  }

  /** Makes failed jobs ready again, as if they had never been taken; returns their number. */
  retryFailed(method: string, id: number | undefined): number {
    return this.endFailed(method, id, Infinity, (entry) => {
      const { log } = this;
      log.setReason(entry, Reason.None);
      log.makeReady(entry, 0);
      this.tellReceivers();
    }).length;
  }

  /** Removes failed jobs, the oldest ones first, and returns them. */
  clearFailed(method: string, id: number | undefined, limit: number): FailedEntry[] {
    return this.endFailed(method, id, limit, (entry) => {
      this.log.finish(entry, CLEARED);
      this.tellOfEnd();
    });
  }

  private endFailed(
    method: string,
    id: number | undefined,
    limit: number,
    end: (entry: number) => void,
  ): FailedEntry[] {
    return this.change(method, () => {
      const { log } = this;
      const entries: number[] = [];
      const failed = this.visitFailed(limit, (entry) => {
        if (id !== undefined && log.number(entry, ID) !== id) return false;
        entries.push(entry);
        return true;
      });
      for (const entry of entries) {
        log.unlinkFailed(entry);
        end(entry);
      }
      return failed;
    });
  }

  private visitFailed(limit: number, isWanted: (entry: number) => boolean): FailedEntry[] {
    const { log } = this;
    const failed: FailedEntry[] = [];
    let left = log.jobs;
    for (
      let entry = log.first(FAILED, State.Failed);
      entry !== -1 && failed.length < limit;
      entry = log.after(entry, State.Failed)
    ) {
      if (left-- === 0) throw new DamagedLog();
      if (!isWanted(entry)) continue;
      failed.push({
        id: log.number(entry, ID),
        attempts: attemptOf(log.state(entry)),
        reason: log.word(entry, REASON),
        time: log.number(entry, TIME),
        raw: this.valueOf(entry),
      });
    }
    return failed;
  }

  // The whole queue.

  /** Lets nobody send any more, and wakes all. */
  close(method: string): void {
    this.change(method, () => {
      const { words } = this.log;
      words[CLOSED] = 1;
      words[RECEIVERS] = words[SENDERS] = 0;
      this.toWake = ALL_RECEIVERS | ALL_SENDERS;
    });
  }

  /** Returns a word or a total without the lock. */
  word(index: number): number {
    return Atomics.load(this.log.words, index);
  }

  total(index: number): number {
    return this.log.totals[index]!;
  }

  /**
   * Calls `read` with the lock held, so that what it reads belongs together.
   *
   * @param read gets the time when the job was taken that has run for the longest time, `Infinity` if none runs, and how
   * many members hold jobs
   */
  read<Result>(method: string, read: (oldest: number, members: number) => Result): Result {
    return this.change(method, () => {
      const { log } = this;
      const members = new Set<number>();
      let oldest = Infinity;
      let left = log.jobs;
      for (
        let entry = log.first(RUNNING, State.Running);
        entry !== -1;
        entry = log.after(entry, State.Running)
      ) {
        if (left-- === 0) throw new DamagedLog();
        members.add(memberOf(log.state(entry)));
        oldest = Math.min(oldest, log.number(entry, TIME));
      }
      return read(oldest, members.size);
    });
  }
}

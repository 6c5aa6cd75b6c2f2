/** Shared queues in shared bytes: who sends and takes jobs, and what becomes of each. */
import { Found, QueueCore, Sent } from "../../collections/queue_core.ts";
import { State, stateOf } from "../../collections/queue_entry.ts";
import { ACKED, CLEARED, DROPPED, RECEIVED, SENT } from "../../collections/queue_log.ts";
import {
  LOG_BYTE,
  MUTEX_BYTE,
  mutexesByte,
  queueBytes,
  type QueueShape,
} from "../../collections/queue_shape.ts";
import type { SectionMutex } from "../../collections/section_lock.ts";
import type { Event } from "../../sync/event.ts";
import { Mutex } from "../../sync/mutex.ts";
import { PrimitiveKind, Slot } from "../../sync/slot.ts";
import { makeMutex, mutexAt } from "./owner_mutex.ts";
import type { Ending } from "./scenario.ts";
import type { SharedBytes } from "./shared_bytes.ts";
import {
  beforeAllTimes,
  expect,
  FreeMutex,
  LOCK_MS,
  numberOf,
  setClock,
  value,
} from "./shared_maps.ts";

const CALL = "SharedQueue.at";
/** The clock stands still, so late that each taker looks for members that have ended. */
const NOW = 5000;
/** Longer than any program runs. */
const LONG_MS = 1e6;
const MEMBERS = 2;
/** For each job, a word that says which processes have begun it, and one that says which have ended it. */
const JOBS_MAX = 8;
const [BEGUN, ENDED] = [0, JOBS_MAX];
const NOTES = 2 * JOBS_MAX;

/** What a process has of a queue. */
class Joined {
  readonly core: QueueCore;
  /** Words after the queue, in which processes note what they have done. */
  readonly notes: Int32Array;

  constructor(view: Uint8Array, shape: QueueShape, joinMutex: (byte: number) => SectionMutex) {
    const slot = new Slot(CALL, view, 0, 64);
    slot.join(CALL, PrimitiveKind.SharedQueue, queueBytes(shape));
    this.notes = slot.view(Int32Array, queueBytes(shape), NOTES);
    this.core = new QueueCore(slot, shape, { ready: NOBODY, room: NOBODY }, joinMutex, LOCK_MS);
  }

  send(number: number, delay = 0, most = 0): boolean {
    const sent = this.core.send("send", value(number), value(number).length, delay, most, false);
    return sent === Sent.Yes;
  }

  /** Returns the number of the next job, 0 if there is none. */
  receive(): number {
    if (this.core.receive("receive", false, false) !== Found.Job) return 0;
    return numberOf(this.core.takeValue());
  }

  /** Takes a job, and notes that the process begins it; `null` if there is none. */
  take(me: number) {
    if (this.core.take("take", Infinity, false, false) !== Found.Job) return null;
    const job = this.core.takeJob();
    const number = numberOf(job.raw);
    const before = Atomics.or(this.notes, BEGUN + number, 1 << me);
    if (before !== 0) {
      expect(job.attempt > 1, `job ${number} is taken again as if for the first time`);
    }
    return { ...job, number };
  }

  /** Notes that the process has ended a job. */
  noteEnd(me: number, number: number): void {
    const before = Atomics.or(this.notes, ENDED + number, 1 << me);
    expect(before === 0, `job ${number} has ended twice`);
  }
}

/** An event for which nobody waits. */
const NOBODY = { notify() {}, notifyAll() {} } as unknown as Event;

type Step = (queue: Joined) => void;

/** What there is of the jobs in the end. */
interface Left {
  /** The jobs that can be taken, in their order, those that wait for their time, and those that have failed. */
  readonly ready: readonly number[];
  readonly delayed: readonly number[];
  readonly failed: readonly number[];
  /** How many jobs were sent, and how many have ended in each way. */
  readonly sent: number;
  readonly acked: number;
  readonly received: number;
  readonly cleared: number;
  readonly begun: readonly number[];
  readonly ended: readonly number[];
}

interface QueueScenario {
  readonly name: string;
  readonly isInOrder?: boolean;
  readonly units?: number;
  readonly jobs?: number;
  readonly prepare: Step;
  readonly programs: readonly Step[];
  readonly check: (left: Left, ending: Ending) => string | null;
}

/** Looks at the jobs, after the repair of what a killed process has left; takes all that can be taken. */
function leftOf(queue: Joined): Left | string {
  const { core, notes } = queue;
  const ready: number[] = [];
  core.members.enter();
  while (core.take("take", Infinity, false, false) === Found.Job) {
    ready.push(numberOf(core.takeJob().raw));
  }
  const failed = core.failed("failed", JOBS_MAX).map(({ raw }) => numberOf(raw)); // those of killed processes too
  const { log } = core;
  const entries = Array.from({ length: log.jobs }, (_, entry) => entry);
  const inState = (state: State) => entries.filter((one) => stateOf(log.state(one)) === state);
  const delayed = inState(State.Delayed)
    .map((entry) =>
      numberOf(log.bytes.slice(log.valueWord(entry) * 4, log.valueWord(entry) * 4 + 8))
    );
  const [sent, acked, received, cleared, dropped] = [SENT, ACKED, RECEIVED, CLEARED, DROPPED]
    .map((index) => core.total(index)) as [number, number, number, number, number];
  const left = ready.length + delayed.length + failed.length;
  if (inState(State.Running).length !== ready.length) return "a job that runs is in no list";
  if (sent !== acked + received + cleared + dropped + left) {
    return `of ${sent} jobs ${acked} were acked, ${received} received, ${cleared} cleared, ${dropped} dropped, ` +
      `and ${left} are left`;
  }
  if (dropped !== 0) return `${dropped} jobs were dropped`;
  const all = [...ready, ...delayed, ...failed];
  if (new Set(all).size < all.length) return `a job is there twice: ${all}`;
  const begun = [...notes.subarray(BEGUN, BEGUN + JOBS_MAX)];
  const ended = [...notes.subarray(ENDED, ENDED + JOBS_MAX)];
  return { ready, delayed, failed, sent, acked, received, cleared, begun, ended };
}

function bytesOf(scenario: QueueScenario): SharedBytes {
  const { name, units = 32, jobs = 4, isInOrder = true, prepare, programs, check } = scenario;
  const shape = { units, jobs, members: MEMBERS };
  const alone = (view: Uint8Array) => new Joined(view, shape, () => new FreeMutex());
  return {
    name,
    bytes: queueBytes(shape) + 4 * NOTES,
    isInOrder,
    prepare: (view) =>
      beforeAllTimes(() => {
        const slot = new Slot(CALL, view, 0, 64);
        slot.make(CALL, PrimitiveKind.SharedQueue, queueBytes(shape), () => {
          makeMutex(view, MUTEX_BYTE);
          for (let i = 0; i < MEMBERS; i++) {
            makeMutex(view, LOG_BYTE + mutexesByte(shape) + i * Mutex.BYTES);
          }
        });
        prepare(alone(view));
      }),
    programs: programs.map((program) => (place) => {
      setClock(() => NOW);
      program(new Joined(place.view, shape, (byte) => mutexAt(place, byte)));
    }),
    check: (view, ending) =>
      beforeAllTimes(() => {
        const left = leftOf(alone(view));
        return typeof left === "string" ? left : check(left, ending);
      }),
  };
}

/** Takes and acks so many jobs. */
const working = (me: number, count: number): Step => (queue) => {
  const { core } = queue;
  core.members.enter();
  for (let i = 0; i < count; i++) {
    const job = queue.take(me);
    if (job === null) continue;
    expect(core.ack("ack", job), `job ${job.number} was taken away`);
    queue.noteEnd(me, job.number);
  }
  core.members.leave();
};

/** Says what is wrong with jobs that processes have begun: only that of a killed one is begun again. */
function twiceBegun({ begun }: Left, { outcomes }: Ending): string | null {
  const number = begun.findIndex((who) => who === 3);
  return number === -1 || outcomes.includes("killed") ? null : `job ${number} was begun twice`;
}

/** What is sent is taken in its order, once, unless the one that has taken it is killed. */
const taken: QueueScenario = {
  name: "queue: two take and ack",
  prepare(queue) {
    for (const number of [1, 2, 3]) expect(queue.send(number), "there is no room");
  },
  programs: [working(0, 2), working(1, 2)],
  check(left, ending) {
    const { ready, acked, ended } = left;
    const noted = ended.filter((who) => who !== 0).length;
    const inHand = ending.outcomes.filter((outcome) => outcome === "killed").length;
    if (acked < noted || acked > noted + inHand) return `${noted} have ended, ${acked} were acked`;
    if (ready.some((number) => ended[number] !== 0) && inHand === 0) return `${ready} are left`;
    if (ready.join() !== ready.toSorted((a, b) => a - b).join()) return `the order is ${ready}`;
    return twiceBegun(left, ending);
  },
};

/** Both send; one of them fills the queue. */
const sent: QueueScenario = {
  name: "queue: two send",
  prepare: (queue) => expect(queue.send(1), "there is no room"),
  programs: [(queue) => {
    expect(queue.send(2), "there is no room");
    queue.send(3);
  }, (queue) => void queue.send(4)],
  check({ ready, sent }, { outcomes }) {
    if (sent !== ready.length) return `${ready} of ${sent}`;
    const has = (number: number) => ready.includes(number);
    if (ready[0] !== 1 || has(3) && ready.indexOf(3) < ready.indexOf(2)) return `it is ${ready}`;
    if (outcomes[0] === "ok" && !(has(2) && has(3))) return `${ready} are left`;
    return outcomes[1] === "ok" && !has(4) ? `${ready} are left` : null;
  },
};

/** What is received is gone; nothing else is. The oldest record is that of a delayed job, which is moved. */
const received: QueueScenario = {
  name: "queue: send and receive beside a delayed job",
  units: 16,
  prepare(queue) {
    expect(queue.send(7, LONG_MS), "there is no room for a delayed job");
    for (let i = 0; i < 4; i++) {
      expect(queue.send(6) && queue.receive() === 6, "it is not received");
    }
    expect(queue.send(1), "there is no room");
  },
  programs: [(queue) => {
    expect(queue.send(2), "there is no room for 2");
    queue.send(3);
    queue.send(4);
  }, (queue) => {
    let last = 0;
    for (let i = 0; i < 2; i++) {
      const number = queue.receive();
      if (number === 0) continue;
      expect(number > last, `${number} comes after ${last}`);
      last = number;
      queue.noteEnd(1, number);
    }
  }],
  check({ ready, delayed, received, ended }, { outcomes }) {
    const noted = ended.filter((who) => who !== 0).length;
    const inHand = outcomes[1] === "killed" ? 1 : 0;
    if (delayed.join() !== "7") return `${delayed} are delayed`;
    if (received < noted + 4 || received > noted + 4 + inHand) {
      return `${noted} of ${received} were noted`;
    }
    if (ready.some((number) => ended[number] !== 0)) return `${ready} are left`;
    return ready.join() === ready.toSorted((a, b) => a - b).join() ? null : `it is ${ready}`;
  },
};

/** A job that is put back is taken again; one that may be taken once only fails. */
const retried: QueueScenario = {
  name: "queue: retry and fail",
  prepare: (queue) => expect(queue.send(1, 0, 1) && queue.send(2), "there is no room"),
  programs: [(queue) => {
    const { core } = queue;
    core.members.enter();
    for (let i = 0; i < 2; i++) {
      const job = queue.take(0);
      if (job !== null) expect(core.retry("retry", job, 0), `job ${job.number} was taken away`);
    }
  }, (queue) => {
    const { core } = queue;
    core.members.enter();
    const job = queue.take(1);
    if (job !== null) expect(core.ack("ack", job), `job ${job.number} was taken away`);
    for (const { raw } of core.clearFailed("clearFailed", undefined, 1)) {
      expect(numberOf(raw) === 1, "another job has failed");
    }
  }],
  check: ({ ready, failed, acked, cleared }, { outcomes }) => {
    const count = ready.length + failed.length + acked + cleared;
    if (count !== 2 || failed.some((number) => number !== 1)) return `${ready}, ${failed} failed`;
    const isOfKilled = ready.includes(1) && outcomes.every((outcome) => outcome === "ok") &&
      acked === 0;
    return isOfKilled ? "job 1 is ready although it was taken" : null;
  },
};

export const QUEUE_BYTES: readonly SharedBytes[] = [taken, sent, received, retried]
  .flatMap((one) => [one, { ...one, isInOrder: false, name: `${one.name}, reordered` }])
  .map(bytesOf);

/** Shared queues in shared bytes: what processes do with them, and what must be true. */
import { Found, QueueCore, Sent, type Taken } from "../../collections/queue_core.ts";
import {
  ACKED,
  CLEARED,
  DELAYED,
  DROPPED,
  FAILED,
  READY,
  RECEIVED,
  RUNNING,
  SENT,
} from "../../collections/queue_log.ts";
import {
  LOG_BYTE,
  MUTEX_BYTE,
  mutexesByte,
  queueBytes,
  type QueueShape,
} from "../../collections/queue_shape.ts";
import { RECOVERED } from "../../collections/ring_log.ts";
import type { Event } from "../../sync/event.ts";
import { Mutex } from "../../sync/mod.ts";
import { PrimitiveKind, Slot } from "../../sync/slot.ts";
import { makeMutex, mutexAt } from "./owner_mutex.ts";
import type { Ending, Scenario } from "./scenario.ts";
import { scenarioOf, type SharedBytes } from "./shared_bytes.ts";
import { expect, LOCK_MS } from "./shared_maps.ts";

const CALL = "SharedQueue.at";
/** No job is late or delayed before the end. */
const NOW = 1000;
const LATER = 1e6;
/** After the queue: for each job, by its value, how often a process began to run it, and how often it is done. */
const NOTES = 16;
const DONE = 8;
const SILENT = { notify() {}, notifyAll() {} } as unknown as Event;

/** What a process has of a queue. */
interface Joined {
  readonly core: QueueCore;
  readonly notes: Int32Array;
}

type Step = (queue: Joined) => void;

interface QueueScenario {
  readonly name: string;
  readonly units?: number;
  readonly prepare: Step;
  readonly programs: readonly Step[];
  /** Says what is wrong with the values that are left in the end, in their order. */
  readonly check: (left: readonly number[], queue: Joined, ending: Ending) => string | null;
}

function shapeFor(units: number): QueueShape {
  return { units, jobs: 8, members: 8 };
}

function joined(
  slot: Slot,
  shape: QueueShape,
  joinMutex: ConstructorParameters<typeof QueueCore>[3],
  now = NOW,
): Joined {
  const core = new QueueCore(slot, shape, { ready: SILENT, room: SILENT }, joinMutex, LOCK_MS);
  Object.assign(core, { clockOfSystem: { scope: 0, now: () => now } });
  return { core, notes: slot.view(Int32Array, queueBytes(shape), NOTES) };
}

/** The queue as nobody else uses it: before the processes begin, and after all have ended. */
function alone(view: Uint8Array, shape: QueueShape, make: boolean): Joined {
  const slot = new Slot(CALL, view, 0, 64);
  if (make) {
    slot.make(CALL, PrimitiveKind.SharedQueue, queueBytes(shape), () => {
      makeMutex(view, MUTEX_BYTE);
      for (let i = 0; i < shape.members; i++) {
        makeMutex(view, LOG_BYTE + mutexesByte(shape) + i * Mutex.BYTES);
      }
    });
  }
  slot.join(CALL, PrimitiveKind.SharedQueue, MUTEX_BYTE);
  const mutex = { isHeld: true, wasAbandoned: false, tryLock: () => true, unlock() {} };
  return joined(slot, shape, () => mutex, make ? NOW : LATER);
}

function send({ core }: Joined, value: number, delay = 0, most = 2): boolean {
  return core.send("send", new Uint8Array(8).fill(value), 8, delay, most, false) === Sent.Yes;
}

/** Returns the value of some bytes, each of which has it. */
function valueOf(raw: Uint8Array): number {
  expect(raw.length === 8 && raw.every((byte) => byte === raw[0]), `a torn value: ${raw}`);
  return raw[0]!;
}

function receive({ core }: Joined): number {
  if (core.receive("receive", false, false) !== Found.Job) return 0;
  return valueOf(core.takeValue());
}

/** Takes a job, and notes that it runs: not for the first time only if its runner was killed. */
function take({ core, notes }: Joined): Taken | null {
  expect(core.members.enter(), "there is no slot");
  if (core.take("take", Infinity, false, false) !== Found.Job) {
    core.members.leave();
    return null;
  }
  const job = core.takeJob();
  const before = Atomics.add(notes, valueOf(job.raw), 1);
  expect(before === 0 || job.attempt > before, `attempt ${job.attempt} after ${before}`);
  return job;
}

function ack({ core, notes }: Joined, job: Taken | null): void {
  if (job === null) return;
  expect(core.ack("ack", job), "it was given to another process");
  Atomics.add(notes, DONE + valueOf(job.raw), 1);
  core.members.leave();
}

/** Empties the queue; returns the values of the jobs that were left. */
function drain(queue: Joined): number[] {
  const { core } = queue;
  const left: number[] = [];
  for (let value = receive(queue); value !== 0; value = receive(queue)) left.push(value);
  for (const { raw } of core.clearFailed("clear", undefined, Infinity)) left.push(valueOf(raw));
  return left;
}

/** Returns the number of jobs that are there. */
function countOf({ core }: Joined): number {
  return [READY.count, DELAYED, RUNNING.count, FAILED.count]
    .reduce((sum, word) => sum + core.word(word), 0);
}

/** Returns what is wrong with the counts. */
function problemOf(queue: Joined): string | null {
  const { core } = queue;
  const there = countOf(queue);
  const ended = [ACKED, RECEIVED, CLEARED].reduce((sum, one) => sum + core.total(one), 0);
  const [sent, dropped] = [core.total(SENT), core.total(DROPPED)];
  if (dropped !== 0) return `${dropped} dropped`;
  return sent === there + ended ? null : `${sent} sent, ${there} are there, ${ended} have ended`;
}

function bytesOf({ name, units = 64, prepare, programs, check }: QueueScenario): SharedBytes {
  const shape = shapeFor(units);
  return {
    name,
    bytes: queueBytes(shape) + 4 * NOTES,
    isInOrder: true, // nobody reads without the lock
    prepare: (view) => prepare(alone(view, shape, true)),
    programs: programs.map((program) => (place) => {
      const slot = new Slot(CALL, place.view, 0, 64);
      slot.join(CALL, PrimitiveKind.SharedQueue, MUTEX_BYTE);
      program(joined(slot, shape, (byte) => mutexAt(place, byte)));
    }),
    check(view, ending) {
      const queue = alone(view, shape, false);
      const { core, notes } = queue;
      core.read("stats", () => {}); // the next change, which repairs what a killed process has left
      const problem = problemOf(queue);
      if (problem !== null) return problem;
      if (core.word(RECOVERED) !== 0 && !ending.hasKill) return "it was repaired for nothing";
      const acked = core.total(ACKED);
      const left = drain(queue);
      for (const value of left) {
        if (notes[DONE + value] !== 0) return `${value} comes back after it was acked`;
      }
      if (countOf(queue) !== 0) return `${countOf(queue)} cannot be had`;
      const noted = [...notes.slice(DONE)].reduce((sum, one) => sum + one, 0);
      if (acked < noted || acked > noted + 1) return `${acked} acked, ${noted} noted`;
      return problemOf(queue) ?? check(left, queue, ending);
    },
  };
}

/** Says what is wrong if a value is not left that must be, or another way round. */
function among(left: readonly number[], possible: readonly (readonly number[])[]): string | null {
  const isOne = possible.some((one) => String(one) === String(left));
  return isOne ? null : `${left} are left, not one of ${JSON.stringify(possible)}`;
}

const sent: QueueScenario = {
  name: "queue: send beside send and receive",
  prepare: (queue) => expect(send(queue, 1), "no room"),
  programs: [(queue) => expect(send(queue, 2), "no room"), (queue) => {
    const value = receive(queue);
    expect(value === 1, `${value} is not the first one`);
    expect(send(queue, 3), "no room");
  }],
  check(left, _queue, { outcomes }) {
    const [first, second] = outcomes.map((outcome) => outcome === "ok");
    const possible = [[2, 3], [3, 2]];
    if (!first) possible.push([3]);
    if (!second) possible.push([1, 2], [2]);
    if (!first && !second) possible.push([1], []);
    return among(left, possible);
  },
};

const acked: QueueScenario = {
  name: "queue: two take and ack",
  prepare: (queue) => expect(send(queue, 1) && send(queue, 2), "no room"),
  programs: [0, 1].map(() => (queue) => {
    ack(queue, take(queue));
    ack(queue, take(queue));
  }),
  check: (left, _queue, { hasKill }) =>
    among([...left].sort(), hasKill ? [[], [1], [2], [1, 2]] : [[]]),
};

const retried: QueueScenario = {
  name: "queue: retry, fail and delay",
  prepare: (queue) => expect(send(queue, 1, 0, 1) && send(queue, 2), "no room"),
  programs: [(queue) => {
    const { core } = queue;
    const [first, second] = [take(queue), take(queue)];
    if (first !== null) expect(core.retry("retry", first, 0), "it was given to another process");
    if (second !== null) expect(core.retry("retry", second, 50), "it was given to another process");
  }, (queue) => {
    send(queue, 3, 10);
    core3(queue);
  }],
  check: (left) =>
    [...left].sort().join() === "1,2,3" || [...left].sort().join() === "1,2"
      ? null
      : `${left} are left`,
};

/** Makes failed jobs ready again. */
function core3({ core }: Joined): void {
  core.retryFailed("retryFailed", undefined);
}

/** A delayed job lies at the head, and the ring has room for few others: it is moved. */
const moved: QueueScenario = {
  name: "queue: move, send and receive",
  units: 16,
  prepare(queue) {
    expect(send(queue, 1, 10), "no room");
    for (let i = 0; i < 3; i++) {
      expect(send(queue, 2), "no room");
      expect(receive(queue) === 2, "another one");
    }
  },
  programs: [(queue) => {
    for (const value of [3, 4]) {
      expect(send(queue, value), "no room");
      expect(receive(queue) > 1, "the delayed one was received");
    }
  }, (queue) => {
    expect(send(queue, 5), "no room");
    expect(receive(queue) > 1, "the delayed one was received");
  }],
  check: (left, _queue, { hasKill }) =>
    left.includes(1) && (hasKill ? left.length <= 3 : left.length === 1)
      ? null
      : `${left} are left`,
};

export const QUEUE_SCENARIOS: Readonly<Record<string, Scenario>> = Object.fromEntries(
  [sent, acked, retried, moved].map((one) => [one.name, scenarioOf(bytesOf(one))]),
);

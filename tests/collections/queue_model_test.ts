/** A shared queue does what an array would, in any order of calls: a model says what must be found. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import type { QueueJob, SharedQueue } from "../../collections/mod.ts";
import { LOOK_JOBS, LOOK_MS } from "../../collections/queue_core.ts";
import { reserve } from "../../collections/queue_room.ts";
import { unitsFor } from "../../collections/queue_log.ts";
import { Random } from "../../scripts/random.ts";
import { ManualClock, withClock } from "../support/maps.ts";
import { beginAt, logOf, openQueue, pretendKill } from "../support/queues.ts";
import { leaveNothingBehind } from "../support/support.ts";

const SEED = Number(process.env["MODEL_SEED"] ?? Date.now() % 2 ** 31);
const STEPS = 20_000;
const MAX_ATTEMPTS = 4;

interface ModelJob {
  readonly id: number;
  readonly value: Uint8Array;
  readonly most: number;
  attempt: number;
  due: number;
  until: number;
  order: number;
  handle: QueueJob<Uint8Array> | null;
}

/** What a queue is, said in the simplest way. */
class Model {
  ready: ModelJob[] = [];
  delayed: ModelJob[] = [];
  running: ModelJob[] = [];
  failed: ModelJob[] = [];
  sent = 0;
  acked = 0;
  received = 0;
  cleared = 0;
  dropped = 0;
  late = 0;
  /** When somebody looked for late jobs last, and how often. */
  looked = 0;
  looks = 0;
  #order = 0;
  readonly #units: number;
  readonly #jobs: number;

  constructor(units: number, jobs: number) {
    this.#units = units;
    this.#jobs = jobs;
  }

  get all(): ModelJob[] {
    return [...this.ready, ...this.delayed, ...this.running, ...this.failed];
  }

  hasRoom(length: number): boolean {
    const sizes = this.all.map(({ value }) => unitsFor(value.length));
    const size = unitsFor(length);
    const live = sizes.reduce((sum, one) => sum + one, 0);
    const largest = Math.max(size, ...sizes);
    return sizes.length < this.#jobs &&
      live + size + reserve(this.#units, largest) <= this.#units;
  }

  send(value: Uint8Array, most: number, due: number): void {
    const job = {
      id: ++this.sent,
      value,
      most,
      attempt: 0,
      due,
      until: Infinity,
      order: 0,
      handle: null,
    };
    if (due > 0) this.delay(job, due);
    else this.ready.push(job);
  }

  delay(job: ModelJob, due: number): void {
    job.due = due;
    job.order = this.#order++;
    this.delayed.push(job);
    this.delayed.sort((a, b) => a.due - b.due || a.order - b.order);
  }

  /**
   * Lets time pass, as a receiver notices it.
   *
   * @param unlooked how many jobs it has received since it last looked for late ones; `null` if it takes jobs
   */
  look(now: number, unlooked: number | null): void {
    const isToLook = unlooked === null ? now - this.looked >= LOOK_MS : unlooked >= LOOK_JOBS;
    if (isToLook) this.returnLate(now);
    while (this.delayed[0] !== undefined && this.delayed[0].due <= now) {
      this.ready.push(this.delayed.shift()!);
    }
    const isEmpty = this.ready.length === 0 && this.running.length > 0;
    if (isEmpty && !isToLook) this.returnLate(now);
  }

  returnLate(now: number): void {
    this.looked = now;
    this.looks++;
    for (
      const job of this.running.filter(({ until }) => until <= now).sort((a, b) => b.id - a.id)
    ) {
      this.late++;
      this.putBack(job, 0, now, true);
    }
  }

  putBack(job: ModelJob, delay: number, now: number, isFirst = false): void {
    this.running.splice(this.running.indexOf(job), 1);
    job.until = Infinity;
    if (job.attempt >= job.most) this.fail(job);
    else if (delay > 0) this.delay(job, now + delay);
    else if (isFirst) this.ready.unshift(job);
    else this.ready.push(job);
  }

  fail(job: ModelJob): void {
    this.failed.push(job);
    const units = () => this.failed.reduce((sum, { value }) => sum + unitsFor(value.length), 0);
    while (units() > this.#units / 4 || this.failed.length > this.#jobs / 4) {
      this.failed.shift();
      this.dropped++;
    }
  }
}

function play(steps: number, seed: number, position: number, bytes: number): number {
  const random = new Random(seed);
  const below = (limit: number) => Math.floor(random.number() * limit);
  const clock = new ManualClock();
  return withClock(clock, () => {
    using place = openQueue({ bytes, members: 8, jobBytes: 64 });
    const queues = [place.queue, place.join()];
    beginAt(place.queue, position);
    const { units, jobs } = logOf(place.queue);
    const model = new Model(units, jobs);
    const largest = logOf(place.queue).valueMax;
    let filled = 0;

    /** For each object, how many jobs it has received since it looked last. */
    const unlooked = new Map(queues.map((queue) => [queue, 0]));
    const look = (queue: SharedQueue, isTake: boolean) => {
      const before = model.looks;
      if (!isTake) unlooked.set(queue, unlooked.get(queue)! + 1);
      model.look(clock.time, isTake ? null : unlooked.get(queue)!);
      if (model.looks > before) unlooked.set(queue, 0);
    };
    const send = (queue: SharedQueue) => {
      const length = below(10) === 0 ? below(largest + 1) : below(200);
      const value = crypto.getRandomValues(new Uint8Array(length));
      const delay = below(4) === 0 ? 1 + below(1000) : 0;
      const most = 1 + below(MAX_ATTEMPTS);
      const isSent = queue.trySend(value, { delay, maxAttempts: most });
      assert.equal(isSent, model.hasRoom(length));
      if (isSent) return model.send(value, most, delay > 0 ? clock.time + delay : 0);
      filled++;
      model.returnLate(clock.time); // a full queue looks for jobs that are late
      unlooked.set(queue, 0);
    };
    const receive = (queue: SharedQueue) => {
      const wasEmpty = model.ready.length + model.delayed.length + model.running.length === 0;
      const value = queue.receive();
      if (!wasEmpty) look(queue, false);
      const job = model.ready.shift();
      assert.deepEqual(value, job?.value);
      if (job !== undefined) model.received++;
    };
    const take = (queue: SharedQueue) => {
      const maxRun = below(3) === 0 ? 1 + below(3000) : Infinity;
      const wasEmpty = model.ready.length + model.delayed.length + model.running.length === 0;
      const handle = queue.tryTake({ maxRun });
      if (!wasEmpty) look(queue, true);
      const job = model.ready.shift();
      assert.equal(handle?.id, job?.id);
      if (handle === undefined || job === undefined) return;
      job.attempt++;
      assert.deepEqual([handle.attempt, handle.maxAttempts], [job.attempt, job.most]);
      assert.deepEqual(handle.value, job.value);
      job.until = maxRun === Infinity ? Infinity : clock.time + maxRun;
      job.handle = handle;
      model.running.push(job);
    };
    const stale: QueueJob<Uint8Array>[] = [];
    const settle = () => {
      const job = model.running[below(model.running.length)];
      if (job === undefined) return;
      const { handle } = job;
      if (below(3) > 0) {
        assert.equal(handle!.ack(), true);
        model.running.splice(model.running.indexOf(job), 1);
        model.acked++;
      } else {
        const delay = below(2) * below(500);
        assert.equal(handle!.retry(delay), true);
        model.putBack(job, delay, clock.time);
      }
      if (stale.length < 50) stale.push(handle!);
    };
    const failed = (queue: SharedQueue) => {
      const job = model.failed[0];
      const kind = below(4);
      if (kind === 0) {
        assert.deepEqual(queue.failed().map(({ id }) => id), model.failed.map(({ id }) => id));
      } else if (kind === 1) {
        assert.equal(queue.takeFailed()?.id, job?.id);
        if (model.failed.shift() !== undefined) model.cleared++;
      } else if (kind === 2 && job !== undefined) {
        assert.equal(queue.retryFailed(job.id), 1);
        model.failed.shift();
        job.attempt = 0;
        model.ready.push(job);
      } else {
        assert.equal(queue.clearFailed(Number.MAX_SAFE_INTEGER), 0);
      }
    };
    const check = (queue: SharedQueue) => {
      const stats = queue.stats();
      for (const name of ["ready", "delayed", "running", "failed"] as const) {
        assert.equal(stats[name], model[name].length, name);
      }
      for (const name of ["sent", "acked", "received", "cleared", "dropped", "late"] as const) {
        assert.equal(stats[name], model[name], name);
      }
      const live = model.all.reduce((sum, { value }) => sum + unitsFor(value.length), 0);
      assert.equal(stats.bytes, live * 8);
    };

    for (let step = 0; step < steps; step++) {
      const queue = queues[below(2)]!;
      try {
        const job = below(100);
        if (job < 38) send(queue);
        else if (job < 50) receive(queue);
        else if (job < 70) take(queue);
        else if (job < 86) settle();
        else if (job < 92) failed(queue);
        else if (job < 96) clock.time += below(400);
        else if (job < 98) check(queue);
        else pretendKill(queue);
      } catch (error) {
        throw new Error(`seed ${seed}, step ${step}`, { cause: error });
      }
    }
    check(place.queue);
    for (const handle of stale) assert.equal(handle.ack(), false);
    while (model.running.length > 0) settle();
    clock.time += 1e6;
    for (let left = model.ready.length + model.delayed.length + 1; left > 0; left--) {
      receive(place.queue);
    }
    check(place.queue);
    assert.equal(place.queue.length, 0);
    return filled;
  });
}

describe("a shared queue beside a model", () => {
  leaveNothingBehind();

  for (
    const [what, position, bytes] of [
      ["a small one, which is full again and again", 0, 12_000],
      ["a larger one", 1, 2 ** 17],
      ["where positions pass 2 to the power of 31", 2 ** 31 - 2000, 12_000],
      ["where positions pass 2 to the power of 32", -2000, 12_000],
    ] as const
  ) {
    test(`does the same: ${what}`, { timeout: 120_000 }, () => {
      const filled = play(STEPS, SEED, position, bytes);
      if (bytes < 2 ** 16) assert.ok(filled > 10, `it was full only ${filled} times`);
    });
  }
});

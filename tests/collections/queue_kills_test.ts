/** Whoever is killed in the middle of whatever change: no job is lost, none runs twice while its runner lives, and all sums are exact. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { SharedQueue } from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import { killOneByOne, killsOf } from "../support/kills.ts";
import { type Agent, DEADLINE_MS, leaveNothingBehind, uniqueKey } from "../support/support.ts";

const { kills: KILLS, options } = killsOf("QUEUE_KILLS", 36);

/** Lanes in which one agent after the other sends, or works, until it is killed. */
const SENDERS = 2;
const WORKERS = 2;
/** Each sender sends at most so many jobs for each kill. */
const JOBS_PER_KILL = 2000;
const JOBS = JOBS_PER_KILL * Math.max(KILLS, 20);
const OPTIONS = { bytes: 2 ** 16, members: 8 } as const;
const QUEUE_BYTES = SharedQueue.bytesFor(OPTIONS);

/**
 * After the queue there are words of 32 bits. For each sender: the number of the last job that it began to send, and of
 * the last one that was sent. For each agent, by its number: whether it was told to die. For each job, by the number that
 * its sender has given it: the agent that runs it or has run it last, and how often it was done. And what went wrong.
 */
const AGENTS = 2 * KILLS + 20;
const [BEGUN, SENT, DOOMED] = [0, SENDERS, 2 * SENDERS];
const RUNNER = DOOMED + AGENTS;
const DONE = RUNNER + SENDERS * JOBS;
const ACKED = DONE + SENDERS * JOBS;
const WRONG = ACKED + SENDERS * JOBS;
const WORDS = WRONG + 8;
const WRONGS = ["torn", "run while its runner lives", "attempt 1 again", "done and acked twice"];

const COMMON = (key: string) => `
    const memory = objects.memory = library.SharedMemory.open(${JSON.stringify(key)});
    const queue = objects.queue = collections.SharedQueue.at(memory.bytes, 0, { maxAttempts: Infinity, lockTimeout: 25_000 });
    const words = objects.words = memory.view(Int32Array, ${QUEUE_BYTES}, ${WORDS});
    let state = process.pid + Date.now() | 0;
    const below = (limit) => {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      return (state >>> 8) % limit;
    };
    const sumOf = (value) => value.reduce((sum, byte, at) => at > 11 ? Math.imul(sum, 31) + byte | 0 : sum, 7);
`;

/** JavaScript of sender `me`, which sends until it is killed. */
function sender(key: string, me: number): string {
  return `${COMMON(key)}
    const round = () => {
      for (let step = 0; step < 50; step++) {
        const number = Atomics.load(words, ${SENT} + ${me}) + 1;
        if (number >= ${JOBS}) break;
        // What a killed sender had begun was perhaps sent: its number is not used again.
        const value = new Uint8Array(12 + (below(20) === 0 ? below(6000) : below(300)));
        const head = new Int32Array(value.buffer, 0, 3);
        const next = Atomics.load(words, ${BEGUN} + ${me}) + 1;
        head[0] = ${me}; head[1] = next;
        for (let at = 12; at < value.length; at++) value[at] = next + at;
        head[2] = sumOf(value);
        Atomics.store(words, ${BEGUN} + ${me}, next);
        let isSent = false;
        for (let tries = 0; tries < 20 && !isSent; tries++) {
          isSent = queue.trySend(value, below(10) === 0 ? { delay: below(20) + 1 } : undefined);
        }
        if (isSent) Atomics.add(words, ${SENT} + ${me}, 1);
        else {
          Atomics.store(words, ${BEGUN} + ${me}, next - 1);
          break;
        }
      }
      setTimeout(round);
    };
    setTimeout(round);`;
}

/** JavaScript of worker `me`, which takes, holds, acks and retries jobs until it is killed. */
function worker(key: string, me: number): string {
  return `${COMMON(key)}
    const held = [];
    const begin = (job) => {
      const head = new Int32Array(job.value.slice(0, 12).buffer);
      if (head[2] !== sumOf(job.value)) Atomics.add(words, ${WRONG}, 1);
      const at = head[0] * ${JOBS} + head[1];
      const last = Atomics.exchange(words, ${RUNNER} + at, ${me});
      // A runner leaves its job with a negative number when it is about to put it back.
      if (last > 0 && Atomics.load(words, ${DOOMED} + last) === 0) Atomics.add(words, ${WRONG} + 1, 1);
      if (last !== 0 && job.attempt === 1) Atomics.add(words, ${WRONG} + 2, 1);
      held.push([job, at]);
    };
    const end = () => {
      const [[job, at]] = held.splice(below(held.length), 1);
      if (below(10) === 0) {
        Atomics.store(words, ${RUNNER} + at, ${-me});
        job.retry(below(3) === 0 ? below(10) : 0);
        return;
      }
      Atomics.add(words, ${DONE} + at, 1);
      if (job.ack() && Atomics.add(words, ${ACKED} + at, 1) !== 0) Atomics.add(words, ${WRONG} + 3, 1);
    };
    const round = () => {
      for (let step = 0; step < 100; step++) {
        if (held.length > 0 && (held.length > 6 || below(2) === 0)) end();
        const job = queue.tryTake();
        if (job === undefined) break;
        begin(job);
      }
      while (held.length > below(4)) end();
      setTimeout(round);
    };
    setTimeout(round);`;
}

describe("a shared queue whose senders and workers are killed and stopped at random moments", () => {
  leaveNothingBehind();

  test("loses no job, runs none twice while its runner lives, and counts all exactly", {
    ...options,
  }, async () => {
    const seed = Date.now() | 0;
    const random = new Random(seed);
    const key = uniqueKey("queue");
    using memory = SharedMemory.open(key, {
      size: QUEUE_BYTES + 4 * WORDS,
      initialize: (bytes) => void SharedQueue.create(bytes, 0, OPTIONS),
    });
    const words = memory.view(Int32Array, QUEUE_BYTES, WORDS);
    let stopped = 0;
    let stops = 0;
    const queue = SharedQueue.at(memory.bytes, 0, { ...OPTIONS, lockTimeout: 100 });
    const check = () => {
      if (stopped > 0) return; // it may hold the lock
      const { sent, acked, ready, delayed, running, failed } = queue.stats();
      assert.equal(sent, acked + ready + delayed + running + failed, `seed ${seed}`);
      WRONGS.forEach((what, i) => assert.equal(words[WRONG + i], 0, `seed ${seed}: ${what}`));
    };

    /** Stops one in so many agents for longer than the second after which others look whether it lives. */
    const stop = async ({ child }: Agent) => {
      if (process.platform === "win32" || random.number() > 1 / 8) return;
      stopped++;
      process.kill(child.pid!, "SIGSTOP");
      await delay(1500);
      process.kill(child.pid!, "SIGCONT");
      await delay(50 + random.number() * 100);
      stopped--;
      stops++;
    };
    await killOneByOne({
      kills: KILLS,
      lanes: SENDERS + WORKERS,
      seed,
      begin: (agent, lane, number) =>
        agent.run(lane < SENDERS ? sender(key, lane) : worker(key, number)),
      async live(agent, number) {
        await delay(20 + random.number() * 200);
        await stop(agent);
        Atomics.store(words, DOOMED + number, 1);
      },
      check,
      news: () => `${stops} stops`,
    });

    // What is left can be taken at once, by this process.
    let left = 0;
    const deadline = performance.now() + DEADLINE_MS;
    while (queue.stats().acked < queue.stats().sent && performance.now() < deadline) {
      const job = await queue.take({ timeout: 1000, ref: true });
      if (job === undefined) continue;
      const [me, number] = new Int32Array(job.value.slice(0, 8).buffer);
      words[DONE + me! * JOBS + number!]!++;
      assert.equal(job.ack(), true);
      words[ACKED + me! * JOBS + number!]!++;
      left++;
    }
    check();
    const { sent, acked, recovered, returned, length } = {
      ...queue.stats(),
      length: queue.length,
    };
    assert.deepEqual([acked, length], [sent, 0], `seed ${seed}`);
    let noted = 0;
    for (let me = 0; me < SENDERS; me++) noted += words[SENT + me]!;
    assert.ok(sent >= noted && sent <= noted + KILLS, `seed ${seed}: ${sent} sent, ${noted} noted`);
    let lost = 0;
    for (let me = 0; me < SENDERS; me++) {
      for (let i = 1; i <= words[BEGUN + me]!; i++) if (words[DONE + me * JOBS + i] === 0) lost++;
    }
    assert.ok(sent + lost >= noted && lost <= KILLS, `seed ${seed}: ${lost} jobs were not done`);
    assert.ok(sent > 100 && left >= 0);
    console.log(
      `${KILLS} kills, ${stops} stops, ${sent} jobs, ${returned} returned, ${recovered} recovered`,
    );
  });
});

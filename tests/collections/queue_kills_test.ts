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
const WORKERS = 4;
const OPTIONS = { bytes: 2 ** 16, members: 8 } as const;
const QUEUE_BYTES = SharedQueue.bytesFor(OPTIONS);

/**
 * After the queue there are words of 32 bits. For each sender: the number of the last job that it began to send, and how
 * many it has sent. Then the log: how many entries it has, and the entries, of four words each: a job, an agent, an attempt,
 * and what has happened. This is written last: an entry without it is of an agent that was killed before.
 */
const [BEGUN, SENT, LOGGED] = [0, SENDERS, 2 * SENDERS];
const LOG = LOGGED + 4;
const LOG_MAX = 1000 * Math.max(KILLS, 100);
/** The senders leave so much of the log to jobs that were sent. */
const LOG_REST = 50_000;
const WORDS = LOG + 4 * LOG_MAX;
/**
 * An agent has taken a job; it is about to put it back, or to ack it; it has acked it; the bytes of the job are not those
 * that were sent; an agent is about to be killed.
 */
const [START, RETRY, END, ACKED, TORN, KILL] = [1, 2, 3, 4, 5, 6];
/** The test takes what is left. */
const TEST = 0;

/** Adds an entry to the log. */
function note(words: Int32Array, job: number, agent: number, attempt: number, what: number): void {
  const at = LOG + 4 * Atomics.add(words, LOGGED, 1);
  words[at] = job;
  words[at + 1] = agent;
  words[at + 2] = attempt;
  Atomics.store(words, at + 3, what);
}

/**
 * Checks a log: a job is taken again only after its agent has put it back or was killed, with a higher attempt, and never
 * after it was acked. Returns the jobs that were done.
 */
function checkLog(words: Int32Array): Set<number> {
  const count = words[LOGGED]!;
  assert.ok(count <= LOG_MAX, `${count} entries in a log of ${LOG_MAX}`);
  const runs = new Map<number, { agent: number; attempt: number; what: number }>();
  const killed = new Set<number>();
  const done = new Set<number>();
  for (let at = LOG; at < LOG + 4 * count; at += 4) {
    const [job, agent, attempt, what] = words.subarray(at, at + 4) as unknown as [
      number,
      number,
      number,
      number,
    ];
    const run = runs.get(job);
    const text = `job ${job}, attempt ${attempt} of agent ${agent}: ${what} after ` +
      (run === undefined ? "nothing" : `${run.what} in attempt ${run.attempt} of ${run.agent}`);
    assert.notEqual(what, TORN, text);
    if (what === KILL) killed.add(agent);
    else if (what === START) {
      const isFree = run === undefined || run.what === RETRY || killed.has(run.agent);
      assert.ok(isFree && run?.what !== ACKED && attempt > (run?.attempt ?? 0), text);
      runs.set(job, { agent, attempt, what });
    } else if (what !== 0) {
      const before = what === ACKED ? END : START;
      assert.deepEqual(run, { agent, attempt, what: before }, text);
      run!.what = what;
      if (what === END) done.add(job);
    }
  }
  return done;
}

const COMMON = (key: string) => `
    const memory = objects.memory = library.SharedMemory.open(${JSON.stringify(key)});
    const queue = objects.queue = collections.SharedQueue.at(memory.bytes, 0, { maxAttempts: Infinity, lockTimeout: 25_000 });
    const words = objects.words = memory.view(Int32Array, ${QUEUE_BYTES}, ${WORDS});
    let state = process.pid + Date.now() | 0;
    const below = (limit) => {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      return (state >>> 8) % limit;
    };
    const sumOf = (value) => value.reduce((sum, byte, at) => at > 7 ? Math.imul(sum, 31) + byte | 0 : sum, 7);
`;

/** JavaScript of sender `me`, which sends until it is killed. */
function sender(key: string, me: number): string {
  return `${COMMON(key)}
    const round = () => {
      for (let step = 0; step < 50; step++) {
        if (Atomics.load(words, ${LOGGED}) > ${LOG_MAX - LOG_REST}) break;
        // What a killed sender had begun was perhaps sent: its number is not used again.
        const value = new Uint8Array(8 + (below(20) === 0 ? below(6000) : below(300)));
        const head = new Int32Array(value.buffer, 0, 2);
        const next = Atomics.load(words, ${BEGUN} + ${me}) + 1;
        head[0] = ${SENDERS} * next + ${me};
        for (let at = 8; at < value.length; at++) value[at] = next + at;
        head[1] = sumOf(value);
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
    const [LOG, LOGGED] = [${LOG}, ${LOGGED}];
    ${note}
    const held = [];
    const begin = (job) => {
      const head = new Int32Array(job.value.slice(0, 8).buffer);
      note(words, head[0], ${me}, job.attempt, head[1] === sumOf(job.value) ? ${START} : ${TORN});
      held.push([job, head[0]]);
    };
    const end = () => {
      const [[job, id]] = held.splice(below(held.length), 1);
      if (below(10) === 0) {
        note(words, id, ${me}, job.attempt, ${RETRY});
        job.retry(below(3) === 0 ? below(10) : 0);
        return;
      }
      note(words, id, ${me}, job.attempt, ${END});
      if (job.ack()) note(words, id, ${me}, job.attempt, ${ACKED});
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
    const queue = SharedQueue.at(memory.bytes, 0, { ...OPTIONS, lockTimeout: DEADLINE_MS });
    const check = () => {
      if (stopped > 0) return; // it may hold the lock
      const { sent, acked, ready, delayed, running, failed } = queue.stats();
      assert.equal(sent, acked + ready + delayed + running + failed, `seed ${seed}`);
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
        note(words, 0, number, 0, KILL);
      },
      check,
      news: () => `${stops} stops`,
    });

    // What is left can be taken at once, by this process.
    const deadline = performance.now() + DEADLINE_MS;
    while (queue.stats().acked < queue.stats().sent && performance.now() < deadline) {
      const job = await queue.take({ timeout: 1000, ref: true });
      if (job === undefined) continue;
      const [id] = new Int32Array(job.value.slice(0, 4).buffer);
      for (const what of [START, END]) note(words, id!, TEST, job.attempt, what);
      assert.equal(job.ack(), true);
    }
    check();
    const { sent, acked, recovered, returned, length } = { ...queue.stats(), length: queue.length };
    assert.deepEqual([acked, length], [sent, 0], `seed ${seed}`);
    const done = checkLog(words);
    // Of each sender that was killed, one job was perhaps begun and not sent, or sent and not counted.
    let [noted, lost] = [0, 0];
    for (let me = 0; me < SENDERS; me++) {
      noted += words[SENT + me]!;
      for (let i = 1; i <= words[BEGUN + me]!; i++) if (!done.has(SENDERS * i + me)) lost++;
    }
    assert.ok(sent >= noted && sent <= noted + KILLS, `seed ${seed}: ${sent} sent, ${noted} noted`);
    assert.equal(done.size, sent, `seed ${seed}`);
    assert.ok(lost <= KILLS, `seed ${seed}: ${lost} jobs were not done`);
    assert.ok(sent > 100);
    console.log(
      `${KILLS} kills, ${stops} stops, ${sent} jobs, ${words[LOGGED]} entries in the log, ` +
        `${returned} returned, ${recovered} recovered`,
    );
  });
});

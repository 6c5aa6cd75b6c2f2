/** Several processes and threads share a queue: leases end when their thread ends, and not before; those that sleep are woken. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { SharedQueue, utf8 } from "../../collections/mod.ts";
import type { QueueCore } from "../../collections/queue_core.ts";
import { RECEIVERS } from "../../collections/queue_log.ts";
import { LOG_BYTE, MUTEX_BYTE } from "../../collections/queue_shape.ts";
import { SharedMemory } from "../../mod.ts";
import { Mutex } from "../../sync/mod.ts";
import { ManualClock } from "../support/maps.ts";
import { openQueue, type QueuePlace } from "../support/queues.ts";
import {
  type Agent,
  DEADLINE_MS,
  endAll,
  leaveNothingBehind,
  linuxOnly,
  LOCK_MS,
  onceOnly,
  ownRuntime,
  runtimes,
  slow,
  staleOnly,
  startAgent,
  startAgentThrough,
  startMany,
  uniqueKey,
  until,
  withDeadline,
} from "../support/support.ts";
import { fixture } from "../support/threads.ts";

const OPTIONS = { bytes: 2 ** 16, codec: utf8, lockTimeout: LOCK_MS } as const;
const PATIENT = { timeout: 25_000, ref: true } as const;
/** How long a process is stopped, and how long its thread is busy: others look each second whether it lives. */
const STOP_MS = 10_000;
const BUSY_MS = 2500;

/** JavaScript of an agent or thread: `queue` is the queue in a segment that is there. */
const joining = (key: string) => `
    const memory = library.SharedMemory.open(${JSON.stringify(key)});
    const queue = collections.SharedQueue.at(memory.bytes, 0, { codec: collections.utf8, lockTimeout: ${LOCK_MS} });`;

async function join(agent: Agent, { key }: QueuePlace<string>): Promise<void> {
  await agent.run(`${joining(key)} Object.assign(objects, { memory, queue });`);
}

/** JavaScript of an agent that has joined: takes the lock of the queue, as a process that is stopped in a change holds it. */
const LOCK =
  `objects.mutex = sync.Mutex.at(objects.memory.bytes, ${MUTEX_BYTE}); objects.mutex.lock();`;

/** Lets an agent take the next job and hold it; returns its value. */
async function take(agent: Agent): Promise<unknown> {
  return await agent.run(`objects.job = objects.queue.tryTake(); return objects.job?.value;`);
}

const cannot = process.platform !== "linux" || process.getuid?.() !== 0 ||
    spawnSync("unshare", ["--pid", "--fork", "true"]).status !== 0
  ? { skip: "needs root and the namespaces of Linux" }
  : {};

describe("the lease of a job", () => {
  leaveNothingBehind();

  for (const runtime of runtimes) {
    test(
      `ends when its process is killed, for whoever comes by (${runtime.name})`,
      slow,
      async () => {
        using place = openQueue<string>(OPTIONS);
        const { queue } = place;
        const agent = startAgent(runtime);
        await join(agent, place);
        queue.send("a");
        queue.send("b");
        assert.equal(await take(agent), "a");
        await agent.kill();
        const jobs = [queue.tryTake()!, queue.tryTake()!]; // a process that looks a second later finds "a" first
        const found = jobs.map(({ value, attempt }) => `${value} ${attempt}`).sort();
        assert.deepEqual(found, ["a 2", "b 1"]);
        assert.equal(jobs.find(({ value }) => value === "a")!.ack(), true);
        const { returned, recovered, acked } = queue.stats();
        assert.deepEqual([returned, recovered, acked], [1, 0, 1]);
      },
    );
  }

  test("goes on while its process is stopped for ten seconds, or busy", slow, async () => {
    using place = openQueue<string>(OPTIONS);
    const { queue } = place;
    const agents = startMany(); // of all runtimes
    await Promise.all(agents.map((agent) => join(agent, place)));
    for (const [i, agent] of agents.entries()) {
      queue.send(`${i}`);
      assert.equal(await take(agent), `${i}`);
    }
    for (const { child } of agents) process.kill(child.pid!, "SIGSTOP");
    assert.equal(await queue.take({ timeout: STOP_MS, ref: true }), undefined);
    for (const { child } of agents) process.kill(child.pid!, "SIGCONT");
    const busy = agents.map((agent) =>
      agent.run(`
        for (const end = Date.now() + ${BUSY_MS}; Date.now() < end;);
        return objects.job.ack();`)
    );
    assert.equal(await queue.take({ timeout: BUSY_MS - 500, ref: true }), undefined);
    assert.deepEqual(await Promise.all(busy), agents.map(() => true));
    const { acked, returned } = queue.stats();
    assert.deepEqual([acked, returned], [agents.length, 0]);
    await endAll(agents);
  });

  test(
    "that ends while all others sleep is found by one that sleeps, a second later",
    slow,
    async () => {
      using place = openQueue<string>(OPTIONS);
      const { queue } = place;
      const agent = startAgent(ownRuntime);
      await join(agent, place);
      queue.send("a");
      assert.equal(await take(agent), "a");
      const waiting = queue.take(PATIENT);
      await pause(100);
      await agent.kill();
      const killed = performance.now();
      const job = await waiting;
      assert.deepEqual([job?.value, job?.attempt], ["a", 2]);
      assert.ok(performance.now() - killed < 10_000, "the machine may be busy, but not so long");
      job!.ack();
    },
  );

  for (const runtime of runtimes) {
    test(
      `ends with its worker thread, while the process goes on (${runtime.name})`,
      slow,
      async () => {
        using place = openQueue<string>(OPTIONS);
        const { queue } = place;
        queue.send("a");
        queue.send("b");
        const source = `${joining(place.key)}
        tell(queue.tryTake().value);
        await next();
        tell(queue.stats().running);`;
        const agent = startAgent(
          runtime,
          {},
          runtime.name === "deno" ? ["--allow-read"] : [],
        );
        await join(agent, place);
        const value = await agent.run(`
        const { Worker } = process.getBuiltinModule("node:worker_threads");
        const worker = new Worker(new URL(${JSON.stringify(fixture.href)}), {
          workerData: ${JSON.stringify(source)} });
        objects.worker = worker;
        return await new Promise((resolve, reject) => worker.on("message", resolve).on("error", reject));`);
        assert.equal(value, "a");
        assert.equal(await take(agent), "b");
        assert.deepEqual([queue.tryTake(), queue.stats().members], [undefined, 2]);
        await agent.run("await objects.worker.terminate();");
        let job = queue.tryTake();
        await until(() => (job ??= queue.tryTake()) !== undefined, "the job of the thread");
        assert.deepEqual([job!.value, job!.attempt, job!.ack()], ["a", 2, true]);
        assert.equal(await agent.run("return objects.job.ack();"), true);
        await agent.kill();
      },
    );
  }

  test("ends with the object that has taken it, in the same thread", () => {
    const key = uniqueKey("queue");
    using queue = SharedQueue.open(key, OPTIONS);
    queue.send("a");
    {
      using other = SharedQueue.open(key, OPTIONS);
      assert.equal(other.tryTake()!.value, "a");
      assert.equal(queue.tryTake(), undefined);
    }
    using job = queue.tryTake()!;
    assert.deepEqual([job.attempt, job.ack()], [2, true]);
  });

  test(
    "ends with the last attempt of a job that kills each process which takes it",
    slow,
    async () => {
      using place = openQueue<string>({ ...OPTIONS, maxAttempts: 2 });
      const { queue } = place;
      queue.send("poison");
      for (const runtime of runtimes.slice(0, 2)) {
        const agent = startAgent(runtime);
        await join(agent, place);
        assert.equal(await take(agent), "poison");
        await agent.kill();
      }
      assert.equal(queue.tryTake(), undefined);
      assert.deepEqual(queue.failed(), [
        { id: 1, value: "poison", attempts: Math.min(2, runtimes.length), reason: "died" },
      ]);
    },
  );
});

describe("processes that share a queue", () => {
  leaveNothingBehind();

  test("get each job once, in the order of each sender, and sleep in between", {
    ...slow,
    ...onceOnly,
  }, async () => {
    using place = openQueue<string>(OPTIONS);
    const { queue } = place;
    const agents = startMany(4);
    await Promise.all(agents.map((agent) => join(agent, place)));
    const works = agents.map((agent) =>
      agent.run(`
        const seen = [];
        await objects.queue.work({}, (job) => { seen.push(job.value); });
        return seen;`)
    );
    const COUNT = 1500;
    for (let i = 0; i < COUNT; i++) {
      await queue.sendAsync(`${i}`.padStart(6), PATIENT);
      if (i % 100 === 0) await pause(2);
    }
    queue.close();
    const seen = await Promise.all(works) as string[][];
    for (const values of seen) {
      const numbers = values.map(Number);
      assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b));
    }
    assert.equal(new Set(seen.flat()).size, COUNT);
    const { acked, sent, returned, retried } = queue.stats();
    assert.deepEqual([acked, sent, returned, retried], [COUNT, COUNT, 0, 0]);
    await endAll(agents);
  });

  test("wake one that sleeps for each job, and one that waits for room", slow, async () => {
    using place = openQueue<string>({ ...OPTIONS, bytes: 16_384 });
    const { queue } = place;
    const agents = startMany(3);
    await Promise.all(agents.map((agent) => join(agent, place)));
    const waits = agents.map((agent) =>
      agent.run(`
        objects.woken = objects.queue.receiveAsync({ timeout: 25_000, ref: true });`)
    );
    await Promise.all(waits);
    for (const text of ["a", "b", "c"]) queue.send(text);
    const got = await Promise.all(agents.map((agent) => agent.run("return await objects.woken;")));
    assert.deepEqual(got.sort(), ["a", "b", "c"]);
    while (queue.trySend("x".repeat(100)));
    const [first] = agents;
    await first!.run(`
      objects.sent = objects.queue.sendAsync("y".repeat(100), { timeout: 25_000 });
      setTimeout(() => objects.blocked = objects.queue.send("z".repeat(100), { timeout: 25_000 }), 100);`);
    await pause(200);
    for (let i = 0; i < 3; i++) queue.receive();
    await first!.run("await objects.sent;");
    const values = new Set<string>();
    while (!values.has("y".repeat(100)) || !values.has("z".repeat(100))) {
      const value = queue.receive({ timeout: 25_000 });
      assert.ok(value !== undefined);
      values.add(value);
    }
    await endAll(agents);
  });

  for (const runtime of runtimes) {
    test(
      `end while they wait for a job, unless ref says otherwise (${runtime.name})`,
      slow,
      async () => {
        using place = openQueue<string>(OPTIONS);
        const { queue } = place;
        const agents = [startAgent(runtime), startAgent(runtime)];
        await Promise.all(agents.map((agent) => join(agent, place)));
        const [idle, busy] = agents as [Agent, Agent];
        await idle.run("void objects.queue.take(); void objects.queue.receiveAsync();");
        await busy.run("void objects.queue.work({}, () => {});");
        assert.equal(await idle.end(), 0);
        const ended = busy.end();
        assert.equal(await Promise.race([ended, pause(500, "alive")]), "alive");
        queue.send("a");
        queue.close();
        assert.equal(await withDeadline(ended, "the end of work()"), 0);
        assert.equal(queue.stats().acked, 1);
      },
    );
  }

  test("find numbers that belong together, while others send and receive", slow, async () => {
    using place = openQueue<string>(OPTIONS);
    const agent = startAgent(ownRuntime);
    await join(agent, place);
    const busy = agent.run(`
      try {
        for (;;) objects.queue.send("a"), objects.queue.receive();
      } catch (error) {
        if (error.code !== "Closed") throw error;
      }`);
    await until(() => place.queue.stats().sent > 100, "the agent to send");
    const end = performance.now() + 1000;
    for (let count = 0; count < 100 || performance.now() < end; count++) {
      const { sent, ready, running, delayed, failed, ...ends } = place.queue.stats();
      const there = ready + running + delayed + failed;
      assert.equal(sent, there + ends.acked + ends.received + ends.cleared + ends.dropped);
      if (count % 100 === 0) await pause(1);
    }
    place.queue.close();
    await busy;
    await endAll([agent]);
  });

  test("are told who holds the lock if a process is stopped in the middle of a change", {
    ...slow,
    ...linuxOnly,
  }, async () => {
    using place = openQueue<string>({ ...OPTIONS, lockTimeout: 50 });
    const { queue } = place;
    const agent = startAgent(ownRuntime);
    await join(agent, place);
    await agent.run(LOCK);
    assert.throws(() => queue.trySend("a"), { code: "Busy", message: /trySend: .* 50 ms/ });
    await agent.kill();
    queue.send("a");
    assert.deepEqual([queue.receive(), queue.stats().recovered], ["a", 1]);
  });

  test(
    "block their thread rarely while they sleep and a process is stopped in the middle of a change",
    {
      ...slow,
      ...linuxOnly,
    },
    async () => {
      using place = openQueue<string>(OPTIONS);
      const { queue } = place;
      const agent = startAgent(ownRuntime);
      await join(agent, place);
      const { core } = queue as unknown as { core: QueueCore };
      const clock = new ManualClock();
      Object.assign(core, { clockOfSystem: clock });
      queue.send("delayed", { delay: 2000 });
      const waiting = queue.take(PATIENT);
      await agent.run(LOCK);
      clock.time += 2000;
      let count = 0;
      core.take = (...args) => {
        count++;
        return Object.getPrototypeOf(core).take.apply(core, args);
      };
      await until(() => count > 0, "an attempt");
      await pause(1000); // it tries ten times a second; each time it blocks for 10 ms
      assert.ok(count < 20, `${count} attempts`);
      await agent.kill();
      assert.equal((await waiting)?.ack(), true);
    },
  );

  test(
    "find nothing, and no error, if another process has the lock for a moment when the time is over",
    {
      ...slow,
      ...linuxOnly,
    },
    async () => {
      using place = openQueue<string>({ ...OPTIONS, lockTimeout: DEADLINE_MS });
      const agent = startAgent(ownRuntime);
      await join(agent, place);
      const word = (LOG_BYTE >> 2) + RECEIVERS;
      await agent.run(`
      const words = objects.memory.view(Int32Array);
      const mutex = objects.mutex = sync.Mutex.at(objects.memory.bytes, ${MUTEX_BYTE});
      const look = () => {
        if (Atomics.load(words, ${word}) === 0) return void setTimeout(look, 1);
        mutex.lock();
        setTimeout(() => mutex.unlock(), 500);
      };
      look();`);
      assert.equal(place.queue.receive({ timeout: 250 }), undefined);
      await endAll([agent]);
    },
  );

  test("have an event loop in work() while a process is stopped in the middle of a change", {
    ...slow,
    ...linuxOnly,
  }, async () => {
    const lockTimeout = LOCK_MS / 2;
    using place = openQueue<string>({ ...OPTIONS, lockTimeout });
    const { queue } = place;
    const agent = startAgent(ownRuntime);
    await join(agent, place);
    for (const text of ["a", "b", "c"]) queue.send(text);
    let longest = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 5);
    timer.unref();
    let isLocked: Promise<unknown> | undefined;
    const working = queue.work({ concurrency: 4, ref: false }, async () => {
      await (isLocked ??= agent.run(LOCK));
    });
    await until(() => isLocked !== undefined, "a job");
    await isLocked;
    await pause(1000); // the jobs cannot be acked, and the fourth runner cannot look for one
    assert.ok(longest < 0.6 * lockTimeout, `the event loop stood still for ${longest} ms`);
    await agent.kill();
    queue.close();
    await working;
    clearInterval(timer);
    assert.equal(queue.stats().acked, 3);
  });

  test("block their thread for one lockTimeout if they begin to wait for a job then", {
    ...slow,
    ...linuxOnly,
  }, async () => {
    using place = openQueue<string>({ ...OPTIONS, lockTimeout: 1000 });
    const agent = startAgent(ownRuntime);
    await join(agent, place);
    await agent.run(LOCK);
    const { mutex } = (place.queue as unknown as {
      core: { lock: { mutex: { tryLock(ms?: number): boolean } } };
    }).core.lock;
    let blocked = 0;
    mutex.tryLock = (ms: number = 0) => {
      blocked += ms;
      return Mutex.prototype.tryLock.call(mutex, ms);
    };
    const waiting = place.queue.take(PATIENT);
    assert.ok(blocked >= 1000 && blocked < 1900, `${blocked} ms`);
    await agent.kill();
    place.queue.send("a");
    assert.equal((await waiting)?.ack(), true);
  });

  test("go on with work() when a process is no longer stopped in the middle of a change", {
    ...slow,
    ...linuxOnly,
  }, async () => {
    using place = openQueue<string>({ ...OPTIONS, lockTimeout: 20 });
    const { queue } = place;
    const agent = startAgent(ownRuntime);
    await agent.run(`${joining(place.key)} Object.assign(objects, { memory, queue });`);
    for (const text of ["a", "b"]) queue.send(text);
    const seen: string[] = [];
    await queue.work({}, async ({ value, attempt }) => {
      seen.push(`${value} ${attempt}`);
      if (value === "b") return queue.close();
      await agent.run(LOCK);
      setTimeout(() => void agent.kill(), 300); // the job cannot be acked until then
    });
    assert.deepEqual(seen, ["a 1", "b 1"]);
    const { acked, recovered } = queue.stats();
    assert.deepEqual([acked, recovered], [2, 1]);
    await agent.ended; // its mutex is free before its end, and the process that detaches last removes the segment
  });
});

describe("a queue that stays until it is removed", staleOnly, () => {
  leaveNothingBehind();
  const KEPT = { ...OPTIONS, lifetime: "until-removed" } as const;

  test(
    "keeps its jobs when its only process ends, and puts those back that ran",
    slow,
    async () => {
      const key = uniqueKey("queue");
      {
        const queue = SharedQueue.open(key, KEPT);
        for (const text of ["a", "b", "c"]) queue.send(text);
        queue.send("later", { delay: 1 });
        assert.equal(queue.tryTake()!.value, "a");
        queue[Symbol.dispose]();
      }
      using queue = SharedQueue.open(key, KEPT);
      const seen: string[] = [];
      queue.close();
      await queue.work({}, ({ value, attempt }) => void seen.push(`${value} ${attempt}`));
      assert.deepEqual(seen, ["a 2", "b 1", "c 1", "later 1"]);
      assert.equal(queue.stats().returned, 1);
      queue.remove();
    },
  );

  test("goes on in another pid namespace when its processes have ended there", {
    ...slow,
    ...cannot,
  }, async () => {
    const key = uniqueKey("queue");
    const agent = startAgentThrough(ownRuntime, [
      ...["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
    ]);
    await agent.run(`
      objects.queue = collections.SharedQueue.open(${JSON.stringify(key)}, {
        bytes: 2 ** 16, codec: collections.utf8, lifetime: "until-removed" });
      for (const text of ["a", "b"]) objects.queue.send(text);
      objects.job = objects.queue.tryTake();`);
    assert.throws(() => SharedQueue.open(key, KEPT), { code: "WrongKind", message: /namespace/ });
    await agent.kill();
    using queue = SharedQueue.open(key, KEPT);
    const jobs = [queue.tryTake()!, queue.tryTake()!];
    assert.deepEqual(jobs.map(({ value, attempt }) => `${value} ${attempt}`).sort(), [
      "a 2",
      "b 1",
    ]);
    for (const job of jobs) assert.equal(job.ack(), true);
    queue.remove();
  });

  test("is removed with remove(), and stays away", () => {
    const key = uniqueKey("queue");
    {
      using queue = SharedQueue.open(key, KEPT);
      queue.remove();
    }
    assert.throws(() => SharedMemory.open(key), { code: "NotFound" });
  });
});

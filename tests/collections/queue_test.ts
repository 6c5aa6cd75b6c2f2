/** What a shared queue does for one process. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { json, layout, QueueJob, SharedMap, SharedQueue, utf8 } from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { Counter } from "../../sync/mod.ts";
import { ManualClock, withClock } from "../support/maps.ts";
import { logOf, openQueue } from "../support/queues.ts";
import { leaveNothingBehind, slow, uniqueKey, until } from "../support/support.ts";

const SMALL = { bytes: 16_384, codec: utf8 } as const;
/** A wait that a test does not expect to last so long. */
const PATIENT = { timeout: 20_000, ref: true } as const;

function drain<Value>(queue: SharedQueue<Value>): Value[] {
  const values: Value[] = [];
  for (let value = queue.receive(); value !== undefined; value = queue.receive()) {
    values.push(value);
  }
  return values;
}

describe("a shared queue", () => {
  leaveNothingBehind();

  test("returns values in the order in which they were sent, and undefined when it is empty", () => {
    using queue = SharedQueue.open(uniqueKey("queue"), { bytes: 2 ** 16, codec: json });
    const values = [{ a: 1 }, "text", 7, null, [true]];
    for (const value of values) assert.equal(queue.trySend(value), true);
    assert.equal(queue.length, 5);
    assert.deepEqual(drain(queue), values);
    assert.deepEqual([queue.receive(), queue.length], [undefined, 0]);
  });

  test("has values of any size up to a quarter of its ring, and refuses a larger one with both sizes", () => {
    using place = openQueue({ bytes: 2 ** 16 });
    const { queue } = place;
    const most = logOf(queue).valueMax;
    for (const length of [0, 1, 7, 8, 9, 1000, most]) {
      const value = new Uint8Array(length).fill(length);
      queue.send(value);
      assert.deepEqual(queue.receive(), value);
    }
    assert.throws(() => queue.trySend(new Uint8Array(most + 1)), {
      name: "SyncError",
      code: "InvalidSize",
      message: new RegExp(`trySend: the value has ${most + 1} bytes.* at most ${most} of the`),
    });
    assert.deepEqual([queue.length, queue.stats().sent], [0, 7]);
  });

  test("refuses an array whose buffer was transferred away, and says so", async () => {
    using place = openQueue({ bytes: 2 ** 16 });
    const { queue } = place;
    const value = Uint8Array.of(1, 2, 3);
    structuredClone(value.buffer, { transfer: [value.buffer] });
    const says = (method: string) => ({
      name: "TypeError",
      message: new RegExp(`${method}: .* no bytes any more`),
    });
    assert.throws(() => queue.trySend(value), says("trySend"));
    assert.throws(() => queue.trySend(value, { delay: 1 }), says("trySend"));
    assert.throws(() => queue.send(value), says("send"));
    await assert.rejects(queue.sendAsync(value), says("sendAsync"));
    assert.deepEqual([queue.length, queue.stats().recovered], [0, 0]);
  });

  test("that is full refuses values until there is room, and says how full it is", async () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    let count = 0;
    while (queue.trySend(`${count}`.padEnd(100))) count++;
    assert.ok(count > 10);
    assert.throws(() => queue.send("more".padEnd(100)), {
      code: "Full",
      message: new RegExp(`send: there was no room for 100 bytes for 0 ms: the ${count} jobs`),
    });
    const before = performance.now();
    assert.throws(() => queue.send("more".padEnd(100), { timeout: 30 }), { code: "Full" });
    assert.ok(performance.now() - before >= 29);
    await assert.rejects(queue.sendAsync("more".padEnd(100), { timeout: 10 }), { code: "Full" });
    await assert.rejects(queue.sendAsync("more".padEnd(100), { signal: AbortSignal.timeout(10) }), {
      name: "TimeoutError",
    });
    const waiting = ["a", "b"].map((text) => queue.sendAsync(text.padEnd(100), PATIENT));
    assert.equal(queue.receive(), "0".padEnd(100));
    assert.equal(queue.receive(), "1".padEnd(100));
    await Promise.all(waiting);
    const values = drain(queue);
    assert.deepEqual(values.slice(-2), ["a", "b"].map((text) => text.padEnd(100)));
    assert.equal(values.length, count);
  });

  test("that is full says how large the value was when it was sent, and encodes it once", async () => {
    let count = 0;
    const encode = (text: string) => {
      count++;
      return utf8.encode(text);
    };
    using place = openQueue({ ...SMALL, codec: { encode, decode: utf8.decode } });
    const { queue } = place;
    while (queue.trySend("x".padEnd(100)));
    count = 0;
    const message = /there was no room for 300 bytes/;
    assert.throws(() => queue.send("y".padEnd(300)), { code: "Full", message });
    await assert.rejects(queue.sendAsync("y".padEnd(300), { timeout: 10 }), {
      code: "Full",
      message,
    });
    assert.equal(count, 2);
  });

  test("that is full says so without a look at all of its jobs", () => {
    withClock(new ManualClock(), () => {
      using place = openQueue(SMALL);
      const { queue } = place;
      const log = logOf(queue);
      const text = "x".padEnd(100);
      while (queue.trySend(text));
      let looks = 0;
      log.state = (entry) => {
        looks++;
        return Object.getPrototypeOf(log).state.call(log, entry);
      };
      assert.equal(queue.receive(), text);
      assert.deepEqual([queue.trySend(text), queue.trySend(text)], [true, false]);
      assert.ok(looks < 10, `${looks} looks at ${log.jobs} entries`);
    });
  });

  test("holds as many jobs as its table has entries", () => {
    using place = openQueue({ bytes: 16_384, jobBytes: 4000 });
    const { maxJobs } = place.queue.stats();
    for (let i = 0; i < maxJobs; i++) assert.equal(place.queue.trySend(Uint8Array.of(i)), true);
    assert.equal(place.queue.trySend(Uint8Array.of(1)), false);
    place.queue.receive();
    assert.equal(place.queue.trySend(Uint8Array.of(1)), true);
  });

  test("lets delayed jobs wait for their time, and orders them by it", () => {
    const clock = new ManualClock();
    withClock(clock, () => {
      using place = openQueue(SMALL);
      const { queue } = place;
      queue.send("third", { delay: 300 });
      queue.send("first", { delay: 100 });
      queue.send("second", { delay: 200 });
      queue.send("also second", { delay: 200 });
      queue.send("now");
      assert.deepEqual([queue.length, queue.stats().delayed], [5, 4]);
      assert.deepEqual(drain(queue), ["now"]);
      clock.time += 99.9;
      assert.equal(queue.receive(), undefined);
      clock.time += 0.1;
      assert.equal(queue.receive(), "first");
      clock.time += 200;
      queue.send("last");
      assert.deepEqual(drain(queue), ["last", "second", "also second", "third"]);
    });
  });

  test("moves jobs that run or are delayed out of the way of others", () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    const { units } = logOf(queue);
    queue.send("held", { delay: 1e9 });
    queue.send("running");
    using job = queue.tryTake()!;
    for (let i = 0; i < units; i++) {
      queue.send(`${i}`.padEnd(60));
      assert.equal(queue.receive(), `${i}`.padEnd(60));
    }
    assert.equal(job.value, "running");
    assert.equal(job.ack(), true);
    assert.deepEqual([queue.length, queue.stats().delayed], [1, 1]);
  });

  test("wakes receivers in their order, with one job each", async () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    const waiting = [1, 2, 3].map(() => queue.receiveAsync(PATIENT));
    for (const text of ["a", "b", "c"]) queue.send(text);
    assert.deepEqual(await Promise.all(waiting), ["a", "b", "c"]);
    const late = queue.receiveAsync(PATIENT);
    queue.send("d", { delay: 20 });
    assert.equal(await late, "d");
    assert.equal(await queue.receiveAsync({ timeout: 5, ref: true }), undefined);
    await assert.rejects(queue.take({ signal: AbortSignal.timeout(5), ref: true }), {
      name: "TimeoutError",
    });
    await assert.rejects(
      queue.take({ signal: AbortSignal.abort("no") }),
      (error) => error === "no",
    );
    const before = performance.now();
    assert.equal(queue.receive({ timeout: 20 }), undefined);
    assert.ok(performance.now() - before >= 19);
    queue.send("e", { delay: 20 });
    assert.equal(queue.receive({ timeout: 20_000 }), "e");
  });

  test("fails who waits for it when its segment is detached", async () => {
    const queue = SharedQueue.open(uniqueKey("queue"), SMALL);
    const waits = [queue.receiveAsync(PATIENT), queue.take(PATIENT)];
    await pause(50);
    queue[Symbol.dispose]();
    for (const wait of waits) await assert.rejects(wait, { code: "NotAttached" });
    for (const call of ["receive", "tryTake", "stats", "failed", "close"] as const) {
      assert.throws(() => queue[call](), { code: "NotAttached" });
    }
    assert.throws(() => queue.trySend("a"), { code: "NotAttached" });
  });
});

describe("a job", () => {
  leaveNothingBehind();

  test("that was acked is gone, and one that was not is taken again", () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    queue.send("a");
    queue.send("b");
    const first = queue.tryTake()!;
    assert.ok(first instanceof QueueJob);
    assert.deepEqual([first.id, first.value, first.attempt, first.maxAttempts], [1, "a", 1, 3]);
    assert.deepEqual([first.isSettled, first.ack(), first.isSettled], [false, true, true]);
    assert.deepEqual([first.ack(), first.retry()], [false, false]);
    {
      using second = queue.tryTake()!;
      assert.equal(second.value, "b");
      assert.equal(queue.tryTake(), undefined);
    }
    using again = queue.tryTake()!;
    assert.deepEqual([again.id, again.value, again.attempt], [2, "b", 2]);
    assert.equal(queue.stats().members, 1);
    assert.equal(again.ack(), true);
    const { acked, running, members, oldestRun } = queue.stats();
    assert.deepEqual([acked, running, members, oldestRun], [2, 0, 0, 0]);
  });

  test("that is retried comes behind the others, or after a delay", () => {
    const clock = new ManualClock();
    withClock(clock, () => {
      using place = openQueue(SMALL);
      const { queue } = place;
      for (const text of ["a", "b"]) queue.send(text);
      queue.tryTake()!.retry();
      assert.deepEqual(drain(queue), ["b", "a"]);
      queue.send("c");
      queue.tryTake()!.retry(100);
      assert.equal(queue.receive(), undefined);
      clock.time += 100;
      const job = queue.tryTake()!;
      clock.time += 50;
      assert.equal(queue.stats().oldestRun, 50);
      assert.equal(job.ack(), true);
    });
  });

  test("that was taken as often as it may be has failed: it can be seen, put back and removed", () => {
    using place = openQueue({ ...SMALL, maxAttempts: 2 });
    const { queue } = place;
    for (const text of ["a", "b", "c"]) queue.send(text);
    queue.send("often", { maxAttempts: Infinity });
    for (let i = 0; i < 2 * 4; i++) queue.tryTake()!.retry();
    assert.deepEqual(queue.failed(), [
      { id: 1, value: "a", attempts: 2, reason: "retried" },
      { id: 2, value: "b", attempts: 2, reason: "retried" },
      { id: 3, value: "c", attempts: 2, reason: "retried" },
    ]);
    assert.equal(queue.failed(1).length, 1);
    assert.deepEqual([queue.length, queue.stats().failed], [1, 3]);
    assert.deepEqual([queue.retryFailed(2), queue.retryFailed(2)], [1, 0]);
    assert.equal(queue.takeFailed()?.value, "a");
    assert.deepEqual([queue.clearFailed(), queue.clearFailed()], [1, 0]);
    assert.equal(queue.takeFailed(), undefined);
    assert.equal(queue.receive(), "often");
    using job = queue.tryTake()!;
    assert.deepEqual([job.value, job.attempt, job.ack()], ["b", 1, true]);
    const { sent, acked, received, cleared, dropped } = queue.stats();
    assert.deepEqual([sent, acked, received, cleared, dropped], [4, 1, 1, 2, 0]);
  });

  test("that has failed can be seen and taken beside one whose value cannot be decoded", () => {
    using place = openQueue({ ...SMALL, maxAttempts: 1 });
    const { queue } = place;
    for (const text of ["{", "1"]) queue.send(text);
    for (let i = 0; i < 2; i++) queue.tryTake()!.retry();
    const reader = place.join({ codec: { encode: json.encode, decode: json.decode<never> } });
    const [bad, good] = reader.failed();
    assert.deepEqual([bad!.id, bad!.attempts, good!.id, good!.value], [1, 1, 2, 1]);
    assert.throws(() => bad!.value, SyntaxError);
    const taken = reader.takeFailed()!;
    assert.deepEqual([taken.id, taken.reason], [1, "retried"]);
    assert.throws(() => taken.value, SyntaxError);
    assert.deepEqual(reader.failed(), [{ id: 2, value: 1, attempts: 1, reason: "retried" }]);
  });

  test("that has failed is named by its number, and by nothing else", () => {
    using place = openQueue({ ...SMALL, maxAttempts: 1 });
    const { queue } = place;
    queue.send("job");
    queue.tryTake()!.retry();
    const wrong = [["1", TypeError], [null, TypeError], [NaN, RangeError], [0, RangeError], [
      1.5,
      RangeError,
    ]] as const;
    for (const [id, error] of wrong) {
      assert.throws(() => queue.retryFailed(id as number), error);
      assert.throws(() => queue.clearFailed(id as number), error);
    }
    for (const [limit, error] of [["1", TypeError], [NaN, RangeError], [-1, RangeError]] as const) {
      assert.throws(() => queue.failed(limit as number), error);
    }
    assert.throws(() => queue.retryFailed(-1), /^RangeError: SharedQueue.retryFailed: the id of a/);
    assert.deepEqual([queue.retryFailed(2), queue.failed(0), queue.failed(1).length], [0, [], 1]);
    assert.equal(queue.retryFailed(1), 1);
  });

  test("that has failed makes the one go that failed first, if a quarter of the queue has failed", () => {
    using place = openQueue({ ...SMALL, maxAttempts: 1 });
    const { queue } = place;
    const quarter = Math.floor(queue.stats().maxJobs / 4);
    for (let i = 0; i < quarter + 3; i++) {
      queue.send(`${i}`);
      queue.tryTake()!.retry();
    }
    const { failed, dropped, sent } = queue.stats();
    assert.deepEqual([failed, dropped, sent], [quarter, 3, quarter + 3]);
    assert.equal(queue.failed(1)[0]!.value, "3");
    assert.equal(queue.trySend("there is room for others"), true);
  });

  test("whose time is over is given to others, and its runner is told", () => {
    const clock = new ManualClock();
    withClock(clock, () => {
      using place = openQueue({ ...SMALL, maxRun: 1000, maxAttempts: 2 });
      const { queue } = place;
      queue.send("a");
      const slow = queue.tryTake()!;
      clock.time += 999;
      assert.equal(queue.tryTake(), undefined);
      clock.time += 1;
      const next = queue.tryTake({ maxRun: 10 })!;
      assert.equal(next.attempt, 2);
      assert.deepEqual([slow.ack(), slow.isSettled], [false, true]);
      clock.time += 10;
      assert.equal(queue.tryTake(), undefined);
      assert.equal(next.retry(), false);
      assert.deepEqual(queue.failed().map(({ reason }) => reason), ["late"]);
      assert.equal(queue.stats().late, 2);
    });
  });

  test("cannot be taken by more threads than the queue has members", () => {
    using place = openQueue({ ...SMALL, members: 8 });
    for (let i = 0; i < 9; i++) place.queue.send(`${i}`);
    const objects = Array.from({ length: 9 }, () => place.join());
    const jobs = objects.slice(0, 8).map((queue) => queue.tryTake()!);
    assert.throws(() => objects[8]!.tryTake(), {
      code: "OutOfResources",
      message: /8 threads hold jobs, or look for one/,
    });
    jobs[0]!.ack();
    jobs.push(objects[8]!.tryTake()!);
    assert.equal(jobs.at(-1)!.value, "8");
    for (const job of jobs.slice(1)) assert.equal(job.ack(), true);
  });

  test("is taken by any number of objects one after the other, as hot reloads leave them", async () => {
    using place = openQueue({ ...SMALL, members: 8 });
    const waits: Promise<unknown>[] = [];
    for (let i = 0; i < 50; i++) {
      const queue = place.join();
      queue.send(`${i}`);
      assert.equal(queue.tryTake()!.ack(), true);
      waits.push(queue.take(PATIENT));
    }
    place.queue.close();
    assert.deepEqual(await Promise.all(waits), waits.map(() => undefined));
  });
});

describe("work()", () => {
  leaveNothingBehind();

  test("runs as many jobs at once as it may, and ends when the queue is closed and empty", async () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    for (let i = 0; i < 20; i++) queue.send(`${i}`);
    let running = 0;
    let most = 0;
    const done: string[] = [];
    const work = queue.work({ concurrency: 3 }, async ({ value }) => {
      most = Math.max(most, ++running);
      await pause(1);
      running--;
      done.push(value);
    });
    await pause(50);
    queue.send("last");
    queue.close();
    await work;
    assert.deepEqual([most, done.length, queue.stats().acked], [3, 21, 21]);
    assert.throws(() => queue.send("more"), { code: "Closed", message: /closed by close\(\)/ });
    await assert.rejects(queue.sendAsync("more"), { code: "Closed" });
    assert.deepEqual(
      [queue.isClosed, await queue.take(), await queue.receiveAsync()],
      [true, undefined, undefined],
    );
  });

  test("tries jobs again that throw, later each time, and hands the errors on", async () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    queue.send("good");
    queue.send("bad");
    const delays: number[] = [];
    const errors: string[] = [];
    const attempts: number[] = [];
    setTimeout(() => queue.close(), 20);
    await queue.work({
      backoff: (attempt) => {
        delays.push(attempt);
        return 5 * attempt;
      },
      onError: (error, job) => errors.push(`${job.value}: ${(error as Error).message}`),
    }, (job) => {
      if (job.value === "good") return;
      attempts.push(job.attempt);
      throw new Error("no");
    });
    assert.deepEqual(attempts, [1, 2, 3]);
    assert.deepEqual(delays, [1, 2, 3]);
    assert.deepEqual(errors, ["bad: no", "bad: no", "bad: no"]);
    assert.deepEqual(queue.failed().map(({ value }) => value), ["bad"]);
  });

  test("ends when its signal is aborted and what runs is over; the others stay", async () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    for (const text of ["a", "b"]) queue.send(text);
    const stop = new AbortController();
    const done: string[] = [];
    await queue.work({ signal: stop.signal }, async ({ value }) => {
      stop.abort();
      await pause(10);
      done.push(value);
    });
    assert.deepEqual([done, queue.length, queue.stats().running], [["a"], 1, 0]);
    await queue.work({ signal: AbortSignal.abort() }, () => assert.fail("it was called"));
    assert.equal(queue.length, 1);
  });

  test("leaves it to its function to ack early, or to retry", async () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    for (const text of ["acked", "retried"]) queue.send(text);
    setTimeout(() => queue.close(), 10);
    const seen: string[] = [];
    await queue.work({ onError: () => {} }, (job) => {
      seen.push(`${job.value} ${job.attempt}`);
      if (job.value === "retried") return job.attempt === 1 ? void job.retry(1) : undefined;
      job.ack();
      throw new Error("too late");
    });
    assert.deepEqual(seen, ["acked 1", "retried 1", "retried 2"]);
    assert.equal(queue.stats().acked, 2);
  });

  test("ends with what an asynchronous onError rejects with, after the job was put back", async () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    queue.send("job");
    const onError = async () => {
      await pause(5);
      assert.equal(queue.stats().running, 1);
      throw new Error("of onError");
    };
    const fails = () => {
      throw new Error("of the handler");
    };
    await assert.rejects(queue.work({ onError }, fails), /of onError/);
    const { running, ready } = queue.stats();
    assert.deepEqual([running, ready], [0, 1]);
  });

  test("waits while as many threads hold jobs as the queue has members, after a warning", async () => {
    using place = openQueue({ ...SMALL, members: 8 });
    for (let i = 0; i < 9; i++) place.queue.send(`${i}`);
    const objects = Array.from({ length: 8 }, () => place.join());
    const jobs = objects.map((queue) => queue.tryTake()!);
    const warnings: string[] = [];
    const onWarning = ({ message }: Error) => {
      if (message.startsWith("SharedQueue")) warnings.push(message);
    };
    process.on("warning", onWarning);
    using _off = { [Symbol.dispose]: () => void process.off("warning", onWarning) };
    const done: string[] = [];
    const working = place.queue.work({ concurrency: 2 }, ({ value }) => void done.push(value));
    await until(() => warnings.length > 0, "a warning");
    await pause(300);
    assert.match(warnings[0]!, /work waits for others: .* 8 threads hold jobs, or look for one/);
    assert.deepEqual([done, warnings.length], [[], 1]);
    for (const job of jobs) job.ack();
    place.queue.close();
    await working;
    assert.deepEqual(done, ["8"]);
  });

  test("tries a job again whose value cannot be decoded", async () => {
    const decode = () => {
      throw new Error("of another version");
    };
    using place = openQueue({
      bytes: 16_384,
      codec: { encode: utf8.encode, decode },
      maxAttempts: 2,
    });
    const { queue } = place;
    queue.send("a");
    queue.close();
    const errors: unknown[] = [];
    await queue.work({ onError: (error) => errors.push((error as Error).message) }, (job) => {
      return job.value;
    });
    assert.deepEqual(errors, ["of another version", "of another version"]);
    assert.equal(queue.stats().failed, 1);
  });
});

describe("the places of shared queues", () => {
  leaveNothingBehind();

  test("are in one segment with others by layout()", slow, async () => {
    const Site = layout({
      visits: Counter,
      mails: SharedQueue.of<{ to: string }>({ bytes: 2 ** 16, codec: json }),
      names: SharedQueue.of({ bytes: 16_384, codec: utf8 }),
      pages: SharedMap.of({ bytes: 2 ** 16 }),
    });
    const key = uniqueKey("queue");
    using site = Site.open(key);
    site.mails.send({ to: "ann" });
    site.names.send("bob");
    assert.deepEqual([(await site.mails.take())?.value, site.names.receive()], [
      { to: "ann" },
      "bob",
    ]);
    const Other = layout({
      visits: Counter,
      mails: SharedQueue.of({ bytes: 2 ** 17 }),
      names: SharedQueue.of({ bytes: 16_384, codec: utf8 }),
      pages: SharedMap.of({ bytes: 2 ** 16 }),
    });
    assert.throws(() => Other.open(key), { name: "WrongLayout", members: ["mails"] });
    assert.throws(() => site.names.remove(), { code: "NotOwner" });
  });

  test("refuse options that are no object: receive(1000) would not wait", async () => {
    using place = openQueue(SMALL);
    // deno-lint-ignore no-explicit-any
    const queue = place.queue as any;
    queue.send("a");
    for (const wrong of [1000, "text", null]) {
      const says = (method: string) => ({
        name: "TypeError",
        message: new RegExp(`^SharedQueue.${method}: the options must be an object.*not ${wrong}$`),
      });
      assert.throws(() => queue.trySend("b", wrong), says("trySend"));
      assert.throws(() => queue.send("b", wrong), says("send"));
      assert.throws(() => queue.receive(wrong), says("receive"));
      assert.throws(() => queue.tryTake(wrong), says("tryTake"));
      await assert.rejects(queue.sendAsync("b", wrong), says("sendAsync"));
      await assert.rejects(queue.receiveAsync(wrong), says("receiveAsync"));
      await assert.rejects(queue.take(wrong), says("take"));
      await assert.rejects(queue.work(wrong, () => {}), says("work"));
      await assert.rejects(queue.work({ signal: wrong }, () => {}), {
        message: /^SharedQueue\.work: signal must be an AbortSignal, not (number|string|null)$/,
      });
    }
    assert.deepEqual([queue.receive(), queue.receive()], ["a", undefined]);
  });

  test("are checked: wrong options, kinds, sizes and bytes", () => {
    const wrong: [object, RegExp][] = [
      [{ bytes: 100 }, /takes at least \d+ bytes, not 100/],
      [{ bytes: 2 ** 14, jobBytes: 16 }, /values of 16 bytes takes at least \d+ bytes, not 16384/],
      [{ bytes: "1" }, /bytes must be a number, not string/],
      [{ bytes: 2 ** 16, members: 0 }, /members must be an integer from 1 to 1024, not 0/],
      [{ bytes: 2 ** 16, jobBytes: 0.5 }, /jobBytes must be an integer/],
      [{ bytes: 2 ** 16, codec: {} }, /must have the functions encode and decode/],
      [{ bytes: 2 ** 16, maxAttempts: 0 }, /maxAttempts must be an integer from 1/],
      [{ bytes: 2 ** 16, maxRun: 0 }, /maxRun must be more than 0 ms/],
      [{ bytes: 2 ** 16, lockTimeout: -1 }, /timeout must be 0 ms or more/],
    ];
    for (const [options, message] of wrong) {
      assert.throws(() => SharedQueue.open(uniqueKey(), options as never), { message });
    }
    using place = openQueue(SMALL);
    const { memory, queue } = place;
    assert.throws(() => SharedQueue.at(memory.bytes, 0, { bytes: 2 ** 15 }), {
      code: "WrongKind",
      message: /was created with other options: 512 units, not 2048/,
    });
    assert.throws(() => SharedQueue.at(memory.bytes, 0, { codec: json }), {
      code: "WrongKind",
      message: /codec: "utf8", not "json"/,
    });
    assert.throws(() => SharedQueue.at(memory.bytes, 8), { name: "RangeError" });
    assert.throws(() => SharedMap.at(memory.bytes), { code: "WrongKind" });
    assert.throws(() => SharedQueue.create(memory.bytes, 0, SMALL), { code: "AlreadyExists" });
    for (const delay of [-1, Infinity, NaN]) {
      assert.throws(() => queue.trySend("a", { delay }), { name: "RangeError" });
    }
    assert.throws(() => queue.trySend(1 as never), { name: "TypeError" });
    assert.equal(SharedQueue.bytesFor({ bytes: 2 ** 20 }) <= 2 ** 20, true);
    memory.bytes.fill(1, 8, 12);
    assert.throws(() => SharedQueue.at(memory.bytes), { code: "Damaged" });
    using empty = SharedMemory.open(uniqueKey(), { size: 2 ** 16 });
    assert.throws(() => SharedQueue.at(empty.bytes), { code: "NotFound" });
  });
});

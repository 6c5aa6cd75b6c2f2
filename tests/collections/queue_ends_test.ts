/** Jobs whose takers are late, throw, are stopped, or meet overwritten bytes: each job stays that of one of them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { SharedQueue, structured, utf8 } from "../../collections/mod.ts";
import { Members } from "../../collections/members.ts";
import { READY } from "../../collections/queue_log.ts";
import { logOf, openQueue, pretendKill } from "../support/queues.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";

const SMALL = { bytes: 16_384, codec: utf8 } as const;

describe("a job of a shared queue", () => {
  leaveNothingBehind();

  test("is found by who only polls, although the writer before was killed while the lists had no job", () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    queue.send("job");
    logOf(queue).words.fill(0, READY.first, READY.count + 1);
    assert.equal(queue.tryTake(), undefined); // nothing says that a writer was killed
    pretendKill(queue);
    assert.equal(queue.tryTake()?.value, "job");
  });

  test("is not acked by a lease that was late, when the same member has it again in the same attempt", async () => {
    using place = openQueue({ ...SMALL, maxAttempts: 1 });
    const { queue } = place;
    queue.send("keeps the slot");
    queue.send("job");
    using kept = queue.tryTake()!;
    const first = queue.tryTake({ maxRun: 20 })!;
    await pause(40);
    assert.equal(queue.tryTake(), undefined);
    assert.equal(queue.retryFailed(), 1);
    const second = queue.tryTake()!;
    assert.deepEqual([second.value, second.attempt], ["job", first.attempt]);
    assert.deepEqual([first.ack(), second.ack(), kept.ack()], [false, true, true]);
  });

  test("that is disposed after its queue was put back when the queue was detached, and throws nothing", () => {
    const key = uniqueKey("disposed first");
    using other = SharedQueue.open(key, SMALL);
    other.send("job");
    const queue = SharedQueue.open(key, SMALL);
    {
      using job = queue.tryTake()!;
      assert.equal(job.value, "job");
      queue[Symbol.dispose]();
      assert.throws(() => job.ack(), { code: "NotAttached" });
    }
    const again = other.tryTake()!;
    assert.deepEqual([again.attempt, again.ack()], [2, true]);
  });

  test("is put back if backoff returns no delay", async () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    queue.send("job");
    const fails = () => {
      throw new Error("of the handler");
    };
    const backoff = () => NaN;
    await assert.rejects(queue.work({ backoff, onError() {} }, fails), /delay/);
    const { running, ready } = queue.stats();
    assert.deepEqual([running, ready], [0, 1]);
  });

  test("that throws an object without a text ends no worker", async () => {
    using place = openQueue({ ...SMALL, maxAttempts: 1 });
    const { queue } = place;
    queue.send("bad");
    queue.send("good");
    const done: string[] = [];
    await queue.work({}, (job) => {
      done.push(job.value);
      if (job.value === "good") return queue.close();
      throw Object.create(null);
    });
    assert.deepEqual(done, ["bad", "good"]);
  });

  test("of a handler without a wait leaves the event loop to timers", async () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    queue.send("job");
    let isTimeUp = false;
    const timer = setTimeout(() => isTimeUp = true, 20);
    let count = 0;
    await queue.work({}, () => {
      if (isTimeUp || ++count > 1e6) queue.close();
      else queue.send("job");
    });
    clearTimeout(timer);
    assert.ok(isTimeUp, `${count} jobs`);
  });

  test("is neither doubled nor orphaned if a list was overwritten", () => {
    using place = openQueue(SMALL);
    const { queue } = place;
    queue.send("a");
    logOf(queue).words[READY.last] = 1 << 30;
    queue.send("b");
    assert.deepEqual([queue.receive(), queue.receive(), queue.receive()], ["a", "b", undefined]);
    assert.equal(queue.stats().sent, 2);
  });

  test("is sent as it was, although the program uses the memory of its bytes again", async () => {
    const options = { bytes: 16_384, codec: structured } as const;
    using queue = SharedQueue.open(uniqueKey("queue"), options);
    const text = "x".repeat(200);
    while (queue.trySend({ text }));
    const sent = [1, 2].map((n) => queue.sendAsync({ text, n }, { timeout: 20_000 }));
    const numbers: unknown[] = [];
    while (numbers.length < 2) {
      const job = await queue.receiveAsync({ timeout: 20_000, ref: true }) as { n?: number };
      if (job.n !== undefined) numbers.push(job.n);
    }
    await Promise.all(sent);
    assert.deepEqual(numbers, [1, 2]);
  });

  test("whose wait is aborted by the codec of another one does not take that one with it", async () => {
    const controller = new AbortController();
    const codec = {
      name: "aborting",
      encode: utf8.encode,
      decode(bytes: Uint8Array): string {
        controller.abort();
        return utf8.decode(bytes);
      },
    };
    using queue = SharedQueue.open<string>(uniqueKey("queue"), { bytes: 16_384, codec });
    const first = queue.receiveAsync({ timeout: 20_000, ref: true, signal: controller.signal });
    const second = queue.receiveAsync({ timeout: 20_000, ref: true });
    queue.send("a");
    queue.send("b");
    const outcomes = await Promise.allSettled([first, second]);
    assert.equal(outcomes[1].status, "fulfilled");
  });
});

describe("a member of a collection", () => {
  test("gets a slot again after code was stopped while it took one", () => {
    let stops = true;
    const held = new Set<number>();
    const members = new Members(new Int32Array(2), (slot) => ({
      get isHeld() {
        return held.has(slot);
      },
      wasAbandoned: false,
      tryLock() {
        if (held.has(slot)) return false;
        held.add(slot);
        if (stops) throw new Error("stopped");
        return true;
      },
      unlock: () => void held.delete(slot),
    }));
    members.enter();
    stops = false;
    assert.equal(members.enter(), true);
  });
});

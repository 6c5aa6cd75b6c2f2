/** Events: nobody misses one, whoever is killed. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Random } from "../../scripts/random.ts";
import { Event } from "../../sync/mod.ts";
import { badTimeouts } from "../support/peers.ts";
import {
  crewOnly,
  endAll,
  leaveNothingBehind,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  withDeadline,
} from "../support/support.ts";
import {
  assertChecksPlace,
  assertEndsWithSegment,
  attach,
  attached,
  created,
  startCrew,
} from "../support/sync_places.ts";
import { Thread } from "../support/threads.ts";

const crew = { ...slow, ...crewOnly };

/** Where the tests keep what the event is about. */
const VALUE = 64;
/** The pauses in which others look by themselves, and a busy machine. */
const SOON_MS = 10_000;

/** JavaScript of an agent: what it needs for the event. */
const WAIT = `
  const event = sync.Event.at(objects.m.view(Uint8Array));
  const value = objects.m.view(Int32Array, ${VALUE}, 1);`;

describe("an event in a segment", () => {
  leaveNothingBehind();

  test("ends a wait that began before, and not one that begins afterwards", async () => {
    using memory = created();
    using other = attached(memory);
    const event = Event.create(memory.view(Uint8Array), 8);
    const same = Event.at(other.view(Uint8Array), 8);
    event.notify();
    assert.equal(same.wait(5), false);
    assert.equal(same.wait(0), false);
    const { sequence } = same;
    event.notify(3);
    assert.notEqual(same.sequence, sequence);
    assert.equal(same.wait(Infinity, sequence), true);
    assert.equal(await same.waitAsync({ since: sequence }), true);
    assert.equal(await same.waitAsync({ timeout: 0 }), false);
    assert.equal(await same.waitAsync({ timeout: 5 }), false);
    const waits = [same.waitAsync(), same.waitAsync({ timeout: SOON_MS }), event.waitAsync()];
    event.notifyAll();
    assert.deepEqual(await withDeadline(Promise.all(waits), "the waits"), [true, true, true]);
  });

  test("goes on when the sequence begins anew", async () => {
    using memory = created();
    const event = Event.create(memory.view(Uint8Array));
    for (const start of [2 ** 31 - 1, 2 ** 32 - 1]) {
      memory.view(Uint32Array)[2] = start;
      for (let i = 0; i < 3; i++) {
        const { sequence } = event;
        assert.equal(event.wait(2), false);
        assert.equal(await event.waitAsync({ timeout: 2 }), false);
        event.notify();
        assert.equal(event.wait(2, sequence), true);
      }
    }
  });

  test("says when its condition is true", async () => {
    using memory = created();
    const event = Event.create(memory.view(Uint8Array));
    const value = memory.view(Int32Array, VALUE, 1);
    assert.equal(event.waitUntil(() => true, 0), true);
    assert.equal(event.waitUntil(() => false, 5), false);
    assert.equal(await event.waitUntilAsync(() => false, { timeout: 5 }), false);
    const waiting = event.waitUntilAsync(() => value[0] === 2);
    for (let i = 0; i < 2; i++) {
      value[0]!++;
      event.notify();
      await new Promise((resolve) => setTimeout(resolve));
    }
    assert.equal(await withDeadline(waiting, "the condition"), true);
    const error = new Error("mine");
    const fail = () => {
      throw error;
    };
    assert.throws(() => event.waitUntil(fail), error);
    await assert.rejects(event.waitUntilAsync(fail), error);
    const looked = event.waitUntilAsync(() => {
      if (value[0] === 3) throw error;
      return false;
    });
    value[0] = 3;
    event.notify();
    await assert.rejects(withDeadline(looked, "the error"), error);
  });

  test("refuses a condition that returns a promise, which would always be true", async () => {
    using memory = created();
    const event = Event.create(memory.bytes);
    const refused = (call: string) => ({
      name: "TypeError",
      message: `Event.${call}: condition returned a promise, for which it does not wait`,
    });
    for (const promise of [Promise.resolve(false), Promise.reject(new Error("of nobody"))]) {
      const condition = () => promise as never;
      assert.throws(() => event.waitUntil(condition, 0), refused("waitUntil"));
      await assert.rejects(event.waitUntilAsync(condition), refused("waitUntilAsync"));
    }
  });

  test("ends a wait for a condition in time, and leaves time for others, although it is notified during each look", async () => {
    using memory = created();
    const event = Event.create(memory.bytes);
    const stuck = performance.now() + SOON_MS; // a call that goes on is to fail, and not to stop the tests
    const condition = () => {
      event.notify();
      if (performance.now() > stuck) throw new Error("it goes on after its timeout");
      return false;
    };
    assert.equal(event.waitUntil(condition, 50), false);
    assert.equal(await event.waitUntilAsync(condition, { timeout: 50 }), false);
    const endless = event.waitUntilAsync(condition, { signal: AbortSignal.timeout(50) });
    await assert.rejects(endless, { name: "TimeoutError" });
  });

  test("that has woken a wait for a condition lets it look before an abort ends it", async () => {
    using memory = created();
    const event = Event.create(memory.bytes);
    const controller = new AbortController();
    const { waitFor } = event as unknown as { waitFor(...args: unknown[]): Promise<boolean> };
    const awoken = async (...args: unknown[]) => {
      const wasNotified = await waitFor.apply(event, args);
      setImmediate(() => controller.abort()); // what runs in the next turn of the event loop
      return wasNotified;
    };
    Object.assign(event, { waitFor: awoken });
    let isReady = false;
    const waiting = event.waitUntilAsync(() => isReady, { signal: controller.signal });
    await new Promise((resolve) => setTimeout(resolve, 50));
    isReady = true;
    event.notify();
    assert.equal(await waiting, true);
  });

  test("can be timed and aborted, and wakes somebody else then", async () => {
    using memory = created();
    const event = Event.create(memory.view(Uint8Array));
    const reason = new Error("enough");
    await assert.rejects(event.waitAsync({ signal: AbortSignal.abort(reason) }), reason);
    await assert.rejects(
      event.waitUntilAsync(() => false, { signal: AbortSignal.abort(reason) }),
      reason,
    );
    const random = new Random(3);
    for (let i = 0; i < 30; i++) {
      const controller = new AbortController();
      const { signal } = controller;
      const aborted = [event.waitAsync({ signal }), event.waitUntilAsync(() => false, { signal })];
      const timed = event.waitAsync({ timeout: random.number() * 3 });
      const thrown = Promise.allSettled(aborted);
      setTimeout(() => controller.abort(reason), random.number() * 3);
      const notified = delay(random.number() * 3).then(() => event.notify());
      const [first, second] = await withDeadline(thrown, "the waits");
      assert.ok(first!.status === "fulfilled" || first!.reason === reason);
      assert.ok(second!.status === "rejected" && second!.reason === reason);
      assert.equal(typeof await withDeadline(timed, "a wait"), "boolean");
      await notified; // or else it may come after the segment is gone
    }
    for (const [timeout, error] of badTimeouts) {
      assert.throws(() => event.wait(timeout as number), error);
      assert.throws(() => event.waitUntil(() => true, timeout as number), error);
      const options = { timeout: timeout as number };
      await assert.rejects(event.waitAsync(options), error);
      await assert.rejects(event.waitUntilAsync(() => true, options), error);
    }
    for (const bad of [0, -1, 0.5, NaN]) assert.throws(() => event.notify(bad), RangeError);
    assert.throws(() => event.notify("1" as unknown as number), TypeError);
    assert.throws(() => event.wait(0, "1" as unknown as number), TypeError);
    await assert.rejects(event.waitAsync({ since: "1" as unknown as number }), TypeError);
  });

  test("checks its slot, and ends with the segment", async () => {
    assertChecksPlace(Event, Event.BYTES, Event.create, Event.at);
    assertEndsWithSegment((view) => Event.create(view), [
      (event) => event.wait(),
      (event) => event.wait(0),
      (event) => event.waitUntil(() => false),
      (event) => event.notify(),
      (event) => event.notifyAll(),
      (event) => event.sequence,
    ]);
    for (let i = 0; i < 20; i++) {
      using memory = created();
      const event = Event.create(memory.view(Uint8Array));
      if (i % 2) event.notify();
      const waits = [event.waitAsync(), event.waitUntilAsync(() => false)];
      if (i > 9) await new Promise((resolve) => setTimeout(resolve, i - 9));
      memory.detach();
      for (const wait of waits) {
        await assert.rejects(withDeadline(wait, "the end of a wait"), { code: "NotAttached" });
      }
      await assert.rejects(event.waitAsync(), { code: "NotAttached" });
    }
  });

  test("may lose its segment in its own condition", async () => {
    const conditions: readonly ((event: Event, detach: () => false) => unknown)[] = [
      (event, detach) => event.waitUntil(detach),
      (event, detach) => event.waitUntilAsync(detach),
    ];
    for (const condition of conditions) {
      using memory = created();
      const event = Event.create(memory.view(Uint8Array));
      await assert.rejects(
        // deno-lint-ignore require-await
        async () =>
          condition(event, () => {
            memory.detach();
            return false;
          }),
        { code: "NotAttached" },
      );
    }
  });

  test("wakes threads that sleep", slow, async () => {
    using memory = created();
    const event = Event.create(memory.view(Uint8Array));
    const value = memory.view(Int32Array, VALUE, 1);
    const threads = [1, 2, 3].map(() =>
      new Thread(
        memory.key()!,
        `
        const event = sync.Event.at(memory.view(Uint8Array));
        const value = memory.view(Int32Array, ${VALUE}, 1);
        tell("waiting");
        tell(event.waitUntil(() => Atomics.load(value, 0) === 1));`,
      )
    );
    for (const thread of threads) assert.equal(await thread.next(), "waiting");
    Atomics.store(value, 0, 1);
    event.notifyAll();
    for (const thread of threads) {
      assert.equal(await thread.next(), true);
      assert.equal(await thread.end(), 0);
    }
  });

  test("passes a ball between all runtimes, and never drops it", crew, async () => {
    using memory = created();
    Event.create(memory.view(Uint8Array));
    const agents = await startCrew(memory, 4);
    const rounds = 300;
    // Whose turn it is: each waits for its own, one half blocking and one not.
    const results = await Promise.all(agents.map((agent, i) =>
      agent.run(`
        ${WAIT}
        const mine = () => Atomics.load(value, 0) % ${agents.length} === ${i};
        for (let round = 0; round < ${rounds}; round++) {
          const isMine = ${i} % 2 ? event.waitUntil(mine) : await event.waitUntilAsync(mine);
          if (!isMine) throw new Error("not mine");
          Atomics.add(value, 0, 1);
          event.notifyAll();
        }
        return Atomics.load(value, 0);`)
    ));
    assert.equal(Math.max(...results), rounds * agents.length);
    await endAll(agents);
  });

  test("is not lost with a process that was killed as it was woken", crew, async () => {
    const seed = Date.now() | 0;
    const random = new Random(seed);
    using memory = created();
    const event = Event.create(memory.view(Uint8Array));
    const value = memory.view(Int32Array, VALUE, 1);
    for (const runtime of runtimes) {
      // One that lives, and some that are killed; whoever is woken takes one.
      const [survivor, ...victims] = [runtime, ...runtimes].map((each) => startAgent(each));
      await Promise.all([survivor!, ...victims].map((agent) => attach(agent, memory)));
      Atomics.store(value, 0, 0);
      await Promise.all(victims.map((victim) =>
        victim.run(`
          ${WAIT}
          setTimeout(() => {
            for (;;) event.waitUntil(() => false, 1000);
          });`)
      ));
      const taken = survivor!.run(`
        ${WAIT}
        return event.waitUntil(() => Atomics.compareExchange(value, 0, 1, 0) === 1);`);
      await new Promise((resolve) => setTimeout(resolve, 50 + random.number() * 50));
      Atomics.store(value, 0, 1);
      event.notify();
      await Promise.all(victims.map((victim) => victim.kill()));
      const started = performance.now();
      assert.equal(await taken, true, `seed ${seed}`);
      assert.ok(performance.now() - started < SOON_MS, `seed ${seed}`);
      await endAll([survivor!]);
    }
  });

  test("does not block the event loop", async () => {
    using memory = created();
    const event = Event.create(memory.view(Uint8Array));
    const agent = startAgent(ownRuntime);
    await attach(agent, memory);
    const waiting = event.waitAsync();
    for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setTimeout(resolve));
    await agent.run("sync.Event.at(objects.m.view(Uint8Array)).notify();");
    assert.equal(await withDeadline(waiting, "the event"), true);
    await endAll([agent]);
  });
});

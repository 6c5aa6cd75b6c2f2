/** Waits that are given up: by a signal or a timeout, also at the very moment that the lock comes free. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers";
import { isPending } from "../../core/acquire_queue.ts";
import { PROJECT_ID } from "../../backends/systemv/key_file.ts";
import type { SharedMemory } from "../../mod.ts";
import {
  attached,
  created,
  ownPeer,
  served,
  startAttached,
  startHolder,
} from "../support/peers.ts";
import { expectTrue } from "../support/qt_pairs.ts";
import { type Agent, leaveNothingBehind, semaphoreValue, slow, until } from "../support/support.ts";
import { semaphoreFile, untilBlocked, withDeadline } from "../support/support.ts";

/** Takes and releases the lock of `objects.m` once per round that it is told of in the segment. */
const HOLD = (from: number, to: number) => `
  const { m } = objects;
  const words = m.view(Int32Array);
  const [ASKED, HELD, GO, MICROSECONDS] = [0, 1, 2, 3];
  const reached = (word, round) => { while (Atomics.load(words, word) < round); };
  for (let round = ${from}; round <= ${to}; round++) {
    reached(ASKED, round);
    if (!m.lock()) throw new Error(m.errorString());
    Atomics.store(words, HELD, round);
    reached(GO, round);
    const end = performance.now() + words[MICROSECONDS] / 1000;
    while (performance.now() < end);
    if (!m.unlock()) throw new Error(m.errorString());
  }`;
const [ASKED, HELD, GO, MICROSECONDS] = [0, 1, 2, 3] as const;

/** So many rounds within one deadline. */
const CHUNK = 250;

/** That no call of this thread for the lock of a key goes on in the background. */
async function untilNobodyWaits(key: string): Promise<void> {
  const identity = `${PROJECT_ID} ${semaphoreFile(key)}`;
  await until(() => !isPending(identity), "the end of the call on another thread");
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** How a wait ended: with the lock or without. */
type Outcome = "taken" | "given up";
type Wait = (memory: SharedMemory, round: number, extraMs: number) => Promise<Outcome>;

/**
 * Has another process unlock at about the moment that our wait is given up, nearer and nearer to it:
 * earlier after each round that it was too late, later after each that it was not. Where at once is too late, as
 * on a machine that is slow to wake a thread, the wait is given up later.
 */
async function race(rounds: number, wait: Wait): Promise<Record<Outcome, number>> {
  using memory = created();
  const key = memory.key()!;
  const agent = await startAttached(ownPeer, key);
  const words = memory.view(Int32Array);
  const outcomes = { taken: 0, "given up": 0 };
  let microseconds = 200;
  let extraMs = 0;
  let held = Promise.resolve();
  for (let round = 1; round <= rounds; round++) {
    words[MICROSECONDS] = microseconds;
    Atomics.store(words, ASKED, round);
    if (round % CHUNK === 1) {
      await held;
      held = agent.run(HOLD(round, Math.min(rounds, round + CHUNK - 1)));
    }
    while (Atomics.load(words, HELD) < round) await turn();
    const outcome = await withDeadline(wait(memory, round, extraMs), `round ${round}`);
    outcomes[outcome]++;
    if (outcome === "taken") assert.equal(memory.unlock(), true, memory.errorString());
    const later = outcome === "taken" ? 0.02 : -0.02; // ms
    if (microseconds === 0) extraMs = Math.max(0, extraMs - later);
    if (extraMs === 0) microseconds = Math.max(0, microseconds + 1000 * later);
  }
  await held;
  // What was taken too late is given back, also by a call on another thread that has yet to begin.
  await untilNobodyWaits(key);
  assert.equal(await served(memory.lockAsync()), true, memory.errorString());
  assert.equal(memory.unlock(), true, memory.errorString());
  assert.equal(semaphoreValue(key), 1);
  assert.equal(memory.tryLock(), true, memory.errorString());
  assert.equal(memory.unlock(), true, memory.errorString());
  assert.equal(await agent.end(), 0);
  return outcomes;
}

/** Aborts after about `ms`, during which the event loop turns. */
function abortAfter(ms: number): Wait {
  return async (memory, round, extraMs) => {
    const controller = new AbortController();
    const reason = { round };
    const locked = memory.lockAsync({ signal: controller.signal });
    Atomics.store(memory.view(Int32Array), GO, round);
    const end = performance.now() + ms + (ms > 0 ? extraMs : 0);
    while (performance.now() < end) await turn();
    controller.abort(reason);
    try {
      assert.equal(await locked, true, memory.errorString());
      return "taken";
    } catch (error) {
      assert.equal(error, reason);
      return "given up";
    }
  };
}

async function timeOut(memory: SharedMemory, round: number, extraMs: number): Promise<Outcome> {
  const locked = memory.lockAsync({ timeout: 2 + extraMs });
  Atomics.store(memory.view(Int32Array), GO, round);
  return await locked ? "taken" : "given up";
}

describe("an abort signal", () => {
  leaveNothingBehind();

  test("that is aborted already rejects with its reason, even if the lock is free", async () => {
    using memory = created();
    for (const reason of [new Error("mine"), "text", 0, null, { mine: true }]) {
      const signal = AbortSignal.abort(reason);
      await assert.rejects(memory.lockAsync({ signal }), (error) => error === reason);
    }
    const signal = AbortSignal.abort();
    await assert.rejects(memory.lockAsync({ signal }), (error) => error === signal.reason);
    await assert.rejects(memory.lockAsync({ signal }), { name: "AbortError" });
    assert.equal(semaphoreValue(memory.key()!), 1);
  });

  test("ends a wait with its reason, and leaves error() as it was", slow, async () => {
    using memory = created();
    const key = memory.key()!;
    const holder = await startHolder(ownPeer, key);
    for (const reason of [new Error("mine"), "text", null, undefined]) {
      const controller = new AbortController();
      const locked = memory.lockAsync({ signal: controller.signal });
      await untilBlocked(key);
      controller.abort(reason);
      await assert.rejects(locked, (error) => error === controller.signal.reason);
      assert.equal(memory.error(), 0);
    }
    const signal = AbortSignal.timeout(20);
    await assert.rejects(memory.lockAsync({ signal }), { name: "TimeoutError" });
    await assert.rejects(memory.lockAsync({ signal, timeout: 0 }), { name: "TimeoutError" });
    await expectTrue(holder, "unlock");
    await until(() => semaphoreValue(key) === 1, "the return of what was taken too late");
    assert.equal(await served(memory.lockAsync()), true, memory.errorString());
    assert.equal(await holder.end(), 0);
  });

  test("that is aborted afterwards does nothing", async () => {
    using memory = created();
    using other = attached(memory.key()!);
    const controller = new AbortController();
    const { signal } = controller;
    assert.equal(await memory.lockAsync({ signal }), true);
    const locked = other.lockAsync({ signal });
    assert.equal(memory.unlock(), true);
    assert.equal(await served(locked), true);
    controller.abort();
    await turn();
    assert.equal(semaphoreValue(memory.key()!), 0);
    assert.equal(other.unlock(), true, other.errorString());
  });

  test("ends all waits that share it, and no other", slow, async () => {
    using memory = created();
    using other = attached(memory.key()!);
    assert.equal(other.lock(), true);
    const controller = new AbortController();
    const { signal } = controller;
    const waits = Array.from({ length: 30 }, (_, i) => memory.lockAsync(i % 3 ? { signal } : {}));
    const settled = waits.filter((_, i) => i % 3).map((wait) => wait.catch((error) => error));
    controller.abort("all");
    assert.deepEqual(await Promise.all(settled), Array(20).fill("all"));
    assert.equal(other.unlock(), true);
    for (const wait of waits.filter((_, i) => i % 3 === 0)) {
      assert.equal(await served(wait), true);
      assert.equal(memory.unlock(), true);
    }
  });
});

describe("a wait that is given up as the lock comes free", () => {
  leaveNothingBehind();

  const ways: readonly [string, number, Wait][] = [
    ["by an abort", 500, abortAfter(0.4)],
    ["by an abort in the same turn", 500, abortAfter(0)],
    ["by its timeout", 250, timeOut],
  ];
  for (const [what, rounds, wait] of ways) {
    test(`${what}, ${rounds} times, never leaves the lock taken`, slow, async () => {
      const outcomes = await race(rounds, wait);
      // The race is one only if it goes both ways; an abort at once is always first.
      const least = Math.min(outcomes.taken, outcomes["given up"]);
      if (what !== "by an abort in the same turn") {
        assert.ok(least > rounds / 20, JSON.stringify(outcomes));
      }
    });
  }

  test("by this thread's own unlock(), 1000 times, never leaves it taken", slow, async () => {
    using memory = created();
    using other = attached(memory.key()!);
    for (let round = 0; round < 1000; round++) {
      assert.equal(await served(memory.lockAsync()), true, memory.errorString());
      const controller = new AbortController();
      const locked = other.lockAsync({ signal: controller.signal });
      if (round % 3 === 0) await turn();
      assert.equal(memory.unlock(), true);
      if (round % 2 === 0) await turn();
      controller.abort(round);
      const outcome = await locked.catch((reason) => assert.equal(reason, round));
      if (outcome === true) assert.equal(other.unlock(), true, other.errorString());
    }
    await until(() => semaphoreValue(memory.key()!) === 1, "the return of what was taken too late");
  });

  test("does not make lock() hang, whenever another process unlocks", slow, async () => {
    using memory = created();
    const key = memory.key()!;
    const [holder, waiter] = [await startHolder(ownPeer, key), await startAttached(ownPeer, key)];
    for (const ms of [0, 20, 100, 190, 250, 350, 600]) {
      const locked = waiter.run(`
        const { m } = objects;
        const controller = new AbortController();
        const wait = m.lockAsync({ signal: controller.signal }).catch(() => {});
        if (${ms} % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
        controller.abort();
        const locked = await wait || m.lock();
        if (!locked && !/given up, and is free when the event loop/.test(m.errorString())) {
          throw new Error(m.errorString());
        }
        return locked || await m.lockAsync();`);
      await unlockAfter(holder, ms);
      assert.equal(await locked, true);
      const lockedAgain = holder.call("m", "lock");
      await untilBlocked(key);
      await expectTrue(waiter, "unlock");
      assert.equal(await lockedAgain, true);
    }
    assert.equal(await waiter.end(), 0);
    assert.equal(await holder.end(), 0);
  });

  async function unlockAfter(holder: Agent, ms: number): Promise<void> {
    const unlocked = await holder.run(`
      await new Promise((resolve) => setTimeout(resolve, ${ms}));
      return objects.m.unlock();`);
    assert.equal(unlocked, true);
  }
});

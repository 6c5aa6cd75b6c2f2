/** Whoever is killed at whatever moment, the others go on with the mutex, one at a time. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import { Counter, type Mutex } from "../../sync/mod.ts";
import { killOneByOne, killsOf } from "../support/kills.ts";
import { type Agent, leaveNothingBehind, runtimes, startAgent } from "../support/support.ts";
import { compilePeer, cOnly, Peer } from "../support/sync_peer.ts";
import { attach, created } from "../support/sync_places.ts";
import { COUNTER, makeAll, numbersOf, turn } from "../support/sync_turns.ts";

/** Processes of all runtimes. `SYNC_KILLS=10000` takes an hour. */
const { kills: KILLS, options } = killsOf("SYNC_KILLS", 18);
/** C programs, which start fast on Linux. */
const C_KILLS = process.platform === "win32" ? 60 : 300;

/** Lets an agent lock and unlock until it is killed, on Linux by `Atomics` or, every second one, by calls of C. */
async function begin(agent: Agent, memory: SharedMemory, n: number): Promise<void> {
  await agent.request("fastCalls", n % 2 === 0);
  await attach(agent, memory);
  await agent.run(`
    ${turn("objects.m")}
    turn();
    setTimeout(function turnAround() {
      for (let i = 0; i < 1000; i++) turn();
      setTimeout(turnAround);
    });`);
}

describe("a mutex whose users are killed at random moments", () => {
  leaveNothingBehind();
  compilePeer();
  const seed = Date.now() | 0;
  const random = new Random(seed);

  /** That it can be had, and is told if whoever had it was killed; returns whether that was so. */
  function check(mutex: Mutex, numbers: BigInt64Array): boolean {
    assert.equal(mutex.tryLock(10_000), true, `seed ${seed}: free after a kill`);
    const { wasAbandoned } = mutex;
    if (wasAbandoned) numbers[1] = numbers[0]!;
    assert.equal(numbers[0], numbers[1], `seed ${seed}`);
    mutex.unlock();
    return wasAbandoned;
  }

  /** That no turn is lost: of each process that was killed, at most the one that it had not counted yet. */
  function checkTotal(memory: SharedMemory, kills: number): void {
    const counted = Counter.at(memory.view(Uint8Array), COUNTER).get();
    const uncounted = Number(numbersOf(memory)[0]! - counted);
    assert.ok(uncounted >= 0 && uncounted <= kills, `seed ${seed}: ${uncounted}`);
  }

  test("lets no process hang, and loses nothing", options, async () => {
    using memory = created();
    const mutex = makeAll(memory);
    const numbers = numbersOf(memory);
    let abandoned = 0;
    await killOneByOne({
      kills: KILLS,
      lanes: 2,
      seed,
      begin: (agent, _, number) => begin(agent, memory, number),
      live: () => delay(random.number() * 10),
      check() {
        if (check(mutex, numbers)) abandoned++;
      },
      news: () => `${abandoned} with the mutex`,
    });
    checkTotal(memory, KILLS);
  });

  test("does the same with C programs", { ...options, ...cOnly }, async () => {
    using memory = created();
    const mutex = makeAll(memory);
    const numbers = numbersOf(memory);
    const other = startAgent(runtimes[0]!);
    await begin(other, memory, 0);
    for (let kills = 0; kills < C_KILLS; kills++) {
      const peer = new Peer(memory, "count");
      assert.equal(await peer.begun(), "begun");
      await delay(random.number() * 3);
      assert.equal(await peer.kill(), "SIGKILL", `seed ${seed}: ${peer.stderr}`);
      check(mutex, numbers);
    }
    await other.kill();
    check(mutex, numbers);
    checkTotal(memory, C_KILLS + 1);
  });
});

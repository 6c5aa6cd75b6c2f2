/** Whoever is killed at whatever moment, the others go on with the mutex, one at a time. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import type { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import { Counter, type Mutex } from "../../sync/mod.ts";
import {
  type Agent,
  crewOnly,
  DEADLINE_MS,
  leaveNothingBehind,
  runtimes,
  startAgent,
} from "../support/support.ts";
import { compilePeer, cOnly, Peer } from "../support/sync_peer.ts";
import { attach, created } from "../support/sync_places.ts";
import { COUNTER, makeAll, numbersOf, turn } from "../support/sync_turns.ts";

/** In one run: of C programs, which start fast on Linux, and of all runtimes. `SYNC_KILLS=10000` takes an hour. */
const C_KILLS = process.platform === "win32" ? 60 : 300;
const KILLS = Number(process.env["SYNC_KILLS"] ?? 18);
/** The longest that a kill takes on a busy machine, in ms. */
const KILL_MS = 2000;
const patient = { timeout: 2 * DEADLINE_MS + KILLS * KILL_MS };
/** With more kills than in a usual run, how it goes is said after so many. */
const NEWS = 500;

/** A process that locks and unlocks until it is killed, on Linux by `Atomics` or, every second one, by calls of C. */
async function startVictim(memory: SharedMemory, n: number): Promise<Agent> {
  const agent = startAgent(runtimes[n % runtimes.length]!);
  await agent.request("fastCalls", n % 2 === 0);
  await attach(agent, memory);
  await agent.run(`
    ${turn("objects.m")}
    turn();
    setTimeout(function turnAround() {
      for (let i = 0; i < 1000; i++) turn();
      setTimeout(turnAround);
    });`);
  return agent;
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

  /** That no turn is lost: of each who was killed at most the one in which he was not yet counted it. */
  function checkTotal(memory: SharedMemory, kills: number): void {
    const counted = Counter.at(memory.view(Uint8Array), COUNTER).get();
    const uncounted = Number(numbersOf(memory)[0]! - counted);
    assert.ok(uncounted >= 0 && uncounted <= kills, `seed ${seed}: ${uncounted}`);
  }

  test("lets no process hang, and loses nothing", { ...patient, ...crewOnly }, async () => {
    using memory = created();
    const mutex = makeAll(memory);
    const numbers = numbersOf(memory);
    let kills = 0;
    let abandoned = 0;
    const killOneByOne = async () => {
      while (kills < KILLS) {
        const count = ++kills;
        const agent = await startVictim(memory, count);
        await new Promise((resolve) => setTimeout(resolve, random.number() * 10));
        await agent.kill();
        assert.equal(await agent.ended, "SIGKILL", `seed ${seed}: ${agent.stderr}`);
        if (check(mutex, numbers)) abandoned++;
        if (count % NEWS === 0) console.log(`${count} kills, ${abandoned} with the mutex`);
      }
    };
    await Promise.all([killOneByOne(), killOneByOne()]);
    checkTotal(memory, kills);
  });

  test("does the same with C programs", { ...patient, ...crewOnly, ...cOnly }, async () => {
    using memory = created();
    const mutex = makeAll(memory);
    const numbers = numbersOf(memory);
    const other = await startVictim(memory, 0);
    for (let kills = 0; kills < C_KILLS; kills++) {
      const peer = new Peer(memory, "count");
      assert.equal(await peer.begun(), "begun");
      await new Promise((resolve) => setTimeout(resolve, random.number() * 3));
      assert.equal(await peer.kill(), "SIGKILL", `seed ${seed}: ${peer.stderr}`);
      check(mutex, numbers);
    }
    await other.kill();
    check(mutex, numbers);
    checkTotal(memory, C_KILLS + 1);
  });
});

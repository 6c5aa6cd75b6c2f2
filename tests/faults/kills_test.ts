/** Processes that are killed at random moments of create, attach, lock, unlock and detach. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import {
  type Agent,
  crewOnly,
  DEADLINE_MS,
  ipcObjects,
  ipcObjectsSince,
  leaveNothingBehind,
  runtimes,
  startAgent,
} from "../support/support.ts";
import { uniqueKey, withDeadline } from "../support/support.ts";

/** Of processes of all runtimes. The simulation kills at each call; here the kernel and the moments are real ones. */
const KILLS = 100;
const AT_ONCE = 3;
/** For all of them: on a busy machine, where a process takes a second to start, fewer are killed. */
const KILLING_MS = 4 * DEADLINE_MS;
const options = { timeout: 8 * DEADLINE_MS, ...crewOnly };

/** What they do until they are killed: `count` is attached all the time, `m` comes and goes. */
const LOOP = `
  const { m, count } = objects;
  const counts = count.view(Int32Array);
  const failed = (what, object) => { throw new Error(what + ": " + object.errorString()); };
  setTimeout(function turnAround() {
    const end = Date.now() + 50;
    for (let turn = 0; Date.now() < end; turn++) {
      if (!(turn % 2 ? m.createOrAttach(64) : m.create(64) || m.error() === 4 && m.attach())) {
        if (m.error() !== 5) failed("open", m);
        continue;
      }
      if (!m.lock()) failed("lock", m);
      const own = m.view(Int32Array);
      own[0]++;
      own[1]++;
      if (turn % 3 && !m.unlock()) failed("unlock", m);
      if (!count.lock()) failed("lock", count);
      counts[0]++;
      counts[1]++;
      if (!count.unlock()) failed("unlock", count);
      if (!m.detach()) failed("detach", m);
    }
    if (!objects.stop) setTimeout(turnAround);
  });`;

async function startOne(turn: number, key: string, counterKey: string): Promise<Agent> {
  const agent = startAgent(runtimes[turn % runtimes.length]!);
  await agent.request("memory", "m", key);
  await agent.request("memory", "count", counterKey);
  assert.equal(await agent.call("count", "attach"), true);
  await agent.run(LOOP);
  return agent;
}

/** Whoever comes next, a process of its own as in life, finds everything in order. */
async function comeAndGo(runtime: Runtime, key: string): Promise<void> {
  const agent = startAgent(runtime);
  await agent.request("memory", "m", key);
  assert.equal(await agent.call("m", "createOrAttach", 64), true);
  assert.deepEqual(await agent.request("read", "m", 0, 8), [0, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(await agent.call("m", "tryLock", 20_000), true);
  assert.equal(await withDeadline(agent.end(), "the end"), 0);
}

describe("processes that are killed in the middle", () => {
  leaveNothingBehind();

  test(
    "leave a lock that works, right counts, and nothing after the last one",
    options,
    async () => {
      const before = ipcObjects();
      const seed = Date.now() | 0;
      const random = new Random(seed);
      const key = uniqueKey();
      const counter = new SharedMemory(uniqueKey("counter"));
      assert.equal(counter.create(8), true, counter.errorString());
      const counts = counter.view(Int32Array);
      let started = 0;
      let killed = 0;
      const end = performance.now() + KILLING_MS;

      async function killSome(): Promise<void> {
        while (started < KILLS && performance.now() < end) {
          const victim = await startOne(started++, key, counter.key()!);
          await new Promise((resolve) => setTimeout(resolve, random.number() * 10));
          await victim.kill();
          assert.equal(await victim.ended, "SIGKILL", `seed ${seed}: ${victim.stderr}`);
          killed++;
        }
      }
      // Who was killed between making a lock and taking it keeps the others waiting for a second, which
      // only somebody who lives so long can see the end of.
      const survivor = await startOne(0, key, counter.key()!);
      await Promise.all(Array.from({ length: AT_ONCE }, killSome));
      await survivor.run("objects.stop = true;");
      assert.equal(await withDeadline(survivor.end(), "the end"), 0, survivor.stderr);

      assert.ok(
        killed === started && killed >= 10 * AT_ONCE,
        `${killed} of ${started} were killed`,
      );
      assert.equal(counter.tryLock(20_000), true, `seed ${seed}: ${counter.errorString()}`);
      const torn = counts[0]! - counts[1]!;
      assert.ok(counts[1]! > 10 * killed, `they did something: ${counts}`);
      assert.ok(torn >= 0 && torn <= killed, `seed ${seed}: ${counts}`);
      assert.equal(counter.unlock(), true, counter.errorString());
      assert.equal(counter.detach(), true, counter.errorString());

      for (const runtime of runtimes) await comeAndGo(runtime, key);
      // A lock that was just being made is left alone for two seconds.
      const deadline = performance.now() + DEADLINE_MS;
      while (ipcObjectsSince(before).length > 0 && performance.now() < deadline) {
        await comeAndGo(runtimes[0]!, key);
      }
      assert.deepEqual(ipcObjectsSince(before), [], `seed ${seed}`);
    },
  );
});

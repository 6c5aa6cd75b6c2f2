/** A process that is killed before each of the system calls of create and detach, one after the other. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { seesAllProcesses } from "../../../backends/unix/processes.ts";
import { systemV } from "../../../backends/systemv/mod.ts";
import type { Segment } from "../../../backends/types.ts";
import { selectFfi } from "../../../ffi/mod.ts";
import { cleanup, inspect } from "../../../inspect.ts";
import { AccessMode } from "../../../mod.ts";
import {
  type Agent,
  crewOnly,
  DEADLINE_MS,
  ipcObjects,
  ipcObjectsSince,
  leaveNothingBehind,
  ownRuntime,
  segmentFile,
  semaphoreFile,
  semaphoreValue,
  startAgent,
  systemLibrary,
  systemVOnly,
  uniqueKey,
  until,
  waitingFor,
} from "../../support/support.ts";

const options = { timeout: 8 * DEADLINE_MS, ...crewOnly, ...systemVOnly };
/** Elsewhere a lock that nobody ever had cannot be told from one that is held in another namespace. */
const isFirst = process.platform === "linux" && seesAllProcesses(systemLibrary());
const inFirst = isFirst ? options : { skip: "needs the first pid namespace" };
/** Far more than there are. */
const CALLS_MAX = 100;
const BYTES = 16;

const FIXTURE = JSON.stringify(new URL("../../fixtures/signalled_at.ts", import.meta.url).href);

/** To import that file, and to kill itself. */
const FLAGS = ownRuntime.name === "deno" ? ["--allow-read", "--allow-run"] : [];

/** Somebody who makes a segment, and leaves it, when told so. */
async function startVictim(key: string): Promise<Agent> {
  const agent = startAgent(ownRuntime, undefined, FLAGS);
  const files = JSON.stringify([segmentFile(key), semaphoreFile(key)]);
  await agent.run(`
    const { backend, killAt } = await import(${FIXTURE});
    const [segmentFile, semaphoreFile] = ${files};
    const lock = backend.semaphores.lock(semaphoreFile);
    objects.create = (calls) => {
      killAt(calls);
      objects.segment = backend.segments.create(segmentFile, ${BYTES}, ${AccessMode.ReadWrite}, lock);
      killAt(Infinity);
    };
    objects.detach = (calls) => {
      killAt(calls);
      objects.segment.unmap();
      objects.segment.release({ lockHeld: false, wait: true });
      killAt(Infinity);
    };`);
  return agent;
}

/** Whether he was killed at that. */
async function isKilledAt(victim: Agent, action: string): Promise<boolean> {
  const done = victim.run(action).then(() => false, () => true);
  const isKilled = await done;
  if (isKilled) assert.equal(await victim.ended, "SIGKILL", victim.stderr);
  else assert.equal(await victim.end(), 0, victim.stderr);
  return isKilled;
}

describe("a process that is killed before any of its system calls", () => {
  leaveNothingBehind();

  /** Somebody else, of this process. */
  function peer(key: string) {
    const backend = systemV(selectFfi(), { os: process.platform, arch: process.arch });
    const lock = backend.semaphores.lock(semaphoreFile(key));
    const path = segmentFile(key);
    return {
      lock,
      attach: () => backend.segments.attach(path, AccessMode.ReadWrite, lock),
      open: () => {
        const request = {
          size: BYTES,
          mode: AccessMode.ReadWrite,
          timeoutMs: DEADLINE_MS,
        } as const;
        const rest = { existing: "attach", stale: "keep", initialize: null } as const;
        return backend.segments.open(path, { ...request, ...rest }, lock);
      },
    };
  }
  type Peer = ReturnType<typeof peer>;

  function leave(segment: Segment): void {
    segment.unmap();
    segment.release({ lockHeld: false, wait: true });
  }

  /** That the lock is one, for those who had it before and for those who come. */
  function assertExclusive(one: Peer, other: Peer, what: string): void {
    for (const [holder, loser] of [[one, other], [other, one]] as const) {
      assert.equal(holder.lock.acquire(DEADLINE_MS), true, what);
      assert.equal(loser.lock.acquire(0), false, what);
      holder.lock.release();
    }
  }

  /** That nothing is left when the next ones have come and gone: what was just being made is left alone at first. */
  async function assertNothingLeft(before: readonly string[], key: string): Promise<void> {
    const deadline = performance.now() + DEADLINE_MS;
    do {
      const next = await startVictim(key);
      assert.equal(
        await isKilledAt(next, "objects.create(Infinity); objects.detach(Infinity)"),
        false,
      );
    } while (ipcObjectsSince(before).length > 0 && performance.now() < deadline);
    assert.deepEqual(ipcObjectsSince(before), []);
  }

  /** Kills somebody at each call of an action, until nobody is killed as it has no more. */
  async function killAtEach(kill: (calls: number) => Promise<boolean>): Promise<void> {
    let calls = 1;
    while (await kill(calls)) assert.ok(++calls < CALLS_MAX);
    assert.ok(calls > 5, `it makes calls: ${calls}`);
  }

  for (
    const [name, before, action] of [
      ["create()", "", "create"],
      ["detach() of the last one", "objects.create(Infinity)", "detach"],
    ] as const
  ) {
    test(`${name} leaves a key that the next ones can use`, options, async () => {
      const objects = ipcObjects();
      const key = uniqueKey();
      await killAtEach(async (calls) => {
        const victim = await startVictim(key);
        await victim.run(before);
        const killed = await isKilledAt(victim, `objects.${action}(${calls})`);
        const [one, other] = [peer(key), peer(key)];
        const segments = [one.open(), other.open()];
        assertExclusive(one, other, `killed at call ${calls}`);
        segments.forEach(leave);
        return killed;
      });
      await assertNothingLeft(objects, key);
    });
  }

  test(
    "create(), and then who waits for its lock, leave it to the next ones",
    inFirst,
    async () => {
      const objects = ipcObjects();
      const key = uniqueKey();
      let waited = 0;
      /** Kills a process that waits for the lock. Returns `false` if that had taken the lock over before. */
      const killWaiter = async (): Promise<boolean> => {
        const waiter = await startVictim(key);
        let isOver = false;
        const created = waiter.run("objects.create(Infinity)").finally(() => isOver = true);
        created.catch(() => {}); // it is killed while it waits
        await until(() => isOver || waitingFor(key) === 1, "the wait for the lock");
        if (isOver) await created;
        await waiter.kill();
        if (await created.then(() => true, () => false)) return false;
        waited++;
        return true;
      };
      await killAtEach(async (calls) => {
        for (;;) {
          const victim = await startVictim(key);
          const killed = await isKilledAt(victim, `objects.create(${calls})`);
          const isDone = semaphoreValue(key) !== 0 || await killWaiter();
          const next = peer(key);
          assert.equal(next.lock.acquire(DEADLINE_MS), true, `killed at call ${calls}`);
          next.lock.release();
          leave(next.open());
          if (isDone) return killed;
        }
      });
      assert.ok(waited > 0);
      await assertNothingLeft(objects, key);
    },
  );

  test("detach() of the last one leaves what cleanup() removes", options, async () => {
    const before = ipcObjects();
    const nameless = () => inspect().semaphores.filter(({ keyFile }) => keyFile === null);
    const reasons: string[] = [];
    await killAtEach(async (calls) => {
      const victim = await startVictim(uniqueKey());
      await victim.run("objects.create(Infinity)");
      const killed = await isKilledAt(victim, `objects.detach(${calls})`);
      reasons.push(...nameless().map(({ reason }) => reason));
      cleanup();
      assert.deepEqual(nameless(), [], `killed at call ${calls}`);
      return killed;
    });
    assert.match(
      reasons.join(),
      /^process \d+ was killed while it removed the (segment|semaphore)$/,
    );
    const isClean = () => {
      cleanup(); // a key file is kept at first
      return ipcObjectsSince(before).length === 0;
    };
    await until(isClean, "nothing is left");
  });

  test("detach() leaves the lock to those who are attached", options, async () => {
    const before = ipcObjects();
    const key = uniqueKey();
    await killAtEach(async (calls) => {
      const victim = await startVictim(key);
      await victim.run("objects.create(Infinity)");
      const user = peer(key);
      const used = user.attach();
      const killed = await isKilledAt(victim, `objects.detach(${calls})`);
      // Who has the lock already takes it before a newcomer is there, or after.
      if (calls % 2 === 0) assert.equal(user.lock.acquire(DEADLINE_MS), true);
      if (calls % 2 === 0) user.lock.release();
      const newcomer = peer(key);
      const found = newcomer.attach();
      assertExclusive(user, newcomer, `killed at call ${calls}`);
      [used, found].forEach(leave);
      return killed;
    });
    await assertNothingLeft(before, key);
  });
});

/** While a lock is waited for, the event loop turns, and the processor has nothing to do. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { created, pidOf, served } from "../support/peers.ts";
import { expectTrue } from "../support/qt_pairs.ts";
import { type Agent, leaveNothingBehind, linuxOnly, ownRuntime, slow } from "../support/support.ts";
import { startAgent, uniqueKey, untilBlocked } from "../support/support.ts";
import { fixture, Thread } from "../support/threads.ts";

/** How long the waits that are watched take, in ms. */
const WATCHED_MS = 1000;
/** Of a timer of 1 ms, far fewer than the 900 of an idle machine; who blocks for 200 ms has 5. */
const LEAST_TURNS = 20;
/** The largest number of watches: a process that is stopped for a while has fewer turns, but not each time. */
const WATCHES = 10;
/** In ms of the second; who spins has 1000. */
const MOST_CPU_MS = 200;

/** The processor time of all threads of a process, in ms. */
function cpuTime(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ");
  const CLOCK_TICK_MS = 10; // of USER_HZ, which Linux promises to be 100 here
  return (Number(fields[11]) + Number(fields[12])) * CLOCK_TICK_MS;
}

const WAITS: readonly [string, string][] = [
  ["acquireAsync()", `objects.s.acquireAsync({ timeout: ${WATCHED_MS} })`],
  [
    "20 waits of lockAsync()",
    `Promise.all(Array(20).fill().map(() => objects.m.lockAsync({ timeout: ${WATCHED_MS} })))`,
  ],
];

describe("while a lock is waited for", () => {
  leaveNothingBehind();

  async function startWaiter(agent: Agent, key: string): Promise<void> {
    await agent.request("memory", "m", key);
    await agent.request("semaphore", "s", `${key} 2`, 0);
    await expectTrue(agent, "attach");
    // The first wait also starts a thread.
    assert.equal(await agent.call("m", "lockAsync", { timeout: 50 }), false);
  }

  for (const [what, wait] of WAITS) {
    test(`by ${what} the event loop of ${ownRuntime.name} turns`, slow, async () => {
      using memory = created();
      assert.equal(memory.lock(), true);
      const agent = startAgent(ownRuntime);
      await startWaiter(agent, memory.key()!);
      const turns = await agent.run(`
        let turns = 0;
        const timer = setInterval(() => turns++, 1);
        for (let watch = 0; watch < ${WATCHES} && turns < ${LEAST_TURNS}; watch++) {
          turns = 0;
          await ${wait};
        }
        clearInterval(timer);
        return turns;`);
      assert.ok(turns >= LEAST_TURNS, `${turns} turns in ${WATCHED_MS} ms`);
      assert.equal(await agent.end(), 0);
    });

    test(
      `by ${what} the processor is not used by ${ownRuntime.name}`,
      { ...slow, ...linuxOnly },
      async () => {
        using memory = created();
        assert.equal(memory.lock(), true);
        const agent = startAgent(ownRuntime);
        await startWaiter(agent, memory.key()!);
        const pid = await pidOf(agent);
        const before = cpuTime(pid);
        await agent.run(`await ${wait};`);
        const used = cpuTime(pid) - before;
        assert.ok(used < MOST_CPU_MS, `${used} ms of ${WATCHED_MS} ms`);
        assert.equal(await agent.end(), 0);
      },
    );
  }

  test(`files and sockets of ${ownRuntime.name} are served while 12 keys are`, slow, async () => {
    const memories = Array.from({ length: 12 }, () => created(uniqueKey()));
    const agent = startAgent(
      ownRuntime,
      {},
      ownRuntime.name === "deno" ? ["--allow-read", "--allow-net"] : [],
    );
    for (const memory of memories) {
      assert.equal(memory.lock(), true);
      await agent.request("memory", memory.key()!, memory.key());
      assert.equal(await agent.call(memory.key()!, "attach"), true);
    }
    const [turns, locked] = await agent.run(`
      const { readFile } = await import("node:fs/promises");
      const { createServer, connect } = await import("node:net");
      const server = createServer((socket) => socket.pipe(socket)).listen(0, "127.0.0.1");
      await new Promise((resolve) => server.once("listening", resolve));
      const socket = connect(server.address().port, "127.0.0.1");
      let [turns, locked] = [0, []];
      for (let watch = 0; watch < ${WATCHES} && turns < ${LEAST_TURNS}; watch++) {
        let over = false;
        const waits = Promise.all(
          Object.values(objects).map((m) => m.lockAsync({ timeout: ${WATCHED_MS} })),
        ).finally(() => over = true);
        for (turns = 0; !over; turns++) {
          await readFile(new URL(${JSON.stringify(fixture.href)}));
          const echo = new Promise((resolve) => socket.once("data", resolve));
          socket.write("x");
          await echo;
        }
        locked = await waits;
      }
      socket.destroy();
      server.close();
      return [turns, locked];`);
    assert.ok(turns >= LEAST_TURNS, `${turns} turns in ${WATCHED_MS} ms`);
    assert.deepEqual(locked, memories.map(() => false));
    assert.equal(await agent.end(), 0);
    for (const memory of memories) memory.detach();
  });

  test("a worker thread of the program waits as well, beside its main thread", slow, async () => {
    using memory = created();
    const key = memory.key()!;
    assert.equal(memory.lock(), true);
    const threads = [0, 1].map(() =>
      new Thread(
        key,
        `
        let turns = 0;
        const timer = setInterval(() => ++turns === 6 && tell("turns"), 1);
        const locked = await memory.lockAsync();
        clearInterval(timer);
        tell([locked, memory.unlock()]);`,
      )
    );
    for (const thread of threads) assert.equal(await thread.next(), "turns");
    await untilBlocked(key, 2);
    assert.equal(memory.unlock(), true);
    for (const thread of threads) assert.deepEqual(await thread.next(), [true, true]);
    for (const thread of threads) assert.equal(await thread.end(), 0);
    assert.equal(await served(memory.lockAsync()), true);
  });
});

/** The producers and consumers of Qt's own `tst_qsharedmemory`, as threads and as processes. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { Worker } from "node:worker_threads";
import { SharedMemory } from "../../mod.ts";
import { consume, produce } from "../fixtures/producer_consumer.ts";
import {
  type Agent,
  crewOnly,
  leaveNothingBehind,
  runtimes,
  startAgent,
  startMany,
  uniqueKey,
  withDeadline,
} from "../support/support.ts";

const REPEATS = 5;
const OFFERS = 5;

/** Every offer was taken, none was taken twice, and every consumer saw the end. */
function assertShared(offered: number, taken: number[], leavers: number): void {
  assert.equal(offered, OFFERS);
  assert.equal(taken.reduce((sum, count) => sum + count), OFFERS);
  assert.equal(leavers, "0".charCodeAt(0) + taken.length);
}

/** A thread of this process with a SharedMemory object of its own. */
class Thread {
  readonly #worker: Worker;

  constructor(key: string) {
    const url = new URL("../fixtures/producer_consumer_worker.ts", import.meta.url);
    this.#worker = new Worker(url, { workerData: key });
  }

  async be(role: "produce" | "consume"): Promise<number> {
    this.#worker.postMessage(role);
    const [answer] = await withDeadline(once(this.#worker, "message"), `a thread to ${role}`);
    if (answer.thrown !== undefined) {
      throw new Error(`a thread that should ${role}: ${answer.thrown}`);
    }
    return answer.value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

describe("Qt's tests of QSharedMemory: threads", () => {
  leaveNothingBehind();

  for (const producer of ["a thread", "the main thread"]) {
    for (const consumers of [1, 5]) {
      test(`A15 simpleThreadedProducerConsumer: ${producer} produces for ${consumers}`, async () => {
        const key = uniqueKey("market");
        await using stack = new AsyncDisposableStack();
        const threads = Array.from({ length: consumers }, () => stack.use(new Thread(key)));
        const thread = producer === "a thread" ? stack.use(new Thread(key)) : null;
        for (let repeat = 0; repeat < REPEATS; repeat++) {
          using memory = new SharedMemory(key);
          const taken = Promise.all(threads.map((thread) => thread.be("consume")));
          assert.equal(memory.create(1024), true, memory.errorString());
          const offered = thread ? thread.be("produce") : produce(memory);
          const [count, counts] = await Promise.all([offered, taken]);
          assertShared(count, counts, memory.data()![1]!);
          assert.equal(memory.detach(), true);
        }
      });
    }
  }
});

async function createAndProduce(agent: Agent): Promise<number> {
  assert.equal(await agent.call("m", "create", 1024), true);
  return await agent.run(`${produce}; return await produce(objects.m);`);
}

/** Each takes its turn as the producer; the others consume what it offers. */
async function trade(key: string, agents: readonly Agent[]): Promise<void> {
  for (const agent of agents) await agent.request("memory", "m", key);
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const producer = agents[repeat % agents.length]!;
    const taken = agents.filter((agent) => agent !== producer)
      .map((agent) => agent.run(`${consume}; return await consume(objects.m);`));
    const [count, ...counts] = await Promise.all([createAndProduce(producer), ...taken]);
    const [leavers] = await producer.request("read", "m", 1, 1);
    assertShared(count, counts, leavers);
    assert.equal(await producer.call("m", "detach"), true);
  }
  for (const agent of agents) assert.equal(await agent.end(), 0);
}

describe("Qt's tests of QSharedMemory: processes", () => {
  leaveNothingBehind();

  runtimes.forEach((runtime, i) => {
    const other = runtimes[(i + 1) % runtimes.length]!;
    test(
      `A16 simpleProcessProducerConsumer: 1 process: ${runtime.name} and ${other.name}`,
      crewOnly,
      async () => {
        await trade(uniqueKey("market"), [startAgent(runtime), startAgent(other)]);
      },
    );
  });

  test(
    "A16 simpleProcessProducerConsumer: 5 processes of all runtimes consume",
    crewOnly,
    async () => {
      const agents = startMany(6);
      await trade(uniqueKey("market"), agents);
    },
  );
});

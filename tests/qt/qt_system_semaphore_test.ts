/** The cases of Qt's own `tst_qsystemsemaphore`, by their names there. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SystemSemaphore, SystemSemaphoreError, SystemSemaphoreMode } from "../../mod.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import {
  type Agent,
  capabilities,
  crewOnly,
  leaveNothingBehind,
  ownRuntime,
  runtimes,
  semaphoreValue,
  startAgent,
  undoOnly,
  uniqueKey,
  untilBlocked,
} from "../support/support.ts";

const { Create } = SystemSemaphoreMode;

function assertNoError(semaphore: SystemSemaphore): void {
  assert.equal(semaphore.error(), SystemSemaphoreError.NoError);
  assert.equal(semaphore.errorString(), "");
}

/** Each step succeeds, and leaves the value that is right. */
function assertSteps(key: string, value: number, steps: readonly ("acquire" | "release")[]): void {
  using semaphore = new SystemSemaphore(key, value, Create);
  assertNoError(semaphore);
  for (const step of steps) {
    assert.equal(semaphore[step](), true, semaphore.errorString());
    assertNoError(semaphore);
    value += step === "acquire" ? -1 : 1;
    assert.equal(semaphoreValue(key), value);
  }
}

describe("Qt's tests of QSystemSemaphore: one object", () => {
  leaveNothingBehind();

  for (
    const [constructorKey, setKey] of [
      [null, null],
      [null, uniqueKey("one")],
      [uniqueKey("one"), uniqueKey("two")],
    ] as const
  ) {
    const row = [constructorKey, setKey].map((key) => key?.split(" ")[0] ?? "null").join(", ");
    test(`B1 legacyKey: ${row}: each key set replaces the one before, and none is no error`, () => {
      using semaphore = new SystemSemaphore(constructorKey);
      assert.equal(semaphore.key(), constructorKey);
      assertNoError(semaphore);
      semaphore.setKey(setKey);
      assert.equal(semaphore.key(), setKey);
      assertNoError(semaphore);
      if (constructorKey !== null) assert.equal(semaphoreValue(constructorKey), -1);
      if (setKey !== null) assert.equal(semaphoreValue(setKey), 0);
    });
  }

  test("B3 basicacquire: it acquires what there is and releases it", () => {
    assertSteps(uniqueKey(), 1, ["acquire", "release"]);
  });

  test("B4 complexacquire: it acquires and releases in any order that the value allows", () => {
    const steps = ["acquire", "release", "acquire", "release"] as const;
    assertSteps(uniqueKey(), 2, [...steps, "acquire", "acquire", "release", "release"]);
  });

  test("B5 release: it releases what it did not acquire", () => {
    const steps = ["release", "release", "acquire", "acquire", "release", "release"] as const;
    assertSteps(uniqueKey(), 0, steps);
  });
});

/** A process with the semaphore open, as Qt's helper has it: `Open`, with the initial value 0. */
async function startHelper(runtime: Runtime, key: string): Promise<Agent> {
  const agent = startAgent(runtime);
  await agent.request("semaphore", "s", key);
  return agent;
}

async function acquireAndEnd(runtime: Runtime, key: string): Promise<void> {
  const agent = await startHelper(runtime, key);
  assert.equal(await agent.call("s", "acquire"), true);
  assert.equal(await agent.end(), 0);
}

/** The value counts on it while the process runs; the kernel takes it back at the end. */
async function releaseAndEnd(runtime: Runtime, key: string, value: number): Promise<void> {
  const agent = await startHelper(runtime, key);
  assert.equal(await agent.call("s", "release"), true);
  assert.equal(semaphoreValue(key), value);
  assert.equal(await agent.end(), 0);
}

/** Where Qt waits for 10 s, the kernel says that the process is blocked; then, as in Qt, it is killed. */
async function assertBlocks(agent: Agent, key: string): Promise<void> {
  const blocked = assert.rejects(agent.call("s", "acquire"), /ended \(SIGKILL\) in call/);
  await untilBlocked(key);
  assert.equal(semaphoreValue(key), 0);
  await agent.kill();
  await blocked;
}

describe("Qt's tests of QSystemSemaphore: processes", () => {
  leaveNothingBehind();

  test(`B7 basicProcesses: a ${ownRuntime.name} process waits for a semaphore of value 0`, async () => {
    const key = uniqueKey("store");
    using semaphore = new SystemSemaphore(key, 0, Create);
    assertNoError(semaphore);
    await assertBlocks(await startHelper(ownRuntime, key), key);
    await releaseAndEnd(ownRuntime, key, 1);
    assert.equal(semaphoreValue(key), capabilities.semaphoreUndo ? 0 : 1);
  });

  test(`B7 basicProcesses: a waiting ${ownRuntime.name} process goes on when another releases`, async () => {
    // Qt means to test this, but kills the waiting process before it starts the other one.
    const key = uniqueKey("store");
    using semaphore = new SystemSemaphore(key, 0, Create);
    assertNoError(semaphore);
    const waiting = await startHelper(ownRuntime, key);
    const acquired = waiting.call("s", "acquire");
    await untilBlocked(key);
    await releaseAndEnd(ownRuntime, key, 0);
    assert.equal(await acquired, true);
    assert.equal(await waiting.end(), 0);
  });

  test(
    `B9 undo: what a ${ownRuntime.name} process acquired is free when it ends`,
    undoOnly,
    async () => {
      const key = uniqueKey("store");
      using semaphore = new SystemSemaphore(key, 1, Create);
      assertNoError(semaphore);
      await acquireAndEnd(ownRuntime, key);
      assert.equal(semaphoreValue(key), 1);
      await acquireAndEnd(ownRuntime, key);
      assert.equal(semaphoreValue(key), 1);
    },
  );

  test(
    `B10 initialValue: a ${ownRuntime.name} process acquires 1 once, and not twice`,
    undoOnly,
    async () => {
      const key = uniqueKey("store");
      using semaphore = new SystemSemaphore(key, 1, Create);
      assertNoError(semaphore);
      await acquireAndEnd(ownRuntime, key);
      const twice = await startHelper(ownRuntime, key);
      assert.equal(await twice.call("s", "acquire"), true);
      await assertBlocks(twice, key);
      assert.equal(semaphoreValue(key), 1);
      await releaseAndEnd(ownRuntime, key, 2);
    },
  );

  for (const count of [1, 3, 10]) {
    // Qt starts `count` processes five times; ours acquire and release five times each.
    test(
      `B8 processes: of ${count} processes of all runtimes one at a time has acquired it`,
      crewOnly,
      async () => {
        const key = uniqueKey("store");
        using semaphore = new SystemSemaphore(key, 1, Create);
        assertNoError(semaphore);
        const agents = await Promise.all(
          Array.from({ length: count }, (_, i) => startHelper(runtimes[i % runtimes.length]!, key)),
        );
        let holders = 0;
        await Promise.all(agents.map(async (agent) => {
          for (let repeat = 0; repeat < 5; repeat++) {
            assert.equal(await agent.call("s", "acquire"), true);
            assert.equal(++holders, 1);
            assert.equal(semaphoreValue(key), 0);
            holders--;
            assert.equal(await agent.call("s", "release"), true);
          }
          assert.equal(await agent.end(), 0);
        }));
        assert.equal(semaphoreValue(key), 1);
      },
    );
  }
});

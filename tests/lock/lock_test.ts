import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import {
  leaveNothingBehind,
  runtimes,
  startAgent,
  uniqueKey,
  untilBlocked,
} from "../support/support.ts";

describe("the lock between processes", () => {
  leaveNothingBehind();

  for (const runtime of runtimes) {
    test(`a ${runtime.name} process waits for our lock and gets it when we unlock`, async () => {
      const key = uniqueKey();
      using memory = new SharedMemory(key);
      assert.equal(memory.create(16), true, memory.errorString());
      const agent = startAgent(runtime);
      await agent.request("memory", "m", key);
      assert.equal(await agent.call("m", "attach"), true);
      assert.equal(memory.lock(), true);
      let got = false;
      const locked = agent.call("m", "lock").then((result) => got = result);
      await untilBlocked(key);
      assert.equal(got, false);
      memory.data()![0] = 42;
      assert.equal(memory.unlock(), true);
      assert.equal(await locked, true);
      assert.deepEqual(await agent.request("read", "m", 0, 1), [42]);
      assert.equal(await agent.end(), 0);
    });

    test(`the lock of a killed ${runtime.name} process is free at once`, async () => {
      const key = uniqueKey();
      using memory = new SharedMemory(key);
      assert.equal(memory.create(16), true, memory.errorString());
      const agent = startAgent(runtime);
      await agent.request("memory", "m", key);
      assert.equal(await agent.call("m", "attach"), true);
      assert.equal(await agent.call("m", "lock"), true);
      await agent.kill();
      assert.equal(memory.lock(), true);
      assert.equal(memory.unlock(), true);
    });
  }
});

/** Two locks that two threads want crosswise, one of them by a call that was given up. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import { leaveNothingBehind, ownRuntime, slow, startAgent, uniqueKey } from "../support/support.ts";

describe("a lock that was taken for nobody", () => {
  leaveNothingBehind();

  test(`does not let two ${ownRuntime.name} processes wait for each other`, slow, async () => {
    const keys = [uniqueKey("X"), uniqueKey("Y")];
    using x = SharedMemory.open(keys[0]!, { size: 8 });
    using y = SharedMemory.open(keys[1]!, { size: 8 });
    assert.equal(x.lock() && y.lock(), true);
    const agents = [startAgent(ownRuntime), startAgent(ownRuntime)];
    for (const agent of agents) {
      await agent.request("memory", "x", keys[0]);
      await agent.request("memory", "y", keys[1]);
      assert.equal(await agent.call("x", "attach") && await agent.call("y", "attach"), true);
    }
    const crosswise = agents.map((agent, i) => {
      const [given, wanted] = i === 0 ? ["x", "y"] : ["y", "x"];
      return agent.run(`
        const { ${given}: given, ${wanted}: wanted } = objects;
        if (await given.lockAsync({ timeout: 30 })) throw new Error("it was not free");
        while (!wanted.lock()) {
          if (!/given up/.test(wanted.errorString())) throw new Error(wanted.errorString());
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        return wanted.unlock();`);
    });
    await new Promise((resolve) => setTimeout(resolve, 80));
    assert.equal(x.unlock() && y.unlock(), true);
    assert.deepEqual(await Promise.all(crosswise), [true, true]);
    for (const agent of agents) assert.equal(await agent.end(), 0);
  });
});

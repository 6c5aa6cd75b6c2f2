/** Two locks that two threads want crosswise, one of them by a call that was given up. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import {
  leaveNothingBehind,
  ownRuntime,
  slow,
  startAgent,
  uniqueKey,
  until,
} from "../support/support.ts";

describe("a lock that was taken for nobody", () => {
  leaveNothingBehind();

  test(`does not let two ${ownRuntime.name} processes wait for each other`, slow, async () => {
    const keys = [uniqueKey("X"), uniqueKey("Y"), uniqueKey("given up")];
    using x = SharedMemory.open(keys[0]!, { size: 8 });
    using y = SharedMemory.open(keys[1]!, { size: 8 });
    using count = SharedMemory.open(keys[2]!, { size: 8 });
    const givenUp = count.view(Int32Array);
    assert.equal(x.lock() && y.lock(), true);
    const agents = [startAgent(ownRuntime), startAgent(ownRuntime)];
    for (const agent of agents) {
      await agent.request("memory", "x", keys[0]);
      await agent.request("memory", "y", keys[1]);
      await agent.request("memory", "count", keys[2]);
      for (const name of ["x", "y", "count"]) assert.equal(await agent.call(name, "attach"), true);
    }
    const crosswise = agents.map((agent, i) => {
      const [given, wanted] = i === 0 ? ["x", "y"] : ["y", "x"];
      return agent.run(`
        const { ${given}: given, ${wanted}: wanted } = objects;
        if (await given.lockAsync({ timeout: 30 })) throw new Error("it was not free");
        Atomics.add(objects.count.view(Int32Array), 0, 1);
        while (!wanted.lock()) {
          if (!/given up/.test(wanted.errorString())) throw new Error(wanted.errorString());
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        return wanted.unlock();`);
    });
    await until(() => Atomics.load(givenUp, 0) === agents.length, "both have given up");
    assert.equal(x.unlock() && y.unlock(), true);
    assert.deepEqual(await Promise.all(crosswise), [true, true]);
    for (const agent of agents) assert.equal(await agent.end(), 0);
  });
});

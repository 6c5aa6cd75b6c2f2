/** What ./testing gives to the tests of others. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMap, utf8 } from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { cleanupAfter, uniqueKey } from "../../testing.ts";
import {
  endAll,
  leaveNothingBehind,
  linuxOnly,
  runtimes,
  slow,
  startAgent,
} from "../support/support.ts";

/** Registers the hook as a test runner does, and returns what runs it. */
function hooked(): () => void {
  const hooks: (() => void)[] = [];
  cleanupAfter((hook) => hooks.push(hook));
  assert.equal(hooks.length, 1);
  return hooks[0]!;
}

function isThere(key: string): boolean {
  using memory = new SharedMemory(key);
  return memory.attach();
}

describe("uniqueKey()", () => {
  test("returns another key each time, which begins with a name", () => {
    const keys = Array.from({ length: 100 }, () => uniqueKey("cart"));
    assert.equal(new Set(keys).size, 100);
    assert.ok(keys.every((key) => key.startsWith("cart ")));
    assert.match(uniqueKey(), /^test /);
  });
});

describe("cleanupAfter()", () => {
  leaveNothingBehind();

  test("has nothing to do where nothing was left", () => {
    const cleanUp = hooked();
    uniqueKey();
    {
      using map = SharedMap.open(uniqueKey(), { bytes: 2 ** 14, codec: utf8 });
      map.set("a", "x");
    }
    cleanUp();
    cleanUp();
  });

  test("removes what is to stay until it is removed", () => {
    const cleanUp = hooked();
    const key = uniqueKey();
    SharedMemory.open(key, { size: 64, lifetime: "until-removed" }).detach();
    assert.equal(isThere(key), true);
    cleanUp();
    assert.equal(isThere(key), false);
  });

  for (const runtime of runtimes) {
    test(`removes what a killed process of ${runtime.name} has left`, {
      ...slow,
      ...linuxOnly,
    }, async () => {
      const cleanUp = hooked();
      const [memory, semaphore] = [uniqueKey(), uniqueKey()];
      const agent = startAgent(runtime);
      await agent.request("memory", "m", memory);
      assert.equal(await agent.call("m", "create", 64), true);
      assert.equal(await agent.call("m", "lock"), true);
      await agent.request("semaphore", "s", semaphore, 3);
      assert.equal(await agent.call("s", "acquire"), true);
      await agent.kill();
      cleanUp();
      assert.equal(isThere(memory), false);
    });
  }

  test("throws as long as something is attached, here or in another process", slow, async () => {
    const cleanUp = hooked();
    const own = uniqueKey("own");
    const memory = SharedMemory.open(own, { size: 64 });
    assert.throws(cleanUp, new RegExp(`still attached by .*: "${own}"; dispose`));
    memory.detach();
    const other = uniqueKey("other");
    const agent = startAgent(runtimes[0]!);
    await agent.request("memory", "m", other);
    assert.equal(await agent.call("m", "create", 64), true);
    assert.throws(cleanUp, new RegExp(`"${other}"`));
    await endAll([agent]);
    cleanUp();
  });
});

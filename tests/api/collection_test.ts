/** Views that outlive their object, their segment or an explicit detach: memory safety under the collector. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import {
  type Agent,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  startAgent,
  transferOnly,
  uniqueKey,
} from "../support/support.ts";
import { segmentRow, watchObjects } from "../support/systemv_tables.ts";

const FLAGS = {
  deno: linuxOnly.skip === undefined
    ? ["--v8-flags=--expose-gc", "--allow-read=/dev/zero", "--allow-write=/dev/null"]
    : ["--v8-flags=--expose-gc", "--allow-read", "--allow-write"],
  bun: [],
  node: ["--expose-gc"],
  qt: [],
};

/** An agent that can collect its garbage, with a SharedMemory class at hand. */
async function startCollecting(key: string): Promise<Agent> {
  const agent = startAgent(ownRuntime, {}, FLAGS[ownRuntime.name]);
  await agent.run(`
    globalThis.SharedMemory = library.SharedMemory;
    globalThis.key = ${JSON.stringify(key)};
    globalThis.builtin = process.getBuiltinModule;
    globalThis.attached = () => {
      const memory = new SharedMemory(key);
      if (!memory.attach()) throw new Error(memory.errorString());
      return memory;
    };
    globalThis.collect = async () => {
      globalThis.gc ? gc() : Bun.gc(true);
      Array.from({ length: 1000 }, (_, i) => new Uint8Array(i)); // pressure: reuse what was freed
      await new Promise((done) => setTimeout(done, 1)); // finalizers are tasks of their own
    };`);
  return agent;
}

/** Lets the agent collect until \`condition\` holds; when it does is up to the collector. */
async function collectUntil(agent: Agent, condition: () => boolean, what: string): Promise<void> {
  for (let round = 0; !condition(); round++) {
    assert.ok(round < 200, `not after ${round} collections: ${what}`);
    await agent.run("await collect();");
  }
}

function attachCount(key: string): number {
  return Number(segmentRow(key)["nattch"]);
}

function descriptors(agent: Agent): number {
  return readdirSync(`/proc/${agent.child.pid}/fd`).length;
}

function virtualBytes(agent: Agent): number {
  const status = readFileSync(`/proc/${agent.child.pid}/status`, "utf8");
  return Number(/VmSize:\s+(\d+)/.exec(status)![1]) * 1024;
}

function mappings(agent: Agent): number {
  return readFileSync(`/proc/${agent.child.pid}/maps`, "utf8").split("\n").length;
}

describe("the collector", linuxOnly, () => {
  leaveNothingBehind();

  test(
    "leaves a segment attached as long as a view is in use, and detaches it after that",
    slow,
    async () => {
      using memory = new SharedMemory(uniqueKey());
      assert.equal(memory.create(4096), true, memory.errorString());
      const key = memory.key()!;
      const agent = await startCollecting(key);
      await agent.run(`
      globalThis.objectsGone = 0;
      const registry = new FinalizationRegistry(() => objectsGone++);
      (() => {
        const memory = attached();
        registry.register(memory);
        globalThis.view = memory.view(Int32Array, 8, 4);
      })();
      globalThis.registry = registry;`);
      let gone = 0;
      for (let round = 0; gone === 0; round++) {
        assert.ok(round < 200, "the object is not collected");
        gone = await agent.run("await collect(); return objectsGone;");
      }
      for (let round = 1; round <= 20; round++) {
        memory.view(Int32Array)[5] = round;
        assert.deepEqual(await agent.run("await collect(); return [...view];"), [0, 0, 0, round]);
      }
      await agent.run("view[0] = 77;");
      assert.equal(memory.view(Int32Array)[2], 77);
      assert.equal(attachCount(key), 2);
      await agent.run("view = null;");
      await collectUntil(agent, () => attachCount(key) === 1, "the collection of the last view");
      assert.equal(await agent.end(), 0);
    },
  );

  test("lets the last one out remove the segment", slow, async () => {
    const key = uniqueKey();
    const agent = await startCollecting(key);
    await agent.run(`
      globalThis.memory = new SharedMemory(key);
      if (!memory.create(100)) throw new Error(memory.errorString());`);
    const left = watchObjects(key);
    assert.equal(left().length, 4);
    await agent.run("globalThis.memory = null;");
    await collectUntil(agent, () => left().length === 0, "the removal of the segment");
    assert.equal(await agent.end(), 0);
  });

  test(
    "finds nothing of segments that were detached: no mapping, no descriptor",
    slow,
    async () => {
      using memory = new SharedMemory(uniqueKey());
      const size = 2 ** 27; // a leak of a few shows in the address space
      assert.equal(memory.create(size), true, memory.errorString());
      const agent = await startCollecting(memory.key()!);
      await agent.run("attached().detach(); await collect();");
      const before = { descriptors: descriptors(agent), mappings: mappings(agent) };
      const bound = virtualBytes(agent) + 50 * size;
      // Nobody ever asks for the bytes of some.
      await agent.run(`
      for (let i = 0; i < 500; i++) {
        const memory = attached();
        if (i % 5 > 0) memory.data();
        memory.detach();
      }`);
      await collectUntil(agent, () => virtualBytes(agent) < bound, "the release of 450 mappings");
      // Ranges that are not yet freed lie side by side and make one mapping.
      assert.ok(mappings(agent) < before.mappings + 250, `${mappings(agent)} mappings`);
      assert.ok(descriptors(agent) < before.descriptors + 250, `${descriptors(agent)} descriptors`);
      assert.equal(attachCount(memory.key()!), 1);
      assert.equal(await agent.end(), 0);
    },
  );

  test("detaches segments that were dropped, and closes their files", slow, async () => {
    using memory = new SharedMemory(uniqueKey());
    assert.equal(memory.create(4096), true, memory.errorString());
    const key = memory.key()!;
    const agent = await startCollecting(key);
    await agent.run("attached();");
    await collectUntil(agent, () => attachCount(key) === 1, "the first");
    const before = { descriptors: descriptors(agent), mappings: mappings(agent) };
    for (let round = 0; round < 3; round++) {
      await agent.run(`for (let i = 0; i < 200; i++) attached().data()[0] = i;`);
      // Where the stack is searched for pointers, what looks like one may keep a few for a while.
      await collectUntil(agent, () => attachCount(key) < 10, "the collection of 200 views");
    }
    // The address ranges stay reserved: a collected buffer may have been transferred elsewhere.
    assert.ok(mappings(agent) < before.mappings + 400, `${mappings(agent)} mappings`);
    assert.ok(descriptors(agent) < before.descriptors + 100, `${descriptors(agent)} descriptors`);
    assert.equal(await agent.end(), 0);
  });
});

describe("a buffer that was transferred away", { ...linuxOnly, ...transferOnly }, () => {
  leaveNothingBehind();

  const transfers = {
    "buffer.transfer()": "memory.data().buffer.transfer()",
    "structuredClone()":
      "structuredClone(memory.data(), { transfer: [memory.data().buffer] }).buffer",
    "a MessagePort": `await new Promise((done) => {
        const { port1, port2 } = new (builtin("worker_threads").MessageChannel)();
        port2.on("message", (view) => (port1.close(), done(view.buffer)));
        port1.postMessage(memory.data(), [memory.data().buffer]);
      })`,
  };
  for (const [what, transfer] of Object.entries(transfers)) {
    test(`through ${what} shows the segment until detach(), and then zeros`, slow, async () => {
      using memory = new SharedMemory(uniqueKey());
      assert.equal(memory.create(4096), true, memory.errorString());
      memory.data()!.fill(7);
      const agent = await startCollecting(memory.key()!);
      await agent.run(`
        globalThis.memory = attached();
        globalThis.before = memory.data();
        globalThis.alias = new Uint8Array(${transfer});`);
      assert.deepEqual(
        await agent.run("return [before.length, alias.length, alias[0], memory.isAttached()]"),
        [0, 4096, 7, true],
      );
      await agent.run("alias[1] = 8;");
      assert.deepEqual([...memory.data()!.subarray(0, 3)], [7, 8, 7]);
      // The object's own buffer is gone, and it says so instead of making half a view.
      await assert.rejects(agent.run("memory.view(Uint8Array)"), { name: "SharedMemoryException" });
      assert.equal(await agent.run("return memory.detach()"), true);
      assert.equal(attachCount(memory.key()!), 1);
      assert.deepEqual(await agent.run("return [...new Set(alias)]"), [0]);
      await agent.run("alias.fill(9); memory = null; before = null;");
      for (let round = 0; round < 5; round++) {
        await agent.run("attached().detach(); await collect();");
      }
      assert.deepEqual(await agent.run("return [alias.length, ...new Set(alias)]"), [4096, 9]);
      assert.equal(memory.data()![0], 7);
      assert.equal(await agent.end(), 0);
    });
  }

  test("never crashes, whether its object is collected or the program ends", slow, async () => {
    using memory = new SharedMemory(uniqueKey());
    assert.equal(memory.create(4096), true, memory.errorString());
    const key = memory.key()!;
    memory.data()!.fill(7);
    const agent = await startCollecting(key);
    await agent.run("globalThis.alias = new Uint8Array(attached().data().buffer.transfer());");
    // Nothing is left by which we could know that the alias exists.
    await collectUntil(agent, () => attachCount(key) === 1, "the collection of the object");
    assert.deepEqual(await agent.run("return [alias.length, ...new Set(alias)]"), [4096, 0]);
    await agent.run(`
      globalThis.kept = attached();
      globalThis.other = new Uint8Array(kept.data().buffer.transfer());
      builtin("process").on("exit", () => { other[0] = alias[0] = 5; });`);
    assert.equal(await agent.end(), 0);
    assert.equal(attachCount(key), 1);
  });
});

describe("detach() while native code works on a view", () => {
  leaveNothingBehind();

  const [SOURCE, SINK] = linuxOnly.skip === undefined
    ? ["/dev/zero", "/dev/null"]
    : ["deno.json", "NUL"];
  // Each starts with `view` and calls \`done\` however it ends. That the view is gone may be an error.
  const operations = {
    "node:crypto randomFill": `builtin("crypto").randomFill(view, done);`,
    "node:zlib deflate": `builtin("zlib").deflate(view, done);`,
    "crypto.subtle.digest": `crypto.subtle.digest("SHA-256", view).then(done, done);`,
    "a write to a file": `const fd = fs.openSync("${SINK}", "w");
      fs.write(fd, view, 0, view.length, 0, () => (fs.closeSync(fd), done()));`,
    "a read from a file": `const fd = fs.openSync("${SOURCE}", "r");
      fs.read(fd, view, 0, view.length, 0, () => (fs.closeSync(fd), done()));`,
  };
  for (const [what, start] of Object.entries(operations)) {
    test(`does not crash in ${what}`, slow, async () => {
      const key = uniqueKey();
      const agent = await startCollecting(key);
      // Deno's randomFill throws where nobody can catch it when its array has become empty.
      const stray = await agent.run(`
        globalThis.stray = [];
        builtin("process").on("uncaughtException", (error) => stray.push(error.message));
        globalThis.addEventListener?.("unhandledrejection", (event) => {
          event.preventDefault();
          stray.push(event.reason.message);
          ended();
        });
        const fs = builtin("fs");
        globalThis.kept = [];
        for (let round = 0; round < 100; round++) {
          const memory = new SharedMemory(key);
          if (!memory.create(2 ** 18)) throw new Error(memory.errorString());
          const view = memory.data();
          view.fill(1);
          const finished = new Promise((done) => {
            globalThis.ended = done;
            try { ${start} } catch { done(); }
          });
          if (round % 2) await null;
          if (round % 3 === 0) await new Promise((done) => setImmediate(done));
          if (!memory.detach()) throw new Error(memory.errorString());
          if (round % 10 === 0) await collect();
          // Bun's engine cannot empty a view that native code uses; what it shows is private then.
          if (view.length !== 0 && typeof Bun === "undefined") throw new Error("a view is left");
          if (memory.data() !== null) throw new Error("data() is left");
          if (round % 4 === 0) kept.push(view);
          await finished;
        }
        for (const view of kept) { view[0] = 3; if (view.length > 0) view.fill(4); }
        kept.length = 0;
        for (let round = 0; round < 5; round++) await collect();
        return stray.filter((message) => !/detached/.test(message));`);
      assert.deepEqual(stray, []);
      assert.equal(await agent.end(), 0);
    });
  }
});

/** createOrAttach() and open(): making a segment without a race, and what a crash leaves. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { type OpenOptions, SharedMemory, SharedMemoryError } from "../../mod.ts";
import {
  type Agent,
  capabilities,
  crewOnly,
  DEADLINE_MS,
  ipcObjects,
  ipcObjectsSince,
  keyFolder,
  leaveNothingBehind,
  segmentFile,
  sizeOf,
  staleOnly,
  startMany,
} from "../support/support.ts";
import { ownRuntime, slow, startAgent, uniqueKey, withDeadline } from "../support/support.ts";

/** Makes a segment that begins with `byte`, to which nobody is attached any more. */
async function leaveStale(key: string, byte = 42, size = 64): Promise<void> {
  const agent = startAgent(ownRuntime);
  await agent.request("memory", "m", key);
  assert.equal(await agent.call("m", "create", size), true);
  await agent.request("write", "m", 0, [byte]);
  await agent.kill();
}

function unfinishedFiles(): string[] {
  if (!capabilities.survivesCrash) return [];
  return readdirSync(keyFolder).filter((name) => name.startsWith("qipc_creating_"));
}

describe("createOrAttach()", () => {
  leaveNothingBehind();

  test("makes the segment, and attaches to the one that exists", () => {
    const key = uniqueKey();
    using first = new SharedMemory(key);
    using second = new SharedMemory(key);
    assert.equal(first.createOrAttach(100), true, first.errorString());
    assert.equal(first.size(), sizeOf(100));
    first.data()![99] = 5;
    assert.equal(second.createOrAttach(50), true, second.errorString());
    assert.equal(second.size(), sizeOf(100));
    assert.equal(second.data()![99], 5);
  });

  test("is an error that names both sizes if the segment is smaller", () => {
    const key = uniqueKey();
    using first = new SharedMemory(key);
    const second = new SharedMemory(key);
    assert.equal(first.create(100), true);
    const size = sizeOf(100);
    assert.equal(second.createOrAttach(size + 1), false);
    assert.equal(second.error(), SharedMemoryError.InvalidSize);
    const text = `the segment has ${size} bytes, fewer than the ${size + 1}`;
    assert.ok(second.errorString().includes(text), second.errorString());
    assert.equal(second.isAttached(), false);
    assert.equal(first.lock() && first.unlock(), true, first.errorString());
  });

  test("replaces a segment that nobody is attached to, whatever its size", async () => {
    for (const size of [10, 64, 1000]) {
      const key = uniqueKey();
      await leaveStale(key);
      using memory = new SharedMemory(key);
      assert.equal(memory.createOrAttach(size), true, memory.errorString());
      assert.deepEqual([memory.size(), memory.data()![0]], [sizeOf(size), 0]);
    }
  });

  test("does not wait for a user who holds the lock", () => {
    const key = uniqueKey();
    using first = new SharedMemory(key);
    using second = new SharedMemory(key);
    assert.equal(first.create(100) && first.lock(), true, first.errorString());
    assert.equal(second.createOrAttach(100), true, second.errorString());
    assert.equal(second.tryLock(), false);
  });

  test("checks what it is given before it does anything", () => {
    const before = ipcObjects();
    const memory = new SharedMemory(uniqueKey());
    for (const size of [0, -1]) {
      assert.equal(memory.createOrAttach(size), false);
      assert.equal(memory.error(), SharedMemoryError.InvalidSize);
    }
    for (const size of [NaN, 1.5, 2 ** 53]) {
      assert.throws(() => memory.createOrAttach(size), RangeError);
    }
    assert.throws(() => memory.createOrAttach("9" as never), TypeError);
    assert.throws(() => memory.createOrAttach(9, 2 as never), TypeError);
    assert.equal(new SharedMemory().createOrAttach(9), false);
    const native = new SharedMemory();
    native.setNativeKey(segmentFile("some native key"));
    assert.equal(native.createOrAttach(9), false);
    assert.match(native.errorString(), /a native key that is a string has no lock/);
    assert.deepEqual(ipcObjectsSince(before), []);
  });
});

describe("SharedMemory.open()", () => {
  leaveNothingBehind();

  test("attaches without a size, and throws if there is nothing", () => {
    const key = uniqueKey();
    assert.throws(() => SharedMemory.open(key), {
      name: "SharedMemoryException",
      code: "NotFound",
      key,
    });
    using made = SharedMemory.open(key, { size: 16 });
    using found = SharedMemory.open(key);
    assert.deepEqual([made.size(), found.size()], [sizeOf(16), sizeOf(16)]);
  });

  test("makes only, if so asked", async () => {
    const key = uniqueKey();
    {
      using made = SharedMemory.open(key, { size: 16, disposition: "create" });
      assert.equal(made.size(), sizeOf(16));
      const again = () => SharedMemory.open(key, { size: 16, disposition: "create" });
      assert.throws(again, { code: "AlreadyExists" });
    }
    await leaveStale(key);
    using fresh = SharedMemory.open(key, { size: 16, disposition: "create" });
    assert.deepEqual([fresh.size(), fresh.data()![0]], [sizeOf(16), 0]);
  });

  test("keeps the bytes of a stale segment on request", staleOnly, async () => {
    const key = uniqueKey();
    await leaveStale(key, 42);
    let called = false;
    using memory = SharedMemory.open(key, {
      size: 16,
      stale: "keep",
      initialize: () => called = true,
    });
    assert.deepEqual([memory.size(), memory.data()![0], called], [64, 42, false]);
  });

  test(
    "refuses a stale segment that is to be kept and is too small, which stays",
    staleOnly,
    async () => {
      const key = uniqueKey();
      await leaveStale(key, 42, 8);
      assert.throws(() => SharedMemory.open(key, { size: 16, stale: "keep" }), {
        code: "InvalidSize",
      });
      using memory = SharedMemory.open(key, { size: 8, stale: "keep" });
      assert.equal(memory.data()![0], 42);
    },
  );

  test("fills a new segment before others find it, and only then", () => {
    const key = uniqueKey();
    using memory = SharedMemory.open(key, {
      size: 16,
      initialize(bytes) {
        assert.equal(new SharedMemory(key).attach(), false);
        assert.deepEqual(bytes, new Uint8Array(sizeOf(16)));
        bytes.fill(7);
      },
    });
    using other = SharedMemory.open(key, { size: 16, initialize: () => assert.fail("again") });
    assert.deepEqual([memory.data()![15], other.data()![15]], [7, 7]);
    assert.equal(memory.lock() && memory.unlock(), true, memory.errorString());
  });

  test("leaves nothing if initialize throws, and throws that", () => {
    const before = ipcObjects();
    const key = uniqueKey();
    const mine = new Error("mine");
    let kept: Uint8Array | undefined;
    const open = () =>
      SharedMemory.open(key, {
        size: 16,
        initialize(bytes) {
          kept = bytes;
          throw mine;
        },
      });
    assert.throws(open, (error) => error === mine);
    assert.equal(kept!.length, 0);
    assert.deepEqual(ipcObjectsSince(before), []);
    using memory = new SharedMemory(key);
    assert.equal(memory.create(16), true, memory.errorString());
  });

  test("in initialize on the same key is refused instead of waiting for itself", () => {
    const key = uniqueKey();
    using memory = SharedMemory.open(key, {
      size: 16,
      initialize() {
        const inner = () => SharedMemory.open(key, { size: 16, timeout: Infinity });
        assert.throws(inner, {
          code: "LockError",
          message: /initialize or adopt of the same segment is running in this thread/,
        });
        const creator = new SharedMemory(key);
        assert.equal(creator.create(16), false);
        assert.match(
          creator.errorString(),
          /initialize or adopt of the same segment is running in this/,
        );
      },
    });
    assert.equal(memory.size(), sizeOf(16));
  });

  test("refuses options that are not what they should be", () => {
    const before = ipcObjects();
    const wrong: [unknown, ErrorConstructor][] = [
      [{ size: "9" }, TypeError],
      [{ size: 1.5 }, RangeError],
      [{ size: 9, mode: 3 }, TypeError],
      [{ size: 9, disposition: "open" }, TypeError],
      [{ disposition: "create" }, TypeError],
      [{ size: 9, stale: "delete" }, TypeError],
      [{ size: 9, timeout: "9" }, TypeError],
      [{ size: 9, timeout: -1 }, RangeError],
      [{ size: 9, timeout: NaN }, RangeError],
      [{ size: 9, initialize: 9 }, TypeError],
      [{ size: 9, permissions: 0o777 }, TypeError],
      [{ size: 9, permissions: "0o600" }, TypeError],
    ];
    for (const [options, type] of wrong) {
      assert.throws(() => SharedMemory.open(uniqueKey(), options as OpenOptions), (error) => {
        assert.ok(error instanceof type, `${JSON.stringify(options)}: ${error}`);
        return true;
      });
    }
    assert.throws(() => SharedMemory.open(5 as never), TypeError);
    assert.throws(() => SharedMemory.open("", { size: 9 }), { code: "KeyError" });
    assert.deepEqual(ipcObjectsSince(before), []);
  });
});

describe("many processes that open one segment at once", () => {
  leaveNothingBehind();

  /** Everybody opens `key` at the same moment; answers how often `initialize` was called. */
  async function race(agents: Agent[], key: string, source: string): Promise<number> {
    const start = Date.now() + 100;
    const calls = await Promise.all(agents.map((agent) =>
      agent.run(`
        while (Date.now() < ${start});
        let made = 0;
        objects.m = library.SharedMemory.open(${JSON.stringify(key)}, {
          size: 4096,
          initialize(bytes) {
            made++;
            for (let i = 0; i < bytes.length; i++) bytes[i] = 1;
          },
        });
        const sum = objects.m.data().reduce((a, b) => a + b);
        if (sum !== 4096) throw new Error("half initialised: " + sum);
        ${source}
        return made;
      `)
    ));
    return calls.reduce((sum, made) => sum + made, 0);
  }

  test(
    "have exactly one creator, whose initialize is over before anybody sees it",
    { ...slow, ...crewOnly },
    async () => {
      const agents = startMany(9);
      for (let round = 0; round < 20; round++) {
        const key = uniqueKey();
        assert.equal(await race(agents, key, ""), 1);
        await Promise.all(agents.map((agent) => agent.call("m", "detach")));
      }
      assert.deepEqual(await Promise.all(agents.map((agent) => agent.end())), agents.map(() => 0));
    },
  );

  test("replace a stale one only once", { ...slow, ...crewOnly }, async () => {
    const agents = startMany(6);
    for (let round = 0; round < 5; round++) {
      const key = uniqueKey();
      await leaveStale(key, 1, 4096);
      assert.equal(await race(agents, key, ""), 1);
      await Promise.all(agents.map((agent) => agent.call("m", "detach")));
    }
    await Promise.all(agents.map((agent) => agent.end()));
  });

  test("can make and leave it again and again", { ...slow, ...crewOnly }, async () => {
    const agents = startMany(6);
    const key = uniqueKey();
    await Promise.all(agents.map((agent) =>
      agent.run(`
        for (let i = 0; i < 300; i++) {
          const memory = library.SharedMemory.open(${JSON.stringify(key)}, {
            size: 64,
            initialize: (bytes) => bytes.fill(9),
          });
          if (memory.data().some((byte) => byte !== 9)) throw new Error("half initialised");
          if (!memory.detach()) throw new Error(memory.errorString());
        }
      `)
    ));
    await Promise.all(agents.map((agent) => agent.end()));
  });

  test(`begin anew if ${ownRuntime.name} is killed in initialize`, slow, async () => {
    const key = uniqueKey();
    const creator = startAgent(ownRuntime);
    const dying = creator.run(`
      library.SharedMemory.open(${JSON.stringify(key)}, {
        size: 64,
        initialize(bytes) {
          bytes[0] = 66;
          process.kill(process.pid, "SIGKILL");
          for (;;);
        },
      });
    `);
    await assert.rejects(dying, /ended \((SIGKILL|1)\)/); // Windows has no signals
    if (capabilities.survivesCrash) assert.equal(unfinishedFiles().length, 1);
    assert.equal(new SharedMemory(key).attach(), false);
    let before = -1;
    using memory = SharedMemory.open(key, {
      size: 64,
      initialize: (bytes) => before = bytes[0]!,
    });
    assert.equal(before, 0);
    assert.equal(memory.data()![0], 0);
    assert.deepEqual(unfinishedFiles(), []);
  });

  test(`remove what ${ownRuntime.name} was making when it ends in initialize`, slow, async () => {
    const before = ipcObjects();
    const agent = startAgent(ownRuntime);
    const source = `
      library.SharedMemory.open(${JSON.stringify(uniqueKey())}, {
        size: 64,
        initialize: () => process.exit(5),
      });
    `;
    agent.run(source).catch(() => {});
    assert.equal(await withDeadline(agent.ended, "the exit"), 5);
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  test(`wait for ${ownRuntime.name} that takes its time in initialize`, slow, async () => {
    const key = uniqueKey();
    using said = SharedMemory.open(uniqueKey("said"), { size: 4 });
    const isTold = said.view(Int32Array);
    const creator = startAgent(ownRuntime);
    const busy = creator.run(`
      const said = library.SharedMemory.open(${JSON.stringify(said.key())});
      const isTold = said.view(Int32Array);
      const open = () => library.SharedMemory.open(${JSON.stringify(key)}, {
        size: 64,
        initialize(bytes) {
          console.log(JSON.stringify({ value: "in initialize" }));
          while (Atomics.load(isTold, 0) === 0);
          const end = Date.now() + 2500;
          while (Date.now() < end);
          bytes.fill(3);
        },
      });
      objects.m = open();
      return objects.m.size();
    `);
    assert.equal(await busy, "in initialize");
    const impatient = () => SharedMemory.open(key, { size: 64, timeout: 20 });
    const who = capabilities.namesHolder
      ? `the lock is held by process ${creator.child.pid} `
      : "the lock is held by a process or thread that is creating the segment";
    assert.throws(impatient, { code: "LockError", message: new RegExp(`timed out: ${who}`) });
    Atomics.store(isTold, 0, 1);
    using memory = SharedMemory.open(key, { size: 64, timeout: DEADLINE_MS });
    assert.equal(memory.data()![0], 3);
    await creator.kill();
  });
});

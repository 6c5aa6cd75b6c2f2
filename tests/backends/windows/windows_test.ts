/** On Windows itself: each runtime with each other, with a program that is like Qt's, and what is Windows' own. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  AccessMode,
  NativeIpcKey,
  NativeIpcKeyType,
  SharedMemory,
  SystemSemaphore,
} from "../../../mod.ts";
import {
  attached,
  created,
  ownPeer,
  served,
  startAttached,
  startHolder,
} from "../../support/peers.ts";
import { expectTrue } from "../../support/qt_pairs.ts";
import {
  Agent,
  crewOnly,
  ipcObjects,
  ipcObjectsSince,
  isRequired,
  leaveNothingBehind,
  runtimes,
} from "../../support/support.ts";
import {
  segmentFile,
  semaphoreFile,
  semaphoreValue,
  slow,
  startAgent,
} from "../../support/support.ts";
import { uniqueKey, until, untilBlocked, withDeadline } from "../../support/support.ts";
import { handleCount } from "../../support/windows_objects.ts";

const here = process.platform === "win32" ? {} : { skip: "is about Windows" };
const patient = { ...slow, ...here };
const crew = { ...patient, ...crewOnly };

/** Waits until the lock is free: the thread of an asynchronous call that is over may take it once more for a moment. */
async function untilFree(key: string): Promise<void> {
  await until(() => semaphoreValue(key) === 1, "the lock is free");
}

function windowsKey(name: string): NativeIpcKey {
  return new NativeIpcKey(name, NativeIpcKeyType.Windows);
}

describe("each runtime with each on Windows", here, () => {
  leaveNothingBehind();

  for (const first of runtimes) {
    for (const second of runtimes) {
      test(
        `${first.name} creates, ${second.name} attaches, both write, and exclude each other`,
        crew,
        async () => {
          const key = uniqueKey();
          const [creator, joiner] = [startAgent(first), startAgent(second)];
          await creator.request("memory", "m", key);
          await expectTrue(creator, "create", 5000);
          await joiner.request("memory", "m", key);
          await expectTrue(joiner, "attach");
          for (const agent of [creator, joiner]) assert.equal(await agent.call("m", "size"), 8192);
          await creator.request("write", "m", 4998, [1, 2, 3]);
          await joiner.request("write", "m", 8191, [4]);
          assert.deepEqual(await joiner.request("read", "m", 4997, 5), [0, 1, 2, 3, 0]);
          assert.deepEqual(await creator.request("read", "m", 8190, 2), [0, 4]);

          const count = `
          const { m } = objects;
          const numbers = m.view(Int32Array);
          for (let i = 0; i < 500; i++) {
            if (!m.lock()) throw new Error(m.errorString());
            const number = numbers[0];
            for (let spin = 0; spin < 100; spin++) numbers[1]++;
            numbers[0] = number + 1;
            if (!m.unlock()) throw new Error(m.errorString());
          }`;
          await Promise.all([creator.run(count), joiner.run(count)]);
          assert.deepEqual(await creator.run("return [...objects.m.view(Int32Array, 0, 2)];"), [
            1000,
            100_000,
          ]);
          assert.equal(semaphoreValue(key), 1);
          assert.equal(await creator.end(), 0);
          assert.deepEqual(await joiner.request("read", "m", 8190, 2), [0, 4]);
          assert.equal(await joiner.end(), 0);
        },
      );

      test(`${second.name} gets the lock of ${first.name} that is killed`, crew, async () => {
        using memory = created();
        const key = memory.key()!;
        const holder = await startAttached({ ...ownPeer, start: () => startAgent(first) }, key);
        const heir = await startAttached({ ...ownPeer, start: () => startAgent(second) }, key);
        for (const how of ["lock", "tryLock", "lockAsync"]) {
          const victim = how === "lock"
            ? holder
            : await startAttached({ ...ownPeer, start: () => startAgent(first) }, key);
          await expectTrue(victim, "lock");
          const locked = how === "tryLock" ? heir.call("m", how, 20_000) : heir.call("m", how);
          await untilBlocked(key);
          await victim.kill();
          assert.equal(await locked, true);
          assert.equal(semaphoreValue(key), 0);
          assert.equal(memory.tryLock(), false);
          await expectTrue(heir, "unlock");
          await untilFree(key);
        }
        assert.equal(await heir.end(), 0);
      });
    }
  }
});

describe("what is killed while it takes the lock on Windows", here, () => {
  leaveNothingBehind();

  for (const runtime of runtimes) {
    // The other thread takes it, and the event loop never turns again.
    test(`in the background of ${runtime.name} is no holder for ever`, crew, async () => {
      using memory = created();
      const key = memory.key()!;
      assert.equal(memory.lock(), true);
      const agent = await startAttached({ ...ownPeer, start: () => startAgent(runtime) }, key);
      const stuck = agent.run(`
        void objects.m.lockAsync();
        await new Promise((resolve) => setTimeout(resolve, 50));
        console.log(JSON.stringify({ value: "busy" }));
        for (;;);`);
      assert.equal(await stuck, "busy");
      assert.equal(memory.unlock(), true);
      await new Promise((resolve) => setTimeout(resolve, 50));
      await agent.kill();
      assert.equal(await served(memory.lockAsync()), true, memory.errorString());
      assert.equal(memory.unlock(), true);
      await untilFree(key);
    });
  }

  test("and was only slow, learns that it is too late", patient, async () => {
    using memory = created();
    const key = memory.key()!;
    assert.equal(memory.lock(), true);
    const agent = await startAttached(ownPeer, key);
    const words = memory.view(Int32Array);
    const slowly = agent.run(`
      const words = objects.m.view(Int32Array);
      const locked = objects.m.lockAsync();
      await new Promise((resolve) => setTimeout(resolve, 50));
      Atomics.store(words, 0, 1);
      while (Atomics.load(words, 0) === 1); // its event loop does not learn what its thread has got
      objects.got = false;
      void locked.then((got) => objects.got = got);`);
    await until(() => Atomics.load(words, 0) === 1, "it is busy");
    assert.equal(memory.unlock(), true);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(memory.tryLock(20_000), true, memory.errorString());
    Atomics.store(words, 0, 2);
    await slowly;
    const later = "await new Promise((done) => setTimeout(done, 500)); return objects.got;";
    assert.equal(await agent.run(later), false);
    assert.equal(memory.unlock(), true);
    const source = "while (!objects.got) await new Promise((done) => setTimeout(done, 5));";
    await withDeadline(agent.run(source), "the lock for the slow one");
    assert.equal(semaphoreValue(key), 0);
    await expectTrue(agent, "unlock");
    assert.equal(await agent.end(), 0);
  });
});

describe("names on Windows", here, () => {
  leaveNothingBehind();

  function object(name: string): SharedMemory {
    return new SharedMemory(windowsKey(name));
  }

  test("differ by case, and Local\\ means nothing", () => {
    const name = uniqueKey("Name");
    using memory = object(name);
    assert.equal(memory.create(10), true, memory.errorString());
    using other = object(name.toLowerCase());
    assert.equal(other.attach(), false);
    using local = object(`Local\\${name}`);
    assert.equal(local.attach(), true, local.errorString());
    assert.equal(memory.lock(), true);
    assert.equal(local.tryLock(), false);
    assert.match(local.errorString(), /this process holds the lock/);
    using global = object(`Global\\${name}`);
    assert.equal(global.attach(), false);
  });

  test("may be as long as Windows says, and have any character but a backslash and a NUL", () => {
    const long = (length: number) => uniqueKey("Ä/€😀: ").padEnd(length, "x");
    for (const name of [uniqueKey("Ä/€😀:*?|"), long(252), long(260), `Local\\${long(254)}`]) {
      using memory = object(name);
      assert.equal(memory.create(10), true, memory.errorString());
      using other = object(name);
      assert.equal(other.attach(), true, other.errorString());
      assert.equal(other.lock() && other.unlock(), true, other.errorString());
    }
    for (const name of [long(261), "a\\b", "Local\\", "local\\a", "a\0b"]) {
      const memory = object(name);
      assert.equal(memory.create(10), false);
      assert.match(memory.errorString(), /; use another native key$/);
    }
  });

  test("of objects of other kinds are refused", () => {
    const name = uniqueKey("kind");
    using semaphore = new SystemSemaphore(windowsKey(name), 1);
    assert.equal(semaphore.acquire(), true, semaphore.errorString());
    const memory = object(name);
    for (const use of [() => memory.create(10), () => memory.attach()]) {
      assert.equal(use(), false);
      assert.match(memory.errorString(), /another kind; use another key|object of another kind/);
      assert.equal(memory.error(), 3);
    }
    using segment = object(`${name}2`);
    assert.equal(segment.create(10), true, segment.errorString());
    const wrong = new SystemSemaphore(windowsKey(`${name}2`), 1);
    assert.equal(wrong.error(), 2, wrong.errorString());
  });
});

describe("what a program has open on Windows", here, () => {
  leaveNothingBehind();

  test("is no more after many segments and semaphores than before", async () => {
    const before = ipcObjects();
    const round = () => {
      const key = uniqueKey();
      const memory = SharedMemory.open(key, { size: 100, initialize: (bytes) => bytes.fill(1) });
      const other = attached(key);
      assert.equal(other.lock() && other.unlock(), true);
      assert.equal(new SharedMemory(key).create(10), false);
      assert.throws(() => SharedMemory.open(key, { size: 9000 }), { code: "InvalidSize" });
      const failing = () => {
        throw new Error("mine");
      };
      assert.throws(() => SharedMemory.open(`${key}!`, { size: 9, initialize: failing }), /mine/);
      assert.equal(new SharedMemory(`${key}?`).attach(), false);
      other.detach();
      memory.detach();
      const semaphore = new SystemSemaphore(key, 1);
      assert.equal(semaphore.acquire() && semaphore.release(), true);
      semaphore[Symbol.dispose]();
    };
    for (let i = 0; i < 10; i++) round();
    const handles = handleCount();
    for (let i = 0; i < 100; i++) round();
    assert.ok(handleCount() < handles + 50, `${handles} and then ${handleCount()} handles`);
    await untilBlocked("", 0);
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  test("is its name and nothing else: a view that is in use does not keep it", () => {
    const key = uniqueKey();
    using memory = new SharedMemory(key);
    assert.equal(memory.create(4096), true, memory.errorString());
    const alias = new Uint8Array((memory.data()!.buffer as ArrayBuffer).transfer());
    alias[0] = 7;
    assert.equal(memory.detach(), true);
    assert.equal(alias[0], 7); // the view stays, and harms nobody
    assert.equal(memory.attach(), false);
    assert.equal(memory.create(4096), true, memory.errorString());
    assert.equal(memory.data()![0], 0);
    alias[0] = 9;
    assert.equal(memory.data()![0], 0);
  });
});

/** The peer in C: given, or made here if there is a compiler. */
function findPeer(): { command: string; options: { skip?: string; timeout?: number } } {
  if (process.platform !== "win32") return { command: "", options: here };
  const given = fileURLToPath(new URL("../../fixtures/windows_peer.exe", import.meta.url));
  if (existsSync(given)) return { command: given, options: slow };
  const folder = mkdtempSync(path.join(tmpdir(), "shared-memory-peer-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const command = path.join(folder, "windows_peer.exe");
  const source = fileURLToPath(new URL("../../fixtures/windows_peer.c", import.meta.url));
  for (const compiler of ["gcc", "x86_64-w64-mingw32-gcc", "clang"]) {
    const { status } = spawnSync(compiler, ["-O2", "-o", command, source]);
    if (status === 0) return { command, options: slow };
  }
  const required = isRequired("c");
  return { command, options: required ? slow : { skip: "there is no C compiler" } };
}

describe("a program in C that shares as Qt does", () => {
  const { command, options } = findPeer();

  leaveNothingBehind();

  const startPeer = () => new Agent("the peer in C", command, []);

  async function joined(key: string): Promise<Agent> {
    const peer = startPeer();
    assert.equal(await peer.request("open", semaphoreFile(key)), 1);
    assert.equal(await peer.request("attach", segmentFile(key)), 1);
    return peer;
  }

  test("attaches to ours, sees its bytes, and shares the lock", options, async () => {
    using memory = created();
    const key = memory.key()!;
    memory.data()![5] = 55;
    const peer = await joined(key);
    assert.equal(await peer.request("size"), memory.size());
    assert.equal(await peer.request("read", 5), 55);
    await peer.request("write", 6, 66);
    assert.equal(memory.data()![6], 66);

    assert.equal(memory.lock(), true);
    assert.equal(await peer.request("tryLock"), 0);
    const locked = peer.request("lock");
    await untilBlocked(key);
    assert.equal(memory.unlock(), true);
    assert.equal(await locked, 1);
    assert.equal(memory.tryLock(20), false);
    assert.match(memory.errorString(), /the lock is held by another/);
    const ours = memory.lockAsync();
    await untilBlocked(key);
    assert.equal(await peer.request("unlock"), 1);
    assert.equal(await served(ours), true);
    assert.equal(memory.unlock(), true);
    await untilFree(key);
    assert.equal(await peer.end(), 0);
  });

  test("creates, and ours attach, however long it holds its lock", options, async () => {
    const key = uniqueKey();
    const peer = startPeer();
    assert.equal(await peer.request("open", semaphoreFile(key)), 1);
    assert.equal(await peer.request("lock"), 1);
    assert.equal(await peer.request("create", segmentFile(key), 5000), 1);
    await peer.request("write", 4999, 9);
    for (const mode of [AccessMode.ReadWrite, AccessMode.ReadOnly]) {
      using memory = new SharedMemory(key);
      assert.equal(memory.create(10), false);
      assert.equal(memory.attach(mode), true, memory.errorString());
      assert.deepEqual([memory.size(), memory.data()![4999]], [8192, 9]);
      assert.equal(memory.tryLock(), false);
    }
    using opened = SharedMemory.open(key, { size: 10, initialize: () => assert.fail("again") });
    assert.equal(opened.data()![4999], 9);
    assert.equal(await peer.request("unlock"), 1);
    assert.equal(opened.lock() && opened.unlock(), true, opened.errorString());
    assert.equal(await peer.end(), 0);
  });

  for (const runtime of runtimes) {
    test(`counts right together with two processes of ${runtime.name}`, options, async () => {
      using memory = created();
      const peer = await joined(memory.key()!);
      const other = { ...ownPeer, start: () => startAgent(runtime) };
      const agents = [
        await startAttached(other, memory.key()!),
        await startAttached(other, memory.key()!),
      ];
      const [sync, async] = ["m.lock()", "await m.lockAsync()"].map((lock) => `
        const { m } = objects;
        const numbers = m.view(Int32Array);
        for (let i = 0; i < 300; i++) {
          if (!${lock}) throw new Error(m.errorString());
          numbers[0]++;
          if (!m.unlock()) throw new Error(m.errorString());
        }`);
      await Promise.all([
        peer.request("count", 1000),
        agents[0]!.run(sync!),
        agents[1]!.run(async!),
      ]);
      assert.equal(memory.view(Int32Array)[0], 1600);
      await untilFree(memory.key()!);
      for (const agent of agents) assert.equal(await agent.end(), 0);
      assert.equal(await peer.end(), 0);
    });
  }

  test(
    "gets the lock of ours that was killed as soon as one of ours asks for it",
    options,
    async () => {
      using memory = created();
      const key = memory.key()!;
      const peer = await joined(key);
      const holder = await startHolder(ownPeer, key);
      await holder.kill();
      assert.equal(await peer.request("tryLock"), 0); // the kernel does not give a semaphore back
      assert.equal(memory.tryLock(), true, memory.errorString());
      assert.equal(memory.unlock(), true);
      assert.equal(await peer.request("tryLock"), 1);
      assert.equal(await peer.request("unlock"), 1);
      assert.equal(await peer.end(), 0);
    },
  );

  test(
    "that unlocks what it does not hold lets no two of ours in, and no more later",
    options,
    async () => {
      using memory = created();
      const key = memory.key()!;
      const [peer, agent] = [await joined(key), await startAttached(ownPeer, key)];
      assert.equal(memory.lock(), true);
      for (let i = 0; i < 3; i++) assert.equal(await peer.request("unlock"), 1);
      assert.equal(await agent.call("m", "tryLock", 50), false);
      assert.equal(memory.unlock(), true);
      assert.equal(semaphoreValue(key), 1);
      assert.equal(await agent.end(), 0);
      assert.equal(await peer.end(), 0);
    },
  );

  test("is the last one out, and the segment goes with it", options, async () => {
    const before = ipcObjects();
    const memory = created();
    const peer = await joined(memory.key()!);
    assert.equal(memory.detach(), true);
    assert.deepEqual(
      ipcObjectsSince(before).sort(),
      [segmentFile(memory.key()!), semaphoreFile(memory.key()!)],
    );
    assert.equal(memory.attach(), true, memory.errorString());
    assert.equal(memory.detach(), true);
    assert.equal(await peer.end(), 0);
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  test("that has an object of another kind under our names is told of", options, async () => {
    const key = uniqueKey();
    const peer = startPeer();
    assert.equal(await peer.request("occupy", semaphoreFile(key)), 1);
    const memory = new SharedMemory(key);
    assert.equal(memory.create(10), false);
    assert.match(memory.errorString(), /CreateSemaphoreW .*: ERROR_INVALID_HANDLE 6\]$/);
    assert.equal(await peer.end(), 0);
    assert.equal(memory.create(10), true, memory.errorString());
    assert.equal(memory.detach(), true);
  });
});

/** Segments shared with real Qt: made, found, guarded against a second create(), and removed. */
import assert from "node:assert/strict";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { AccessMode, SharedMemory, SharedMemoryError } from "../../mod.ts";
import { expectTrue, pairs, versions, withQt } from "../support/qt_pairs.ts";
import {
  type Agent,
  keyFolder,
  leaveNothingBehind,
  runtimes,
  segmentFile,
  semaphoreValue,
  startAgent,
  startQt,
  uniqueKey,
} from "../support/support.ts";
import { segmentRow, watchObjects } from "../support/systemv_tables.ts";

const { AlreadyExists, LockError, NotFound } = SharedMemoryError;

async function expectRefused(agent: Agent, error: number, method: string, ...args: unknown[]) {
  assert.equal(await agent.call("m", method, ...args), false);
  assert.equal(await agent.call("m", "error"), error);
}

describe("segments of Qt and ours", () => {
  leaveNothingBehind();

  for (const pair of pairs) {
    const { first, second, options } = pair;

    test(
      `${second.name} attaches to a segment of ${first.name}: same size, same bytes`,
      options,
      async () => {
        const key = uniqueKey();
        const [creator, joiner] = [first.start(), second.start()];
        await creator.request("memory", "m", key);
        await joiner.request("memory", "m", key);
        assert.equal(await joiner.call("m", "nativeKey"), await creator.call("m", "nativeKey"));
        await expectRefused(joiner, NotFound, "attach");
        for (const size of [1, 5000, 4096]) {
          await expectTrue(creator, "create", size);
          await expectTrue(joiner, "attach");
          assert.equal(await creator.call("m", "size"), size);
          assert.equal(await joiner.call("m", "size"), size);
          assert.deepEqual(await joiner.request("read", "m", 0, size), Array(size).fill(0));
          await creator.request("write", "m", size - 1, [201]);
          assert.deepEqual(await joiner.request("read", "m", size - 1, 1), [201]);
          await joiner.request("write", "m", 0, [size % 256]);
          assert.deepEqual(await creator.request("read", "m", 0, 1), [size % 256]);
          await expectTrue(joiner, "detach");
          await expectTrue(creator, "detach");
          assert.equal(existsSync(segmentFile(key)), false);
        }
        assert.equal(await joiner.end(), 0);
        assert.equal(await creator.end(), 0);
      },
    );

    test(
      `${second.name} cannot create a segment that ${first.name} has, and leaves it alone`,
      options,
      async () => {
        const key = uniqueKey();
        const [creator, joiner] = [first.start(), second.start()];
        await Promise.all([
          creator.request("memory", "m", key),
          joiner.request("memory", "m", key),
        ]);
        await expectTrue(creator, "create", 16);
        await creator.request("write", "m", 0, [1, 2, 3]);
        await expectRefused(joiner, AlreadyExists, "create", 32);
        await expectRefused(joiner, AlreadyExists, "create", 16);
        assert.equal(segmentRow(key)["nattch"], "1");
        assert.equal(await creator.call("m", "size"), 16);
        assert.deepEqual(await creator.request("read", "m", 0, 4), [1, 2, 3, 0]);
        await expectTrue(joiner, "attach"); // the usual next step: after the refusal it joins
        assert.deepEqual(await joiner.request("read", "m", 0, 4), [1, 2, 3, 0]);
        await expectRefused(joiner, AlreadyExists, "create", 16);
        assert.equal(await joiner.call("m", "isAttached"), true);
        const [ours, qt] = first.isQt ? [joiner, creator] : [creator, joiner];
        assert.equal(await qt.end(), 0);
        assert.equal(await ours.end(), 0);
      },
    );

    test(
      `${second.name} attaches read-only to a segment of ${first.name}, and can lock it`,
      options,
      async () => {
        const key = uniqueKey();
        const [creator, joiner] = [first.start(), second.start()];
        await Promise.all([
          creator.request("memory", "m", key),
          joiner.request("memory", "m", key),
        ]);
        await expectTrue(creator, "create", 16);
        await creator.request("write", "m", 0, [7, 8]);
        await expectTrue(joiner, "attach", AccessMode.ReadOnly);
        assert.deepEqual(await joiner.request("read", "m", 0, 2), [7, 8]);
        await expectTrue(joiner, "lock");
        assert.equal(semaphoreValue(key), 0);
        await expectTrue(joiner, "unlock");
        await creator.request("write", "m", 0, [9]);
        assert.deepEqual(await joiner.request("read", "m", 0, 2), [9, 8]);
        const store = joiner.request("write", "m", 0, [1]);
        await assert.rejects(store, /ended \((SIGSEGV|139)\)/);
        assert.deepEqual(await creator.request("read", "m", 0, 2), [9, 8]);
        assert.equal(await creator.end(), 0);
      },
    );

    test(
      `${second.name} and ${first.name} share an existing file's segment as native key, without a lock`,
      options,
      async () => {
        const path = `${keyFolder}qipc_native_${uniqueKey("key")}`;
        writeFileSync(path, "");
        const [creator, joiner] = [first.start(), second.start()];
        for (const agent of [creator, joiner]) {
          await agent.request("memory", "m", "another");
          await agent.call("m", "setNativeKey", path);
          assert.equal(await agent.call("m", "nativeKey"), path);
          assert.equal((await agent.call("m", "key")) || null, null); // PyQt: None or ""
        }
        await expectTrue(creator, "create", 300);
        await expectTrue(joiner, "attach");
        assert.equal(await joiner.call("m", "size"), 300);
        await joiner.request("write", "m", 299, [77]);
        assert.deepEqual(await creator.request("read", "m", 299, 1), [77]);
        await expectRefused(creator, LockError, "lock");
        await expectRefused(joiner, LockError, "lock");
        await expectTrue(creator, "detach");
        await expectTrue(joiner, "detach");
        // Qt, being the last one out, deletes the file. We do not: somebody else made it.
        assert.equal(existsSync(path), !second.isQt);
        rmSync(path, { force: true });
        assert.equal(await creator.end(), 0);
        assert.equal(await joiner.end(), 0);
      },
    );
  }

  for (const version of versions) {
    test(
      `this process makes a segment, Qt ${version} joins, and we leave last`,
      withQt(version),
      async () => {
        const key = uniqueKey("Grüße 1");
        using memory = new SharedMemory(key);
        assert.equal(memory.create(5000), true, memory.errorString());
        const left = watchObjects(key);
        const qt = startQt(version);
        await qt.request("memory", "m", key);
        await expectRefused(qt, AlreadyExists, "create", 5000);
        await expectTrue(qt, "attach");
        assert.equal(await qt.call("m", "size"), 5000);
        memory.view(Uint32Array, 4996)[0] = 0x04030201;
        assert.deepEqual(await qt.request("read", "m", 4996, 4), [1, 2, 3, 4]);
        await qt.request("write", "m", 0, [255]);
        assert.equal(memory.data()![0], 255);
        assert.equal(await qt.end(), 0);
        assert.equal(memory.data()![0], 255);
        assert.equal(memory.detach(), true, memory.errorString());
        assert.deepEqual(left(), []);
      },
    );

    test(
      `this process joins a segment of Qt ${version}, and Qt leaves last`,
      withQt(version),
      async () => {
        const key = uniqueKey("Grüße 2");
        const qt = startQt(version);
        await qt.request("memory", "m", key);
        await expectTrue(qt, "create", 5000);
        const left = watchObjects(key);
        using memory = new SharedMemory(key);
        assert.equal(memory.create(5000), false);
        assert.equal(memory.error(), AlreadyExists);
        assert.equal(memory.attach(AccessMode.ReadOnly), true, memory.errorString());
        assert.equal(memory.size(), 5000);
        await qt.request("write", "m", 4999, [99]);
        assert.equal(memory.constData()![4999], 99);
        assert.equal(memory.detach(), true, memory.errorString());
        assert.deepEqual(await qt.request("read", "m", 4999, 1), [99]);
        assert.equal(await qt.end(), 0);
        assert.deepEqual(left(), []);
      },
    );

    test(
      `Qt ${version} and a process of each runtime are attached at once`,
      withQt(version),
      async () => {
        const key = uniqueKey();
        using memory = new SharedMemory(key);
        assert.equal(memory.create(64), true, memory.errorString());
        const agents = [startQt(version), ...runtimes.map((runtime) => startAgent(runtime))];
        for (const [index, agent] of agents.entries()) {
          await agent.request("memory", "m", key);
          await expectTrue(agent, "attach");
          await expectTrue(agent, "lock");
          await agent.request("write", "m", index, [index + 1]);
          await expectTrue(agent, "unlock");
        }
        assert.equal(segmentRow(key)["nattch"], String(agents.length + 1));
        const expected = agents.map((_, index) => index + 1);
        assert.deepEqual([...memory.data()!.subarray(0, agents.length)], expected);
        for (const agent of agents) {
          assert.deepEqual(await agent.request("read", "m", 0, agents.length), expected);
          assert.equal(await agent.end(), 0);
        }
      },
    );
  }
});

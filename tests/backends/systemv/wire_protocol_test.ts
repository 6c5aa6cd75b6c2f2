/** What lies on the system, where Qt's peers look for it: modes, keys, values and files. */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { describe, test } from "node:test";
import { AccessMode, SharedMemory, SharedMemoryError, SystemSemaphore } from "../../../mod.ts";
import { expectTrue } from "../../support/qt_pairs.ts";
import {
  ftok,
  ipcObjects,
  ipcObjectsSince,
  keyFolder,
  leaveNothingBehind,
  ownRuntime,
  segmentFile,
  semaphoreFile,
  semaphoreValue,
  slow,
  startAgent,
  startAgentThrough,
  systemVOnly,
  uniqueKey,
  untilBlocked,
} from "../../support/support.ts";
import { segmentRow, semaphoreRow, watchObjects } from "../../support/systemv_tables.ts";

function created(key: string, size = 16): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.create(size), true, memory.errorString());
  return memory;
}

function attached(key: string): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.attach(), true, memory.errorString());
  return memory;
}

const inode = (path: string) => statSync(path, { bigint: true }).ino;

describe("the wire protocol of segments", systemVOnly, () => {
  leaveNothingBehind();

  for (const [umask, mode] of [["000", 0o640], ["027", 0o640], ["077", 0o600]]) {
    test(
      `the key files of ${ownRuntime.name} are empty and have Qt's mode under umask ${umask}`,
      slow,
      async () => {
        const shell = ["/bin/sh", "-c", `umask ${umask}; exec "$@"`, "sh"];
        const key = uniqueKey();
        const agent = startAgentThrough(ownRuntime, shell);
        await agent.request("memory", "m", key);
        await expectTrue(agent, "create", 100);
        for (const path of [segmentFile(key), semaphoreFile(key)]) {
          const status = statSync(path);
          assert.equal(status.mode & 0o7777, mode);
          assert.equal(status.size, 0);
          assert.equal(status.isFile(), true);
        }
        // The System V objects do not depend on it.
        assert.equal(segmentRow(key)["perms"], "600");
        assert.equal(semaphoreRow(key)["perms"], "600");
        assert.equal(await agent.end(), 0);
      },
    );
  }

  test(
    `a segment of ${ownRuntime.name} has Qt's key, mode, size and count of users`,
    slow,
    async () => {
      const key = uniqueKey();
      const agent = startAgent(ownRuntime);
      await agent.request("memory", "m", key);
      await expectTrue(agent, "create", 4321);
      const { dev, ino } = statSync(segmentFile(key), { bigint: true });
      const expected = 0x51000000n + (dev % 256n) * 65536n + ino % 65536n;
      const row = segmentRow(key);
      assert.equal(row["key"], String(expected));
      assert.equal(row["perms"], "600");
      assert.equal(row["size"], "4321");
      assert.equal(row["nattch"], "1");
      assert.equal(row["cpid"], String(agent.child.pid));
      const reader = new SharedMemory(key);
      assert.equal(reader.attach(AccessMode.ReadOnly), true, reader.errorString());
      using writer = attached(key);
      assert.equal(segmentRow(key)["nattch"], "3");
      assert.equal(reader.detach(), true);
      assert.equal(segmentRow(key)["nattch"], "2");
      await agent.kill();
      assert.equal(segmentRow(key)["nattch"], "1");
      assert.equal(writer.size(), 4321);
    },
  );

  test(
    `the lock of ${ownRuntime.name} is one semaphore: 1 is free, 0 is locked`,
    slow,
    async () => {
      const key = uniqueKey();
      const agent = startAgent(ownRuntime);
      await agent.request("memory", "m", key);
      await expectTrue(agent, "create", 1);
      const { dev, ino } = statSync(semaphoreFile(key), { bigint: true });
      const row = semaphoreRow(key);
      assert.equal(row["key"], String(0x51000000n + (dev % 256n) * 65536n + ino % 65536n));
      assert.equal(row["perms"], "600");
      assert.equal(row["nsems"], "1");
      assert.equal(semaphoreValue(key), 1);
      await expectTrue(agent, "lock");
      assert.equal(semaphoreValue(key), 0);
      await expectTrue(agent, "lock"); // again by the same object: counts for nothing
      await expectTrue(agent, "unlock");
      assert.equal(semaphoreValue(key), 1);
      using memory = attached(key);
      await expectTrue(agent, "lock");
      await expectTrue(agent, "detach"); // its maker removes it, as Qt does
      assert.equal(semaphoreValue(key), -1);
      assert.equal(memory.lock(), true, memory.errorString()); // made again
      assert.equal(semaphoreValue(key), 0);
      assert.equal(await agent.end(), 0);
    },
  );

  test(
    `${ownRuntime.name} comes and goes while a user holds the lock, and leaves it alone`,
    slow,
    async () => {
      const key = uniqueKey();
      using memory = created(key);
      const { semid } = semaphoreRow(key);
      assert.equal(memory.lock(), true, memory.errorString());
      const agent = startAgent(ownRuntime);
      await agent.request("memory", "m", key);
      // Qt's create() sets a held lock free.
      assert.equal(await agent.call("m", "create", 16), false);
      assert.equal(await agent.call("m", "error"), SharedMemoryError.AlreadyExists);
      assert.equal(semaphoreValue(key), 0);
      // Qt's attach() and detach() wait for the holder.
      await expectTrue(agent, "attach");
      assert.equal(segmentRow(key)["nattch"], "2");
      assert.equal(semaphoreValue(key), 0);
      const locked = agent.call("m", "lock"); // the lock is what it has to wait for
      await untilBlocked(key);
      assert.equal(memory.unlock(), true);
      assert.equal(await locked, true);
      await expectTrue(agent, "unlock");
      assert.equal(memory.lock(), true);
      await expectTrue(agent, "detach");
      assert.equal(semaphoreValue(key), 0);
      assert.equal(segmentRow(key)["nattch"], "1");
      assert.equal(memory.unlock(), true);
      assert.equal(semaphoreValue(key), 1);
      assert.equal(semaphoreRow(key)["semid"], semid);
      assert.equal(await agent.end(), 0);
    },
  );

  test(`${ownRuntime.name} finds a segment through a symbolic link in TMPDIR`, slow, async () => {
    const folder = mkdtempSync(`${tmpdir()}/link `);
    const TMPDIR = `${folder}/link`;
    symlinkSync(realpathSync(keyFolder), TMPDIR);
    try {
      const key = uniqueKey();
      using memory = created(key);
      const agent = startAgent(ownRuntime, { TMPDIR });
      await agent.request("memory", "m", key);
      assert.equal(await agent.call("m", "nativeKey"), memory.nativeKey());
      await expectTrue(agent, "attach");
      memory.data()![0] = 33;
      assert.deepEqual(await agent.request("read", "m", 0, 1), [33]);
      assert.equal(memory.lock(), true);
      const locked = agent.call("m", "lock");
      await untilBlocked(key);
      assert.equal(memory.unlock(), true);
      assert.equal(await locked, true);
      assert.equal(await agent.end(), 0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test(
    `${ownRuntime.name} leaves nothing of a create() or an attach() that fails`,
    slow,
    async () => {
      const folder = mkdtempSync(`${tmpdir()}/failing `);
      try {
        const before = ipcObjects();
        const agent = startAgent(ownRuntime, { TMPDIR: folder });
        await agent.request("memory", "m", uniqueKey());
        for (const size of [0, -1, 2 ** 52, Number.MAX_SAFE_INTEGER]) {
          assert.equal(await agent.call("m", "create", size), false);
          assert.notEqual(await agent.call("m", "error"), SharedMemoryError.NoError);
          assert.deepEqual(readdirSync(folder), [], `create(${size})`);
        }
        // Qt's makes a semaphore.
        assert.equal(await agent.call("m", "attach"), false);
        assert.equal(await agent.call("m", "error"), SharedMemoryError.NotFound);
        assert.deepEqual(readdirSync(folder), []);
        assert.deepEqual(ipcObjectsSince(before), []);
        assert.equal(await agent.end(), 0);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );

  test("a semaphore has Qt's key and mode, its value, and an empty key file", () => {
    const key = uniqueKey();
    using semaphore = new SystemSemaphore(key, 7);
    const row = semaphoreRow(key);
    assert.equal(Number(row["key"]), ftok(semaphoreFile(key)));
    assert.equal(row["perms"], "600");
    assert.equal(row["nsems"], "1");
    assert.equal(statSync(semaphoreFile(key)).size, 0);
    assert.equal(semaphoreValue(key), 7);
    assert.equal(semaphore.acquire(), true);
    assert.equal(semaphoreValue(key), 6);
    assert.equal(existsSync(segmentFile(key)), false);
  });

  test("nobody gets the inode of a segment's deleted key file as long as we are attached", () => {
    // A cleaner of /tmp deletes the files. With their inodes another key would get our segment.
    const key = uniqueKey();
    using memory = created(key);
    memory.data()![0] = 1;
    const taken = [segmentFile(key), semaphoreFile(key)].map(inode);
    unlinkSync(segmentFile(key));
    unlinkSync(semaphoreFile(key));
    using others = new DisposableStack();
    for (let i = 0; i < 40; i++) {
      const other = uniqueKey("other");
      assert.equal(others.use(created(other)).data()![0], 0);
      for (const path of [segmentFile(other), semaphoreFile(other)]) {
        assert.equal(taken.includes(inode(path)), false);
      }
    }
    assert.equal(memory.data()![0], 1);
    assert.equal(memory.lock(), true);
    assert.equal(memory.unlock(), true);
  });

  test("detach() leaves a key file alone that has taken the place of ours", () => {
    const key = uniqueKey();
    const older = created(key);
    const left = watchObjects(key);
    unlinkSync(segmentFile(key));
    using newer = created(key, 32);
    older.data()![0] = 1;
    assert.equal(newer.data()![0], 0); // another segment
    assert.equal(older.detach(), true, older.errorString());
    assert.deepEqual(left().filter((object) => object.startsWith("shm")), []);
    const peer = attached(key);
    assert.equal(peer.size(), 32);
    assert.equal(newer.lock(), true, newer.errorString());
    assert.equal(semaphoreValue(key), 0);
    assert.equal(newer.unlock(), true);
    assert.equal(peer.detach(), true);
    assert.equal(existsSync(segmentFile(key)), true);
  });

  test("detach() removes its segment although a user of the next one holds the lock", () => {
    const key = uniqueKey();
    const older = created(key);
    const left = watchObjects(key);
    unlinkSync(segmentFile(key));
    using newer = created(key, 32);
    assert.equal(newer.lock(), true, newer.errorString());
    assert.equal(older.detach(), true, older.errorString());
    assert.deepEqual(left().filter((object) => object.startsWith("shm")), []);
    assert.equal(newer.unlock(), true);
  });
});

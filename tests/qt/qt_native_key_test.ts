/**
 * Native keys with real Qt 6.6 or newer, which Debian 12 does not have: SHARED_MEMORY_TEST_QT names the
 * root folder of a newer Debian with python3-pyqt6, in which the peer runs (`npm run test:qt`).
 */
import assert from "node:assert/strict";
import { existsSync, rmSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { NativeIpcKeyType, SharedMemory, SystemSemaphore } from "../../mod.ts";
import { Agent, keyFolder, leaveNothingBehind, ownRuntime, slow } from "../support/support.ts";
import { startAgent, uniqueKey, withDeadline } from "../support/support.ts";

const root = process.env["SHARED_MEMORY_TEST_QT"] ?? "";
const options = root === ""
  ? { skip: "SHARED_MEMORY_TEST_QT does not name a system with Qt 6.6 or newer" }
  : slow;
const { PosixRealtime, SystemV } = NativeIpcKeyType;

/** Real Qt of the other system, with this one's /dev/shm, processes and folder of key files. */
function startNewQt(): Agent {
  const script = `
    root=$1 fixtures=$2 keys=$3
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount --bind "$fixtures" "$root/mnt"
    mkdir -p "$root$keys"
    mount --bind "$keys" "$root$keys"
    exec chroot "$root" /usr/bin/python3 -B /mnt/agent.py 6`;
  const fixtures = fileURLToPath(new URL("../fixtures", import.meta.url));
  const folder = keyFolder.replace(/\/$/, "");
  const namespace = ["--mount", "--propagation", "private", "sh", "-euc", script, "sh"];
  return new Agent("Qt", "unshare", [...namespace, root, fixtures, folder], { PYTHONUTF8: "1" });
}

/** Has an agent of ours make objects of a native key. */
async function open(agent: Agent, what: "SharedMemory" | "SystemSemaphore", key: string) {
  await agent.run(`objects.x = new library.${what}(
    library.NativeIpcKey.fromString(${JSON.stringify(key)})${
    what === "SharedMemory" ? "" : ", 1"
  });`);
}

async function expectTrue(agent: Agent, method: string, ...args: unknown[]): Promise<void> {
  assert.equal(await agent.call("x", method, ...args), true, await agent.call("x", "errorString"));
}

describe("native keys of Qt 6.6 and newer", () => {
  leaveNothingBehind();

  test("have the same texts", options, async () => {
    const qt = startNewQt();
    for (const key of ["k", "my key1", "123", "Noël", "😀", "a%b#c?d&e=f"]) {
      for (const type of [PosixRealtime, SystemV]) {
        for (const kind of [SharedMemory, SystemSemaphore]) {
          const [legacy, safe] = await qt.request("native_keys", `Q${kind.name}`, key, type);
          assert.equal(String(kind.legacyNativeKey(key, type)), legacy, key);
          if (type === PosixRealtime) assert.equal(String(kind.platformSafeKey(key, type)), safe);
        }
      }
    }
    assert.equal(await qt.end(), 0);
  });

  const keys = (): readonly [string, string][] => [
    ["POSIX, of a key", String(SharedMemory.legacyNativeKey(uniqueKey(), PosixRealtime))],
    ["POSIX, chosen", String(SharedMemory.platformSafeKey(uniqueKey(), PosixRealtime))],
    ["System V, of a key", String(SharedMemory.legacyNativeKey(uniqueKey(), SystemV))],
    ["System V, chosen", `systemv:${keyFolder}chosen-${process.pid}-${Date.now()}`],
    [
      "System V with another project id",
      `systemv-84:${keyFolder}id84-${process.pid}-${Date.now()}`,
    ],
  ];
  for (const [index, [what]] of keys().entries()) {
    test(`${ownRuntime.name} made is Qt's too (${what})`, options, async () => {
      const key = keys()[index]![1];
      const [ours, qt] = [startAgent(ownRuntime), startNewQt()];
      await open(ours, "SharedMemory", key);
      await qt.request("native_memory", "x", key);
      assert.equal(await qt.request("native_text", "x"), key);
      await expectTrue(ours, "create", 5000);
      // As Qt programs do: of a POSIX key it makes another semaphore of the same name before it fails.
      assert.equal(await qt.call("x", "create", 1), false);
      await expectTrue(qt, "attach");
      assert.equal(await qt.call("x", "size"), 5000);
      await ours.request("write", "x", 0, [1, 2, 3]);
      assert.deepEqual(await qt.request("read", "x", 0, 4), [1, 2, 3, 0]);
      await qt.request("write", "x", 4999, [9]);
      assert.deepEqual(await ours.request("read", "x", 4999, 1), [9]);
      await assertExcludes(ours, qt);
      await assertExcludes(qt, ours);
      await expectTrue(qt, "detach");
      await expectTrue(ours, "detach");
      assert.equal(await qt.end(), 0);
      assert.equal(await ours.end(), 0);
    });

    test(`Qt made is ${ownRuntime.name}'s too (${what})`, options, async () => {
      const key = keys()[index]![1];
      const [ours, qt] = [startAgent(ownRuntime), startNewQt()];
      await open(ours, "SharedMemory", key);
      await qt.request("native_memory", "x", key);
      await expectTrue(qt, "create", 100);
      await expectTrue(ours, "attach");
      assert.equal(await ours.call("x", "size"), 100);
      await qt.request("write", "x", 0, [7]);
      assert.deepEqual(await ours.request("read", "x", 0, 1), [7]);
      await assertExcludes(qt, ours);
      await assertExcludes(ours, qt);
      await expectTrue(ours, "detach");
      await expectTrue(qt, "detach");
      assert.equal(await qt.end(), 0);
      if (key.startsWith("posix:")) {
        // Qt never removes a POSIX segment, and this module leaves it to its owner.
        const name = (await ours.call("x", "nativeKey")) as string;
        assert.equal(existsSync(`/dev/shm${name}`), true);
        rmSync(`/dev/shm${name}`);
      }
      assert.equal(await ours.end(), 0);
    });
  }

  for (const [what, type] of [["POSIX", PosixRealtime], ["System V", SystemV]] as const) {
    test(`a ${what} semaphore is one for ${ownRuntime.name} and Qt`, options, async () => {
      const key = String(SystemSemaphore.legacyNativeKey(uniqueKey(), type));
      const [ours, qt] = [startAgent(ownRuntime), startNewQt()];
      await open(ours, "SystemSemaphore", key);
      await qt.request("native_semaphore", "x", key, 1);
      await expectTrue(ours, "acquire");
      const acquired = qt.call("x", "acquire");
      await expectTrue(ours, "release");
      assert.equal(await withDeadline(acquired, "Qt's acquire()"), true);
      assert.equal(await ours.call("x", "tryAcquire", 10), false);
      await expectTrue(qt, "release");
      await expectTrue(ours, "acquire");
      await expectTrue(ours, "release");
      await qt.request("dispose", "x");
      await ours.request("dispose", "x");
      assert.equal(await qt.end(), 0);
      assert.equal(await ours.end(), 0);
    });
  }
});

/** That one waits for the lock until the other gives it back. */
async function assertExcludes(holder: Agent, waiter: Agent): Promise<void> {
  await expectTrue(holder, "lock");
  let isLocked = false;
  const locked = waiter.call("x", "lock").then((result) => {
    isLocked = true;
    assert.equal(result, true);
  });
  await holder.request("read", "x", 0, 1); // some round trips, in which it could be taken wrongly
  await holder.request("read", "x", 0, 1);
  assert.equal(isLocked, false, `${waiter.name} took the lock that ${holder.name} has`);
  await expectTrue(holder, "unlock");
  await withDeadline(locked, `the lock for ${waiter.name}`);
  await expectTrue(waiter, "unlock");
}

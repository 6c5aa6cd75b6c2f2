/** What `inspect()` and `cleanup()` know of POSIX objects. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { cleanup, inspect, type Inventory } from "../../../inspect.ts";
import { NativeIpcKeyType, SharedMemory, SystemSemaphore } from "../../../mod.ts";
import { giveMemory } from "../../support/key_types.ts";
import {
  type Agent,
  isolatedOnly,
  leaveNothingBehind,
  ownRuntime,
  slow,
  startAgent,
  startAgentThrough,
  uniqueKey,
} from "../../support/support.ts";

const { PosixRealtime } = NativeIpcKeyType;
const isLinux = process.platform === "linux";
const options = isLinux
  ? { ...slow, ...isolatedOnly }
  : { skip: "only Linux shows its POSIX objects" };
const pathOf = (nativeKey: string) => `/dev/shm${nativeKey}`;

/** The segment of a native key as `inspect()` lists it. */
function segmentOf(nativeKey: string) {
  return inspect().segments.find((one) => one.nativeKey === nativeKey && one.type === "posix");
}

function semaphoreOf(nativeKey: string) {
  return inspect().semaphores.find((one) => one.nativeKey === nativeKey && one.type === "posix");
}

const removedFiles = (all: { orphans?: boolean; dryRun?: boolean } = {}) =>
  cleanup(all).removed.map(({ keyFile }) => keyFile);

describe("a POSIX segment", () => {
  leaveNothingBehind();

  test(
    "with its lock is listed, and removed when its process was killed",
    options,
    async () => {
      const key = SharedMemory.legacyNativeKey(uniqueKey(), PosixRealtime);
      const path = pathOf(key.nativeKey);
      const agent = startAgent(ownRuntime);
      await agent.run(`
      const key = library.NativeIpcKey.fromString(${JSON.stringify(String(key))});
      objects.m = new library.SharedMemory(key);
      if (!objects.m.create(5000) || !objects.m.lock()) throw new Error(objects.m.errorString());
    `);
      const { pid } = agent.child;
      const found = segmentOf(key.nativeKey)!;
      assert.deepEqual(
        [found.keyFile, found.size, found.mode, found.attached, found.stale, found.orphan],
        [path, 5000, 0o600, 1, false, false],
      );
      assert.equal(found.reason, `in use by process ${pid}`);
      assert.deepEqual([found.lock!.value, found.lock!.holder], [0, { pid, alive: true }]);
      assert.ok(!removedFiles({ dryRun: true }).includes(path));
      assert.ok(!removedFiles().includes(path));
      await agent.kill();
      const left = segmentOf(key.nativeKey)!;
      assert.deepEqual([left.attached, left.stale, left.reason], [0, true, "no process uses it"]);
      assert.deepEqual(left.lock!.holder, { pid, alive: false });
      const lockFile = left.lock!.keyFile;
      assert.ok(removedFiles({ dryRun: true }).includes(path));
      assert.deepEqual([existsSync(path), existsSync(lockFile)], [true, true]);
      assert.ok(removedFiles().includes(path));
      assert.deepEqual([existsSync(path), existsSync(lockFile)], [false, false]);
    },
  );

  test("of another program is removed only on request, and not while it is mapped", options, () => {
    const nativeKey = `/qipc_sharedmemory_foreign${process.pid}`;
    const path = pathOf(nativeKey);
    writeFileSync(path, "12345678", { mode: 0o600 });
    try {
      const found = segmentOf(nativeKey)!;
      assert.deepEqual([found.stale, found.orphan, found.lock], [true, true, null]);
      assert.match(found.reason, /another program/);
      assert.ok(!removedFiles().includes(path));
      const memory = new SharedMemory(
        SharedMemory.platformSafeKey(nativeKey.slice(1), PosixRealtime),
      );
      assert.equal(memory.attach(), true, memory.errorString());
      assert.deepEqual([segmentOf(nativeKey)!.stale], [false]);
      const planned = () => removedFiles({ orphans: true, dryRun: true });
      assert.ok(!planned().includes(path));
      assert.equal(memory.detach(), true);
      assert.equal(existsSync(path), true, "it was left to its owner");
      assert.ok(planned().includes(path));
      const others = planned().filter((one) => one !== path);
      if (others.length > 0) return console.error(`cleanup() is not called: others left ${others}`);
      assert.deepEqual(removedFiles({ orphans: true }), [path]);
      assert.equal(existsSync(path), false);
    } finally {
      rmSync(path, { force: true });
    }
  });

  test("of which there is no trace is not listed", options, () => {
    const path = pathOf(`/some other program's ${process.pid}`);
    writeFileSync(path, "x");
    try {
      const { segments, semaphores } = inspect();
      assert.ok(![...segments, ...semaphores].some(({ keyFile }) => keyFile === path));
    } finally {
      rmSync(path);
    }
  });
});

/** Agents each in a `/dev/shm` of its own, where the first files have the same inodes; `null` if that cannot be. */
function startApart(count: number): Agent[] | null {
  const mount = [
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec "$@"',
    "sh",
  ];
  if (spawnSync("unshare", [...mount, "true"]).status !== 0) return null;
  return Array.from({ length: count }, () => startAgentThrough(ownRuntime, ["unshare", ...mount]));
}

describe("a POSIX segment in another /dev/shm", () => {
  leaveNothingBehind();

  test("is not taken for the one here that has the same inode number", options, async (t) => {
    const agents = startApart(2);
    if (agents === null) return t.skip("cannot mount here");
    const key = SharedMemory.platformSafeKey(uniqueKey(), PosixRealtime);
    await giveMemory(agents, key);
    for (const agent of agents) assert.equal(await agent.call("m", "create", 100), true);
    for (const agent of agents) {
      const seen: Inventory = await agent.request("inspect");
      const segments = seen.segments.filter(({ type }) => type === "posix"); // the others are not apart
      assert.deepEqual(segments.map(({ attached }) => attached), [1]);
      assert.equal(segments[0]!.reason, `in use by process ${agent.child.pid}`);
    }
    await agents[0]!.kill();
    assert.equal(await agents[1]!.end(), 0);
  });
});

describe("a POSIX semaphore", () => {
  leaveNothingBehind();

  test(
    "is listed with its value and who has it open, and removed when it was killed",
    options,
    async () => {
      const key = SystemSemaphore.platformSafeKey(uniqueKey(), PosixRealtime);
      const agent = startAgent(ownRuntime);
      await agent.run(`
      const key = library.NativeIpcKey.fromString(${JSON.stringify(String(key))});
      objects.s = new library.SystemSemaphore(key, 3);
      if (!objects.s.acquire()) throw new Error(objects.s.errorString());
    `);
      const { pid } = agent.child;
      const found = semaphoreOf(key.nativeKey)!;
      assert.deepEqual([found.value, found.waiting, found.users], [2, 0, [pid]]);
      assert.equal(found.stale, false);
      await agent.kill();
      const left = semaphoreOf(key.nativeKey)!;
      assert.deepEqual([left.value, left.users, left.stale], [2, [], true]);
      assert.ok(removedFiles().includes(left.keyFile));
      assert.equal(semaphoreOf(key.nativeKey), undefined);
    },
  );
});

/** What a container has of its own and what it shares, as Docker, Kubernetes and systemd arrange it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import { NativeIpcKeyType, SharedMemoryError } from "../../../mod.ts";
import { chosenKey, giveMemory } from "../../support/key_types.ts";
import { expectTrue } from "../../support/qt_pairs.ts";
import {
  type Agent,
  isolatedOnly,
  keyFolder,
  leaveNothingBehind,
  onceOnly,
  ownRuntime,
  slow,
  startAgent,
  startAgentThrough,
  uniqueKey,
} from "../../support/support.ts";

const pids = ["--pid", "--fork", "--mount-proc", "--kill-child"];

/** Why there can be no namespaces here, if there cannot. */
function cannotUnshare(): string | undefined {
  if (process.platform !== "linux") return "needs the namespaces of Linux";
  if (process.getuid?.() !== 0) return "only root can make namespaces";
  const script = "mount -t tmpfs -o size=1m tmpfs /dev/shm";
  const args = ["--ipc", "--mount", ...pids, "sh", "-c", script];
  return spawnSync("unshare", args).status === 0 ? undefined : "cannot make namespaces here";
}

const cannot = cannotUnshare();
const options = cannot === undefined ? { ...slow, ...onceOnly } : { skip: cannot };

/** Of the agents here: their System V objects, and so what they could leave behind, are this process's. */
let folder: string;

/** An agent in namespaces of its own, in which `script` has run. */
function startIn(namespaces: readonly string[], script = "true", TMPDIR = folder): Agent {
  const command = ["unshare", ...namespaces, "sh", "-c", `${script} && exec "$@"`, "sh"];
  return startAgentThrough(ownRuntime, command, { TMPDIR });
}

async function assertNotFound(agent: Agent): Promise<void> {
  assert.equal(await agent.call("m", "attach"), false);
  assert.equal(await agent.call("m", "error"), SharedMemoryError.NotFound);
}

/** Asserts that both have a segment of the key, and not the same; returns the one outside, attached to its own. */
async function assertOwnSegment(key: string, inside: Agent): Promise<Agent> {
  const outside = startAgent(ownRuntime, { TMPDIR: folder });
  for (const agent of [outside, inside]) await agent.request("memory", "m", key);
  await expectTrue(outside, "create", 16);
  await assertNotFound(inside);
  await expectTrue(inside, "create", 32);
  assert.equal(await outside.call("m", "size"), 16);
  assert.equal(await inside.end(), 0);
  return outside;
}

/** Asserts that whoever comes to the segment of `user` finds it, with its lock. */
async function assertShared(key: string, user: Agent): Promise<void> {
  const newcomer = startAgent(ownRuntime, { TMPDIR: folder });
  await newcomer.request("memory", "m", key);
  await expectTrue(newcomer, "attach");
  assert.equal(await newcomer.call("m", "size"), await user.call("m", "size"));
  await expectTrue(user, "lock");
  assert.equal(await newcomer.call("m", "tryLock"), false);
  await expectTrue(user, "unlock");
  assert.equal(await newcomer.end(), 0);
}

describe("a container", options, () => {
  leaveNothingBehind();
  beforeEach(() => folder = mkdtempSync(`${keyFolder}containers-`));
  afterEach(() => rmSync(folder, { recursive: true }));

  test(
    "that shares IPC namespace and key files shares segment and lock, whatever its pids are",
    options,
    async () => {
      const key = uniqueKey();
      const outside = startAgent(ownRuntime, { TMPDIR: folder });
      const inside = startIn(pids);
      for (const agent of [outside, inside]) await agent.request("memory", "m", key);
      await expectTrue(outside, "create", 16);
      await outside.request("write", "m", 0, [42]);
      await expectTrue(inside, "attach");
      assert.deepEqual(await inside.request("read", "m", 0, 1), [42]);
      await expectTrue(inside, "lock");
      assert.equal(await outside.call("m", "tryLock"), false);
      await inside.kill();
      await expectTrue(outside, "tryLock", 20_000); // the kernel has given it back
      assert.equal(await outside.end(), 0);
    },
  );

  test(
    "that shares the key files alone has a segment of its own, and leaves the files to the others",
    { ...options, ...isolatedOnly },
    async () => {
      const key = uniqueKey();
      const outside = await assertOwnSegment(key, startIn(["--ipc"]));
      const files = readdirSync(folder);
      assert.equal(files.length, 2, `${files}`);
      await assertShared(key, outside);
      // Also an open() that fills a segment, a killed user, and a cleanup.
      const filling = startIn(["--ipc"]);
      await filling.run(`
        objects.kept = library.SharedMemory.open(${
        JSON.stringify(key)
      }, { size: 9, initialize: (b) => b.fill(7) });
        objects.m = new library.SharedMemory(${JSON.stringify(key)});`);
      await expectTrue(filling, "attach");
      assert.deepEqual(await filling.request("read", "m", 0, 1), [7]);
      assert.equal(await filling.end(), 0);
      await assertShared(key, outside);
      const cleaner = startIn(["--ipc", ...pids, "--mount"]);
      await cleaner.run("await new Promise((resolve) => setTimeout(resolve, 3500));"); // no file is new then
      const { keyFiles } = await cleaner.request("inspect");
      assert.deepEqual(keyFiles.filter(({ stale }: { stale: boolean }) => stale), []);
      assert.deepEqual(await cleaner.request("cleanup"), { removed: [], failed: [] });
      assert.equal(await cleaner.end(), 0);
      await assertShared(key, outside);
      assert.deepEqual(readdirSync(folder), files);
      assert.equal(await outside.end(), 0);
      assert.deepEqual(readdirSync(folder), []);
    },
  );

  test(
    "that creates and detaches a key at the same time as others keeps its key file as long as it is attached",
    { ...options, ...isolatedOnly },
    async () => {
      const key = uniqueKey();
      const all = [
        startAgent(ownRuntime, { TMPDIR: folder }),
        startIn(["--ipc"]),
        startIn(["--ipc"]),
      ];
      const lost = await Promise.all(all.map((agent) =>
        agent.run(`
        const memory = new library.SharedMemory(${JSON.stringify(key)});
        const newcomer = new library.SharedMemory(memory.key());
        let lost = 0;
        for (let i = 0; i < 3000; i++) {
          if (!memory.create(64)) throw new Error(memory.errorString());
          if (newcomer.attach()) newcomer.detach();
          else lost++;
          if (!memory.detach()) throw new Error(memory.errorString());
        }
        return lost;`)
      ));
      assert.deepEqual(lost, [0, 0, 0]);
      for (const agent of all) assert.equal(await agent.end(), 0);
      assert.deepEqual(readdirSync(folder), []);
    },
  );

  test(
    "that shares the IPC namespace alone, as a service with PrivateTmp, has its own too",
    options,
    async () => {
      const outside = await assertOwnSegment(
        uniqueKey(),
        startIn(["--mount"], `mount -t tmpfs tmpfs "$TMPDIR"`),
      );
      assert.equal(await outside.end(), 0);
    },
  );

  test(
    "that shares /dev/shm shares POSIX keys, whatever else it has of its own",
    options,
    async () => {
      const key = chosenKey({ type: NativeIpcKeyType.PosixRealtime });
      const outside = startAgent(ownRuntime);
      const inside = startIn(["--ipc", "--mount", ...pids], `mount -t tmpfs tmpfs "$TMPDIR"`);
      await giveMemory([outside, inside], key);
      await expectTrue(outside, "create", 16);
      await expectTrue(inside, "attach");
      await expectTrue(inside, "lock");
      assert.equal(await outside.call("m", "tryLock"), false);
      assert.equal(await inside.end(), 0);
      await expectTrue(outside, "tryLock", 20_000);
      assert.equal(await outside.end(), 0);
    },
  );

  test("has System V segments that are larger than its /dev/shm", options, async () => {
    const agent = startIn(["--mount"], "mount -t tmpfs -o size=1m tmpfs /dev/shm");
    await agent.request("memory", "m", uniqueKey());
    await expectTrue(agent, "create", 8 * 2 ** 20);
    await agent.run("objects.m.data().fill(1);");
    assert.equal(await agent.end(), 0);
  });
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import { SharedMemoryError, SystemSemaphoreError } from "../../mod.ts";
import { type Agent, keyFolder, leaveNothingBehind } from "../support/support.ts";
import {
  cannotBeNobody,
  nobody,
  ownRuntime,
  startAgentThrough,
  systemVOnly,
} from "../support/support.ts";
import { uniqueKey } from "../support/support.ts";

const { KeyError, NotFound, NoError, PermissionDenied } = SharedMemoryError;

const somebody = { uid: 65533, gid: 65533 };

let folder: string;

function inFolderOfItsOwn(): void {
  leaveNothingBehind();
  beforeEach(() => {
    folder = mkdtempSync(keyFolder + "users-");
    chmodSync(folder, 0o1777);
  });
  afterEach(() => rmSync(folder, { recursive: true }));
}

/** An agent of a user, whose `TMPDIR` the folder is. */
function startAs(user?: typeof nobody, TMPDIR = folder): Agent {
  return startAgentThrough(ownRuntime, [], { TMPDIR }, user);
}

/** Asserts that a call on the agent's object fails so. */
async function assertFails(agent: Agent, call: [string, ...unknown[]], code: number, says: RegExp) {
  const [method, ...args] = call;
  assert.equal(await agent.call("m", method, ...args), false);
  assert.match(await agent.call("m", "errorString"), says);
  assert.equal(await agent.call("m", "error"), code);
}

async function assertTrue(agent: Agent, method: string, ...args: unknown[]): Promise<void> {
  const result = await agent.call("m", method, ...args);
  assert.equal(result, true, await agent.call("m", "errorString"));
  assert.equal(await agent.call("m", "error"), NoError);
}

const reason = cannotBeNobody();
const options = reason ? { skip: reason } : {};

describe("what belongs to another user", options, () => {
  inFolderOfItsOwn();

  for (
    const [name, owner, stranger] of [
      ["root's segment and nobody", undefined, nobody],
      ["nobody's segment and another user", nobody, somebody],
      ["nobody's segment and root", nobody, undefined],
    ] as const
  ) {
    test(`${name}: create() and attach() are PermissionDenied and say whose it is`, async () => {
      const key = uniqueKey();
      const [first, second] = [startAs(owner), startAs(stranger)];
      for (const agent of [first, second]) await agent.request("memory", "m", key);
      await assertTrue(first, "create", 16);
      const whose = `belongs to \\w+ \\(uid ${owner?.uid ?? 0}\\), another user; use a key`;
      const says = (operation: string) =>
        new RegExp(`^SharedMemory\\.${operation} \\("${key}"\\): .*${whose}`);
      // Root may look, so for him create() finds a segment that exists.
      for (const operation of stranger ? ["create", "createOrAttach"] : ["createOrAttach"]) {
        await assertFails(second, [operation, 16], PermissionDenied, says(operation));
      }
      await assertFails(second, ["attach"], PermissionDenied, says("attach"));
      await assertFails(second, ["attach", 0], PermissionDenied, says("attach"));
      assert.equal(readdirSync(folder).length, 2); // the owner's files, still there
      await assertTrue(first, "lock");
      await assertTrue(first, "unlock");
      await assertTrue(first, "detach");
      await assertTrue(second, "create", 16); // now the key is free
      assert.equal(await second.end(), 0);
      assert.equal(await first.end(), 0);
      assert.deepEqual(readdirSync(folder), []);
    });
  }

  // Somebody's empty file lends its inode to nobody's segment, which he may not even look at.
  for (
    const [call, source] of [
      ["createOrAttach()", "const { m } = objects; return m.createOrAttach(16) || m.error();"],
      [
        "SharedMemory.open()",
        "try { return library.SharedMemory.open(key, { size: 16 }); } catch (e) { return e.error; }",
      ],
    ]
  ) {
    test(`in a file of one's own is refused by ${call}, and keeps its file`, async () => {
      const path = `${folder}/key`;
      const [owner, stranger] = [startAs(nobody), startAs(somebody)];
      writeFileSync(path, "");
      chownSync(path, somebody.uid, somebody.gid);
      await owner.request("memory", "m", null);
      await owner.call("m", "setNativeKey", path);
      await assertTrue(owner, "create", 16);
      const refused = await stranger.run(`
        const { NativeIpcKey, NativeIpcKeyType, SharedMemory } = library;
        const key = new NativeIpcKey(${JSON.stringify(path)}, NativeIpcKeyType.SystemV);
        objects.m = new SharedMemory(key);
        ${source}
      `);
      assert.equal(refused, PermissionDenied);
      assert.deepEqual(readdirSync(folder), ["key"]);
      await owner.request("memory", "other", null);
      await owner.call("other", "setNativeKey", path);
      assert.equal(await owner.call("other", "attach"), true);
      assert.equal(await owner.end(), 0);
      assert.equal(await stranger.end(), 0);
    });
  }

  test("another user's semaphore is PermissionDenied and says so", async () => {
    const key = uniqueKey();
    const [owner, stranger] = [startAs(), startAs(nobody)];
    await owner.request("semaphore", "m", key, 1);
    assert.equal(await owner.call("m", "error"), SystemSemaphoreError.NoError);
    await stranger.request("semaphore", "m", key, 1);
    const says = (operation: string) =>
      new RegExp(
        `^SystemSemaphore\\.${operation} \\("${key}"\\): .* belongs to root \\(uid 0\\), another user`,
      );
    assert.match(await stranger.call("m", "errorString"), says("setKey"));
    const code = SystemSemaphoreError.PermissionDenied;
    await assertFails(stranger, ["acquire"], code, says("acquire"));
    await assertFails(stranger, ["release"], code, says("release"));
    assert.equal(await stranger.end(), 0);
    assert.equal(await owner.call("m", "acquire"), true);
    assert.equal(await owner.end(), 0);
    assert.deepEqual(readdirSync(folder), []);
  });
});

describe("the folder of the key files", systemVOnly, () => {
  inFolderOfItsOwn();

  test("that is missing is a KeyError which names it; made meanwhile, it is used", async () => {
    const missing = `${folder}/missing`;
    const agent = startAs(undefined, missing);
    await agent.request("memory", "m", "key");
    const text = `the folder of the key files, ${missing}, cannot be used; ` +
      "create it or set TMPDIR to another [realpath: ENOENT 2]";
    const says = (operation: string) => `SharedMemory.${operation} ("key"): ${text}`;
    for (const [operation, ...args] of [["create", 16], ["attach"]] as [string, number?][]) {
      assert.equal(await agent.call("m", operation, ...args), false);
      assert.equal(await agent.call("m", "error"), KeyError);
      assert.equal(await agent.call("m", "errorString"), says(operation));
    }
    await assert.rejects(agent.call("m", "nativeKey"), {
      name: "SharedMemoryException",
      message: says("nativeKey"),
      code: "KeyError",
      error: KeyError,
      syscall: "realpath",
      errno: 2,
      key: "key",
    });
    mkdirSync(missing);
    await assertTrue(agent, "create", 16);
    assert.equal(readdirSync(missing).length, 2);
    assert.equal(await agent.end(), 0);
    assert.deepEqual(readdirSync(missing), []);
  });

  test(
    "in which this user may not make files: PermissionDenied, and what to set",
    options,
    async () => {
      chmodSync(folder, 0o755);
      const agent = startAs(nobody);
      await agent.request("memory", "m", "key");
      const says =
        /^SharedMemory\.create \("key"\): permission denied: .*a TMPDIR of your own \[open .*: EACCES 13\]$/;
      await assertFails(agent, ["create", 16], PermissionDenied, says);
      await assertFails(agent, ["attach"], NotFound, /ENOENT 2\]$/);
      await agent.request("semaphore", "m", "key", 1);
      const semaphoreSays =
        /^SystemSemaphore\.acquire \("key"\): .*a TMPDIR of your own \[open .*: EACCES 13\]$/;
      const code = SystemSemaphoreError.PermissionDenied;
      await assertFails(agent, ["acquire"], code, semaphoreSays);
      assert.equal(await agent.end(), 0);
      assert.deepEqual(readdirSync(folder), []);
    },
  );

  test("that this user may not search: PermissionDenied, and what to set", options, async () => {
    mkdirSync(`${folder}/below`);
    chmodSync(folder, 0o700);
    const agent = startAs(nobody);
    const below = startAs(nobody, `${folder}/below`);
    const says = /: permission denied: .*a TMPDIR of your own \[(statx|open) .*: EACCES 13\]$/;
    const saysBelow = /below, cannot be used; .*set TMPDIR to another \[realpath: EACCES 13\]$/;
    for (const call of [["create", 16], ["attach"]] as [string, number?][]) {
      await agent.request("memory", "m", "key");
      await assertFails(agent, call, PermissionDenied, says);
      await below.request("memory", "m", "key");
      await assertFails(below, call, KeyError, saysBelow);
    }
    assert.equal(await agent.end(), 0);
    assert.equal(await below.end(), 0);
  });

  const mount = `mount -t tmpfs -o ro none "$TMPDIR"`;
  const mounted = spawnSync("unshare", ["--mount", "sh", "-c", mount], {
    env: { ...process.env, TMPDIR: "/mnt" },
  });
  const needsMount = mounted.status === 0 ? {} : { skip: "file systems cannot be mounted here" };
  test("on a read-only file system: PermissionDenied, and what to set", needsMount, async () => {
    const command = ["unshare", "--mount", "sh", "-c", `${mount} && exec "$@"`, "sh"];
    const agent = startAgentThrough(ownRuntime, command, { TMPDIR: folder });
    await agent.request("memory", "m", "key");
    const says = /^SharedMemory\.create .*read-only; set TMPDIR .*\[open .*: EROFS 30\]$/;
    await assertFails(agent, ["create", 16], PermissionDenied, says);
    await assertFails(agent, ["attach"], NotFound, /ENOENT 2\]$/);
    assert.equal(await agent.end(), 0);
  });
});

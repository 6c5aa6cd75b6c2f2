/** A user namespace shows every user that it has no number for as one and the same, and perhaps this process too. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { afterEach, beforeEach, describe, test } from "node:test";
import { mapsAllUsers } from "../../backends/unix/users.ts";
import {
  type Agent,
  cannotBeNobody,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  type nobody,
  onceOnly,
  ownRuntime,
  slow,
  startAgentThrough,
  uniqueKey,
} from "../support/support.ts";

const somebody = { uid: 65533, gid: 65533 };
const asNobody = ["setpriv", "--reuid=65534", "--clear-groups"];

function cannotMakeNamespaces(): string | undefined {
  const cannot = linuxOnly.skip ?? cannotBeNobody();
  if (cannot !== undefined) return cannot;
  const command = [
    "--reuid=65533",
    "--clear-groups",
    "unshare",
    "--user",
    "--map-root-user",
    "true",
  ];
  if (spawnSync("setpriv", command).status === 0) return undefined;
  return "a user cannot make a user namespace here";
}

const cannot = cannotMakeNamespaces();
const options = cannot === undefined ? { ...slow, ...onceOnly } : { skip: cannot };

describe("a user namespace", options, () => {
  let folder: string;
  leaveNothingBehind();
  beforeEach(() => {
    folder = mkdtempSync(keyFolder + "namespaces-");
    chmodSync(folder, 0o1777);
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const start = (command: readonly string[], user?: typeof nobody) =>
    startAgentThrough(ownRuntime, command, { TMPDIR: folder, HOME: folder }, user);

  /** What the agent's calls on a key of another user come to. */
  const uses = (agent: Agent, key: string): Promise<string[]> =>
    agent.run(`
      const { NativeIpcKey, NativeIpcKeyType: { PosixRealtime }, SharedMemory, SystemSemaphore } = library;
      const results = [];
      const tell = (object) => results.push(object.errorReason() + ": " + object.errorString());
      for (const key of [${JSON.stringify(key)}, new NativeIpcKey(${
      JSON.stringify(`/${key}`)
    }, PosixRealtime)]) {
        for (const call of ["create", "attach", "createOrAttach"]) {
          const memory = new SharedMemory(key);
          memory[call](...call === "attach" ? [] : [16]);
          tell(memory);
        }
        tell(new SystemSemaphore(key, 1));
      }
      try {
        results.push(SharedMemory.legacyNativeKey("key").nativeKey);
      } catch (error) {
        results.push(error.reason + ": " + error.message);
      }
      return results;
    `);

  const cases: [string, readonly string[], typeof nobody?][] = [
    ["root without a map", ["unshare", "--user"]],
    ["a user without a map", ["unshare", "--user"], somebody],
    ["root who is 65534 in a map of one user", ["unshare", "--user", "--map-user=65534"]],
  ];
  // Deno and Bun themselves do not start without a /proc.
  if (ownRuntime.name === "node") {
    const hidden = [
      "unshare",
      "--mount",
      "sh",
      "-c",
      'mount -t tmpfs none /proc && exec "$@"',
      "sh",
    ];
    cases.push(["nobody without a /proc that says whether there is a map", [
      ...hidden,
      ...asNobody,
    ]]);
  }
  for (const [name, command, user] of cases) {
    test(`refuses ${name}, whom strangers look like`, options, async () => {
      const key = uniqueKey();
      const stranger = start([], { uid: 65532, gid: 65532 });
      await stranger.run(`
        const { NativeIpcKey, NativeIpcKeyType, SharedMemory } = library;
        for (const name of ["", "/"]) {
          const type = NativeIpcKeyType.PosixRealtime;
          const key = name + ${JSON.stringify(key)};
          objects["m" + name] = SharedMemory.open(name === "" ? key : new NativeIpcKey(key, type), { size: 16 });
        }
      `);
      const before = readdirSync(folder).sort();
      const agent = start(command, user);
      const results = await uses(agent, key);
      assert.equal(results.length, 9);
      for (const result of results) {
        assert.match(result, /^PermissionDenied: .*uid 65534.*cannot be told.*map this user/);
      }
      assert.equal(await agent.end(), 0);
      assert.deepEqual(readdirSync(folder).sort(), before);
      assert.equal(await stranger.end(), 0);
    });
  }

  for (
    const [name, command] of [
      ["the user nobody of the system itself", asNobody],
      ["a user who is mapped", [
        "setpriv",
        "--reuid=65533",
        "--clear-groups",
        "unshare",
        "--user",
        "--map-root-user",
      ]],
    ] as const
  ) {
    test(`lets ${name} work, and keeps strangers out`, options, async () => {
      const [own, others] = [uniqueKey(), uniqueKey()];
      const stranger = start([], { uid: 65532, gid: 65532 });
      await stranger.request("memory", "m", others);
      assert.equal(await stranger.call("m", "create", 16), true);
      const agent = start(command);
      await agent.request("memory", "m", own);
      assert.equal(await agent.call("m", "create", 16), true, await agent.call("m", "errorString"));
      assert.equal(await agent.call("m", "lock"), true);
      const results = await uses(agent, others);
      assert.match(results[1]!, /^PermissionDenied: .*another user/);
      assert.match(results.at(-1)!, /qipc_sharedmemory_key/);
      await agent.request("dispose", "m");
      assert.equal(await agent.end(), 0);
      assert.equal(await stranger.end(), 0);
    });
  }
});

test("a map has all users if it has every number but that for none", () => {
  assert.equal(mapsAllUsers("         0          0 4294967295\n"), true);
  assert.equal(mapsAllUsers("0 0 1\n1 1 4294967294\n"), true);
  for (const map of ["", "0 1000 1\n", "65534 0 1\n", "0 100000 65536\n", "0 0 4294967294\n"]) {
    assert.equal(mapsAllUsers(map), false, JSON.stringify(map));
  }
});

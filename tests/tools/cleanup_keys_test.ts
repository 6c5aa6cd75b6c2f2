/** `cleanup()` of chosen keys: just what belongs to them, by the same rules. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, realpathSync, rmSync } from "node:fs";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { belongsTo, cleanup, type CleanupResult, type SegmentInfo } from "../../inspect.ts";
import { platformSafeName } from "../../backends/native_key.ts";
import { NativeIpcKey, NativeIpcKeyType } from "../../native_ipc_key.ts";
import {
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  startAgent,
  uniqueKey,
} from "../support/support.ts";

const cli = fileURLToPath(new URL("../../cli.ts", import.meta.url));
let folder: string;
const segmentFile = (key: string) => `${folder}/${platformSafeName(key, "qipc_sharedmemory_")}`;
const filesOf = ({ removed }: CleanupResult) => removed.map(({ keyFile }) => keyFile);

/** Leaves a stale segment of a key. */
async function abandon(key: string): Promise<void> {
  const agent = startAgent(ownRuntime, { TMPDIR: folder });
  await agent.request("memory", "m", key);
  assert.equal(await agent.call("m", "create", 8), true);
  await agent.kill();
}

function run(...args: string[]) {
  const { name, command, args: flags } = ownRuntime;
  const all = [...flags, ...name === "deno" ? ["--no-prompt"] : [], cli, ...args];
  const env = { ...process.env, TMPDIR: folder };
  const { status, stdout, stderr } = spawnSync(command, all, { env, encoding: "utf8" });
  return { status, stdout, stderr };
}

describe("cleanup() of keys", { ...linuxOnly, ...slow }, () => {
  leaveNothingBehind();
  beforeEach(() => folder = realpathSync(mkdtempSync(keyFolder + "keys-")));
  afterEach(() => rmSync(folder, { recursive: true }));

  test("removes what belongs to them and nothing else", async () => {
    const keys = ["old cache 1", "old cache 2", "third"].map((text) => uniqueKey(text));
    const [first, second, third] = keys as [string, string, string];
    for (const key of keys) await abandon(key);
    const inspector = startAgent(ownRuntime, { TMPDIR: folder });
    const clean = (options: object): Promise<CleanupResult> =>
      inspector.request("cleanup", options);
    assert.deepEqual(filesOf(await clean({ keys: [] })), []);
    assert.deepEqual(filesOf(await clean({ keys: ["none"] })), []);
    const would = await clean({ keys: [second], dryRun: true });
    assert.deepEqual(filesOf(would), [segmentFile(second)]);
    assert.deepEqual(filesOf(await clean({ keys: [second] })), [segmentFile(second)]);
    // By the key file too, and several at once.
    const name = segmentFile(third).slice(folder.length + 1);
    const two = filesOf(await clean({ keys: [first, name] }));
    assert.deepEqual(two.sort(), [first, third].map(segmentFile).sort());
    assert.deepEqual(readdirSync(folder), []);
    assert.equal(await inspector.end(), 0);
  });

  test("is what the command does with KEYs, which says what it keeps and why", async () => {
    const [lost, used] = [uniqueKey("lost one"), uniqueKey("used")];
    await abandon(lost);
    const user = startAgent(ownRuntime, { TMPDIR: folder });
    await user.request("memory", "m", used);
    assert.equal(await user.call("m", "create", 8), true);
    const { status, stdout } = run("cleanup", used, "none", lost);
    assert.equal(status, 0);
    const [removed, kept, nothing, ...more] = stdout.trimEnd().split("\n");
    assert.match(removed!, /^removed segment \d+ .*: no process is attached$/);
    assert.ok(removed!.includes(segmentFile(lost)));
    assert.match(kept!, /^kept segment \d+ .*: in use$/);
    assert.ok(kept!.includes(segmentFile(used)));
    assert.equal(nothing, `There is no object of the key "none" in ${folder}`);
    assert.deepEqual(more, []);
    assert.deepEqual(run("cleanup", lost), {
      status: 0,
      stdout: `Nothing is stale.\nThere is no object of the key "${lost}" in ${folder}\n`,
      stderr: "",
    });
    assert.equal(await user.end(), 0);
  });

  test("of `remove` ends what is kept on purpose, once no process uses it", async () => {
    const kept = uniqueKey("kept one");
    const user = startAgent(ownRuntime, { TMPDIR: folder });
    const options = '{ size: 8, lifetime: "until-removed" }';
    await user.run(`objects.m = library.SharedMemory.open(${JSON.stringify(kept)}, ${options})`);
    assert.match(run("remove", kept).stdout, /^Nothing is unused.\nkept segment \d+ .*: in use\n$/);
    assert.equal(await user.end(), 0);
    const reason = "no process uses it, and it is kept until it is removed";
    assert.ok(run("cleanup", kept).stdout.trimEnd().endsWith(`: ${reason}`));
    assert.match(run("list").stdout, /1 without a user kept on purpose: remove KEY removes it\./);
    assert.match(run("show", kept).stdout, / lifetime +until removed\n/);
    assert.match(run("remove", kept, "--dry-run").stdout, /^would remove segment \d+ /);
    assert.match(run("remove", kept).stdout, /^removed segment \d+ .*: no process uses it\n$/);
    assert.deepEqual(readdirSync(folder), []);
  });
});

test("cleanup() refuses keys that are none", linuxOnly, () => {
  for (
    const [keys, message] of [
      ["orders", "cleanup: keys must be an array, not string"],
      [null, "cleanup: keys must be an array, not object"],
      [[7], "cleanup: a key must be a string, not number"],
      [[""], "cleanup: a key is empty; leave keys out to clean up all"],
      [["orders", ""], "cleanup: a key is empty; leave keys out to clean up all"],
    ] as const
  ) {
    const options = { keys: keys as unknown as string[], dryRun: true };
    assert.throws(() => cleanup(options), { name: "TypeError", message });
  }
});

test("belongsTo() knows keys, native keys, their texts and key files", () => {
  const one = (type: "systemv" | "posix", nativeKey: string, keyFile: string) =>
    ({ kind: "semaphore", type, nativeKey, keyFile }) as unknown as SegmentInfo;
  const file = `/tmp/${platformSafeName("old cache", "qipc_systemsem_")}`;
  const systemV = one("systemv", file, file);
  const posix = one("posix", "/old cache", "/dev/shm/sem.old cache");
  const text = (key: string, type: number) => String(new NativeIpcKey(key, type));
  const { PosixRealtime, SystemV } = NativeIpcKeyType;
  const names = [file, file.slice("/tmp/".length), text(file, SystemV)];
  for (const key of names) {
    assert.deepEqual([systemV, posix].map((it) => belongsTo(it, key)), [true, false]);
  }
  assert.deepEqual([systemV, posix].map((it) => belongsTo(it, "old cache")), [true, true]);
  for (const key of ["/old cache", "sem.old cache", text("/old cache", PosixRealtime)]) {
    assert.deepEqual([systemV, posix].map((it) => belongsTo(it, key)), [false, true], key);
  }
  for (const key of ["", "cache", "old", "oldcache", "e", text("/old cache", SystemV)]) {
    assert.deepEqual([systemV, posix].map((it) => belongsTo(it, key)), [false, false], key);
  }
});

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import { SharedMemory, SharedMemoryError, SystemSemaphoreError } from "../../mod.ts";
import {
  type Agent,
  keyFolder,
  leaveNothingBehind,
  runtimes,
  startAgent,
} from "../support/support.ts";
import {
  ownRuntime,
  sizeOf,
  startAgentThrough,
  systemVOnly,
  uniqueKey,
} from "../support/support.ts";

const { InvalidSize, NoError, OutOfResources } = SharedMemoryError;

describe("a segment that is too large", () => {
  leaveNothingBehind();

  for (const exponent of [47, 50, 53]) {
    const size = exponent === 53 ? Number.MAX_SAFE_INTEGER : 2 ** exponent;
    test(`create(${size}) fails, says why, and leaves nothing`, () => {
      const memory = new SharedMemory(uniqueKey());
      assert.equal(memory.create(size), false);
      const text = memory.errorString();
      if (ownRuntime.name === "bun") {
        // Bun's limit is asked first, since a segment that has no view would be of no use.
        assert.equal(memory.error(), InvalidSize, text);
        assert.match(text, new RegExp(`${size} bytes.*at most ${2 ** 32}`));
        return;
      }
      // Which limit of the system is met first depends on its settings.
      assert.ok(memory.error() === OutOfResources || memory.error() === InvalidSize, text);
      const linux = /out of memory.*\[shmget: ENOMEM 12\]|kernel\.shm.*\[shmget: E\w+ \d+\]/;
      const windows = /\[(CreateFileMappingW|MapViewOfFile).*: ERROR_\w+ \d+\]/;
      assert.match(text, systemVOnly.skip === undefined ? linux : windows);
    });
  }

  const bun = runtimes.find(({ name }) => name === "bun");
  const other = runtimes.find(({ name }) => name !== "bun");
  const missing = bun === undefined ? "Bun" : other === undefined ? "Deno or Node" : null;
  const options = missing === null ? {} : { skip: `${missing} is not installed` };
  test("Bun cannot attach to more than 4 GiB, says so, and disturbs nothing", options, async () => {
    const key = uniqueKey();
    const [creator, joiner] = [startAgent(other!), startAgent(bun!)];
    await creator.request("memory", "m", key);
    await joiner.request("memory", "m", key);
    assert.equal(await creator.call("m", "create", 2 ** 32 + 1), true);
    assert.equal(await joiner.call("m", "attach"), false);
    assert.equal(await joiner.call("m", "error"), InvalidSize);
    const text = await joiner.call("m", "errorString");
    const size = sizeOf(2 ** 32 + 1);
    assert.match(
      text,
      new RegExp(`^SharedMemory\\.attach \\(.*${size} bytes.*at most 4294967296`),
    );
    assert.equal(await creator.call("m", "lock"), true);
    assert.equal(await joiner.end(), 0);
    assert.equal(await creator.end(), 0);
  });
});

/** Why the limits of a System V namespace cannot be lowered here, if they cannot. */
function cannotLimit(): string | undefined {
  if (process.getuid?.() !== 0) return "only root may lower the system's limits";
  const script = "echo 1 > /proc/sys/kernel/shmmni && command -v nsenter && command -v prlimit";
  const { status } = spawnSync("unshare", ["--ipc", "sh", "-c", script]);
  return status === 0 ? undefined : "util-linux cannot make a System V namespace here";
}

const reason = cannotLimit();

describe("where a limit of the system is reached", reason ? { skip: reason } : {}, () => {
  let folder: string;
  let agent: Agent;

  leaveNothingBehind();
  beforeEach(async () => {
    folder = mkdtempSync(keyFolder + "limits-");
    agent = startAgentThrough(ownRuntime, ["unshare", "--ipc"], { TMPDIR: folder });
    await agent.request("memory", "m", "key");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function inNamespace(script: string): string {
    const args = ["--ipc", `--target=${agent.child.pid}`, "sh", "-c", script];
    return execFileSync("nsenter", args, { encoding: "utf8" });
  }

  /** Sets a limit of the agent's namespace. */
  function limit(name: "sem" | "shmmni" | "shmall" | "shmmax", value: string): void {
    inNamespace(`echo ${value} > /proc/sys/kernel/${name}`);
  }

  /** What there is in the agent's namespace and folder. */
  function objects(): string[] {
    const rows = inNamespace("tail -qn +2 /proc/sysvipc/shm /proc/sysvipc/sem").trim();
    return [...rows.split("\n"), ...readdirSync(folder)].filter((row) => row !== "");
  }

  /** Asserts that `create(size)` fails and leaves nothing, and works once `limits` are raised. */
  async function assertFails(size: number, code: number, says: RegExp, raise: () => void) {
    assert.equal(await agent.call("m", "create", size), false);
    assert.match(await agent.call("m", "errorString"), says);
    assert.equal(await agent.call("m", "error"), code);
    assert.equal(await agent.call("m", "isAttached"), false);
    assert.deepEqual(objects(), []);
    raise();
    const created = await agent.call("m", "create", size);
    assert.equal(created, true, await agent.call("m", "errorString"));
    assert.equal(await agent.call("m", "error"), NoError);
    assert.equal(objects().length, 4); // segment, semaphore and their files
    assert.equal(await agent.end(), 0);
    assert.deepEqual(readdirSync(folder), []);
  }

  test("no more semaphore sets: create() is OutOfResources and leaves nothing", async () => {
    const says =
      /^SharedMemory\.create \("key"\): .*raise kernel\.sem.*`ipcrm -s ID`.*\[semget .*ENOSPC 28\]$/;
    limit("sem", "32000 1024000000 500 0");
    await assertFails(16, OutOfResources, says, () => limit("sem", "32000 1024000000 500 1"));
  });

  test("no more segments: create() is OutOfResources and leaves nothing", async () => {
    const says =
      /^SharedMemory\.create \("key"\): .*raise kernel\.shmmni.*`ipcrm -m ID`.*\[shmget: ENOSPC 28\]$/;
    limit("shmmni", "0");
    await assertFails(16, OutOfResources, says, () => limit("shmmni", "1"));
  });

  test("no more pages for segments: create() is OutOfResources and leaves nothing", async () => {
    const says = /^SharedMemory\.create \("key"\): .*kernel\.shmall.*\[shmget: ENOSPC 28\]$/;
    limit("shmall", "1");
    const pages = 32; // more than one, however large a page is
    await assertFails(pages * 4096, OutOfResources, says, () => limit("shmall", String(pages)));
  });

  test("beyond the largest segment: create() is InvalidSize and leaves nothing", async () => {
    const says = /^SharedMemory\.create \("key"\): .*raise kernel\.shmmax.*\[shmget: EINVAL 22\]$/;
    limit("shmmax", "99");
    await assertFails(100, InvalidSize, says, () => limit("shmmax", "100"));
  });

  test("no more open files: create() is OutOfResources, and works again later", async () => {
    const limitFiles = (count: string) =>
      execFileSync("prlimit", [`--pid=${agent.child.pid}`, `--nofile=${count}:`]);
    await agent.call("m", "attach"); // loads the library, which takes files of its own
    const before = /^Max open files\s+(\d+)/m.exec(
      readFileSync(`/proc/${agent.child.pid}/limits`, "utf8"),
    )![1]!;
    limitFiles("3");
    const says = /^SharedMemory\.create \("key"\): .*\(ulimit -n\) \[open .*: EMFILE 24\]$/;
    await assertFails(16, OutOfResources, says, () => limitFiles(before));
  });

  test("no more semaphore sets: a SystemSemaphore is OutOfResources and leaves nothing", async () => {
    limit("sem", "32000 1024000000 500 0");
    await agent.request("semaphore", "s", "key", 1);
    for (const operation of ["setKey", "acquire", "release"]) {
      if (operation !== "setKey") assert.equal(await agent.call("s", operation), false);
      // The number is another one than SharedMemory's.
      assert.equal(await agent.call("s", "error"), SystemSemaphoreError.OutOfResources);
      const text = await agent.call("s", "errorString");
      assert.ok(text.startsWith(`SystemSemaphore.${operation} ("key"): `), text);
      assert.match(text, /raise kernel\.sem.*\[semget .*qipc_systemsem_key.*: ENOSPC 28\]$/);
    }
    assert.deepEqual(objects(), []);
    limit("sem", "32000 1024000000 500 1");
    assert.equal(await agent.call("s", "acquire"), true);
    assert.equal(await agent.call("s", "error"), SystemSemaphoreError.NoError);
  });
});

/** Limits at which the kernel kills a process instead of refusing a call. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { after, describe, test } from "node:test";
import { memoryRoom } from "../../backends/unix/memory_limit.ts";
import { NativeIpcKeyType } from "../../mod.ts";
import { chosenKey, giveMemory, giveSemaphore } from "../support/key_types.ts";
import {
  type Agent,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  startAgent,
  startAgentThrough,
  uniqueKey,
} from "../support/support.ts";

const POSIX = { type: NativeIpcKeyType.PosixRealtime };
const MIB = 2 ** 20;

async function assertRefused(agent: Agent, size: number, says: RegExp): Promise<void> {
  for (const call of ["create", "createOrAttach"]) {
    assert.equal(await agent.call("m", call, size), false);
    assert.equal(await agent.call("m", "errorReason"), "OutOfResources");
    assert.match(await agent.call("m", "errorString"), says);
    assert.equal(await agent.call("m", "isAttached"), false);
  }
}

const hasPrlimit = linuxOnly.skip === undefined && spawnSync("prlimit", ["--version"]).status === 0;

describe("ulimit -f", hasPrlimit ? slow : { skip: "needs prlimit, of util-linux" }, () => {
  leaveNothingBehind();

  const says =
    /bytes are more than a file of this process may have, \d+: raise `ulimit -f` \[getrlimit: RLIMIT_FSIZE\]$/;

  /** Lowers the limit of an agent that runs: its runtime writes files of its own as it starts and ends. */
  const limit = (agent: Agent, bytes: number | "unlimited") =>
    execFileSync("prlimit", [`--pid=${agent.child.pid}`, `--fsize=${bytes}:unlimited`]);

  test("refuses a POSIX segment and a POSIX semaphore that it is too small for, and kills nobody", async () => {
    const agent = startAgent(ownRuntime);
    const key = chosenKey(POSIX);
    await giveMemory(agent, key);
    const before = readdirSync("/dev/shm");
    limit(agent, 100 * 1024);
    await assertRefused(agent, MIB, says);
    await assertRefused(agent, 100 * 1024 + 1, says);
    assert.deepEqual(readdirSync("/dev/shm"), before);
    assert.equal(
      await agent.call("m", "create", 100 * 1024),
      true,
      await agent.call("m", "errorString"),
    );
    await agent.run("objects.m.data().fill(1);");
    assert.equal(await agent.call("m", "detach"), true);
    limit(agent, 0);
    await assertRefused(agent, 1, says);
    await giveSemaphore(agent, chosenKey(POSIX));
    assert.equal(await agent.call("s", "acquire"), false);
    assert.equal(await agent.call("s", "errorReason"), "OutOfResources");
    assert.match(await agent.call("s", "errorString"), says);
    assert.deepEqual(readdirSync("/dev/shm"), before);
    limit(agent, 100 * 1024);
    // What is there already does not grow, though another program has not reserved all of it.
    const { nativeKey } = key;
    writeFileSync(`/dev/shm${nativeKey}`, "", { mode: 0o600 });
    truncateSync(`/dev/shm${nativeKey}`, MIB);
    assert.equal(await agent.call("m", "attach"), true, await agent.call("m", "errorString"));
    await agent.run("objects.m.data().fill(1);");
    assert.equal(await agent.call("m", "detach"), true);
    rmSync(`/dev/shm${nativeKey}`, { force: true });
    // System V has no files of a size.
    await agent.request("memory", "m", uniqueKey());
    assert.equal(await agent.call("m", "create", MIB), true, await agent.call("m", "errorString"));
    assert.equal(await agent.call("m", "detach"), true);
    limit(agent, "unlimited");
    assert.equal(await agent.end(), 0);
  });
});

/** The folder of a new memory cgroup, `null` if there can be none here. */
function makeGroup(): string | null {
  if (linuxOnly.skip !== undefined || process.getuid?.() !== 0) return null;
  const groups = readFileSync("/proc/self/cgroup", "utf8");
  const isFirst = /^\d+:[^:]*\bmemory\b[^:]*:/m.test(groups);
  const type = isFirst ? / - cgroup \S+ \S*\bmemory\b/ : / - cgroup2 /;
  const mount = readFileSync("/proc/self/mountinfo", "utf8").split("\n").find((line) =>
    type.test(line)
  );
  if (mount === undefined) return null;
  const folder = `${mount.split(" ")[4]}/shared-memory-test-${process.pid}`;
  try {
    mkdirSync(folder);
  } catch {
    return null;
  }
  try {
    writeFileSync(`${folder}/${isFirst ? "memory.limit_in_bytes" : "memory.max"}`, `${200 * MIB}`);
    mkdirSync(`${folder}/inner`);
    return folder;
  } catch {
    rmdirSync(folder);
    return null;
  }
}

describe("the limit of a memory cgroup", () => {
  leaveNothingBehind();

  const group = makeGroup();
  const withGroup = group === null ? { skip: "cannot make a memory cgroup here" } : slow;
  after(() => {
    if (group === null) return;
    for (const folder of [`${group}/inner`, group]) rmdirSync(folder);
  });

  test(
    "refuses a POSIX segment that it cannot hold, also that of a group around, and kills nobody",
    withGroup,
    async () => {
      const script = `echo $$ > ${group}/inner/cgroup.procs && exec "$@"`;
      const agent = startAgentThrough(ownRuntime, ["sh", "-c", script, "sh"]);
      await giveMemory(agent, chosenKey(POSIX));
      const says = new RegExp(
        `bytes are more than the memory cgroup .* has left, \\d+: raise ${group}/memory\\.`,
      );
      const before = readdirSync("/dev/shm");
      await assertRefused(agent, 400 * MIB, says);
      assert.deepEqual(readdirSync("/dev/shm"), before);
      assert.equal(
        await agent.call("m", "create", 20 * MIB),
        true,
        await agent.call("m", "errorString"),
      );
      await agent.run("objects.m.data().fill(1);");
      assert.equal(await agent.call("m", "detach"), true);
      // System V reserves nothing: the pages come as they are touched.
      await agent.request("memory", "m", uniqueKey());
      assert.equal(
        await agent.call("m", "create", 400 * MIB),
        true,
        await agent.call("m", "errorString"),
      );
      assert.equal(await agent.call("m", "detach"), true);
      assert.equal(await agent.end(), 0);
    },
  );

  const read = (files: Record<string, string>) => (path: string) => files[path] ?? null;
  const meminfo = "MemFree:  1000 kB\nSwapTotal:  4096 kB\nSwapFree:  1024 kB\n";

  const second = {
    "/proc/self/cgroup": "0::/app/web\n",
    "/proc/self/mountinfo":
      "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
    "/sys/fs/cgroup/app/web/memory.max": "max\n",
    "/sys/fs/cgroup/app/web/memory.current": "1000\n",
    "/sys/fs/cgroup/app/memory.max": `${200 * MIB}\n`,
    "/sys/fs/cgroup/app/memory.current": `${150 * MIB}\n`,
    "/sys/fs/cgroup/app/memory.stat":
      "anon 1\nfile 99\ninactive_file 1000\nactive_file 200\nslab_reclaimable 30\n",
    "/sys/fs/cgroup/app/memory.swap.max": "0\n",
    "/sys/fs/cgroup/app/memory.swap.current": "0\n",
  };
  test("of version 2 is the least of all groups around, with what the kernel can take back", () => {
    assert.deepEqual(memoryRoom(read(second)), {
      bytes: 50 * MIB + 1230,
      file: "/sys/fs/cgroup/app/memory.max",
    });
    const outer = {
      ...second,
      "/sys/fs/cgroup/memory.max": "5000",
      "/sys/fs/cgroup/memory.current": "6000",
    };
    assert.equal(memoryRoom(read(outer))?.bytes, 0);
    const swap = {
      ...second,
      "/proc/meminfo": meminfo,
      "/sys/fs/cgroup/app/memory.swap.max": "max",
    };
    assert.equal(memoryRoom(read(swap))?.bytes, 51 * MIB + 1230);
    const little = { ...swap, "/sys/fs/cgroup/app/memory.swap.max": "500" };
    assert.equal(memoryRoom(read(little))?.bytes, 50 * MIB + 1230 + 500);
  });

  test("of version 1 is likewise, in a hierarchy of its own, with the swap that may be used beside", () => {
    const folder = "/sys/fs/cgroup/memory/docker/ab";
    const first = {
      "/proc/self/cgroup": "12:cpu,cpuacct:/x\n5:memory:/docker/ab\n0::/unused\n",
      "/proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
        "31 23 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n",
      [`${folder}/memory.limit_in_bytes`]: `${200 * MIB}\n`,
      [`${folder}/memory.usage_in_bytes`]: `${190 * MIB}\n`,
      [`${folder}/memory.stat`]:
        `inactive_file 5\ntotal_inactive_file ${MIB}\ntotal_active_file ${MIB}\n`,
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
      "/sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
    };
    const file = `${folder}/memory.limit_in_bytes`;
    assert.deepEqual(memoryRoom(read(first)), { bytes: 12 * MIB, file });
    assert.equal(memoryRoom(read({ ...first, "/proc/meminfo": meminfo }))?.bytes, 13 * MIB);
    const both = {
      ...first,
      "/proc/meminfo": meminfo,
      [`${folder}/memory.memsw.limit_in_bytes`]: `${200 * MIB}`,
      [`${folder}/memory.memsw.usage_in_bytes`]: `${190 * MIB}`,
    };
    assert.equal(memoryRoom(read(both))?.bytes, 12 * MIB);
  });

  test("is that of what is mounted, where a container sees only its own part of the tree", () => {
    const root = (mounted: string, path: string) => ({
      "/proc/self/cgroup": `0::${path}\n`,
      "/proc/self/mountinfo": `30 23 0:26 ${mounted} /my\\040groups rw - cgroup2 cgroup2 rw\n`,
      "/my groups/memory.max": "1000",
      "/my groups/memory.current": "400",
    });
    const expected = { bytes: 600, file: "/my groups/memory.max" };
    assert.deepEqual(memoryRoom(read(root("/docker/ab", "/docker/ab"))), expected);
    assert.deepEqual(memoryRoom(read(root("/docker/ab", "/docker/other"))), expected);
    assert.deepEqual(memoryRoom(read(root("/", "/"))), expected);
    assert.deepEqual(memoryRoom(read(root("/", "/../outside"))), expected);
    const inner = { ...root("/docker/ab", "/docker/ab/in"), "/my groups/in/memory.max": "500" };
    assert.deepEqual(
      memoryRoom(read({ ...inner, "/my groups/in/memory.current": "450" }))?.bytes,
      50,
    );
  });

  test("is none if no file says so", () => {
    for (const missing of Object.keys(second).slice(0, 2)) {
      assert.equal(memoryRoom(read({ ...second, [missing]: "" })), null, missing);
    }
    assert.equal(memoryRoom(read({})), null);
    assert.equal(memoryRoom(read({ ...second, "/sys/fs/cgroup/app/memory.max": "max" })), null);
    const unknown = { ...second, "/sys/fs/cgroup/app/memory.current": "" };
    assert.equal(memoryRoom(read(unknown)), null);
  });
});

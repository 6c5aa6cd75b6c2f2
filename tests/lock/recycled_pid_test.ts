/** A lock whose holder has ended, and whose pid is another process's by now. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import process from "node:process";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { hasPidOfAnother } from "../../backends/systemv/last_user.ts";
import { sleepSync } from "../../backends/timing.ts";
import { CLOCK, PTHREAD_LIBRARIES } from "../../backends/unix/c_variant.ts";
import { cString, Libc } from "../../backends/unix/libc.ts";
import { selectFfi } from "../../ffi/mod.ts";
import type { Ffi } from "../../ffi/types.ts";
import {
  crewOnly,
  ftok,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  semaphoreFile,
  slow,
  startAgent,
  startAgentThrough,
  systemLibrary,
  uniqueKey,
  until,
} from "../support/support.ts";

const now = () => Date.now() / 1000;

/** Calls `use` with a process that `command` starts, once it has said so. */
async function withProcess(
  command: readonly string[],
  use: (pid: number) => void,
): Promise<void> {
  const [name, ...args] = command;
  const child: ChildProcess = spawn(name!, args, { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.on("close", resolve));
  try {
    await new Promise((resolve) => child.stdout!.once("data", resolve));
    use(child.pid!);
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}

/** Calls `use` with a process that began within a second after `before`, which is a time in s since 1970. */
async function withNewProcess(use: (pid: number, before: number) => void): Promise<void> {
  for (let isNew = false; !isNew;) {
    const before = now();
    await withProcess(["sh", "-c", "echo; exec sleep 60"], (pid) => {
      isNew = now() - before < 1;
      if (isNew) use(pid, before);
    });
  }
}

describe("a process whose pid a lock names", { ...linuxOnly, ...slow }, () => {
  leaveNothingBehind();

  test("is not the holder if it began after the lock was last changed", async () => {
    const libc = systemLibrary();
    await withNewProcess((pid, before) => {
      assert.equal(hasPidOfAnother(libc, pid, before - 10), true);
      assert.equal(hasPidOfAnother(libc, pid, before), false, "within the precision of the clocks");
      assert.equal(hasPidOfAnother(libc, pid, now() + 10), false);
    });
  });

  test("is the holder although the process that looks is stopped between its reads of two clocks", async () => {
    const ffi = selectFfi();
    const clock = ffi.load(PTHREAD_LIBRARIES, CLOCK);
    const clock_gettime: typeof clock.clock_gettime = (...args) => {
      const result = clock.clock_gettime(...args);
      sleepSync(3000);
      return result;
    };
    const load = { value: () => ({ clock_gettime }) };
    const stopped = Object.assign(new Libc(ffi, process.arch), {
      ffi: Object.create(ffi, { load }) as Ffi,
    });
    await withNewProcess((pid, before) => {
      assert.equal(hasPidOfAnother(stopped, pid, before), false);
    });
  });

  test("is the holder if it is attached to any segment, however the clock was set", async () => {
    const key = uniqueKey();
    const agent = startAgent(ownRuntime);
    await agent.request("memory", "m", key);
    const libc = systemLibrary();
    assert.equal(hasPidOfAnother(libc, agent.child.pid!, 0), true);
    assert.equal(await agent.call("m", "create", 16), true);
    assert.equal(hasPidOfAnother(libc, agent.child.pid!, 0), false);
    assert.equal(await agent.end(), 0);
  });

  const hasFlock = spawnSync("flock", ["--version"]).status === 0;
  const flock = { skip: hasFlock ? false : "needs flock of util-linux" };
  test("is the holder if it has a file under flock", flock, async () => {
    await withProcess(["flock", keyFolder, "sh", "-c", "echo; read end"], (pid) => {
      assert.equal(hasPidOfAnother(systemLibrary(), pid, 0), false);
    });
  });

  test("is the holder if one may not look at it", () => {
    const libc = systemLibrary();
    const open: typeof libc.c.open = (path, flags, mode) => {
      const isHidden = new TextDecoder().decode(path).endsWith("/maps\0");
      return libc.c.open(isHidden ? cString("/proc/hidden") : path, flags, mode);
    };
    const c = { ...libc.c, open };
    const hidden = Object.assign(new Libc(selectFfi(), process.arch), { c });
    assert.equal(hasPidOfAnother(libc, process.pid, 0), true);
    assert.equal(hasPidOfAnother(hidden, process.pid, 0), false);
  });
});

/** Why pids cannot be chosen here, if they cannot. */
function cannotChoosePids(): string | undefined {
  if (process.platform !== "linux") return "needs the namespaces of Linux";
  const script = "echo 4000 > /proc/sys/kernel/ns_last_pid && sh -c 'test $$ = 4001' && true";
  const args = ["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script];
  return spawnSync("unshare", args).status === 0 ? undefined : "only root can choose pids";
}

const cannot = crewOnly.skip === undefined ? cannotChoosePids() : crewOnly.skip;

describe(
  "a lock whose holder's pid was recycled",
  cannot === undefined ? slow : { skip: cannot },
  () => {
    leaveNothingBehind();

    test("is taken over, and inspect() does not call that process its holder", slow, async () => {
      const key = uniqueKey();
      const path = semaphoreFile(key);
      // The agent is in a namespace of pids with a shell that starts what is written to a file.
      const agent = startAgentThrough(ownRuntime, [
        ...["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
      ]);
      await agent.request("memory", "m", key);
      assert.equal(await agent.call("m", "createOrAttach", 16), true);
      const { c } = systemLibrary();
      const id = c.semget(ftok(path), 0, 0);
      // A process of that namespace that sets the value, so that the kernel undoes nothing, and ends.
      const target = String(childOf(agent.child.pid!));
      const enter = ["-t", target, "--pid", "--mount", "--"];
      const hold = `import ctypes, os
c = ctypes.CDLL(None)
open("/proc/sys/kernel/ns_last_pid", "w").write("4000")
pid = os.fork()
if pid == 0:
    c.semctl(${id}, 0, 16, 0)
    os._exit(0)
os.waitpid(pid, 0)
print(pid)`;
      const held = spawnSync("nsenter", [...enter, "/usr/bin/python3", "-c", hold], {
        encoding: "utf8",
      });
      assert.equal(held.stdout, "4001\n", held.stderr);
      // The kernel notes whole seconds; the process that gets the pid must begin later than any of them.
      await delay(3100);
      const recycle = `echo 4000 > /proc/sys/kernel/ns_last_pid; sleep 120 & echo $!`;
      const sleeper = spawn("nsenter", [...enter, "sh", "-c", `${recycle}; wait`]);
      try {
        let said = "";
        sleeper.stdout.on("data", (data) => said += data);
        await until(() => said.includes("\n"), "the process with the recycled pid");
        assert.equal(said, "4001\n");
        const { segments } = await agent.request("inspect");
        const lock = segments.find(({ lock }: { lock: { id: number } | null }) =>
          lock?.id === id
        ).lock;
        assert.deepEqual(lock.holder, { pid: 4001, alive: false });
        assert.equal(await agent.call("m", "tryLock", 20), false);
        assert.match(await agent.call("m", "errorString"), /held by another/);
        assert.equal(
          await agent.call("m", "tryLock", 6000),
          true,
          await agent.call("m", "errorString"),
        );
        assert.equal(await agent.call("m", "unlock"), true);
        assert.equal(await agent.end(), 0);
      } finally {
        sleeper.kill("SIGKILL");
        await agent.kill();
      }
    });
  },
);

/** The process that `unshare` has forked. */
function childOf(pid: number): number {
  const { stdout } = spawnSync("cat", [`/proc/${pid}/task/${pid}/children`], { encoding: "utf8" });
  return Number(stdout.trim().split(" ")[0]);
}

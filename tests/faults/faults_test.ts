/** What the system does to processes that share: storms of them, full disks, signals, clocks. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { accessSync, closeSync, mkdtempSync, openSync } from "node:fs";
import { readdirSync, rmSync, statSync, unlinkSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { SharedMemory } from "../../mod.ts";
import {
  crewOnly,
  ipcObjects,
  ipcObjectsSince,
  isolatedOnly,
  keyFolder,
  leaveNothingBehind,
  ownRuntime,
  startMany,
} from "../support/support.ts";
import {
  linuxOnly,
  segmentFile,
  semaphoreFile,
  slow,
  startAgent,
  startAgentThrough,
  uniqueKey,
  untilBlocked,
} from "../support/support.ts";

describe("a storm", () => {
  leaveNothingBehind();

  const crowd = linuxOnly.skip === undefined ? 64 : 20; // which takes Wine as long to start

  test(
    `of ${crowd} processes has one creator, counts right, and leaves nothing`,
    { ...slow, ...crewOnly },
    async () => {
      const before = ipcObjects();
      const key = uniqueKey();
      const source = `
      let made = 0;
      using memory = library.SharedMemory.open(${JSON.stringify(key)}, {
        size: 8,
        timeout: 60_000,
        initialize: () => made++,
      });
      objects.m = memory;
      const view = memory.view(Int32Array);
      const open = view[1];
      for (let i = 0; i < 100; i++) {
        if (!memory.lock()) throw new Error(memory.errorString());
        view[0]++;
        if (!memory.unlock()) throw new Error(memory.errorString());
      }
      if (!memory.lock()) throw new Error(memory.errorString());
      view[1]++;
      memory.unlock();
      while (view[1] < ${crowd}) await new Promise((done) => setTimeout(done, 10));
      return [made, view[0]];`.replace("using memory", "const memory");
      const agents = startMany(crowd);
      const results: [number, number][] = await Promise.all(
        agents.map((agent) => agent.run(source)),
      );
      assert.equal(results.reduce((sum, [made]) => sum + made, 0), 1);
      assert.deepEqual(results.map(([, count]) => count), results.map(() => 100 * crowd));
      assert.deepEqual(await Promise.all(agents.map((agent) => agent.end())), agents.map(() => 0));
      assert.deepEqual(ipcObjectsSince(before), []);
    },
  );
});

describe("a wait for the lock", () => {
  leaveNothingBehind();

  test(
    `in ${ownRuntime.name} goes on after a signal, and after SIGSTOP`,
    { ...slow, ...linuxOnly },
    async () => {
      const key = uniqueKey();
      using memory = new SharedMemory(key);
      assert.equal(memory.create(16) && memory.lock(), true, memory.errorString());
      const agent = startAgent(ownRuntime);
      await agent.request("memory", "m", key);
      assert.equal(await agent.call("m", "attach"), true);
      await agent.run(`process.on("SIGUSR2", () => objects.signalled = true);`);
      const locked = agent.call("m", "lock");
      await untilBlocked(key);
      for (const signal of ["SIGUSR2", "SIGSTOP", "SIGCONT", "SIGUSR2"] as const) {
        process.kill(agent.child.pid!, signal);
      }
      await untilBlocked(key);
      assert.equal(memory.unlock(), true);
      assert.equal(await locked, true);
      await agent.run("while (!objects.signalled) await new Promise((r) => setTimeout(r, 5));");
      assert.equal(await agent.end(), 0);
    },
  );

  test("does not look at the time of day", async () => {
    const key = uniqueKey();
    using holder = new SharedMemory(key);
    using memory = new SharedMemory(key);
    assert.equal(holder.create(16) && holder.lock(), true, holder.errorString());
    assert.equal(memory.attach(), true, memory.errorString());
    const { now } = Date;
    const started = performance.now();
    try {
      Date.now = () => 0;
      assert.equal(memory.tryLock(100), false);
      Date.now = () => 2 ** 52;
      assert.equal(memory.tryLock(100), false);
      assert.equal(await memory.lockAsync({ timeout: 100 }), false);
    } finally {
      Date.now = now;
    }
    const waited = performance.now() - started;
    assert.ok(waited > 290 && waited < 10_000, `${waited} ms`);
  });
});

const mount = (options: string) => `mount -t tmpfs -o ${options} none "$TMPDIR"`;
const isMountable = spawnSync("unshare", ["--mount", "sh", "-c", mount("size=4k")], {
  env: { ...process.env, TMPDIR: "/mnt" },
}).status === 0;

describe("a full file system", isMountable ? {} : { skip: "cannot mount here" }, () => {
  leaveNothingBehind();

  // The folder itself is the first inode: no file, or one of the two that a segment takes.
  for (const inodes of [1, 2]) {
    test(`with room for ${inodes - 1} key files is an error that says so`, async () => {
      const folder = mkdtempSync(keyFolder + "full-");
      const script = `${mount(`nr_inodes=${inodes}`)} && exec "$@"`;
      const command = ["unshare", "--mount", "sh", "-c", script, "sh"];
      const agent = startAgentThrough(ownRuntime, command, { TMPDIR: folder });
      await agent.request("memory", "m", "key");
      for (const operation of ["create", "createOrAttach", "create"]) {
        assert.equal(await agent.call("m", operation, 16), false);
        const text: string = await agent.call("m", "errorString");
        assert.match(
          text,
          /^SharedMemory\.\w+ \("key"\): .*no space left.*\[open .*: ENOSPC 28\]$/,
        );
      }
      assert.equal(await agent.end(), 0);
      rmSync(folder, { recursive: true });
    });
  }
});

const TMPFS = "/dev/shm";
const NUMBERS = 65536;

function hasTmpfs(): boolean {
  try {
    accessSync(TMPFS, 2);
    return true;
  } catch {
    return false;
  }
}

const onTmpfs = {
  ...slow,
  ...(hasTmpfs() ? crewOnly : { skip: `needs a tmpfs at ${TMPFS}` }),
  ...linuxOnly,
  ...isolatedOnly, // the inodes are to have the numbers that it chooses
};

/**
 * Makes files until the next one gets an inode of which `ftok` makes the same number as of `inode`: a
 * tmpfs numbers them one after the other.
 */
function turnTo(inode: number, folder: string): void {
  const file = path.join(folder, "x");
  for (let tries = 0; tries <= NUMBERS; tries++) {
    closeSync(openSync(file, "w"));
    const { ino } = statSync(file);
    unlinkSync(file);
    if ((ino + 1 - inode) % NUMBERS === 0) return;
  }
  throw new Error(`the inodes of ${folder} are not numbered one after the other`);
}

describe("a key whose file gets the number of another key", onTmpfs, () => {
  leaveNothingBehind();

  for (const which of ["segment", "lock"]) {
    for (const crowd of [1, 6]) {
      const who = `for ${crowd} ${crowd === 1 ? "process" : "processes of all runtimes"}`;
      test(`(of its ${which}) gets another file ${who}`, onTmpfs, async () => {
        const folder = mkdtempSync(`${TMPFS}/numbers-`);
        try {
          const agents = startMany(crowd, { TMPDIR: folder });
          const other = startAgent(ownRuntime, { TMPDIR: folder });
          const [first, second] = [uniqueKey("first"), uniqueKey("second")];
          const inode = (file: string) => statSync(path.join(folder, path.basename(file))).ino;
          await other.request("memory", "m", first);
          // A segment of a native key has no lock.
          if (which === "segment") await other.call("m", "setNativeKey", `${folder}/first`);
          assert.equal(await other.call("m", "create", 100), true);
          await other.request("write", "m", 0, [1]);
          await Promise.all(agents.map((agent) => agent.run(""))); // they run
          const taken = inode(which === "segment" ? "first" : semaphoreFile(first));
          const due = performance.now() + 2500;
          // The file of the lock is made first, then that of the segment.
          turnTo(which === "lock" ? taken : taken - 1, folder);
          // What is hardly older could also be made by somebody who has just found the file.
          while (performance.now() < due) await delay(10);
          const start = Date.now() + 50;
          const made: number[] = await Promise.all(agents.map((agent) =>
            agent.run(`
            let made = 0;
            while (Date.now() < ${start});
            const initialize = () => made++;
            const options = { size: 200, initialize, timeout: 20_000 };
            objects.m = library.SharedMemory.open(${JSON.stringify(second)}, options);
            return made;`)
          ));
          assert.equal(made.reduce((sum, one) => sum + one, 0), 1, String(made));
          const numbers = [semaphoreFile(second), segmentFile(second)].map((file) =>
            (inode(file) - taken) % NUMBERS
          );
          if (crowd === 1) {
            assert.deepEqual(numbers, which === "lock" ? [1, 2] : [NUMBERS - 1, 1]);
          }
          await Promise.all(agents.map((agent) =>
            agent.run(`
            const view = objects.m.view(Int32Array);
            for (let turn = 0; turn < 300; turn++) {
              if (!objects.m.lock()) throw new Error(objects.m.errorString());
              const value = view[0];
              for (let spin = 0; spin < 100; spin++) view[1] = spin;
              view[0] = value + 1;
              if (!objects.m.unlock()) throw new Error(objects.m.errorString());
            }`)
          ));
          const count = await agents[0]!.run("return objects.m.view(Int32Array)[0];");
          assert.equal(count, 300 * crowd);
          assert.deepEqual(await other.request("read", "m", 0, 8), [1, 0, 0, 0, 0, 0, 0, 0]);
          for (const agent of [other, ...agents]) {
            assert.equal(await agent.call("m", "detach"), true);
            assert.equal(await agent.end(), 0);
          }
          assert.deepEqual(readdirSync(folder), []);
        } finally {
          rmSync(folder, { recursive: true });
        }
      });
    }
  }
});

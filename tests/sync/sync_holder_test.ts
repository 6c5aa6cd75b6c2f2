/** What errors say of the process that holds what a call waits for. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { describeProcess, processText } from "../../backends/process_text.ts";
import { SharedMemory } from "../../mod.ts";
import { Mutex } from "../../sync/mod.ts";
import { leaveNothingBehind, linuxOnly, ownRuntime, slow } from "../support/support.ts";
import { startAgent, stop, uniqueKey, until, withDeadline } from "../support/support.ts";

describe("a mutex that was not free in time", linuxOnly, () => {
  leaveNothingBehind();

  test("names the process that holds it, its command and whether it is stopped", slow, async () => {
    const key = uniqueKey();
    using memory = SharedMemory.open(key, {
      size: Mutex.BYTES,
      initialize: (bytes) => void Mutex.create(bytes),
    });
    const mutex = Mutex.at(memory.view(Uint8Array));
    const agent = startAgent(ownRuntime);
    await agent.request("memory", "m", key);
    await agent.call("m", "attach");
    await agent.run(
      "objects.mutex = sync.Mutex.at(objects.m.view(Uint8Array)); objects.mutex.lock()",
    );
    const pid = agent.child.pid!;
    const expected = (state: string) => ({
      name: "SyncError",
      code: "Timeout",
      message: new RegExp(
        `^Mutex\\.withLock(Async)?: it was not free for 20 ms; process ${pid} ` +
          `\\(${ownRuntime.name}\\b.*agent\\.ts\\)${state} holds it$`,
      ),
    });
    assert.throws(() => mutex.withLock(() => {}, { timeout: 20 }), expected(""));
    await stop(pid);
    assert.throws(() => mutex.withLock(() => {}, { timeout: 20 }), expected(", stopped,"));
    await assert.rejects(mutex.withLockAsync(() => {}, { timeout: 20 }), expected(", stopped,"));
    await agent.kill();
    assert.equal(mutex.withLock((wasAbandoned) => wasAbandoned), true);
  });

  test("says so if this process itself holds it", async () => {
    using memory = SharedMemory.open(uniqueKey(), {
      size: Mutex.BYTES,
      initialize: (bytes) => void Mutex.create(bytes),
    });
    const mutex = Mutex.at(memory.view(Uint8Array));
    mutex.lock();
    await assert.rejects(mutex.withLockAsync(() => {}, { timeout: 10 }), {
      code: "Timeout",
      message:
        "Mutex.withLockAsync: it was not free for 10 ms; another call of this object holds it",
    });
    await assert.rejects(
      Mutex.at(memory.view(Uint8Array)).withLockAsync(() => {}, { timeout: 10 }),
      { code: "Timeout", message: /; another call or thread of this process holds it$/ },
    );
    mutex.unlock();
  });
});

describe("the text of a process", linuxOnly, () => {
  test("has its command without control characters, and not all of a long one", async () => {
    const script = "\x1b[31mred\u202e\n" + "x".repeat(80);
    const child = spawn("/bin/sh", ["-c", "read line", script], {
      stdio: ["pipe", "ignore", "ignore"],
    });
    await withDeadline(once(child, "spawn"), "the start");
    // Until it calls execve(), the new process has the command of this one.
    await until(() => describeProcess(child.pid!).command?.startsWith("sh ") === true, "the shell");
    const { command, state } = describeProcess(child.pid!);
    assert.match(command!, /^sh -c read line \\u\{1b\}\[31mred\\u\{202e\}\\u\{a\}x+…$/);
    assert.equal(command!.length, 60);
    assert.equal(state, "running");
    child.kill("SIGKILL");
    await withDeadline(once(child, "close"), "the end");
    await until(() => describeProcess(child.pid!).state === "dead", "the process has ended");
    assert.equal(processText(child.pid!), `process ${child.pid}, dead,`);
  });

  test("is that of its process if the number is a thread's", () => {
    const { pid, state } = describeProcess(process.pid);
    assert.deepEqual([pid, state], [process.pid, "running"]);
    const threads = readFileSync(`/proc/self/status`, "utf8");
    assert.match(threads, /^Threads:/m);
  });
});

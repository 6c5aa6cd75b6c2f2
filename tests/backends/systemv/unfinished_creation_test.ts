/** A process that creates a lock or a semaphore, and does not get to set its value. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { systemV } from "../../../backends/systemv/mod.ts";
import { seesAllProcesses } from "../../../backends/unix/processes.ts";
import { SystemSemaphoreMode } from "../../../errors.ts";
import { selectFfi } from "../../../ffi/mod.ts";
import { AccessMode } from "../../../mod.ts";
import {
  type Agent,
  crewOnly,
  DEADLINE_MS,
  leaveNothingBehind,
  ownRuntime,
  segmentFile,
  semaphoreFile,
  startAgent,
  systemLibrary,
  systemVOnly,
  uniqueKey,
  until,
} from "../../support/support.ts";

/** Elsewhere a semaphore without a value cannot be told from one of another pid namespace. */
const isFirst = process.platform === "linux" && seesAllProcesses(systemLibrary());
const options = {
  timeout: 4 * DEADLINE_MS,
  ...crewOnly,
  ...systemVOnly,
  ...(isFirst ? {} : { skip: "needs the first pid namespace" }),
};
/** Longer than a lock must seem abandoned before another process takes it over. */
const LONG_MS = 3500;
const FIXTURE = JSON.stringify(new URL("../../fixtures/signalled_at.ts", import.meta.url).href);
const FLAGS = ownRuntime.name === "deno" ? ["--allow-read", "--allow-run"] : [];
const backend = systemV(selectFfi(), { os: process.platform, arch: process.arch });

function creator(): Agent {
  return startAgent(ownRuntime, undefined, FLAGS);
}

function isStopped(pid: number): boolean {
  return /^\d+ \(.*\) T /s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
}

describe("a process that creates a lock or a semaphore", () => {
  leaveNothingBehind();

  test("keeps its lock if it is stopped before it acquires the lock", options, async () => {
    const key = uniqueKey();
    const agent = creator();
    const created = agent.run(`
      const { backend, signalBefore } = await import(${FIXTURE});
      const lock = backend.semaphores.lock(${JSON.stringify(semaphoreFile(key))});
      signalBefore("semop", "SIGSTOP");
      objects.segment = backend.segments.create(
        ${JSON.stringify(segmentFile(key))}, 16, ${AccessMode.ReadWrite}, lock);`);
    await until(() => isStopped(agent.child.pid!), "the creator is stopped");
    const lock = backend.semaphores.lock(semaphoreFile(key));
    assert.equal(lock.acquire(LONG_MS), false);
    process.kill(agent.child.pid!, "SIGCONT");
    await created;
    assert.equal(lock.acquire(DEADLINE_MS), true);
    lock.release();
    lock.close();
    await agent.run(
      "objects.segment.unmap(); objects.segment.release({ lockHeld: false, wait: true });",
    );
    assert.equal(await agent.end(), 0, agent.stderr);
  });

  for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
    test(
      signal === "SIGKILL"
        ? "leaves its semaphore to the next one if it is killed before it sets the value"
        : "keeps its semaphore if it is stopped before it sets the value",
      options,
      async () => {
        const path = JSON.stringify(semaphoreFile(uniqueKey()));
        const agent = creator();
        const opened = agent.run(`
        const { backend, signalBefore } = await import(${FIXTURE});
        signalBefore("semctl", "${signal}");
        objects.semaphore = backend.semaphores.open(${path}, 1, ${SystemSemaphoreMode.Open});`);
        if (signal === "SIGKILL") await assert.rejects(opened);
        else await until(() => isStopped(agent.child.pid!), "the creator is stopped");
        const semaphore = backend.semaphores.open(JSON.parse(path), 1, SystemSemaphoreMode.Open);
        if (signal === "SIGSTOP") {
          assert.equal(semaphore.acquire(LONG_MS), false);
          process.kill(agent.child.pid!, "SIGCONT");
          await opened;
        }
        assert.equal(semaphore.acquire(DEADLINE_MS), true);
        assert.equal(semaphore.acquire(0), false);
        semaphore.release();
        semaphore.close();
        if (signal === "SIGSTOP") {
          await agent.run("objects.semaphore.close();");
          assert.equal(await agent.end(), 0, agent.stderr);
        } else {
          backend.semaphores.open(JSON.parse(path), 1, SystemSemaphoreMode.Create).close();
        }
      },
    );
  }
});

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { SharedMemory, SystemSemaphore, SystemSemaphoreMode } from "../../../mod.ts";
import { versions, withQt } from "../../support/qt_pairs.ts";
import {
  type Agent,
  crewOnly,
  leaveNothingBehind,
  ownRuntime,
  runtimes,
  slow,
} from "../../support/support.ts";
import {
  semaphoreFile,
  semaphoreValue,
  startAgent,
  startQt,
  systemLibrary,
  systemVOnly,
  uniqueKey,
} from "../../support/support.ts";
import { semaphoreRow } from "../../support/systemv_tables.ts";

const { Create, Open } = SystemSemaphoreMode;
const IPC_RMID = 0;

/** Has agents of these runtimes open a new semaphore of value 3; the first makes it. */
async function startAll(key: string, all: typeof runtimes): Promise<Agent[]> {
  const agents = all.map((runtime) => startAgent(runtime));
  for (const agent of agents) await agent.request("semaphore", "s", key, 3, Open);
  return agents;
}

function assertRemoved(key: string, semid: string | undefined): void {
  assert.equal(existsSync(semaphoreFile(key)), false);
  const { c } = systemLibrary();
  const GETVAL = 12;
  assert.equal(c.semctl(Number(semid), 0, GETVAL, 0n), -1, `semaphore ${semid} is still there`);
}

// Qt removes a semaphore when its owner lets go of it, whoever uses it. Ours leaves that to the last.
describe("a semaphore whose owner leaves first", systemVOnly, () => {
  leaveNothingBehind();

  for (const owner of runtimes) {
    const heirs = runtimes.filter((runtime) => runtime !== owner);
    const names = (heirs.length > 0 ? heirs : [owner]).map(({ name }) => name).join(" and ");
    for (const leaves of ["lets go of it", "ends"]) {
      test(
        `(${owner.name} ${leaves}) goes on in ${names}, and the last removes it`,
        { ...slow, ...crewOnly },
        async () => {
          const key = uniqueKey();
          const [first, ...others] = await startAll(key, [owner, ...heirs, owner]);
          const { semid } = semaphoreRow(key);
          if (leaves === "ends") assert.equal(await first!.end(), 0);
          else await first!.request("dispose", "s");
          for (const [n, other] of others.entries()) {
            assert.equal(semaphoreRow(key)["semid"], semid);
            assert.equal(await other.call("s", "acquire"), true);
            assert.equal(semaphoreValue(key), 2);
            assert.equal(await other.call("s", "release"), true);
            assert.equal(semaphoreValue(key), 3);
            // Let go, and the end of a program, are the same; so one of each.
            if (n % 2 === 0) await other.request("dispose", "s");
            else assert.equal(await other.end(), 0);
          }
          assertRemoved(key, semid);
        },
      );
    }
  }

  test(
    "is removed by one of those who let go of it all at once",
    { ...slow, ...crewOnly },
    async () => {
      const agents = [...runtimes, ...runtimes].map((runtime) => startAgent(runtime));
      for (let round = 0; round < 20; round++) {
        const key = uniqueKey();
        await Promise.all(agents.map((agent) => agent.request("semaphore", "s", key, 3)));
        const { semid } = semaphoreRow(key);
        await Promise.all(agents.map((agent) => agent.request("dispose", "s")));
        assertRemoved(key, semid);
      }
    },
  );

  test(
    "stays for cleanup() if the last was killed: newcomers cannot know whose it is",
    slow,
    async () => {
      const key = uniqueKey();
      const [owner, heir] = await startAll(key, [ownRuntime, ownRuntime]);
      assert.equal(await heir!.call("s", "acquire"), true);
      assert.equal(await owner!.end(), 0);
      await heir!.kill();
      const { semid } = semaphoreRow(key);
      assert.equal(semaphoreValue(key), 3);
      new SystemSemaphore(key, 1)[Symbol.dispose]();
      assert.equal(semaphoreRow(key)["semid"], semid);
      new SystemSemaphore(key, 1, Create)[Symbol.dispose]();
      assertRemoved(key, semid);
    },
  );

  test("stays if the owner was killed, as in Qt, until there is another owner", slow, async () => {
    const key = uniqueKey();
    const [owner] = await startAll(key, [ownRuntime]);
    await owner!.kill();
    const { semid } = semaphoreRow(key);
    new SystemSemaphore(key, 1)[Symbol.dispose]();
    assert.equal(semaphoreRow(key)["semid"], semid);
    assert.equal(semaphoreValue(key), 3);
    new SystemSemaphore(key, 1, Create)[Symbol.dispose]();
    assertRemoved(key, semid);
  });

  test("leaves no key file behind if somebody removed it (ipcrm)", () => {
    const key = uniqueKey();
    const semaphore = new SystemSemaphore(key, 1);
    const { semid } = semaphoreRow(key);
    assert.equal(systemLibrary().c.semctl(Number(semid), 0, IPC_RMID, 0n), 0);
    semaphore[Symbol.dispose]();
    assert.equal(existsSync(semaphoreFile(key)), false);
  });

  for (const version of versions) {
    test(`can be used by Qt ${version}, which makes it again`, withQt(version), async () => {
      const key = uniqueKey();
      const [owner, heir] = await startAll(key, [ownRuntime, ownRuntime]);
      assert.equal(await owner!.end(), 0);
      const { semid } = semaphoreRow(key);
      const qt = startQt(version);
      await qt.request("semaphore", "s", key, 5);
      assert.equal(await qt.call("s", "acquire"), true, await qt.call("s", "errorString"));
      assert.equal(semaphoreValue(key), 2);
      assert.equal(semaphoreRow(key)["semid"], semid);
      assert.equal(await heir!.end(), 0); // the last of ours: nothing tells that Qt is there
      assertRemoved(key, semid);
      assert.equal(await qt.call("s", "acquire"), true, await qt.call("s", "errorString"));
      assert.equal(semaphoreValue(key), 4);
      assert.equal(await qt.end(), 0);
    });
  }
});

describe(
  "a semaphore that is the lock of a segment, as both have the same key",
  systemVOnly,
  () => {
    leaveNothingBehind();

    test("goes on as a semaphore when the segment goes, and is removed by the last one", () => {
      const key = uniqueKey();
      const memory = new SharedMemory(key);
      assert.equal(memory.create(1), true, memory.errorString());
      const semaphore = new SystemSemaphore(key, 1, Open);
      const { semid } = semaphoreRow(key);
      assert.equal(memory.detach(), true, memory.errorString());
      assert.equal(semaphore.acquire(), true, semaphore.errorString());
      assert.equal(semaphore.release(), true, semaphore.errorString());
      assert.equal(semaphoreRow(key)["semid"], semid);
      semaphore[Symbol.dispose]();
      assertRemoved(key, semid);
    });

    test("goes with the segment if nobody uses it as a semaphore any more", () => {
      const key = uniqueKey();
      const memory = new SharedMemory(key);
      assert.equal(memory.create(1), true, memory.errorString());
      const { semid } = semaphoreRow(key);
      new SystemSemaphore(key, 1, Open)[Symbol.dispose]();
      assert.equal(memory.lock(), true, memory.errorString());
      assert.equal(semaphoreRow(key)["semid"], semid);
      assert.equal(memory.detach(), true, memory.errorString());
      assertRemoved(key, semid);
    });
  },
);

/** A server that is started by root, opens what it needs, and goes on as another user. */
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { afterEach, beforeEach, describe, test } from "node:test";
import {
  type Agent,
  cannotBeNobody,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  startAgentThrough,
  uniqueKey,
} from "../support/support.ts";

const cannot = linuxOnly.skip ?? cannotBeNobody();
const options = cannot === undefined ? slow : { skip: cannot };

const CHANGED = /EACCES 13\]; the user of this process has changed .* from uid 0 to uid 65533: /;
/** Deno's own `setuid` needs another permission than the agents have. */
const SETUID = `
  if (globalThis.Deno === undefined) process.setuid(65533);
  else Deno.dlopen("libc.so.6", { setuid: { parameters: ["u32"], result: "i32" } }).symbols.setuid(65533);
`;

describe("a process that changes its user after it attached", options, () => {
  let folder: string;
  leaveNothingBehind();
  beforeEach(() => {
    folder = mkdtempSync(keyFolder + "changed-");
    chmodSync(folder, 0o1777);
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const start = (): Agent => startAgentThrough(ownRuntime, [], { TMPDIR: folder });

  /** Removes what root made and the other user could not remove. */
  async function removeAll(...keys: string[]): Promise<void> {
    const root = start();
    for (const key of keys) {
      assert.equal(
        await root.run(`
        const key = ${JSON.stringify(key)};
        if (!key.startsWith("semaphore")) return library.SharedMemory.open(key, { size: 1 }).detach();
        new library.SystemSemaphore(key, 1, library.SystemSemaphoreMode.Create)[Symbol.dispose]();
        return true;
      `),
        true,
      );
    }
    assert.equal(await root.end(), 0);
  }

  test("is told so by whatever is refused, and what to do", options, async () => {
    const [key, held, semaphoreKey] = [uniqueKey(), uniqueKey(), uniqueKey("semaphore")];
    const agent = start();
    const results: [string, boolean, string, string][] = await agent.run(`
      const memory = library.SharedMemory.open(${JSON.stringify(key)}, { size: 16 });
      const holder = library.SharedMemory.open(${JSON.stringify(held)}, { size: 16 });
      const semaphore = new library.SystemSemaphore(${JSON.stringify(semaphoreKey)}, 1);
      holder.lock();
      ${SETUID}
      const calls = [
        [memory, "lock"], [memory, "tryLock"], [memory, "lockAsync"], [memory, "detach"],
        [holder, "unlock"], [holder, "detach"],
        [semaphore, "acquire"], [semaphore, "tryAcquire"], [semaphore, "acquireAsync"], [semaphore, "release"],
      ];
      const results = [];
      for (const [object, call] of calls) {
        results.push([call, await object[call](), object.errorReason(), object.errorString()]);
      }
      return results;
    `);
    assert.equal(results.length, 10);
    for (const [call, result, reason, text] of results) {
      assert.deepEqual([result, reason], [false, "PermissionDenied"], call);
      assert.match(text, CHANGED, call);
    }
    assert.equal(await agent.end(), 0);
    await removeAll(key, held, semaphoreKey);
  });

  test(
    "uses what it opens afterwards, and is told of no change where there was none",
    options,
    async () => {
      const [before, key] = [uniqueKey(), uniqueKey()];
      const agent = start();
      const results = await agent.run(`
      const before = library.SharedMemory.open(${JSON.stringify(before)}, { size: 16 });
      before.detach();
      ${SETUID}
      const memory = library.SharedMemory.open(${JSON.stringify(key)}, { size: 16 });
      return [memory.lock(), memory.unlock(), memory.unlock(), memory.errorString(), memory.detach()];
    `);
      assert.deepEqual([results[0], results[1], results[2], results[4]], [true, true, false, true]);
      assert.doesNotMatch(results[3], /has changed/);
      assert.equal(await agent.end(), 0);
    },
  );
});

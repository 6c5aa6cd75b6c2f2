/** What the end of an object or of the program must not do to those who rely on it. */
import assert from "node:assert/strict";
import { symlinkSync, unlinkSync } from "node:fs";
import { describe, test } from "node:test";
import {
  SharedMemory,
  SharedMemoryError,
  SystemSemaphore,
  SystemSemaphoreError,
} from "../../mod.ts";
import {
  leaveNothingBehind,
  ownRuntime,
  segmentFile,
  semaphoreFile,
  semaphoreValue,
  slow,
  startAgent,
  systemVOnly,
  uniqueKey,
} from "../support/support.ts";

/** Collects garbage again and again, with turns of the event loop for the finalizers. */
const COLLECT = `
  const collect = globalThis.gc ?? (() => globalThis.Bun.gc(true));
  for (let i = 0; i < 20; i++) { collect(); await new Promise((done) => setTimeout(done, 5)); }`;

const GC_FLAGS: Record<string, string[]> = {
  deno: ["--v8-flags=--expose-gc"],
  bun: [],
  node: ["--expose-gc"],
};

describe("what is collected or ends", () => {
  leaveNothingBehind();

  const flags = GC_FLAGS[ownRuntime.name]!;

  test(`an object of ${ownRuntime.name} that nothing refers to keeps its lock`, slow, async () => {
    const key = uniqueKey();
    using memory = new SharedMemory(key);
    assert.equal(memory.create(16), true, memory.errorString());
    const agent = startAgent(ownRuntime, undefined, flags);
    await agent.run(`
      (() => {
        const lost = new library.SharedMemory(${JSON.stringify(key)});
        if (!lost.attach() || !lost.lock()) throw new Error(lost.errorString());
      })();
      ${COLLECT}`);
    assert.equal(semaphoreValue(key), 0);
    assert.equal(await agent.end(), 0);
    assert.equal(memory.lock(), true, memory.errorString());
  });

  test(
    `a semaphore of ${ownRuntime.name} that nothing refers to keeps what it acquired`,
    slow,
    async () => {
      const key = uniqueKey();
      const agent = startAgent(ownRuntime, undefined, flags);
      await agent.run(`
      (() => {
        const lost = new library.SystemSemaphore(${JSON.stringify(key)}, 1);
        if (!lost.acquire()) throw new Error(lost.errorString());
      })();
      ${COLLECT}`);
      assert.equal(semaphoreValue(key), 0);
      assert.equal(await agent.end(), 0);
    },
  );

  test(
    `a later exit handler of ${ownRuntime.name} finds everything detached, and opens nothing`,
    slow,
    async () => {
      const key = uniqueKey();
      const agent = startAgent(ownRuntime);
      await agent.run(`
      const memory = new library.SharedMemory(${JSON.stringify(key)});
      const semaphore = new library.SystemSemaphore(${JSON.stringify(key)} + " 2", 1);
      if (!memory.create(16)) throw new Error(memory.errorString());
      process.on("exit", () => {
        console.error(JSON.stringify([
          memory.isAttached(), memory.size(), memory.data(), memory.lock(), memory.error(),
          memory.attach(), memory.create(1), memory.errorString() !== "",
          semaphore.acquire(), semaphore.release(), semaphore.error(),
        ]));
      });`);
      assert.equal(await agent.end(), 0);
      assert.deepEqual(
        JSON.parse(agent.stderr.split("\n").find((line) => line.startsWith("["))!),
        [
          ...[false, 0, null, false, SharedMemoryError.LockError],
          ...[false, false, true],
          ...[false, false, SystemSemaphoreError.UnknownError],
        ],
      );
    },
  );

  for (const file of [segmentFile, semaphoreFile]) {
    test(
      `a symbolic link to nowhere as the key file ${file("x").slice(-57, -41)} is an error`,
      systemVOnly,
      () => {
        const key = uniqueKey();
        symlinkSync("/nonexistent/key file", file(key));
        try {
          const memory = new SharedMemory(key);
          assert.equal(memory.create(16), false);
          assert.equal(memory.error(), SharedMemoryError.PermissionDenied);
          assert.match(memory.errorString(), /SharedMemory\.create .*symbolic link, .*remove it/);
        } finally {
          unlinkSync(file(key));
        }
      },
    );
  }

  test("a buffer whose methods a user has replaced is detached all the same", () => {
    using memory = new SharedMemory(uniqueKey());
    assert.equal(memory.create(16), true, memory.errorString());
    const view = memory.data()!;
    const { buffer } = view;
    Object.defineProperty(buffer, "transfer", {
      value: () => {
        throw new Error("mine");
      },
    });
    Object.defineProperty(buffer, "byteLength", { value: 0 });
    assert.equal(memory.detach(), true, memory.errorString());
    assert.equal(view.length, 0);
  });

  test("a semaphore that was let go of is opened again when it is used", () => {
    using semaphore = new SystemSemaphore(uniqueKey(), 1);
    semaphore[Symbol.dispose]();
    assert.equal(semaphore.acquire(), true, semaphore.errorString());
    assert.equal(semaphore.release(), true, semaphore.errorString());
  });
});

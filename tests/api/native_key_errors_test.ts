import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync } from "node:fs";
import { rmSync, symlinkSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import {
  assertFailed,
  keyFolder,
  leaveNothingBehind,
  ownRuntime,
  startAgent,
} from "../support/support.ts";
import { systemVOnly } from "../support/support.ts";

describe("the making of a native key", systemVOnly, () => {
  test("throws a SharedMemoryException if its folder does not exist", async () => {
    const agent = startAgent(ownRuntime, { TMPDIR: "/missing folder" });
    const thrown = await agent.run(`
      return ["SharedMemory", "SystemSemaphore"].map((name) => {
        try {
          library[name].legacyNativeKey("k", 81);
        } catch (error) {
          return [error instanceof library.SharedMemoryException, error.code, error.message];
        }
      });`);
    assert.equal(await agent.end(), 0);
    for (const [isOurs, code, message] of thrown) {
      assert.deepEqual([isOurs, code], [true, "KeyError"]);
      assert.match(message, /\.legacyNativeKey \("k"\): .*\/missing folder, cannot be used/);
    }
  });
});

describe("a native key", systemVOnly, () => {
  leaveNothingBehind();

  /** Runs `body` with a folder of its own. */
  function inFolder(body: (folder: string) => void): void {
    const folder = mkdtempSync(keyFolder + "native ");
    try {
      body(folder);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  function withNativeKey(path: string): SharedMemory {
    const memory = new SharedMemory();
    memory.setNativeKey(path);
    return memory;
  }

  test("that no file can have is a KeyError that says why and what to do", () => {
    inFolder((folder) => {
      symlinkSync("loop", `${folder}/loop`);
      writeFileSync(`${folder}/file`, "");
      const long = `${folder}/${"n".repeat(256)}`;
      const deep = folder + `/${"d".repeat(200)}`.repeat(25);
      const cases: [path: string, why: string, advice: string][] = [
        [`${folder}/a\0b`, "NUL character", "leave it out"],
        [`${folder}/loop`, "a loop", "another path"],
        [`${folder}/loop`, `${folder}/loop: ELOOP 40]`, "loop of symbolic links"],
        [`${folder}/file/below`, "not a folder", "another path"],
        [`${folder}/file/below`, `${folder}/file/below: ENOTDIR 20]`, "not a folder"],
        [long, "1 bytes over the 255", "use fewer"],
        [deep, "ENAMETOOLONG 36]", "use a shorter key"],
      ];
      for (const [path, why, advice] of cases) {
        const memory = withNativeKey(path);
        assertFailed(memory, "create", memory.create(16), "KeyError", why, advice);
        assertFailed(memory, "attach", memory.attach(), "KeyError", why, advice);
      }
      const memory = withNativeKey(`${folder}/missing/below`);
      const why = [`${folder}/missing/below`, "ENOENT 2]", "create the folder"];
      assertFailed(memory, "create", memory.create(16), "KeyError", ...why);
      assertFailed(memory, "attach", memory.attach(), "NotFound", "ENOENT 2]");
      assert.deepEqual(readdirSync(folder).sort(), ["file", "loop"]);
    });
  });

  test("that names no file yet is NotFound for attach(), and made and removed by create()", () => {
    inFolder((folder) => {
      using memory = withNativeKey(`${folder}/new`);
      assertFailed(memory, "attach", memory.attach(), "NotFound", "ENOENT 2]");
      assert.equal(memory.create(16), true, memory.errorString());
      assert.equal(existsSync(`${folder}/new`), true);
      assert.equal(memory.detach(), true, memory.errorString());
      assert.deepEqual(readdirSync(folder), []);
    });
  });

  test("that is a folder works, since only its inode counts, and stays", () => {
    inFolder((folder) => {
      mkdirSync(`${folder}/key`);
      using memory = withNativeKey(`${folder}/key`);
      using other = withNativeKey(`${folder}/key`);
      assert.equal(memory.create(16), true, memory.errorString());
      assert.equal(other.attach(), true, other.errorString());
      const advice = "a native key that is a string has no lock; use setKey() or a NativeIpcKey";
      assertFailed(other, "lock", other.lock(), "LockError", advice);
      assert.equal(memory.detach() && other.detach(), true);
      assert.deepEqual(readdirSync(folder), ["key"]);
    });
  });
});

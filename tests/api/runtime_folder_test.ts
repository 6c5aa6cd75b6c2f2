/** The folder of the keys that platformSafeKey() makes, Qt's RuntimeLocation. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import {
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  needsQt,
  ownRuntime,
  slow,
  startAgent,
} from "../support/support.ts";

const user = spawnSync("id", ["-un"], { encoding: "utf8" }).stdout?.trim();
const options = linuxOnly.skip === undefined ? slow : linuxOnly;

describe("the folder of platform-safe System V keys", options, () => {
  let folder: string;
  /** What it is without XDG_RUNTIME_DIR. */
  let made: string;
  leaveNothingBehind();
  beforeEach(() => {
    folder = mkdtempSync(keyFolder + "runtime-");
    made = `${folder}/runtime-${user}`;
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** The native key of "key", made and used, or why there is none. */
  async function nativeKey(XDG_RUNTIME_DIR = "", key = "key"): Promise<string> {
    const agent = startAgent(ownRuntime, { TMPDIR: folder, XDG_RUNTIME_DIR });
    const result = await agent.run(`
      const { NativeIpcKeyType: { SystemV }, SharedMemory, SystemSemaphore } = library;
      try {
        const key = SharedMemory.platformSafeKey(${JSON.stringify(key)}, SystemV);
        const memory = new SharedMemory(key);
        if (!memory.create(16) || !memory.detach()) return memory.errorString();
        const semaphore = SystemSemaphore.platformSafeKey(${JSON.stringify(key)}, SystemV);
        return key.equals(semaphore) ? key.nativeKey : "another";
      } catch (error) {
        return error.name + " " + error.reason + " " + error.message;
      }
    `);
    assert.equal(await agent.end(), 0);
    return result;
  }

  test("is created in TMPDIR without XDG_RUNTIME_DIR, for this user alone", slow, async () => {
    assert.equal(await nativeKey(), `${made}/key`);
    assert.equal(statSync(made).mode & 0o7777, 0o700);
    assert.equal(await nativeKey(), `${made}/key`);
  });

  test(
    "is XDG_RUNTIME_DIR, created if it is missing, or the other one if that is not private",
    slow,
    async () => {
      const chosen = `${folder}/chosen`;
      assert.equal(await nativeKey(chosen), `${chosen}/key`);
      assert.equal(statSync(chosen).mode & 0o7777, 0o700);
      symlinkSync(chosen, `${folder}/link`);
      writeFileSync(`${folder}/file`, "");
      mkdirSync(`${folder}/open`, { mode: 0o755 });
      for (const name of ["link", "file", "open", "missing/below"]) {
        assert.equal(await nativeKey(`${folder}/${name}`), `${made}/key`, name);
      }
      assert.equal(statSync(`${folder}/open`).mode & 0o7777, 0o755, "nothing of it is changed");
    },
  );

  const obstacles: Record<string, [() => void, RegExp]> = {
    "open to others": [() => {
      mkdirSync(made);
      chmodSync(made, 0o755);
    }, /has the permissions 0755/],
    "a file": [() => writeFileSync(made, ""), /is not a folder/],
    "a symbolic link": [() => {
      mkdirSync(`${folder}/private`, { mode: 0o700 });
      symlinkSync(`${folder}/private`, made);
    }, /is not a folder/],
  };
  if (process.getuid?.() === 0) {
    obstacles["another user's"] = [() => {
      mkdirSync(made, { mode: 0o700 });
      chownSync(made, 65534, 65534);
    }, /belongs to nobody \(uid 65534\), another user/];
  }
  for (const [what, [make, says]] of Object.entries(obstacles)) {
    test(`is an error that says so if it is ${what}, and is left as it is`, slow, async () => {
      make();
      const { mode, uid } = statSync(made);
      const text = await nativeKey();
      assert.match(
        text,
        /^SharedMemoryException KeyError SharedMemory\.platformSafeKey \("key"\): /,
      );
      assert.match(text, says);
      assert.match(text, /set XDG_RUNTIME_DIR to a folder/);
      assert.deepEqual([statSync(made).mode, statSync(made).uid], [mode, uid]);
      assert.equal(await nativeKey("", `${folder}/absolute`), `${folder}/absolute`, "needs none");
    });
  }

  test("is where Qt has it", needsQt(6), async () => {
    const script = "from PyQt6.QtCore import QStandardPaths as P\n" +
      "print(P.writableLocation(P.StandardLocation.RuntimeLocation))";
    mkdirSync(`${folder}/open`, { mode: 0o755 });
    for (const XDG_RUNTIME_DIR of ["", `${folder}/new`, `${folder}/open`]) {
      const env = { ...process.env, TMPDIR: folder, XDG_RUNTIME_DIR };
      const { stdout } = spawnSync("/usr/bin/python3", ["-c", script], { env, encoding: "utf8" });
      assert.equal(await nativeKey(XDG_RUNTIME_DIR), `${stdout.trim()}/key`);
    }
  });
});

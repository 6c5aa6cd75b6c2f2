/** The test runners that come with the runtimes: what they leave of a file that detaches nothing, and of docs/testing.md. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { blocksOfPage, runnable } from "../support/pages.ts";
import {
  DEADLINE_MS,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
} from "../support/support.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const module = JSON.stringify(new URL("../../mod.ts", import.meta.url).href);

const COMMANDS = {
  node: ["--disable-warning=ExperimentalWarning", "--test", "--test-reporter=tap"],
  deno: ["test", "--allow-ffi", "--no-config", "--quiet"],
  bun: ["test"],
} as const;

let folder: string;

/**
 * Runs a test file twice with the runner of this runtime, with key files of its own; returns what was left. Only what
 * users copy is `checked` for types, which takes Deno seconds.
 */
function runTwice(source: string, checked = false): string[] {
  const file = `${folder}/some.test.ts`;
  writeFileSync(file, source);
  const command = COMMANDS[ownRuntime.name as keyof typeof COMMANDS];
  return runCommandTwice((run) => {
    const isChecked = checked && run === 1;
    const unchecked = ownRuntime.name === "deno" && !isChecked ? ["--no-check"] : [];
    return [...command, ...unchecked, file];
  });
}

/** Runs this runtime twice, with arguments and with key files of its own; returns what was left. */
function runCommandTwice(argumentsOf: (run: number) => readonly string[]): string[] {
  const keys = mkdtempSync(`${folder}/keys-`);
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("NODE_TEST"));
  const env = { ...Object.fromEntries(own), TMPDIR: keys };
  for (let run = 1; run <= 2; run++) {
    const { status, stdout, stderr } = spawnSync(ownRuntime.command, argumentsOf(run), {
      cwd: root,
      encoding: "utf8",
      env,
      timeout: 1.8 * DEADLINE_MS,
    });
    assert.equal(status, 0, `run ${run}: ${stdout}${stderr}`);
  }
  return readdirSync(keys).filter((name) => name.startsWith("qipc_"));
}

describe(`the test runner of ${ownRuntime.name}`, slow, () => {
  leaveNothingBehind();

  before(() => folder = mkdtempSync(`${keyFolder}runners-`));
  after(() => rmSync(folder, { recursive: true }));

  test("leaves nothing of the test file in docs/testing.md", () => {
    const block = blocksOfPage("docs/testing.md").find(({ file }) => file === "cart.test.ts")!;
    assert.deepEqual(runTwice(runnable(block.text), true), []);
  });

  test("leaves nothing of examples/testing, started as it says", linuxOnly, () => {
    const text = readFileSync(`${root}examples/testing/visits.test.ts`, "utf8");
    const command = new RegExp(`^ \\* {5}${ownRuntime.name} (.+)$`, "m").exec(text);
    assert.ok(command, "the command is in its comment");
    assert.deepEqual(runCommandTwice(() => command[1]!.split(" ")), []);
  });

  const runsHook = ownRuntime.name !== "bun";
  test("leaves nothing of a file that detaches nothing, if it runs exit hooks", {
    skip: runsHook ? false : "bun test runs none",
  }, () => {
    const left = runTwice(`
      import { test } from "node:test";
      import { SharedMemory, SystemSemaphore } from ${module};
      const memory = new SharedMemory("at the top level");
      const isMade = memory.create(16);
      const units = new SystemSemaphore("units at the top level", 1);
      units.acquire();
      test("has it", () => {
        if (!isMade || !memory.lock()) throw new Error(memory.errorString());
      });`);
    assert.deepEqual(left, []);
  });

  test("leaves nothing of a lock that was waited for in vain", () => {
    const left = runTwice(`
      import { test } from "node:test";
      import { SharedMemory } from ${module};
      test("gives up", async () => {
        using holder = SharedMemory.open("in vain", { size: 16, disposition: "create" });
        using other = SharedMemory.open("in vain");
        if (!holder.lock() || await other.lockAsync({ timeout: 20 })) throw new Error("not held");
      });`);
    assert.deepEqual(left, []);
  });

  test("can open again what a file that detaches nothing has left", () => {
    const source = `
      import { test } from "node:test";
      import { SharedMemory } from ${module};
      const memory = SharedMemory.open("left", { size: 16, disposition: "create" });
      test("has it", () => {
        if (!memory.lock()) throw new Error(memory.errorString());
      });`;
    const left = runTwice(source);
    if (runsHook) assert.deepEqual(left, []);
    else cleanUp();
  });

  /** Removes what `bun test` has left, as docs/testing.md says. */
  function cleanUp(): void {
    for (const name of readdirSync(folder).filter((name) => name.startsWith("keys-"))) {
      const TMPDIR = `${folder}/${name}`;
      spawnSync(ownRuntime.command, [...ownRuntime.args, `${root}cli.ts`, "cleanup"], {
        env: { ...process.env, TMPDIR },
      });
      assert.deepEqual(readdirSync(TMPDIR), []);
    }
  }
});

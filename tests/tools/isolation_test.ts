/** A run of the tests beside other programs that share memory: it neither sees nor disturbs them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  Agent,
  crewOnly,
  DEADLINE_MS,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  needsPython,
  ownRuntime,
} from "../support/support.ts";
import { withDeadline } from "../support/support.ts";

const script = fileURLToPath(new URL("../../scripts/test.ts", import.meta.url));
const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));

/** A part of the tests that looks at all that there is, and takes some seconds. */
const FILES = ["/life_test", "/inspect_test", "posix_inspect"];

const options = { timeout: 8 * DEADLINE_MS, ...crewOnly, ...needsPython, ...linuxOnly };

interface Run {
  readonly status: number | null;
  readonly printed: string;
}

/** Runs some tests as a terminal of this user's would, with `folder` as TMPDIR. */
async function runTests(folder: string, isolation: string | undefined): Promise<Run> {
  const { SHARED_MEMORY_TEST_ISOLATED: _, SHARED_MEMORY_TEST_RUN: __, ...env } = process.env;
  const flags = ownRuntime.name === "deno" ? ["run", "--allow-all", "--no-check"] : ownRuntime.args;
  const args = [...flags, script, "--runtime", ownRuntime.name, ...FILES];
  const child = spawn(ownRuntime.command, args, {
    env: {
      ...env,
      TMPDIR: folder,
      SHARED_MEMORY_TEST_ISOLATION: isolation,
      SHARED_MEMORY_TEST_CREW: "none", // what is run once is run by this run
      NO_COLOR: "1",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  for (const output of [child.stdout, child.stderr]) output.on("data", (data) => printed += data);
  const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { status, printed };
}

function assertPassed({ status, printed }: Run): void {
  assert.equal(status, 0, /^\w+ FAILED: [^]*/m.exec(printed)?.[0] ?? printed);
  assert.match(printed, /^[1-9]\d* passed, 0 failed, \d+ skipped$/m);
}

describe("a run of the tests", () => {
  leaveNothingBehind();

  test(
    "passes beside another one and a program that makes and removes objects, isolated or not",
    options,
    async () => {
      const folder = mkdtempSync(`${keyFolder}isolation-`);
      chmodSync(folder, 0o1777); // some tests are other users
      const stranger = new Agent("the stranger", "/usr/bin/python3", [
        `${fixtures}stranger.py`,
        ...[folder, keyFolder.slice(0, -1), "/tmp"],
      ]);
      try {
        const churning = new Promise((resolve) => stranger.child.stdout!.once("data", resolve));
        await withDeadline(churning, "the stranger's first line");
        const [isolated, ...shared] = await Promise.all(
          [undefined, "off", "off"].map((isolation) => runTests(folder, isolation)),
        );
        for (const run of [isolated!, ...shared]) assertPassed(run);
        // Which of the two it was can be seen.
        assert.match(
          isolated!.printed,
          /^isolated: key files in \S+(, System V|; not isolated: S)/,
        );
        for (const { printed } of shared) {
          assert.match(
            printed,
            /^isolated: key .*; not isolated: .*SHARED_MEMORY_TEST_ISOLATION=off/,
          );
        }
      } finally {
        assert.equal(await stranger.end(), 0, stranger.stderr);
      }
      assert.deepEqual(readdirSync(folder), [], "the folders of the runs are deleted");
      rmSync(folder, { recursive: true });
    },
  );
});

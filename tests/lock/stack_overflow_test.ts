/** A stack overflow may strike at any depth, before, in and after every call: nothing stays taken, nothing is lost. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { DEADLINE_MS, leaveNothingBehind, ownRuntime } from "../support/support.ts";

const long = { timeout: 6 * DEADLINE_MS };
const fixture = fileURLToPath(new URL("../fixtures/deep_calls.ts", import.meta.url));

/** How each runtime is given a stack of some 200 KB. */
const small = {
  deno: { flags: ["--v8-flags=--stack-size=200"], env: {} },
  node: { flags: ["--stack-size=200"], env: {} },
  bun: { flags: [], env: { BUN_JSC_maxPerThreadStackUsage: "400000" } },
};

interface Stack {
  readonly flags: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

async function run({ flags, env }: Stack, ...args: readonly string[]): Promise<void> {
  const more = ownRuntime.name === "deno" ? ["--allow-read"] : []; // for an import that is computed
  const child = spawn(
    ownRuntime.command,
    [...ownRuntime.args, ...more, ...flags, fixture, ...args],
    {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: long.timeout,
    },
  );
  let output = "";
  let complaints = ""; // such as Node's of an overflow in its own code, when it is told of a rejection
  child.stdout.on("data", (data) => output += data);
  child.stderr.on("data", (data) => complaints += data);
  const code = await new Promise((resolve) => child.on("close", resolve));
  const problems = output.split("\n").filter((line) => !line.includes('"problems":{}'));
  const report = `${output}\n${complaints}`;
  assert.deepEqual([problems.join("\n").trim(), code], ["all is well", 0], report);
  assert.match(output, /"overflow":[1-9]/, report);
  assert.doesNotMatch(complaints, /overflow|call stack/i, report);
}

describe("a stack overflow", () => {
  leaveNothingBehind();

  test("at any depth of a small stack loses nothing", long, async () => {
    await run(small[ownRuntime.name as keyof typeof small]);
  });

  test("at the usual depth releases the locks", long, async () => {
    const usual = { flags: [], env: {} };
    await run(usual, "lock and unlock");
  });
});

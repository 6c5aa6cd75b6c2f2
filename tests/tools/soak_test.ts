import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  runtimes,
  slow,
  withDeadline,
} from "../support/support.ts";

const script = fileURLToPath(new URL("../../scripts/soak.ts", import.meta.url));
/** It starts workers in all runtimes itself, so it runs in one of them. */
const runner = runtimes.at(-1)!;

/** The soak's output, with its exit code at the end. */
async function soak(...options: string[]): Promise<string> {
  const flags = runner.name === "deno" ? ["run", "-A"] : runner.args;
  const child = spawn(runner.command, [...flags, script, ...options], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => output += text);
  const ended = new Promise((resolve) => child.on("close", resolve));
  const code = await withDeadline(ended, "the end of the soak");
  return `${output}exit code ${code}`;
}

const options = linuxOnly.skip !== undefined
  ? linuxOnly
  : ownRuntime.name === runner.name
  ? slow
  : { skip: `runs in ${runner.name}, and starts the others itself` };

describe("the soak", () => {
  leaveNothingBehind();

  test("passes after some seconds of load and faults in all runtimes", options, async () => {
    const output = await soak("--minutes", "0.15", "--seed", "7");
    assert.match(output, /PASSED.*\nexit code 0$/, output);
    for (const { name, version } of runtimes) {
      assert.match(output, new RegExp(`^ +${name} ${version} +\\d+ +\\d+ +[1-9]`, "m"), output);
    }
  });

  test("explains its options, and refuses others", options, async () => {
    assert.match(await soak("--help"), /--minutes N.*exit code 0$/s);
    assert.match(await soak("--minutes", "x"), /--minutes takes a number.*exit code 2$/s);
  });
});

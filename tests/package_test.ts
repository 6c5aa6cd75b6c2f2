/** The npm package: built, installed into an empty folder, and used from there. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { keyFolder, leaveNothingBehind, ownRuntime, runtimes, slow } from "./support.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const hasNpm = spawnSync("npm", ["--version"]).status === 0;
const hasDeno = runtimes.some(({ name }) => name === "deno");
const reason = process.platform === "win32"
  ? "npm is a batch file there"
  : process.env["SHARED_MEMORY_TEST_DENO"]
  ? "the package is the same on every platform"
  : "it takes Deno and npm to build it";
const canBuild = hasNpm && hasDeno && process.platform !== "win32" &&
  !process.env["SHARED_MEMORY_TEST_DENO"];
const options = canBuild ? slow : { skip: reason };
const name = "@shared-memory/shared-memory";

function run(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: "utf8" });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

describe("the npm package", () => {
  leaveNothingBehind();
  let folder = "";

  before(() => {
    if (!canBuild) return;
    folder = mkdtempSync(`${keyFolder}package-`);
    run("node", ["scripts/pack.ts", path.join(folder, "tarball")], root);
    const [tarball] = readdirSync(path.join(folder, "tarball"));
    const consumer = path.join(folder, "consumer");
    mkdirSync(consumer);
    writeFileSync(path.join(consumer, "package.json"), '{ "private": true, "type": "module" }');
    const install = ["install", "--offline", "--no-audit", "--no-fund"];
    run("npm", [...install, path.join(folder, "tarball", tarball!)], consumer);
  });

  after(() => {
    if (folder !== "") rmSync(folder, { recursive: true });
  });

  test("is imported by its name", options, () => {
    const consumer = path.join(folder, "consumer");
    const script = path.join(consumer, "use.js");
    writeFileSync(
      script,
      `
      import { SharedMemory } from "${name}";
      import { inspect } from "${name}/inspect";
      import { Counter } from "${name}/sync";
      const memory = new SharedMemory("package " + process.pid);
      if (!memory.create(100)) throw new Error(memory.errorString());
      const { segments } = inspect();
      if (Counter.create(memory.data()).add() !== 0n) throw new Error("no counter");
      console.log(segments.filter(({ keyFile }) => keyFile === memory.nativeKey()).length);
      memory.detach();`,
    );
    const output = run(ownRuntime.command, [...ownRuntime.args, script], consumer);
    assert.equal(output, "1\n");
  });

  test("has the command", options, () => {
    const bin = path.join(folder, "consumer/node_modules/.bin/shared-memory");
    const output = run(ownRuntime.command, [...ownRuntime.args, bin, "list", "--json"], folder);
    assert.deepEqual(Object.keys(JSON.parse(output)), [
      ...["folder", "segments", "semaphores", "keyFiles"],
    ]);
  });

  test("needs nothing else", options, () => {
    const [scope] = readdirSync(path.join(folder, "consumer/node_modules"))
      .filter((entry) => !entry.startsWith("."));
    assert.equal(scope, "@shared-memory");
    assert.deepEqual(readdirSync(path.join(folder, "consumer/node_modules/@shared-memory")), [
      "shared-memory",
    ]);
  });
});

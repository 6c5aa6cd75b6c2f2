/**
 * Runs the tests in each installed runtime, and adds the results up. `npm test`,
 * `deno run -A scripts/test.ts` or `bun scripts/test.ts`.
 */

import type { StdioOptions } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { follow } from "./follow.ts";
import { findIsolation, type Isolation, spawnIsolated } from "./isolation.ts";
import { findRuntime } from "./runtimes.ts";
import { testFiles } from "./sources.ts";
import { partsOf } from "./test/parts.ts";
import {
  type Counts,
  type Name,
  type Outcome,
  SIGNALS,
  type Task,
  testRuntime,
} from "./test/runtime.ts";

const usage = `Usage: npm test -- [options] [file...]

Runs tests/**/*_test.ts, or the files whose name contains one of the given texts.

  --runtime <name>      deno, bun or node; may be given more than once (default: all installed)
  --filter <text>       only suites and top-level tests whose name contains the text
  --deadline <seconds>  for all the tests of one runtime, or of a part of them (default: 1200)
  --at-once <number>    of parts of the tests, if they can be isolated from each other (default: 1)
  --help

REQUIRE_RUNTIMES=deno,bun,node  a missing runtime is a failure instead of a skip
REQUIRE_PEERS=qt                a missing peer is a failure instead of a skip
SHARED_MEMORY_TEST_ISOLATION=off    no IPC namespace and no /dev/shm of its own
SHARED_MEMORY_TEST_ISOLATION=given  neither, as no other program shares memory here, as in a container`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runtime: { type: "string", multiple: true },
    filter: { type: "string" },
    deadline: { type: "string", default: "1200" },
    "at-once": { type: "string", default: "1" },
    help: { type: "boolean" },
  },
});
if (options.help) {
  console.log(usage);
  process.exit();
}

const files = testFiles().map((name) => `./tests/${name}`)
  .filter((file) => positionals.length === 0 || positionals.some((text) => file.includes(text)));
if (files.length === 0) throw new Error(`no test file is named ${positionals.join(", ")}`);

/** Where the tests of each runtime have a folder, and leave what they print and what came out. */
const folder = mkdtempSync(path.join(os.tmpdir(), "shared-memory-test-"));
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
chmodSync(folder, 0o711); // some tests are other users

/** The exit code, once a signal has come that stops the run. */
let stopped: number | undefined;
for (const [signal, code] of SIGNALS) process.on(signal, () => stopped ??= code);

function failure(name: Name, version: string, problems: string[]): Outcome {
  const counts = { passed: 0, failed: problems.length, skipped: 0 };
  return { runtime: name, version, ...counts, seconds: 0, problems };
}

/** Runs the tests of a task in a process of their own, which writes to `output`. */
async function testIsolated(
  isolation: Isolation,
  task: Task,
  output: number | "inherit",
): Promise<Outcome> {
  const own = path.join(folder, task.part);
  mkdirSync(own);
  chmodSync(own, 0o1777);
  const result = path.join(folder, `${task.part}.json`);
  const script = path.join(import.meta.dirname!, "test/isolated.ts");
  const stdio: StdioOptions = ["ignore", output, output];
  const child = spawnIsolated(isolation, own, script, [JSON.stringify(task), result], stdio);
  const stop = (signal: NodeJS.Signals) => child.kill(signal); // it ends its own children
  for (const [signal] of SIGNALS) process.on(signal, stop);
  const problem = await new Promise<string | undefined>((resolve) => {
    child.once("error", ({ message }) => resolve(message));
    child.once("exit", (code, signal) => {
      resolve(signal ?? (code ? `exit code ${code}` : undefined));
    });
  });
  for (const [signal] of SIGNALS) process.off(signal, stop);
  if (problem === undefined && existsSync(result)) return JSON.parse(readFileSync(result, "utf8"));
  return failure(task.name, task.version, [problem ?? "the tests ended without a result"]);
}

const isolation = findIsolation();
if (isolation !== undefined) {
  console.log(`isolated: key files in ${folder}${isolation.description}`);
}
const names: Name[] = ["deno", "bun", "node"];
const required = options.runtime ?? process.env.REQUIRE_RUNTIMES?.split(",") ?? [];
const chosen = names.filter((name) => options.runtime?.includes(name) ?? true)
  .map((name) => ({ name, found: findRuntime(name) }));
const installed = chosen.flatMap(({ name, found }) => "missing" in found ? [] : [{ name, found }]);
// Who runs the tests whose work processes of all runtimes do.
if (installed.length > 0) process.env["SHARED_MEMORY_TEST_CREW"] ||= installed[0]!.name;

/** How many parts are tested at once: more than one only where they do not see each other. */
const wanted = Number(options["at-once"]);
if (!(wanted >= 1)) throw new Error(`--at-once is a number from 1, not ${options["at-once"]}`);
const atOnce = isolation?.wrapper.length ? wanted : 1;
const tasks = installed.flatMap(({ name, found: { command, version } }): Task[] => {
  const { filter } = options;
  const task = { name, command, version, filter, deadline: Number(options.deadline) };
  // A part may have no test of that name.
  const isWhole = atOnce === 1 || filter !== undefined;
  const parts = isWhole ? [{ part: name, files }] : partsOf(name, files);
  return parts.map((part) => ({ ...task, ...part }));
});
const runs = tasks.map((task) => ({
  task,
  output: atOnce > 1 ? openSync(path.join(folder, `${task.part}.log`), "a+") : undefined,
  ...Promise.withResolvers<Outcome>(),
}));
const waiting = runs.values();
const work = async () => {
  for (const { task, output, resolve } of waiting) {
    if (stopped !== undefined) resolve(failure(task.name, task.version, ["stopped"]));
    else if (isolation === undefined) resolve(await testRuntime(task));
    else resolve(await testIsolated(isolation, task, output ?? "inherit"));
  }
};
for (let i = 0; i < atOnce; i++) void work();

const outcomes: Outcome[] = [];
for (const { name, found } of chosen) {
  for (const { output, promise } of runs.filter(({ task }) => task.name === name)) {
    // What is printed at once is shown one after the other.
    const end = output === undefined ? undefined : follow(output);
    outcomes.push(await promise);
    end?.();
  }
  if ("missing" in found) {
    const isFailure = required.includes(name);
    console.log(`\n=== ${name} ${isFailure ? "FAILED" : "left out"}: ${found.missing}`);
    outcomes.push(failure(name, "missing", isFailure ? [found.missing] : []));
  }
}
if (stopped !== undefined) process.exit(stopped);
/** Returns the first lines of a problem, for logs whose beginning is cut off. */
const shortened = (problem: string) =>
  problem.split("\n").filter((line) => line.trim() !== "").slice(0, 6).join("\n");
const row = (cells: unknown[]) =>
  console.log(cells.map((cell) => String(cell).padStart(9)).join(""));
for (const { runtime, problems } of outcomes) {
  for (const problem of problems) console.log(`\n${runtime} FAILED: ${problem}`);
}
console.log("\n=== results");
row(["runtime", "version", "passed", "failed", "skipped", "seconds"]);
const sum = (key: keyof Counts | "seconds", of: Outcome[]) =>
  of.reduce((total, outcome) => total + outcome[key], 0);
for (const { name } of chosen) {
  const of = outcomes.filter(({ runtime }) => runtime === name);
  const counts = (["passed", "failed", "skipped"] as const).map((key) => sum(key, of));
  row([name, of[0]!.version, ...counts, sum("seconds", of).toFixed(1)]);
}
const [passed, failed] = [sum("passed", outcomes), sum("failed", outcomes)];
for (const { runtime, problems } of outcomes) {
  for (const problem of problems) console.log(`\n${runtime} FAILED: ${shortened(problem)}`);
}
console.log(`\n${passed} passed, ${failed} failed, ${sum("skipped", outcomes)} skipped`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;

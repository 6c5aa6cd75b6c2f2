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
  --deadline <seconds>  for all the tests of one runtime (default: 1200)
  --together            two runtimes at once, if each can be isolated from the other
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
    together: { type: "boolean", default: false },
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
  return { runtime: name, version, ...counts, seconds: "-", problems };
}

/** Runs the tests of a task in a process of their own, which writes to `output`. */
async function testIsolated(
  isolation: Isolation,
  task: Task,
  output: number | "inherit",
): Promise<Outcome> {
  const own = path.join(folder, task.name);
  mkdirSync(own);
  chmodSync(own, 0o1777);
  const result = path.join(folder, `${task.name}.json`);
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
const tasks = chosen.flatMap(({ name, found }): Task[] => {
  if ("missing" in found) return [];
  const { command, version } = found;
  const { filter, deadline } = options;
  return [{ name, command, version, filter, deadline: Number(deadline), files }];
});
// Who runs the tests whose work processes of all runtimes do.
if (tasks.length > 0) process.env["SHARED_MEMORY_TEST_CREW"] ||= tasks[0]!.name;

/** How many runtimes are tested at once. Two need a machine with cores to spare, as some tests are about time. */
const canBeTogether = options.together && isolation?.wrapper.length;
const atOnce = canBeTogether ? Math.min(2, os.availableParallelism(), tasks.length) : 1;
const runs = tasks.map((task) => ({
  task,
  output: atOnce > 1 ? openSync(path.join(folder, `${task.name}.log`), "a+") : undefined,
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
  const run = runs.find(({ task }) => task.name === name);
  if (run !== undefined) {
    // What is printed at once is shown one after the other.
    const end = run.output === undefined ? undefined : follow(run.output);
    outcomes.push(await run.promise);
    end?.();
  } else if ("missing" in found) {
    const isFailure = required.includes(name);
    console.log(`\n=== ${name} ${isFailure ? "FAILED" : "left out"}: ${found.missing}`);
    outcomes.push(failure(name, "missing", isFailure ? [found.missing] : []));
  }
}
if (stopped !== undefined) process.exit(stopped);
const row = (cells: unknown[]) =>
  console.log(cells.map((cell) => String(cell).padStart(9)).join(""));
for (const { runtime, problems } of outcomes) {
  for (const problem of problems) console.log(`\n${runtime} FAILED: ${problem}`);
}
console.log();
row(["runtime", "version", "passed", "failed", "skipped", "seconds"]);
for (const o of outcomes) row([o.runtime, o.version, o.passed, o.failed, o.skipped, o.seconds]);
const sum = (key: keyof Counts) => outcomes.reduce((total, outcome) => total + outcome[key], 0);
console.log(`\n${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped`);
process.exitCode = sum("failed") === 0 && sum("passed") > 0 ? 0 : 1;

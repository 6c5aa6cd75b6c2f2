/** Runs the tests in one runtime, and reads what came out of them. */
import { spawn, type StdioOptions } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { isIsolated, runTag } from "../isolation.ts";

export type Name = "deno" | "bun" | "node";

/** The tests of one runtime, as JSON that another process can get. */
export interface Task {
  readonly name: Name;
  /** Which of the runtime's tests, as a name for files. */
  readonly part: string;
  readonly command: string;
  readonly version: string;
  /** Only suites and top-level tests whose name contains this. */
  readonly filter: string | undefined;
  /** In seconds, for all of them. */
  readonly deadline: number;
  readonly files: readonly string[];
}

export type Counts = Record<"passed" | "failed" | "skipped", number>;

export interface Outcome extends Counts {
  runtime: string;
  version: string;
  seconds: number;
  /** What failed, and why. */
  problems: string[];
}

const root = path.resolve(import.meta.dirname!, "../..");

const windows = process.platform === "win32";
/** For one test, in milliseconds; bun's default of 5 s is too short to start processes. */
const testTimeout = 60_000 * Number(process.env["SHARED_MEMORY_TEST_PATIENCE"] || 1);

/** The arguments before the files; all three can leave a JUnit report. */
const runners: Record<Name, (report: string) => string[]> = {
  deno: (report) => ["test", "--allow-all", "--no-check", `--junit-path=${report}`],
  bun: (report) => [
    ...["test", `--timeout=${testTimeout}`],
    ...["--reporter=junit", `--reporter-outfile=${report}`],
  ],
  node: (report) => [
    ...["--disable-warning=ExperimentalWarning", "--test", `--test-timeout=${testTimeout}`],
    // One file after the other in one process, as in the others.
    ...["--test-concurrency=1", "--test-isolation=none"],
    ...["--test-reporter=spec", "--test-reporter-destination=stdout"],
    ...["--test-reporter=junit", `--test-reporter-destination=${report}`],
  ],
};

function filterArguments(name: Name, text: string | undefined): string[] {
  if (text === undefined) return [];
  if (name === "deno") return [`--filter=${text}`];
  return [`--test-name-pattern=${text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")}`];
}

/** For the reports, and what is compiled. */
const temporary = mkdtempSync(path.join(os.tmpdir(), "shared-memory-test-"));
process.once("exit", () => rmSync(temporary, { recursive: true, force: true }));

/** What stops a run, with the exit codes that say so. */
export const SIGNALS = [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const;

/** Runs a command and kills its process group; returns what went wrong. */
function run(command: string, args: string[], seconds: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const stdio: StdioOptions = ["ignore", "inherit", "inherit"];
  const env = {
    ...(process.stdout.isTTY ? {} : { NO_COLOR: "1" }),
    // Node takes most of its start to strip types, which is done once then.
    NODE_COMPILE_CACHE: path.join(temporary, "node"),
    ...process.env,
  };
  const child = spawn(command, args, { cwd: root, env, stdio, detached: !windows });
  const kill = () => {
    try {
      if (windows) child.kill();
      else if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // Nobody is left.
    }
  };
  let problem: string | undefined;
  const timer = setTimeout(() => {
    problem = `not finished after ${seconds} s`;
    kill();
  }, seconds * 1000);
  for (const [signal, code] of SIGNALS) {
    process.once(signal, () => {
      kill();
      process.exit(code);
    });
  }
  const finish = (ending: string | undefined) => {
    clearTimeout(timer);
    kill();
    resolve(problem ?? ending);
  };
  child.once("error", (error) => finish(error.message));
  child.once("exit", (code, signal) => finish(signal ?? (code ? `exit code ${code}` : undefined)));
  return promise;
}

/** The tests of a JUnit report. */
function casesOf(report: string) {
  const element = /<testcase((?:\s+[\w-]+="[^"]*")*)\s*(?:\/>|>([^]*?)<\/testcase>)/g;
  const cases = [...report.matchAll(element)].map(([, attributes = "", content = ""]) => ({
    name: / name="([^"]*)"/.exec(attributes)?.[1] ?? "",
    failed: /<(failure|error)\b/.test(content),
    skipped: content.includes("<skipped"),
    content,
  }));
  // Deno also lists the suites, "suite" before "suite > test".
  const isSuite = (name: string) => cases.some((other) => other.name.startsWith(`${name} &gt; `));
  return cases.filter(({ name }) => !isSuite(name));
}

function count(tests: ReturnType<typeof casesOf>): Counts {
  const failed = tests.filter((test) => test.failed).length;
  const skipped = tests.filter((test) => test.skipped).length;
  return { passed: tests.length - failed - skipped, failed, skipped };
}

const ENTITIES: Record<string, string> = {
  ...{ lt: "<", gt: ">", quot: '"', apos: "'", amp: "&", "#x27": "'", "#39": "'", "#10": "\n" },
};

/** A text of a JUnit report, of which the begin is enough to know what went wrong. */
function plain(text: string): string {
  const whole = text.replace(/<[^>]*? message="([^"]*)"[^>]*>/g, "$1\n").replace(/<[^>]*>/g, "")
    .replace(/&([#\w]+);/g, (entity, name) => ENTITIES[name.toLowerCase()] ?? entity);
  return whole.trim().split("\n").slice(0, 30).join("\n");
}

/** What a process can leave behind in the system, each named so that it can be found. */
function traces(): string[] {
  if (process.platform !== "linux") return [];
  const list = (folder: string) => readdirSync(folder).map((name) => path.join(folder, name));
  const keyFiles = list(os.tmpdir()).filter((file) => file.includes("/qipc_"));
  const posix = existsSync("/dev/shm") ? list("/dev/shm") : [];
  if (!isIsolated) return [...keyFiles, ...posix.filter((file) => file.includes(runTag))];
  const ids = (kind: "shm" | "sem") =>
    readFileSync(`/proc/sysvipc/${kind}`, "utf8").trim().split("\n").slice(1)
      .map((row) => `System V ${kind} ${row.trim().split(/\s+/)[1]}`);
  return [...ids("shm"), ...ids("sem"), ...posix, ...keyFiles];
}

/** What was not there `before`, and stays: the kernel detaches a little after a process's end. */
async function leftBehind(before: string[]): Promise<string[]> {
  let left = traces().filter((trace) => !before.includes(trace));
  for (let looks = 0; looks < 20 && left.length > 0; looks++) {
    await delay(250);
    const now = traces();
    left = left.filter((trace) => now.includes(trace));
  }
  return left;
}

/** Runs the tests of a task; what they print goes to this process's output. */
export async function testRuntime(task: Task): Promise<Outcome> {
  const { name, part, command, version, filter, deadline, files } = task;
  console.log(`\n=== ${part} ${version}`);
  const report = path.join(temporary, `${name}.xml`);
  const before = traces();
  const started = performance.now();
  const args = [...runners[name](report), ...filterArguments(name, filter), ...files];
  const problem = await run(command, args, deadline);
  const seconds = (performance.now() - started) / 1000;
  const results = existsSync(report) ? readFileSync(report, "utf8") : "";
  const tests = casesOf(results);
  const counts = count(tests);
  const problems = (await leftBehind(before)).map((trace) => `left behind: ${trace}`);
  if (problem !== undefined && counts.failed === 0) problems.push(problem);
  else if (counts.passed + counts.failed === 0) problems.push("no test was executed");
  const failed = counts.failed + problems.length;
  for (const test of tests.filter((test) => test.failed)) {
    problems.push(`${plain(test.name)}\n${plain(test.content)}`);
  }
  return { runtime: name, version, ...counts, failed, seconds, problems };
}

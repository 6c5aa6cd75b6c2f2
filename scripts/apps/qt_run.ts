/** Runs Qt's own tests while processes of each runtime use their keys. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { root } from "../platforms/common.ts";
import type { Runtime } from "../runtimes.ts";
import { until, withDeadline } from "./deadline.ts";
import { Peer } from "./peer.ts";
import { suiteEnvironment } from "./qt_suite.ts";
import type { StormTally, StormTask } from "./storm.ts";

type Say = (text: string) => void;

const TESTS_MS = 120_000;

/** A test that must not find another process attached: it checks that a segment is gone when Qt has detached. */
const SOLE = ["removeWhileAttached", "simpleDoubleProducerConsumer"];

const SEGMENTS = [
  ...["existing", "doesntexists", "norsize", "negsize", "qsharedmemory", "one", "voidland"],
  ...["readonly_segfault", "maxmemorytest_0", "maxmemorytest_1", "market"],
];
const SEMAPHORES = [
  ...["existing", "store", "one", "two"],
  ...["basicacquire", "complexacquire", "release"].map((name) => `QSystemSemaphore_${name}`),
];

/** The processes that use the keys, one of each runtime. */
class Storm {
  readonly #processes: readonly Stormer[];

  constructor(runtimes: readonly Runtime[], temporary: string, task: StormTask) {
    this.#processes = runtimes.map((runtime) => new Stormer(runtime, temporary, task));
  }

  async ready(): Promise<void> {
    await Promise.all(this.#processes.map((one) => one.ready()));
  }

  /** Ends all, and returns what they have done. */
  async end(): Promise<[name: string, tally: StormTally][]> {
    return await Promise.all(this.#processes.map((one) => one.end()));
  }

  kill(): void {
    for (const one of this.#processes) one.kill();
  }
}

class Stormer {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #ended: Promise<unknown>;

  constructor({ name, command, args }: Runtime, temporary: string, task: StormTask) {
    this.#name = name;
    const script = path.join(root, "scripts/apps/storm.ts");
    this.#child = spawn(command, [...args, script, JSON.stringify(task)], {
      env: { ...process.env, TMPDIR: temporary },
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child.stdin!.on("error", () => {}); // it has ended, which end() says
    createInterface({ input: this.#child.stdout! }).on("line", (line) => this.#lines.push(line));
    this.#ended = once(this.#child, "close");
  }

  async ready(): Promise<void> {
    await until(`the start of ${this.#name}`, 60_000, () => Promise.resolve(this.#lines[0]));
  }

  async end(): Promise<[name: string, tally: StormTally]> {
    this.#child.stdin!.end();
    await withDeadline(this.#ended, `the end of ${this.#name}, which uses Qt's keys`, 60_000);
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== 0) throw new Error(`${this.#name} ended: ${signalCode ?? exitCode}`);
    return [this.#name, JSON.parse(this.#lines[1]!)];
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

/** Runs functions of a program of tests, all of which must pass; returns its last line. */
async function runTests(
  folder: string,
  temporary: string,
  program: string,
  functions: readonly string[],
): Promise<string> {
  const env = { ...process.env, ...suiteEnvironment(folder), TMPDIR: temporary };
  const child = spawn(path.join(folder, program), functions, { cwd: folder, env });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => output += text);
  }
  try {
    const [code, signal] = await withDeadline(once(child, "close"), program, TESTS_MS);
    const totals = /^Totals: (\d+ passed, \d+ failed, \d+ skipped)/m.exec(output)?.[1];
    if (code === 0 && totals !== undefined && !totals.startsWith("0 ")) return totals;
    throw new Error(`${program} ended with ${signal ?? code}`);
  } catch (error) {
    const lines = output.split("\n").filter((line) => !/^(PASS|SKIP|done)/.test(line));
    throw new Error(`${error instanceof Error ? error.message : error}\n${lines.join("\n")}`);
  } finally {
    child.kill("SIGKILL");
  }
}

/** All functions of a program of tests, in its order. */
function functionsOf(folder: string, program: string): string[] {
  const listed = spawnSync(path.join(folder, program), ["-functions"], { encoding: "utf8" });
  return listed.stdout.trim().split("\n").map((name) => name.replace(/\(\)$/, ""));
}

/** Runs tests in a folder of key files of their own; nothing may be left there. */
async function runInStorm(
  runtimes: readonly Runtime[],
  task: StormTask,
  say: Say,
  tests: (temporary: string) => Promise<string>,
): Promise<void> {
  const temporary = mkdtempSync(path.join(os.tmpdir(), "shared-memory-qt-"));
  const storm = new Storm(runtimes, temporary, task);
  try {
    await storm.ready();
    say(await tests(temporary));
    for (const [name, { attached, locked, missing, acquired }] of await storm.end()) {
      const count = task.segments.length > 0 ? locked : acquired;
      if (count === 0) throw new Error(`${name} has used nothing`);
      say(
        task.segments.length > 0
          ? `${name} attached ${attached} times and found none ${missing} times`
          : `${name} acquired ${acquired} times`,
      );
    }
    const peer = new Peer(runtimes[0]!, temporary);
    const { removed } = await peer.cleanup();
    const { segments, semaphores } = await peer.inspect();
    await peer.end();
    const kept = [...segments, ...semaphores].map(({ kind, keyFile }) => `${kind} ${keyFile}`);
    if (kept.length > 0) throw new Error(`left after cleanup(): ${kept.join(", ")}`);
    say(`cleanup() removed ${removed.length} objects`);
  } finally {
    storm.kill();
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** The parts of a suite: title, and what runs it. */
export function suiteParts(
  folder: string,
  runtimes: readonly Runtime[],
): [title: string, run: (say: Say) => Promise<void>][] {
  // The kernel's limit in this IPC namespace: one test creates segments until there is no room for another one.
  writeFileSync("/proc/sys/kernel/shmmni", "64");
  const memory = "tst_qsharedmemory";
  const shared = functionsOf(folder, memory).filter((name) => !SOLE.includes(name));
  const part = (program: string, functions: string[], task: StormTask) => (say: Say) =>
    runInStorm(
      runtimes,
      task,
      say,
      (temporary) => runTests(folder, temporary, program, functions),
    );
  return [
    [`${memory}, segments are used`, part(memory, shared, { segments: SEGMENTS, semaphores: [] })],
    [
      `${memory} ${SOLE.join(" ")}, locks are used`,
      part(memory, SOLE, { segments: [], semaphores: ["one", "market", "existing"] }),
    ],
    [
      "tst_qsystemsemaphore, semaphores are used",
      part("tst_qsystemsemaphore", [], { segments: [], semaphores: SEMAPHORES }),
    ],
  ];
}

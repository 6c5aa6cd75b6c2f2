/** Runs Qt's own tests while processes of each runtime use their keys. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { root } from "../platforms/common.ts";
import type { Runtime } from "../runtimes.ts";
import { withDeadline } from "../deadline.ts";
import { until } from "./until.ts";
import { Peer } from "./peer.ts";
import { suiteEnvironment } from "./qt_suite.ts";
import type { StormTally, StormTask } from "./storm.ts";

type Say = (text: string) => void;

/** For a test, in ms: some wait 10 s for a process that must not end. */
const TEST_MS = 90_000;

/** Tests that expect a segment to be gone when Qt has detached: no other process may be attached. */
const SOLE = ["removeWhileAttached", "simpleDoubleProducerConsumer"];

/**
 * Tests that depend on the value with which they create a semaphore: no other process may have acquired it at that
 * moment, and release it afterwards.
 */
const EXACT = ["basicProcesses", "initialValue"];

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
  readonly #start: () => Stormer[];
  readonly #tallies = new Map<string, StormTally>();
  #processes: readonly Stormer[] = [];

  constructor(runtimes: readonly Runtime[], temporary: string, task: StormTask) {
    this.#start = () => runtimes.map((runtime) => new Stormer(runtime, temporary, task));
  }

  async start(): Promise<void> {
    this.#processes = this.#start();
    await Promise.all(this.#processes.map((one) => one.ready()));
  }

  /** Waits until each of them has finished what it is doing now. */
  async betweenRounds(): Promise<void> {
    await Promise.all(this.#processes.map((one) => one.betweenRounds()));
  }

  /** Ends all, and returns what they and those before them have done. */
  async end(): Promise<ReadonlyMap<string, StormTally>> {
    for (const [name, tally] of await Promise.all(this.#processes.map((one) => one.end()))) {
      const sum = this.#tallies.get(name) ?? { attached: 0, missing: 0, acquired: 0 };
      sum.attached += tally.attached;
      sum.missing += tally.missing;
      sum.acquired += tally.acquired;
      this.#tallies.set(name, sum);
    }
    return this.#tallies;
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

  async betweenRounds(): Promise<void> {
    const count = this.#lines.length;
    this.#child.stdin!.write("\n");
    const find = () => Promise.resolve(this.#lines[count]);
    await until(`the end of a round of ${this.#name}`, 60_000, find);
  }

  async end(): Promise<[name: string, tally: StormTally]> {
    this.#child.stdin!.end();
    await withDeadline(this.#ended, `the end of ${this.#name}, which uses Qt's keys`, 60_000);
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== 0) throw new Error(`${this.#name} ended: ${signalCode ?? exitCode}`);
    return [this.#name, JSON.parse(this.#lines.at(-1)!)];
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

/** A test of a program, with its data: what selects it. */
type Test = string;

/** The tests of a program, in its order. */
function testsOf(folder: string, program: string): Test[] {
  const listed = spawnSync(path.join(folder, program), ["-datatags"], { encoding: "utf8" });
  return listed.stdout.trim().split("\n").map((line) => {
    const [, name, tag] = /^\w+ (\w+)(?: (.+))?$/.exec(line)!;
    return tag === undefined ? name! : `${name}:${tag}`;
  });
}

/** Runs one test in a process of its own; returns whether it was skipped. */
async function runTest(
  folder: string,
  temporary: string,
  program: string,
  test: Test,
): Promise<boolean> {
  const env = { ...process.env, ...suiteEnvironment(folder), TMPDIR: temporary };
  const child = spawn(path.join(folder, program), [test], { cwd: folder, env });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => output += text);
  }
  try {
    const [code, signal] = await withDeadline(once(child, "close"), test, TEST_MS);
    // The first and the last function of each program count as tests that pass.
    const totals = /^Totals: (\d+) passed, 0 failed, (\d+) skipped/m.exec(output);
    const [passed = 0, skipped = 0] = totals?.slice(1).map(Number) ?? [];
    if (code === 0 && passed + skipped === 3) return skipped === 1;
    throw new Error(`${test} ended with ${signal ?? code}`);
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error}\n${output}`);
  } finally {
    child.kill("SIGKILL");
  }
}

/** Waits until there is a file whose name begins like this. */
async function exists(temporary: string, start: string): Promise<void> {
  await until(`a file ${start}`, TEST_MS, () => {
    const isThere = readdirSync(temporary).some((name) => name.startsWith(start));
    return Promise.resolve(isThere || undefined);
  });
}

/** Waits until no process has left a segment or semaphore to another one, which then removes it. */
async function quiet(temporary: string): Promise<void> {
  await until("the removal of what Qt has used", 20_000, () => {
    const left = readdirSync(temporary).filter((name) => name.startsWith("qipc_"));
    if (left.length > 0) throw new Error(`left: ${left.join(", ")}`);
    return Promise.resolve(true);
  });
}

/**
 * Runs tests in a folder of key files of their own; nothing may be left there.
 *
 * Each test has a process of its own, which starts when the objects of the last one are gone: Qt's create() resets a
 * lock that another process holds, so that it may fail while that process removes the segment of the last test. Then
 * Qt's tests fail beside processes of Qt too.
 */
async function runInStorm(
  runtimes: readonly Runtime[],
  folder: string,
  program: string,
  tests: readonly Test[],
  task: StormTask,
  say: Say,
): Promise<void> {
  const temporary = mkdtempSync(path.join(os.tmpdir(), "shared-memory-qt-"));
  const storm = new Storm(runtimes, temporary, task);
  try {
    await storm.start();
    let skipped = 0;
    for (const test of tests) {
      const isExact = EXACT.includes(test);
      if (isExact) await storm.end();
      const running = runTest(folder, temporary, program, test);
      if (isExact) {
        await Promise.race([exists(temporary, "qipc_systemsem_store"), running]);
        await storm.start();
      }
      if (await running) skipped++;
      if (task.segments.length === 0) continue;
      await quiet(temporary);
      await storm.betweenRounds();
      await quiet(temporary);
    }
    say(`${tests.length - skipped} tests passed, Qt skips ${skipped}`);
    for (const [name, { attached, missing, acquired }] of await storm.end()) {
      if (attached + acquired === 0) throw new Error(`${name} has used nothing`);
      say(
        task.segments.length > 0
          ? `${name} attached ${attached} times and found none ${missing} times`
          : `${name} acquired ${acquired} times`,
      );
    }
    const peer = new Peer(runtimes[0]!, temporary);
    const { segments, semaphores, keyFiles } = await peer.inspect();
    await peer.end();
    const kept = [...segments, ...semaphores, ...keyFiles].map(({ keyFile }) => keyFile);
    if (kept.length > 0) throw new Error(`left: ${kept.join(", ")}`);
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
  const [memory, semaphore] = ["tst_qsharedmemory", "tst_qsystemsemaphore"];
  const part = (program: string, tests: readonly Test[], task: StormTask) => (say: Say) =>
    runInStorm(runtimes, folder, program, tests, task, say);
  const shared = testsOf(folder, memory).filter((name) => !SOLE.includes(name));
  return [
    [`${memory}, segments are used`, part(memory, shared, { segments: SEGMENTS, semaphores: [] })],
    [
      `${memory} ${SOLE.join(" and ")}, locks are used`,
      part(memory, SOLE, { segments: [], semaphores: ["one", "market", "existing"] }),
    ],
    [
      `${semaphore}, semaphores are used`,
      part(semaphore, testsOf(folder, semaphore), { segments: [], semaphores: SEMAPHORES }),
    ],
  ];
}

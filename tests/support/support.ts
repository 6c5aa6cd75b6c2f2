/** What the tests share: real processes with deadlines, unique keys, and looking at what is left. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, afterEach, beforeEach } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Capabilities } from "../../backends/capabilities.ts";
import { keyTypeOf } from "../../backends/mod.ts";
import { Libc } from "../../backends/unix/libc.ts";
import { describeProcess } from "../../backends/process_text.ts";
import { selectFfi } from "../../ffi/mod.ts";
import { NativeIpcKey, type SharedMemory, SharedMemoryError } from "../../mod.ts";
import { platformSafeName } from "../../backends/native_key.ts";
import { isIsolated, runTag } from "../../scripts/isolation.ts";
import { withDeadline as promiseWithDeadline } from "../../scripts/deadline.ts";
import { findRuntime, type Runtime } from "../../scripts/runtimes.ts";
import { ipcsRows } from "./ipcs.ts";
import { keyValue, objectNames } from "./windows_objects.ts";

/** How many times the usual time a slow machine is given, as an emulated one. */
const patience = Number(process.env["SHARED_MEMORY_TEST_PATIENCE"] || 1);

/** For anything a process is asked to do, in ms; a test that meets it fails. */
export const DEADLINE_MS = 30_000 * patience;

/**
 * A `lockTimeout` of tests whose processes change a collection at the same time, in ms: each of them may stand still while
 * it has the lock, and the others must not fail because of that.
 */
export const LOCK_MS = 20_000 * patience;

/** Returns the CPU time of this process in ms. It does not grow while the process stands still, as the wall clock does. */
export function cpuTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** No process stands still for so long, in ms. */
const STILL_MS = 10_000 * patience;

/** Returns what `call` returns. It must take less than `ms` of CPU time, and must not sleep for long. */
export function inTime<Result>(ms: number, what: string, call: () => Result): Result {
  const [cpu, time] = [cpuTime(), performance.now()];
  try {
    return call();
  } finally {
    const [used, passed] = [cpuTime() - cpu, performance.now() - time];
    assert.ok(used < ms && passed < STILL_MS, `${what}: ${used} ms of CPU time in ${passed} ms`);
  }
}

const isWindows = process.platform === "win32";
const isDarwin = process.platform === "darwin";

/** What the objects of keys that are strings can do here. */
export const capabilities: Capabilities = keyTypeOf(
  NativeIpcKey.legacyDefaultTypeForOs(process.platform),
)!.capabilities;

/** What `size()` says of a segment that was made with `bytes`. */
export function sizeOf(bytes: number): number {
  return capabilities.exactSize ? bytes : Math.ceil(bytes / 4096) * 4096;
}

/** For what is about key files and System V's own calls. */
export const systemVOnly: { skip?: string } = isWindows ? { skip: "is about System V" } : {};

/** For what is about a buffer that was transferred away, which detach() cannot empty. */
export const transferOnly: { skip?: string } = capabilities.zerosTransferred
  ? {}
  : { skip: `such a buffer goes on showing the segment on ${capabilities.name}` };

/** For what is about the kernel's undoing of what an ended process did to a semaphore. */
export const undoOnly: { skip?: string } = capabilities.semaphoreUndo
  ? {}
  : { skip: `nothing is undone to semaphores of ${capabilities.name}` };

/** For what is about segments that a crash has left. */
export const staleOnly: { skip?: string } = capabilities.survivesCrash
  ? {}
  : { skip: `no segment of ${capabilities.name} survives its users` };

/** For what needs Linux: `/proc`, strace, other users, file descriptors, namespaces. */
export const linuxOnly: { skip?: string } = process.platform === "linux"
  ? {}
  : { skip: "needs what only Linux has" };

/** For what is only true as long as no other program makes files, or System V or POSIX objects. */
export const isolatedOnly: { skip?: string } = isIsolated
  ? {}
  : { skip: "other programs could disturb it: scripts/test.ts could not isolate this run" };

/** For a test that starts many processes: bun gives it 5 s otherwise, too little on a busy machine. */
export const slow = { timeout: 2 * DEADLINE_MS };

const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));

/** Real Qt, and Python. */
const python = "/usr/bin/python3";

function canImport(module: string): boolean {
  return spawnSync(python, ["-c", `import ${module}`], { stdio: "ignore" }).status === 0;
}

/** What the tests need to know of this machine. */
interface Machine {
  readonly runtimes: readonly Runtime[];
  readonly qtVersions: readonly (5 | 6)[];
  readonly hasPython: boolean;
}

/**
 * Looks at this machine once in a process. Deno loads this file again for each test file, so the first one leaves in the
 * environment what it has found by starting six programs.
 */
function lookAtMachine(): Machine {
  const name = `SHARED_MEMORY_TEST_MACHINE_${process.pid}`;
  const known = process.env[name];
  if (known !== undefined) return JSON.parse(known);
  const runtimes = (["deno", "bun", "node"] as const).map(findRuntime);
  const machine: Machine = {
    runtimes: runtimes.filter((runtime): runtime is Runtime => !("missing" in runtime)),
    qtVersions: ([5, 6] as const).filter((version) => canImport(`PyQt${version}.QtCore`)),
    hasPython: process.platform === "linux" && canImport("multiprocessing.shared_memory"),
  };
  process.env[name] = JSON.stringify(machine);
  return machine;
}

/**
 * The installed runtimes, each of which the tests start agents in; the versions of PyQt, which is real Qt, that can be
 * imported; and whether there is a Python without Qt.
 */
export const { runtimes, qtVersions, hasPython }: Machine = lookAtMachine();

/** The runtime that this test runs in. */
export const ownRuntime: Runtime = runtimes.find(({ name }) =>
  name === (process.versions["deno"] ? "deno" : process.versions["bun"] ? "bun" : "node")
)!;

const crewIn = process.env["SHARED_MEMORY_TEST_CREW"] || ownRuntime.name;

/**
 * For a test whose work agents of all runtimes do, while its own process looks on: of several runs
 * scripts/test.ts chooses one.
 */
export const crewOnly: { skip?: string } = ownRuntime.name === crewIn
  ? {}
  : { skip: `is run by ${crewIn}, with processes of all runtimes` };

/**
 * For a slow test whose result does not depend on the runtime, as it is about the kernel, about Qt, or about code that
 * is the same in all of them: of several runs scripts/test.ts chooses one.
 */
export const onceOnly: { skip?: string } = ownRuntime.name === crewIn
  ? {}
  : { skip: `is run by ${crewIn}, and is the same in every runtime` };

/** `{ skip: reason }` where real Qt is not installed, unless the environment requires it. */
export function needsQt(version: 5 | 6): { skip?: string } {
  const required = isRequired("qt");
  return qtVersions.includes(version) || required
    ? {}
    : { skip: `PyQt${version} is not installed (Debian: python3-pyqt${version})` };
}

export const nobody = { uid: 65534, gid: 65534 };

/** Why the tests cannot be another user here, if they cannot. */
export function cannotBeNobody(): string | undefined {
  if (process.getuid?.() !== 0) return "only root can start processes of other users";
  const read = spawnSync("cat", [`${fixtures}agent.ts`], { ...nobody, stdio: "ignore" });
  const started = spawnSync(ownRuntime.command, ["--version"], { ...nobody, stdio: "ignore" });
  if (read.status === 0 && started.status === 0) return undefined;
  return "user nobody may not read this repository or not run its runtime";
}

/** Whether the environment requires a peer of the tests: REQUIRE_PEERS has their names, with commas. */
export function isRequired(peer: string): boolean {
  return (process.env["REQUIRE_PEERS"] ?? "").split(",").includes(peer);
}

/** `{ skip: reason }` where Python, without Qt, is not installed, unless the environment requires it. */
export const needsPython: { skip?: string } = hasPython || isRequired("python")
  ? {}
  : { skip: "Python 3.8 or later is not installed as /usr/bin/python3" };

let count = 0;

/** A key that no other test, run or process uses. */
export function uniqueKey(text = "test"): string {
  const key = `${text} ${runTag} ${process.pid} ${Date.now()} ${count++}`;
  if (isWindows) hashes.add(platformSafeName(key, "").slice(-40));
  return key;
}

/** How the names of the unique keys' objects go on: others run their tests in the same session. */
const hashes = new Set<string>();

/** The folder of the key files, with a slash at the end. */
export const keyFolder = `${tmpdir()}/`;

/** What the native keys of keys that are strings begin with. */
const prefix = isWindows ? "" : keyFolder;

/** The key file of a segment; on Windows its name. */
export function segmentFile(key: string): string {
  return prefix + platformSafeName(key, "qipc_sharedmemory_");
}

/** The same of a semaphore, also that of the lock of a segment. */
export function semaphoreFile(key: string): string {
  return prefix + platformSafeName(key, "qipc_systemsem_");
}

export interface Thrown {
  name: string;
  message: string;
  code?: string;
}

const running = new Set<Agent>();

/** A process of another runtime, or of real Qt, that does what the test says. */
export class Agent {
  readonly name: string;
  readonly child: ChildProcess;
  /** The exit code or the signal's name. */
  readonly ended: Promise<number | string>;
  stderr = "";
  #isKilled = false;
  readonly #waiting: ((line: string) => void)[] = [];

  constructor(
    name: string,
    command: string,
    args: readonly string[],
    env?: NodeJS.ProcessEnv,
    user?: { uid: number; gid: number },
  ) {
    this.name = name;
    this.child = spawn(command, args, { env: { ...process.env, ...env }, ...user });
    this.child.stderr!.on("data", (data) => this.stderr += data);
    createInterface({ input: this.child.stdout! })
      .on("line", (line) => this.#waiting.shift()?.(line));
    this.ended = new Promise((resolve, reject) => {
      this.child.on("error", reject);
      this.child.on("close", (code, signal) => {
        running.delete(this);
        // Windows has no signals.
        resolve(signal ?? (isWindows && this.#isKilled ? "SIGKILL" : code!));
      });
    });
    this.child.stdin!.on("error", () => {}); // it has ended, which `ended` says
    running.add(this);
  }

  /** Sends a request; what it answers comes later. */
  // deno-lint-ignore no-explicit-any
  async request(operation: string, ...args: unknown[]): Promise<any> {
    const line = new Promise<string>((resolve) => this.#waiting.push(resolve));
    this.child.stdin!.write(JSON.stringify([operation, ...args]) + "\n");
    const gone = this.ended.then((how) => {
      throw new Error(`${this.name} ended (${how}) in ${operation}: ${this.stderr}`);
    });
    const answer = JSON.parse(
      await withDeadline(Promise.race([line, gone]), `${this.name} ${operation} ${args}`),
    );
    if (answer.thrown) throw Object.assign(new Error(answer.thrown.message), answer.thrown);
    return answer.value;
  }

  /** Calls a method of one of its objects. */
  // deno-lint-ignore no-explicit-any
  call(object: string, method: string, ...args: unknown[]): Promise<any> {
    return this.request("call", object, method, ...args);
  }

  /** Runs TypeScript's erased subset in a JavaScript agent: the body of an async function. */
  // deno-lint-ignore no-explicit-any
  run(source: string): Promise<any> {
    return this.request("run", source);
  }

  /** Lets the program end normally, and waits for that. */
  async end(): Promise<number | string> {
    this.child.stdin!.write('["end"]\n');
    this.child.stdin!.end();
    return await withDeadline(this.ended, `the end of ${this.name}`);
  }

  async kill(): Promise<void> {
    this.#isKilled = true;
    // Not child.kill(): Deno's closes the pipes first, and Qt may still end normally.
    try {
      process.kill(this.child.pid!, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await withDeadline(this.ended, `the death of ${this.name}`);
  }
}

/** An agent in a runtime: with the only permission Deno needs. */
export function startAgent(
  runtime: Runtime,
  env?: NodeJS.ProcessEnv,
  flags: readonly string[] = [],
): Agent {
  const args = [...runtime.args, ...flags, fixtures + "agent.ts"];
  return new Agent(runtime.name, runtime.command, args, env);
}

/** `count` agents of all runtimes in turn. */
export function startMany(count = runtimes.length, env?: NodeJS.ProcessEnv): Agent[] {
  return Array.from({ length: count }, (_, i) => startAgent(runtimes[i % runtimes.length]!, env));
}

/** Lets all of them end normally. */
export async function endAll(agents: readonly Agent[]): Promise<void> {
  const codes = await Promise.all(agents.map((agent) => agent.end()));
  assert.deepEqual(codes, agents.map(() => 0), agents.map(({ stderr }) => stderr).join("\n"));
}

/** An agent that a command starts (`unshare --ipc`, …), or that another user is. */
export function startAgentThrough(
  runtime: Runtime,
  command: readonly string[],
  env?: NodeJS.ProcessEnv,
  user?: { uid: number; gid: number },
): Agent {
  const [first, ...rest] = [...command, runtime.command, ...runtime.args, fixtures + "agent.ts"];
  return new Agent(runtime.name, first!, rest, env, user);
}

/** An agent that is real Qt. */
export function startQt(version: 5 | 6, env?: NodeJS.ProcessEnv): Agent {
  const utf8 = { PYTHONUTF8: "1", ...env }; // for the lines, whatever the locale is
  return new Agent(`Qt ${version}`, python, [fixtures + "agent.py", String(version)], utf8);
}

/** Returns the result of a promise; throws an error that says what has not happened within `ms`. */
export function withDeadline<T>(promise: Promise<T>, what: string, ms = DEADLINE_MS): Promise<T> {
  return promiseWithDeadline(promise, what, ms);
}

/** Waits until `condition` holds, for what cannot announce itself. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!await condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    await delay(5);
  }
}

/** Stops a process by SIGSTOP, and waits until it is stopped: the signal may take effect a little later. */
export async function stop(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  await until(() => describeProcess(pid).state === "stopped", `process ${pid} is stopped`);
}

const [GETVAL, GETNCNT] = isDarwin ? [5, 3] : [12, 14];
const IPC_RMID = 0;
let libc: Libc | undefined;

/** The C library, for tests that look behind the scenes. */
export function systemLibrary(): Libc {
  return libc ??= new Libc(selectFfi(), process.arch, process.platform);
}

/** What `ftok(path, 'Q')` returns; it fails as that does if there is no such file. */
export function ftok(path: string): number {
  const status = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (status === undefined) return -1;
  const { dev, ino } = status;
  return Number(BigInt.asIntN(32, 0x51n << 24n | (dev & 0xffn) << 16n | ino & 0xffffn));
}

function semctl(key: string, command: number): number {
  const { c } = systemLibrary();
  return c.semctl(c.semget(ftok(semaphoreFile(key)), 0, 0), 0, command, 0n);
}

/** The value of the semaphore of a key, or -1 if there is none. */
export function semaphoreValue(key: string): number {
  return isWindows ? keyValue(key) : semctl(key, GETVAL);
}

/** Waits until `count` processes or threads are blocked on the semaphore of a key. */
export async function untilBlocked(key: string, count = 1): Promise<void> {
  if (isWindows || isDarwin) return await delay(100); // these systems poll, or do not tell
  await until(() => waitingFor(key) === count, `${count} waiting for ${key}`);
}

/** How many processes or threads are blocked on the semaphore of a key; 0 where the system does not tell. */
export function waitingFor(key: string): number {
  return isWindows || isDarwin ? 0 : semctl(key, GETNCNT);
}

/**
 * What there is of System V and POSIX objects and of Qt's key files; on Windows, of named objects. Where other programs
 * can have some too, only those with names of this run, and the System V objects that such key files lead to.
 */
export function ipcObjects(): string[] {
  if (isWindows) {
    const isOwn = (name: string) =>
      name.includes(` ${process.pid} `) ||
      hashes.has(/([0-9a-f]{40})(_[a-z]+)?$/.exec(name)?.[1] ?? "");
    return objectNames().filter(isOwn);
  }
  const keyFiles = namesIn(keyFolder, /^qipc_/);
  const ids = (["shm", "sem"] as const).flatMap((table) => {
    // Of a segment's key file no semaphore has the key, and the other way round.
    const otherKind = table === "shm" ? "qipc_systemsem_" : "qipc_sharedmemory_";
    const ofTable = keyFiles.filter((name) => !name.startsWith(otherKind));
    const numbers = new Set(ofTable.map((name) => withoutProject(ftok(keyFolder + name))));
    return systemVRows(table)
      .filter(({ key }) => isIsolated || numbers.has(withoutProject(Number(key))))
      .map((row) => `${table} ${row[`${table}id`]}`);
  });
  const files = keyFiles.filter((name) => !name.startsWith(chosenFile));
  return [...ids, ...files, ...posixObjects()];
}

/** What a System V key has of its file, whatever the project id is. */
function withoutProject(key: number): number {
  return key & 0xffffff;
}

/** A row of `/proc/sysvipc/shm` or `sem`: the text of each column under its heading. */
export type Row = Readonly<Record<string, string>>;

/** The segments or semaphore sets of the system. */
export function systemVRows(table: "shm" | "sem"): Row[] {
  if (isDarwin) return ipcsRows(table);
  const [heading, ...lines] = readFileSync(`/proc/sysvipc/${table}`, "utf8").trim().split("\n")
    .map((line) => line.trim().split(/\s+/));
  return lines.map((line) =>
    Object.fromEntries(heading!.map((name, column) => [name, line[column]!]))
  );
}

/** Names in a folder, as far as they are of this run where others have some there too. */
function namesIn(folder: string, pattern: RegExp): string[] {
  const isOwn = (name: string) => isIsolated || name.includes(runTag);
  return readdirSync(folder).filter((name) => pattern.test(name) && isOwn(name));
}

/**
 * What the names of key files begin with that the tests have chosen. Such a file goes with the object that made it, and
 * stays if that is not the last one.
 */
const chosenFile = "qipc_chosen ";

function removeChosenFiles(): void {
  if (isWindows) return;
  for (const name of readdirSync(keyFolder)) {
    const isOwn = name.startsWith(`${chosenFile}${runTag} ${process.pid} `);
    if (isOwn) rmSync(keyFolder + name, { force: true });
  }
}

const posixFolder = "/dev/shm";

/** What there is of POSIX objects with Qt's names, or names of the tests' choice that begin like these. */
function posixObjects(): string[] {
  if (isDarwin || !existsSync(posixFolder)) return [];
  return namesIn(posixFolder, /^(sem\.)?qipc_/).map((name) => `${posixFolder}/${name}`);
}

/** Returns the objects that were not there `before`. Those that were may belong to a process that is just ending. */
export function ipcObjectsSince(before: readonly string[]): string[] {
  return ipcObjects().filter((object) => !before.includes(object));
}

/** Removes an object of the list that a test has left: tests that count all objects would fail after it too. */
function removeLeft(object: string): void {
  const [, table, id] = /^(shm|sem) (\d+)$/.exec(object) ?? [];
  const { c } = systemLibrary();
  if (table === "shm") c.shmctl(Number(id), IPC_RMID, new Uint8Array(112));
  else if (table === "sem") c.semctl(Number(id), 0, IPC_RMID, 0n);
  else rmSync(object.startsWith("/") ? object : keyFolder + object, { force: true });
}

/** Calls `hook` after each test. Deno ignores what such a hook throws, so that is thrown again at the end of the suite. */
export function afterEachTest(hook: () => Promise<void>): void {
  let problem: unknown = null;
  afterEach(async () => {
    try {
      await hook();
    } catch (error) {
      problem = error;
      throw error;
    }
  });
  after(() => {
    if (problem !== null) throw problem;
  });
}

/** After each test of the file: no process runs on, and nothing is left that was not there before. */
export function leaveNothingBehind(): void {
  let before: string[] = [];
  beforeEach(() => {
    before = ipcObjects();
  });
  after(() => {
    for (const agent of running) agent.child.kill("SIGKILL");
  });
  afterEachTest(async () => {
    for (const agent of running) await agent.kill();
    // An object may still be on its way out: the kernel detaches a little after a process's end.
    const left = () => ipcObjectsSince(before);
    const deadline = Date.now() + 5000;
    while (left().length > 0 && Date.now() < deadline) await delay(10);
    const late = left();
    if (!isWindows) { for (const object of late) removeLeft(object); }
    removeChosenFiles();
    if (late.length > 0) throw new Error(`left behind: ${late.join(", ")}`);
  });
}

/** Asserts that an operation failed and that its error says which one, for which key, and why. */
export function assertFailed(
  memory: SharedMemory,
  operation: "create" | "attach" | "detach" | "lock" | "unlock",
  result: boolean,
  code: keyof typeof SharedMemoryError,
  ...texts: string[]
): void {
  assert.equal(result, false);
  assert.equal(memory.error(), SharedMemoryError[code], memory.errorString());
  const key = memory.key() ?? memory.nativeKey();
  const shown = key === null ? "no key" : JSON.stringify(key);
  for (const text of [`SharedMemory.${operation} (${shown}): `, ...texts]) {
    assert.ok(memory.errorString().includes(text), `${memory.errorString()} says: ${text}`);
  }
}

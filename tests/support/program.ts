/** Programs that are started as people start them, in a folder for key files of their own. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, beforeEach } from "node:test";
import { fileURLToPath } from "node:url";
import type { Runtime } from "../../scripts/runtimes.ts";
import { afterEachTest, ownRuntime, runtimes, until, withDeadline } from "./support.ts";

const examples = fileURLToPath(new URL("../../examples/", import.meta.url));
const running = new Set<Program>();

/** The key files of the programs: their keys are always the same, and so are theirs alone. */
let folder = "";

/** The installed runtimes' folders come first, so that programs find them by their names. */
function environment(more: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const folders = runtimes.map(({ command }) => path.dirname(command)).filter((name) =>
    name !== "."
  );
  const PATH = [...folders, process.env["PATH"]].join(path.delimiter);
  return { ...process.env, PATH, NO_COLOR: "1", TMPDIR: folder, ...more };
}

export class Program {
  readonly name: string;
  readonly child: ChildProcess;
  /** The exit code or the signal's name. */
  readonly ended: Promise<number | string>;
  readonly lines: string[] = [];
  stderr = "";
  #hasEnded = false;

  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    this.name = [path.basename(command), ...args].join(" ").replaceAll(examples, "");
    this.child = spawn(command, args, { env: environment(env) });
    this.child.stderr!.on("data", (data) => this.stderr += data);
    this.child.stdin!.on("error", () => {});
    const output = createInterface({ input: this.child.stdout! });
    output.on("line", (line) => this.lines.push(line));
    this.ended = new Promise((resolve, reject) => {
      this.child.on("error", reject);
      this.child.on("close", (code, signal) => {
        running.delete(this);
        this.#hasEnded = true;
        resolve(signal ?? code!);
      });
    });
    this.ended.catch(() => {});
    running.add(this);
  }

  get pid(): number {
    return this.child.pid!;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Waits for a line that matches. */
  async line(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    let match: RegExpExecArray | null | undefined;
    await until(() => {
      match = this.lines.slice(from).map((line) => pattern.exec(line)).find((found) => found);
      if (!match && this.#hasEnded) {
        throw new Error(`${this.name} ended without ${pattern}: ${this.lines}\n${this.stderr}`);
      }
      return Boolean(match);
    }, `${pattern} from ${this.name}: ${this.lines}`);
    return match!;
  }

  /** Waits for its end, which must be a good one, and returns all that it printed. */
  async output(): Promise<string[]> {
    const how = await withDeadline(this.ended, `the end of ${this.name}`);
    assert.deepEqual([how, this.stderr], [0, ""], this.name);
    return this.lines;
  }

  kill(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal);
  }
}

/** An example in a runtime, with no other permission in Deno than its comment says. */
export function startExample(
  name: string,
  args: readonly string[] = [],
  runtime: Runtime = ownRuntime,
  permissions: readonly string[] = [],
  env?: NodeJS.ProcessEnv,
): Program {
  const granted = runtime.name === "deno" ? permissions : [];
  return new Program(
    runtime.command,
    [...runtime.args, ...granted, examples + name, ...args],
    env,
  );
}

/** An example that another command starts, as `unshare --ipc`, which must become it. */
export function startExampleThrough(
  command: readonly string[],
  name: string,
  args: readonly string[],
  runtime: Runtime,
  permissions: readonly string[],
  env: NodeJS.ProcessEnv,
): Program {
  const granted = runtime.name === "deno" ? permissions : [];
  const [first, ...rest] = command;
  const own = [runtime.command, ...runtime.args, ...granted, examples + name, ...args];
  return new Program(first!, [...rest, ...own], env);
}

/** The part of an example that is a Python program. */
export function startPythonExample(name: string, args: readonly string[] = []): Program {
  return new Program("/usr/bin/python3", [examples + name, ...args], { PYTHONUTF8: "1" });
}

/** Whether a process exists. */
export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** What the programs have left in their folder; their segments are in the table of leaveNothingBehind(). */
export function keyFiles(): string[] {
  return readdirSync(folder).filter((name) => name.startsWith("qipc_"));
}

/** For each test a folder of key files, at the end without programs and key files. */
export function inOwnFolder(): void {
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "shared-memory-examples-"));
  });
  after(() => {
    for (const program of running) program.child.kill("SIGKILL");
  });
  afterEachTest(async () => {
    const late = [...running];
    for (const program of late) program.kill("SIGKILL");
    for (const program of late) await program.ended;
    const left = keyFiles();
    rmSync(folder, { recursive: true, force: true });
    assert.deepEqual([late.map(({ name }) => name), left], [[], []], "left running, left behind");
  });
}

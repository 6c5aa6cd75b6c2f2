/** A process of this package in one of the runtimes, which does what it is asked for. */
import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { createInterface, type Interface } from "node:readline";
import type { CleanupOptions, CleanupResult, Inventory } from "../../inspect.ts";
import { root, run } from "../platforms/common.ts";
import type { Runtime } from "../runtimes.ts";
import { withDeadline } from "../deadline.ts";

export class Peer {
  readonly name: string;
  readonly #runtime: Runtime;
  readonly #env: NodeJS.ProcessEnv;
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #ended: Promise<string>;

  /** Starts it; `temporary` is the folder of the key files. */
  constructor(runtime: Runtime, temporary: string) {
    this.name = runtime.name;
    this.#runtime = runtime;
    this.#env = { ...process.env, TMPDIR: temporary };
    const agent = path.join(root, "tests/fixtures/agent.ts");
    this.#child = spawn(runtime.command, [...runtime.args, agent], {
      env: this.#env,
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child.stdin!.on("error", () => {}); // it has ended, which the request says
    this.#lines = createInterface({ input: this.#child.stdout! });
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", ({ message }) => resolve(message));
      this.#child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Sends a request to the agent, and returns its answer. */
  async ask(operation: string, ...args: readonly unknown[]): Promise<unknown> {
    const what = `${this.name}, ${operation}(${args.join(", ").slice(0, 60)})`;
    const line = new Promise<string>((resolve) => this.#lines.once("line", resolve));
    const gone = this.#ended.then((how) => {
      throw new Error(`${what}: it has ended: ${how}`);
    });
    this.#child.stdin!.write(`${JSON.stringify([operation, ...args])}\n`);
    const { value, thrown } = JSON.parse(
      await withDeadline(Promise.race([line, gone]), what, 60_000),
    );
    if (thrown) throw new Error(`${what}: ${thrown.name}: ${thrown.message}`);
    return value;
  }

  /** Calls a method of its segment, which must return true. */
  async must(method: string, ...args: readonly unknown[]): Promise<void> {
    if (await this.ask("call", "memory", method, ...args) === true) return;
    const text = await this.ask("call", "memory", "errorString");
    throw new Error(`${this.name}, ${method}(): ${text || "it returned false"}`);
  }

  async read(length: number): Promise<Uint8Array> {
    return Uint8Array.from(await this.ask("read", "memory", 0, length) as number[]);
  }

  async inspect(): Promise<Inventory> {
    return await this.ask("inspect") as Inventory;
  }

  /** What the command `list` prints in this runtime. */
  list(): string {
    const { command, args } = this.#runtime;
    return run(command, [...args, path.join(root, "cli.ts"), "list"], { env: this.#env });
  }

  async cleanup(options: CleanupOptions = {}): Promise<CleanupResult> {
    return await this.ask("cleanup", options) as CleanupResult;
  }

  async end(): Promise<void> {
    this.#child.stdin!.end('["end"]\n');
    const how = await withDeadline(this.#ended, `the end of ${this.name}`, 60_000);
    if (how !== "exit code 0") throw new Error(`${this.name} ended: ${how}`);
  }
}

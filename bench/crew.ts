/** Processes that do one job together, each told what to do by lines on its standard input. */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Latencies, Result } from "./commands.ts";

const deadlineMs = 30_000;

/** A program, and how it is told its part. */
export interface Program {
  command: string;
  /** Whoever is `index` of `count`, and for a server, which those who come later need, -1. */
  args(index: number, count: number): string[];
  /** What else is in its environment. */
  env?: Record<string, string>;
}

class Member {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #closed: Promise<string>;

  constructor({ command, args, env }: Program, index: number, count: number) {
    this.#child = spawn(command, args(index, count), {
      env: { ...process.env, NO_COLOR: "1", NODE_NO_WARNINGS: "1", ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    let stderr = "";
    this.#child.stderr!.on("data", (data) => stderr += data);
    this.#child.stdin!.on("error", () => {}); // it has ended, and the answer is missing
    this.#closed = new Promise((resolve) => {
      this.#child.on("error", (error) => resolve(error.message));
      this.#child.on(
        "close",
        (code, signal) =>
          resolve(code === 0 ? "" : `${signal ?? `exit code ${code}`}: ${stderr.trim()}`),
      );
    });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  async answer(): Promise<string> {
    const timer = setTimeout(() => void this.kill(), deadlineMs);
    try {
      const { value, done } = await this.#lines.next();
      if (!done) return value;
      throw new Error(`a process ended: ${await this.#closed || "without an answer"}`);
    } finally {
      clearTimeout(timer);
    }
  }

  async ask(command: string): Promise<string> {
    this.#child.stdin!.write(`${command}\n`);
    return await this.answer();
  }

  async end(): Promise<void> {
    const timer = setTimeout(() => void this.kill(), deadlineMs);
    this.#child.stdin!.end();
    const problem = await this.#closed;
    clearTimeout(timer);
    if (problem !== "") throw new Error(`a process ended: ${problem}`);
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) stream.destroy(); // its children have them too
    await this.#closed;
  }
}

/** What several results mean together: the time between two of all, or that of one of each. */
export type Combine = "rate" | "mean";

function combined(results: Result[], combine: Combine): number {
  const perOp = results.map((result) => result.perOp);
  if (results.length === 1) return perOp[0]!;
  if (combine === "mean") return perOp.reduce((sum, ns) => sum + ns) / results.length;
  return 1 / results.reduce((sum, { ops, ns }) => sum + ops / ns, 0);
}

export class Crew {
  readonly #members: Member[] = [];
  readonly #combine: Combine;
  #ops = 0;

  private constructor(combine: Combine) {
    this.#combine = combine;
  }

  /** Starts them, the first one before the others. */
  static async start(
    program: Program,
    count: number,
    combine: Combine,
    hasServer = false,
  ): Promise<Crew> {
    const crew = new Crew(combine);
    try {
      const join = async (index: number) => {
        const member = new Member(program, index, count);
        crew.#members.push(member);
        const first = await member.answer();
        if (first !== "ready") throw new Error(`ready was expected, not ${first}`);
      };
      const begin = hasServer ? -1 : 0;
      await join(begin);
      await Promise.all(Array.from({ length: count - 1 - begin }, (_, i) => join(begin + 1 + i)));
      return crew;
    } catch (error) {
      await crew.kill();
      throw error;
    }
  }

  /** The ns of one operation, in a run of `ms`. */
  async run(command: "check" | "run", ms: number): Promise<number> {
    const answers = await Promise.all(
      this.#members.map((member) => member.ask(`${command} ${ms}`)),
    );
    const results = answers.map((answer) => JSON.parse(answer) as Result)
      .filter(({ ops }) => ops !== undefined);
    this.#ops += results.reduce((sum, { ops }) => sum + ops, 0);
    const ns = combined(results, this.#combine);
    if (!(ns > 0)) throw new Error(`an operation took ${ns} ns`);
    return ns;
  }

  /** The ns of single operations of all of them, in a run of `ms`. */
  async latencies(ms: number): Promise<number[]> {
    const answers = await Promise.all(
      this.#members.map((member) => member.ask(`latencies ${ms}`)),
    );
    const results = answers.map((answer) => JSON.parse(answer) as Latencies);
    this.#ops += results.reduce((sum, { ops }) => sum + ops, 0);
    return results.flatMap(({ times }) => times);
  }

  /** What they keep takes in memory or on disk, if they tell. */
  async bytes(): Promise<number | undefined> {
    return (JSON.parse(await this.#members[0]!.ask("bytes")) as { bytes?: number }).bytes;
  }

  /** Throws if they have not counted as often as they say. */
  async checkTotal(): Promise<void> {
    const { total } = JSON.parse(await this.#members[0]!.ask("total"));
    if (total === this.#ops) return;
    throw new Error(`the sum is ${total} after ${this.#ops} increments`);
  }

  async end(): Promise<void> {
    // The first one last: it has made what the others use.
    for (const member of this.#members.toReversed()) await member.end();
  }

  /** And waits until they are gone. */
  async kill(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.kill()));
  }
}

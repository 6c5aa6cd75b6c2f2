import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { SharedMemory } from "../../mod.ts";
import type { Random } from "../random.ts";
import type { Runtime } from "../runtimes.ts";
import { jobs } from "./jobs.ts";
import { slotWord, STOPPING, Word } from "./layout.ts";

/** For a call, and for a start, on a busy machine. */
const HANG_MS = 30_000;
const START_MS = 60_000;
const SLOT_WORDS_KEPT = Object.values(Word);

/** What the workers of a runtime have done that have ended. */
export interface Tally {
  started: number;
  killed: number;
  operations: number;
  increments: number;
  refused: number;
  errors: number;
}

/** A place for a worker, who is replaced when it has been killed. */
export interface Post {
  readonly runtime: Runtime;
  readonly slot: number;
  /** The folder of the key files that it shares with Qt, if it does only that. */
  readonly folder: string | null;
  readonly tally: Tally;
  child: ChildProcess;
  startedAt: number;
  isDoomed: boolean;
  isStopped: boolean;
  hasEnded: boolean;
  ended: Promise<void>;
}

export class Crew {
  readonly posts: readonly Post[];
  readonly problems: string[] = [];
  /** All processes that there were, and those that were killed on purpose. */
  readonly pids = new Set<number>();
  readonly killed = new Set<number>();
  readonly #control: Float64Array;
  readonly #base: string;
  readonly #controlPath: string;
  readonly #random: Random;
  /** Says what may explain a hang. */
  readonly #describe: () => string;

  constructor(
    runtimes: readonly Runtime[],
    each: number,
    qtFolder: string | null,
    memory: SharedMemory,
    base: string,
    random: Random,
    describe: () => string,
  ) {
    this.#describe = describe;
    this.#control = memory.view(Float64Array);
    this.#controlPath = memory.nativeKey()!;
    this.#base = base;
    this.#random = random;
    const folders = [...Array<null>(each).fill(null), ...qtFolder === null ? [] : [qtFolder]];
    this.posts = runtimes.flatMap((runtime) => folders.map((folder) => ({ runtime, folder })))
      .map(({ runtime, folder }, slot) => this.#post(runtime, slot, folder));
  }

  #post(runtime: Runtime, slot: number, folder: string | null): Post {
    const tally = { started: 0, killed: 0, operations: 0, increments: 0, refused: 0, errors: 0 };
    const post = { runtime, slot, folder, tally } as Post;
    this.#start(post);
    return post;
  }

  #start(post: Post): void {
    const { runtime, slot, folder, tally } = post;
    for (const word of SLOT_WORDS_KEPT) this.#control[slotWord(slot, word)] = 0;
    const script = fileURLToPath(new URL("worker.ts", import.meta.url));
    const seed = `${this.#random.below(2 ** 31)}`;
    const task = [this.#base, this.#controlPath, `${slot}`, seed, ...folder ? ["qt"] : []];
    const env = folder === null ? process.env : { ...process.env, TMPDIR: folder };
    // A process group of its own: Ctrl-C is for us, who stop the workers in good order.
    const child = spawn(runtime.command, [...runtime.args, script, ...task], {
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
      env,
    });
    tally.started++;
    if (child.pid !== undefined) this.pids.add(child.pid);
    let stderr = "";
    child.stderr!.setEncoding("utf8").on("data", (text: string) => stderr += text);
    const { promise, resolve } = Promise.withResolvers<void>();
    Object.assign(post, { child, startedAt: Date.now(), ended: promise });
    Object.assign(post, { isDoomed: false, isStopped: false, hasEnded: false });
    child.on("error", (error) => stderr += error.message);
    child.on("close", (code, signal) => {
      this.#harvest(post);
      const isRight = post.isDoomed ? signal === "SIGKILL" || code === 0 : code === 0;
      if (!isRight) {
        this.#fail(post, `ended (${signal ?? code}) ${this.#doing(post)}: ${stderr.trim()}`);
      }
      if (this.#control[STOPPING] === 0) this.#start(post);
      else post.hasEnded = true;
      resolve();
    });
  }

  #word(post: Post, word: number): number {
    return this.#control[slotWord(post.slot, word)]!;
  }

  #doing(post: Post): string {
    const job = jobs[this.#word(post, Word.Job)]!.name;
    return this.isReady(post) ? `in ${job}` : "before it was ready";
  }

  #fail(post: Post, problem: string): void {
    post.tally.errors++;
    this.problems.push(`${post.runtime.name} ${post.child.pid} ${problem}`);
  }

  #harvest(post: Post): void {
    post.tally.operations += this.#word(post, Word.Operations);
    post.tally.increments += this.#word(post, Word.Increments);
    post.tally.refused += this.#word(post, Word.Refused);
    if (post.isDoomed) post.tally.killed++;
    for (const word of [Word.Operations, Word.Increments, Word.Refused]) {
      this.#control[slotWord(post.slot, word)] = 0;
    }
  }

  /** With what those have done who are still at it. */
  tallyOf(post: Post): Tally {
    const { operations, increments, refused, ...rest } = post.tally;
    return {
      ...rest,
      operations: operations + this.#word(post, Word.Operations),
      increments: increments + this.#word(post, Word.Increments),
      refused: refused + this.#word(post, Word.Refused),
    };
  }

  isReady(post: Post): boolean {
    return this.#word(post, Word.Pid) === post.child.pid;
  }

  signal(post: Post, signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void {
    const { pid } = post.child;
    if (pid === undefined || post.child.exitCode !== null || post.child.signalCode !== null) return;
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended by itself.
    }
  }

  kill(post: Post): void {
    if (post.isDoomed) return;
    post.isDoomed = true;
    this.killed.add(post.child.pid!);
    this.#control[slotWord(post.slot, Word.IsDoomed)] = 1; // before the signal
    this.signal(post, "SIGKILL");
  }

  /** Finds calls that last too long, and ends them. */
  watch(): void {
    for (const post of this.posts) {
      if (post.hasEnded || post.isDoomed || post.isStopped) continue;
      const isReady = this.isReady(post);
      const since = isReady ? this.#word(post, Word.Since) : post.startedAt;
      const ms = Date.now() - since;
      if (ms < (isReady ? HANG_MS : START_MS)) continue;
      this.#fail(
        post,
        `hung for ${Math.round(ms / 1000)} s ${this.#doing(post)}${this.#describe()}`,
      );
      this.kill(post);
    }
  }

  /** Resolves when all have ended, of themselves or by {@linkcode Crew.watch}. */
  async stop(): Promise<void> {
    this.#control[STOPPING] = 1;
    const watch = setInterval(() => this.watch(), 200);
    while (this.posts.some(({ hasEnded }) => !hasEnded)) {
      await Promise.all(this.posts.map(({ ended }) => ended));
    }
    clearInterval(watch);
  }
}

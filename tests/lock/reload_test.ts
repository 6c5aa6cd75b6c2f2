/** The program of docs/guide.md of which only one runs, under the commands that start it again on each save. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { after, afterEach, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { blocksOfPage, runnable } from "../support/pages.ts";
import {
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  until,
  withDeadline,
} from "../support/support.ts";

const module = JSON.stringify(new URL("../../mod.ts", import.meta.url).href);

/** The commands of this runtime; deno with the configuration of nobody. */
const COMMANDS: Readonly<Record<string, readonly string[][]>> = {
  deno: [
    ["run", "--allow-ffi", "--no-config", "--watch"],
    ["run", "--allow-ffi", "--no-config", "--watch-hmr"],
  ],
  bun: [["--hot"], ["--watch"]],
  node: [["--disable-warning=ExperimentalWarning", "--watch"]],
};

/** After how many ms a save that has no effect is made again: the tool did not watch yet, for example because it was stopped. */
const MISSED_MS = 5000;

let folder: string;
let source: string;

class Watched {
  readonly child: ChildProcess;
  readonly file: string;
  readonly ended: Promise<unknown>;
  text = "";
  #generation = 1;
  readonly #source: string;

  constructor(command: readonly string[], source: string, TMPDIR: string, name = "program") {
    this.file = `${TMPDIR}/${name}.ts`;
    this.#source = source;
    this.#write();
    this.child = spawn(ownRuntime.command, [...command, this.file], {
      env: { ...process.env, TMPDIR, NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on("data", (data) => this.text += data);
    }
    this.ended = new Promise((resolve) => this.child.on("close", resolve));
    running.add(this);
  }

  #write(): void {
    writeFileSync(this.file, `console.log("generation ${this.#generation}");\n${this.#source}`);
  }

  /** What it has printed since this generation began, once `pattern` is in it. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    let found: RegExpExecArray | null = null;
    let saved = Date.now();
    await until(() => {
      const generation = `generation ${this.#generation}\n`;
      const said = this.text.split(generation).slice(1).at(-1);
      if (said === undefined && this.#generation > 1 && Date.now() - saved > MISSED_MS) {
        this.#write();
        saved = Date.now();
      }
      found = pattern.exec(said ?? "");
      return found !== null;
    }, `generation ${this.#generation} says ${pattern}`).catch((error) => {
      throw new Error(`${error.message}: ${this.text}`);
    });
    return found!;
  }

  /** Saves another version of the program. */
  save(): void {
    this.#generation++;
    this.#write();
  }

  async end(): Promise<void> {
    running.delete(this);
    this.child.kill(); // by a signal that node --watch tells its process
    await withDeadline(this.ended, "the end of the program");
  }
}

const running = new Set<Watched>();

describe(`a save under a command of ${ownRuntime.name}`, { ...linuxOnly, ...slow }, () => {
  leaveNothingBehind();

  before(() => {
    folder = mkdtempSync(`${keyFolder}reload-`);
    const block = blocksOfPage("docs/guide.md").find(({ file }) => file === "only_one.ts")!;
    source = runnable(block.text);
  });
  afterEach(async () => {
    for (const program of running) await program.end();
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const command of COMMANDS[ownRuntime.name]!) {
    const name = [ownRuntime.name, ...command.filter((word) => /^--(watch|hot)/.test(word))];
    test(`lets the next generation be the only one: ${name.join(" ")}`, slow, async () => {
      const TMPDIR = mkdtempSync(`${folder}/keys-`);
      const program = new Watched(command, source, TMPDIR);
      await program.says(/is the only one/);
      for (let save = 0; save < 3; save++) {
        await delayForWatcher();
        program.save();
        await program.says(/is the only one/);
      }
      const [, pid] = await program.says(/process (\d+) is the only one/);
      const other = new Watched(ownRuntime.args, source, TMPDIR, "other");
      const [, runs] = await other.says(/process (\d+) runs already/);
      assert.equal(runs, pid);
      await other.end();
      await program.end();
      await cleanup(TMPDIR);
    });
  }

  const isBun = { skip: ownRuntime.name === "bun" ? false : "is about Bun" };
  test(
    "adds no exit listener and refuses a deadlock: bun --hot",
    { ...slow, ...isBun },
    async () => {
      const TMPDIR = mkdtempSync(`${folder}/keys-`);
      const program = new Watched(
        ["--hot"],
        `import process from "node:process";
      import { SharedMemory } from ${module};
      const memory = SharedMemory.open("hot", { size: 8 });
      const isLocked = globalThis.isLocked = memory.lock();
      setInterval(() => memory.isAttached(), 1000);
      console.log(isLocked, process.listenerCount("exit"), memory.errorString(), "said");`,
        TMPDIR,
      );
      await program.says(/^true 1 .*said/m);
      for (let save = 0; save < 2; save++) {
        await delayForWatcher();
        program.save();
        await program.says(/^false 1 .*another object of this thread holds the lock.*said/m);
      }
      await program.end();
      await cleanup(TMPDIR);
    },
  );

  test("leaves a lock to the next generation: bun --watch", { ...slow, ...isBun }, async () => {
    const TMPDIR = mkdtempSync(`${folder}/keys-`);
    const program = new Watched(
      ["--watch"],
      `import { SharedMemory } from ${module};
      const memory = SharedMemory.open("watch", { size: 8 });
      console.log(process.pid, memory.tryLock(100), memory.errorString());
      setInterval(() => memory.isAttached(), 100);`,
      TMPDIR,
    );
    const [, pid] = await program.says(/^(\d+) true/m);
    // The kernel notes whole seconds of when a lock was taken.
    for (let save = 0; save < 2; save++) {
      await new Promise((resolve) => setTimeout(resolve, 2100));
      program.save();
      const [, next] = await program.says(/^(\d+) true/m);
      assert.equal(next, pid);
    }
    await program.end();
    await cleanup(TMPDIR);
  });
});

/** The tools do not say when they have begun to watch the file: if it takes longer, `says` saves once more. */
function delayForWatcher(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 500));
}

/** Removes what a killed program has left. */
async function cleanup(TMPDIR: string): Promise<void> {
  const cli = fileURLToPath(new URL("../../cli.ts", import.meta.url));
  const child = spawn(ownRuntime.command, [...ownRuntime.args, cli, "cleanup"], {
    env: { ...process.env, TMPDIR },
    stdio: "ignore",
  });
  await withDeadline(new Promise((resolve) => child.on("close", resolve)), "cleanup");
}

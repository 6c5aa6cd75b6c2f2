/** The programs of docs/from_redis.md, from_pyqt.md and from_c.md, both sides of each, taken from the pages. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { blocksOfPage, runnable } from "../support/pages.ts";
import { needsRedis, RedisServer } from "../support/redis.ts";
import {
  isRequired,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  needsQt,
  ownRuntime,
  slow,
  until,
  withDeadline,
} from "../support/support.ts";

/** The options of the test that needs a C compiler. */
function withC() {
  if (linuxOnly.skip !== undefined) return linuxOnly;
  const isThere = spawnSync("cc", ["--version"]).status === 0;
  return isThere || isRequired("c") ? slow : { skip: "cc is not installed" };
}

const PAGES = ["docs/from_redis.md", "docs/from_pyqt.md", "docs/from_c.md"];
const blocks = PAGES.flatMap(blocksOfPage);
const name = `from_c_${process.pid}`;

let folder = "";
let TMPDIR = "";

/** A program of the pages in the folder: its lines, and its end. */
class Program {
  readonly lines: string[] = [];
  readonly #child: ReturnType<typeof spawn>;
  readonly #ended: Promise<number | string>;
  #stderr = "";

  constructor(command: string, ...args: string[]) {
    const env = {
      ...process.env,
      PATH: `${folder}/bin:${process.env["PATH"]}`,
      TMPDIR,
      NO_COLOR: "1",
    };
    this.#child = spawn(command, args, { cwd: folder, env });
    let rest = "";
    this.#child.stdout!.on("data", (data) => {
      const lines = `${rest}${data}`.split("\n");
      rest = lines.pop()!;
      this.lines.push(...lines);
    });
    this.#child.stderr!.on("data", (data) => this.#stderr += data);
    this.#ended = new Promise((resolve, reject) => {
      this.#child.on("error", reject);
      this.#child.on("close", (code, signal) => resolve(code ?? signal!));
    });
    this.#ended.catch(() => {});
  }

  async line(text: string): Promise<void> {
    await until(() => {
      assert.equal(this.#child.exitCode ?? 0, 0, this.#stderr);
      return this.lines.includes(text);
    }, `${text} from ${this.#child.spawnargs.join(" ")}`);
  }

  /** Waits for its end, which must be a good one; returns all that it has printed. */
  async output(): Promise<string[]> {
    const how = await withDeadline(this.#ended, this.#child.spawnargs.join(" "));
    assert.equal(how, 0, `${this.#child.spawnargs.join(" ")}: ${this.#stderr}`);
    return this.lines;
  }

  enter(): void {
    this.#child.stdin!.end("\n");
  }
}

const ours = (file: string) => new Program(ownRuntime.command, ...ownRuntime.args, file);

/** What the comments at the ends of a program's lines say that these print. */
function printed(file: string, pattern: RegExp): string[] {
  const { text } = blocks.find((block) => block.file === file)!;
  return [...text.matchAll(pattern)].map(([, comment]) => comment!);
}

describe("the pages for newcomers", linuxOnly, () => {
  leaveNothingBehind();

  before(() => {
    if (linuxOnly.skip !== undefined) return;
    folder = mkdtempSync(`${keyFolder}coming-from-`);
    TMPDIR = `${folder}/keys`;
    mkdirSync(TMPDIR);
    mkdirSync(`${folder}/bin`);
    for (const { file, text } of blocks) {
      if (file === "") continue;
      const program = runnable(text.replaceAll("/from_c", `/${name}`));
      writeFileSync(`${folder}/${file}`, program, { flag: "wx" });
      if (!program.includes("PyQt6")) continue;
      writeFileSync(`${folder}/qt5_${file}`, program.replaceAll("PyQt6", "PyQt5"));
    }
  });
  after(() => {
    if (folder !== "") rmSync(folder, { recursive: true });
  });

  test("say what the same commands print with a map and a queue", slow, async () => {
    const expected = printed("no_redis.ts", /^console\.log\(.*\); \/\/ (.*)$/gm);
    assert.equal(expected.length, 6);
    assert.deepEqual(await ours("no_redis.ts").output(), expected);
    assert.deepEqual(readdirSync(TMPDIR), []);
  });

  test("say what Redis prints", { ...slow, ...linuxOnly, ...needsRedis }, async () => {
    using server = await RedisServer.start();
    const { stdout } = spawnSync("which", ["redis-cli"], { encoding: "utf8" });
    const start = `#!/bin/sh\nexec ${stdout.trim()} -s ${server.path} "$@"\n`;
    writeFileSync(`${folder}/bin/redis-cli`, start, { mode: 0o700 });
    const expected = printed("redis.sh", /^redis-cli .* # (.*)$/gm);
    assert.equal(expected.length, 7);
    const lines = await new Program("sh", "redis.sh").output();
    assert.deepEqual(lines.map((line) => line || "(nil)"), expected);
  });

  for (const version of [5, 6] as const) {
    const options = { ...slow, ...needsQt(version), ...linuxOnly };
    test(`have two programs that PyQt${version} is one side of`, options, async () => {
      const file = version === 5 ? "qt5_sender.py" : "sender.py";
      const sender = new Program("/usr/bin/python3", file, "hello from Pÿ");
      await sender.line("press Enter to end");
      assert.deepEqual(await ours("receiver.ts").output(), ["hello from Pÿ"]);
      sender.enter();
      assert.deepEqual(await sender.output(), ["press Enter to end", "answer: 0.5"]);
      assert.deepEqual(readdirSync(TMPDIR), []);
    });
  }

  test("have two programs that C is one side of", withC(), async () => {
    const args = ["-Wall", "-Werror", "struct.c", "-o", "struct", "-pthread"];
    assert.deepEqual(await new Program("cc", ...args).output(), []);
    const first = ours("struct.ts");
    await first.line("waiting");
    assert.deepEqual(await new Program(`${folder}/struct`).output(), []);
    assert.deepEqual(await first.output(), ["waiting", "3 ticks, load 41"]);
  });
});

/** The programs of README.md and the first ones of docs/guide.md, as they are pasted, and what the pages say they print. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort } from "../../scripts/free_port.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import { blocksOfPage, runnable } from "../support/pages.ts";
import {
  isolatedOnly,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  withDeadline,
} from "../support/support.ts";

const cli = fileURLToPath(new URL("../../cli.ts", import.meta.url));
const options = { ...slow, ...linuxOnly };
const blocks = [...blocksOfPage("README.md"), ...blocksOfPage("docs/guide.md")];

let programs = "";
let TMPDIR = "";

type Child = ReturnType<typeof start>;

function start({ name, command, args }: Runtime, file: string, ...more: string[]) {
  const net = name === "deno" ? ["--allow-net"] : [];
  return spawn(command, [...args, ...net, path.resolve(programs, file), ...more], {
    env: { ...process.env, TMPDIR, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** All that it prints, when it has ended well. */
async function output(child: Child): Promise<string> {
  let text = "";
  child.stdout.on("data", (data) => text += data);
  const [code] = await withDeadline(once(child, "close"), child.spawnargs.join(" "));
  assert.equal(code, 0, text);
  return text;
}

async function firstLine(child: Child): Promise<string> {
  const line = once(createInterface({ input: child.stdout }), "line");
  return (await withDeadline(line, `the first line of ${child.spawnargs.join(" ")}`))[0];
}

/** The commands of a block that shows a terminal, each with the lines below it. */
function sessionOf(command: string): { command: string; lines: string[] }[] {
  const block = blocks.find(({ text }) => text.startsWith(`$ ${command}`));
  assert.ok(block, `no block shows ${command}`);
  return block.text.trimEnd().split(/^\$ /m).slice(1).map((part) => {
    const [command, ...lines] = part.trimEnd().split("\n");
    return { command: command!, lines };
  });
}

/** What stands in the block that shows the output of a command, without the commands. */
const shown = (command: string) => sessionOf(command).flatMap(({ lines }) => lines);

/** Does what the page types into its terminal, with ports that are free and the processes that there are. */
class Terminal {
  readonly #children: Child[] = [];
  /** The ports and pids, by those that the page shows. */
  readonly #numbers = new Map<string, number>();

  /** Returns what is printed, with the page's numbers. */
  async run(command: string): Promise<string[]> {
    const [, ports] = /^for port in ([\d ]+); do \w+ cache\.ts \$port & done$/.exec(command) ?? [];
    if (ports !== undefined) return await this.#startAll(ports.split(" "));
    const [name, ...args] = command.split(" ");
    if (name === "curl") return [await this.#get(args[0]!)];
    if (name === "kill") return await this.#kill(args);
    const [, subcommand] = /^bunx shared-memory (.+)$/.exec(command) ?? [];
    assert.ok(subcommand, `an unknown command: ${command}`);
    const text = await output(start(ownRuntime, cli, ...subcommand.split(" ")));
    return text.trimEnd().replaceAll(TMPDIR, "/tmp").split("\n");
  }

  end(): void {
    for (const child of this.#children) child.kill("SIGKILL");
  }

  /** Starts one after the other, as processes that start at once print in any order. */
  async #startAll(ports: readonly string[]): Promise<string[]> {
    const lines: string[] = [];
    for (const [i, shownPort] of ports.entries()) {
      const port = await freePort();
      const child = start(ownRuntime, "cache.ts", `${port}`);
      this.#children.push(child);
      this.#numbers.set(shownPort, port).set(`${4711 + i}`, child.pid!);
      lines.push(this.#asShown(await firstLine(child)));
    }
    return lines;
  }

  async #get(address: string): Promise<string> {
    const url = address.replace(/:(\d+)/, (_, port) => `:${this.#numbers.get(port)}`);
    const response = await fetch(`http://${url}`, { headers: { connection: "close" } });
    return this.#asShown((await response.text()).trimEnd());
  }

  async #kill(args: string[]): Promise<string[]> {
    const isHard = args[0] === "-9";
    const children = args.slice(isHard ? 1 : 0).map((pid) =>
      this.#children.find((child) => child.pid === this.#numbers.get(pid))!
    );
    for (const child of children) {
      const ended = once(child, "close");
      // Not child.kill(): Deno then says that the signal has ended it, whatever it was ended by.
      process.kill(child.pid!, isHard ? "SIGKILL" : "SIGTERM");
      const [code, signal] = await withDeadline(ended, "the end of a process");
      assert.equal(signal ?? code, isHard ? "SIGKILL" : 0);
    }
    return [];
  }

  #asShown(line: string): string {
    for (const [shown, real] of this.#numbers) {
      line = line.replaceAll(new RegExp(`\\b${real}\\b`, "g"), shown);
    }
    return line;
  }
}

describe("what README.md and docs/guide.md show", options, () => {
  leaveNothingBehind();

  before(() => {
    programs = mkdtempSync(`${keyFolder}readme-`);
    for (const { file, text } of blocks) {
      if (file !== "") writeFileSync(`${programs}/${file}`, runnable(text), { flag: "wx" });
    }
  });
  after(() => rmSync(programs, { recursive: true }));
  beforeEach(() => TMPDIR = mkdtempSync(`${keyFolder}readme-keys-`));
  afterEach(() => rmSync(TMPDIR, { recursive: true }));

  test("a cache for four processes: what one has made outlives it, and the last one removes all", {
    ...options,
    ...isolatedOnly,
  }, async () => {
    const terminal = new Terminal();
    try {
      for (const { command, lines } of sessionOf("for port in")) {
        assert.deepEqual(await terminal.run(command), lines, command);
      }
    } finally {
      terminal.end();
    }
    assert.deepEqual(readdirSync(TMPDIR), []);
  });

  test("a program that counts, alone and beside others", options, async () => {
    assert.equal(await output(start(ownRuntime, "count.ts")), "100000n\n");
    assert.deepEqual(readdirSync(TMPDIR), []);
    const observer = startAgent(ownRuntime, { TMPDIR });
    await observer.request("memory", "m", "my counter");
    assert.equal(await observer.call("m", "create", 8), true);
    await Promise.all(runtimes.map((runtime) => output(start(runtime, "count.ts"))));
    const count = await observer.run("return Number(objects.m.view(BigInt64Array)[0]);");
    assert.equal(count, runtimes.length * 100_000);
    assert.equal(await observer.end(), 0);
  });

  for (const other of runtimes) {
    const title = `two processes, ping in ${ownRuntime.name} and pong in ${other.name}`;
    test(title, options, async () => {
      const ping = start(ownRuntime, "ping.ts");
      const text = output(ping);
      const first = await firstLine(ping);
      // What the system shows meanwhile, but for its numbers and names.
      const pid = String(ping.pid);
      const state = await output(start(ownRuntime, cli, "show", "table tennis"));
      const user = spawnSync("id", ["-un"], { encoding: "utf8" }).stdout.trim();
      const expected = shown("npx shared-memory show").map((line) =>
        line.replaceAll("/tmp/", `${TMPDIR}/`).replace(
          "ada (uid 1000)",
          `${user} (uid ${process.getuid!()})`,
        )
          .replace("17029", pid)
      );
      assert.deepEqual(state.trimEnd().split("\n").slice(1), expected.slice(1));
      const [, id] = /^segment (\d+)$/m.exec(state)!;
      const table = readFileSync("/proc/sysvipc/shm", "utf8").trim().split("\n")
        .map((row) => row.trim().split(/\s+/));
      const cell = (name: string) => table.find((row) => row[1] === id)![table[0]!.indexOf(name)];
      const [heading, row] = shown("ipcs -m").map((line) => line.split(/\s+/)) as [
        string[],
        string[],
      ];
      const value = (name: string) => row[heading.indexOf(name)];
      assert.deepEqual([cell("perms"), cell("size"), cell("nattch")], [
        ...[value("perms"), value("bytes"), value("nattch")],
      ]);

      const pong = await output(start(other, "pong.ts"));
      const lines = shown("node ping.ts");
      assert.deepEqual([first, pong, await text], [
        ...[lines[0], `${lines[1]}\n`, `${lines[0]}\n${lines[2]}\n`],
      ]);
      assert.deepEqual(readdirSync(TMPDIR), []);
    });
  }
});

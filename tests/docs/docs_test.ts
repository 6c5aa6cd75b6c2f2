/** The documentation: README's programs as they are pasted, the links, the reference, the map. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { anchorsOf, blocksOf, linksOf, markdownFiles, problemsOf } from "../../scripts/markdown.ts";
import type { Inventory } from "../../inspect.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import { sourceFiles } from "../../scripts/sources.ts";
import {
  crewOnly,
  DEADLINE_MS,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  withDeadline,
} from "../support/support.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const module = new URL("../../mod.ts", import.meta.url).href;
const collections = new URL("../../collections/mod.ts", import.meta.url).href;
const cli = path.join(root, "cli.ts");
const options = { ...slow, ...linuxOnly };

describe("what README.md shows", options, () => {
  leaveNothingBehind();
  let programs = "";
  let TMPDIR = "";
  const blocks = blocksOf(readFileSync(path.join(root, "README.md"), "utf8"));

  before(() => {
    programs = mkdtempSync(`${keyFolder}readme-`);
    for (const { file, text } of blocks) {
      const name = file || /^\/\/ (\w+\.ts)$/m.exec(text)?.[1];
      if (name === undefined) continue;
      const program = text.replaceAll(`"./mod.ts"`, JSON.stringify(module))
        .replaceAll(`"./collections/mod.ts"`, JSON.stringify(collections));
      writeFileSync(`${programs}/${name}`, program);
    }
  });
  after(() => rmSync(programs, { recursive: true }));
  beforeEach(() => TMPDIR = mkdtempSync(`${keyFolder}readme-keys-`));
  afterEach(() => rmSync(TMPDIR, { recursive: true }));

  const start = ({ command, args }: Runtime, file: string, ...more: string[]) =>
    spawn(command, [...args, path.resolve(programs, file), ...more], {
      env: { ...process.env, TMPDIR, NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "inherit"],
    });

  /** All that it prints, when it has ended well. */
  async function output(child: ReturnType<typeof start>): Promise<string> {
    let text = "";
    child.stdout.on("data", (data) => text += data);
    const [code] = await withDeadline(once(child, "close"), child.spawnargs.join(" "));
    assert.equal(code, 0, text);
    return text;
  }

  const bun = runtimes.find(({ name }) => name === "bun");
  const needsBun = bun ? crewOnly : { skip: "bun is not installed" };
  test("a cache: a page is made once for all servers, and outlives its maker", {
    ...options,
    ...needsBun,
  }, async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    const url = `http://127.0.0.1:${port}/`;
    /** The page, "" as long as no server listens. */
    const get = async () => {
      const response = await fetch(url, { headers: { connection: "close" } }).catch(() => null);
      return await response?.text() ?? "";
    };
    const eventually = async (isTrue: () => Promise<boolean>) => {
      for (const deadline = Date.now() + DEADLINE_MS; !await isTrue();) {
        assert.ok(Date.now() < deadline, `${isTrue}`);
      }
    };
    const first = start(bun!, "cache.ts", `${port}`);
    await eventually(async () => await get() !== "");
    const page = `${url}, made by ${first.pid}\n`;
    assert.equal(await get(), page);
    const second = start(bun!, "cache.ts", `${port}`);
    await eventually(async () => {
      const list = await output(start(ownRuntime, cli, "list", "--json"));
      return (JSON.parse(list) as Inventory).segments[0]?.attached === 2;
    });
    first.kill("SIGKILL");
    await once(first, "close");
    await eventually(async () => await get() === page);
    second.kill("SIGTERM"); // this ends it without a detach, so the segment stays until the next start
    await once(second, "close");
    assert.match(await output(start(ownRuntime, cli, "cleanup")), /^removed segment /);
  });

  test("first: a program that counts, alone and beside others", options, async () => {
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

  /** What stands in the block that shows the output of a command, without the commands. */
  function shown(command: string): string[] {
    const block = blocks.find(({ text }) => text.startsWith(`$ ${command}`))!;
    return block.text.trimEnd().split("\n").filter((line) => !line.startsWith("$ "));
  }

  for (const other of runtimes) {
    const title = `two processes, ping in ${ownRuntime.name} and pong in ${other.name}`;
    test(title, options, async () => {
      const ping = start(ownRuntime, "ping.ts");
      const text = output(ping);
      const [first] = await withDeadline(
        once(createInterface({ input: ping.stdout }), "line"),
        "the first line of ping",
      );
      // What the system shows meanwhile, but for its numbers and names.
      const pid = String(ping.pid);
      const state = await output(start(ownRuntime, cli, "show", "table tennis"));
      const user = spawnSync("id", ["-un"], { encoding: "utf8" }).stdout.trim();
      const expected = shown("node cli.ts show").map((line) =>
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

describe("the documentation", () => {
  test("is looked through for links that lead nowhere", () => {
    const folder = mkdtempSync(`${keyFolder}links-`);
    try {
      mkdirSync(`${folder}/docs`);
      mkdirSync(`${folder}/node_modules`);
      writeFileSync(`${folder}/node_modules/foreign.md`, "[lost](lost.md)");
      writeFileSync(
        `${folder}/README.md`,
        [
          ...[
            "# What `x()` is, in short",
            "## Same",
            "## Same",
            "[a](docs/a.md#one-two)",
            "[b](#same-1)",
          ],
          ...[
            "[c](docs/)",
            "[d](https://example.com/lost)",
            "`[e](lost.md)`",
            "```",
            "[f](lost.md)",
          ],
          ...[
            "# not a heading",
            "```",
            "[g](lost.md)",
            "[h](docs/a.md#lost)",
            "[i](#not-a-heading)",
          ],
          ...["[j](../out.md)", "![k](lost.svg)", "`here_test.ts` `lost_test.ts`", "[l]: lost.md"],
        ].join("\n"),
      );
      writeFileSync(`${folder}/docs/a.md`, "# One, two!\n[up](../README.md#what-x-is-in-short)\n");
      assert.deepEqual(markdownFiles(folder), ["README.md", "docs/a.md"]);
      assert.deepEqual(problemsOf(folder, "docs/a.md", new Set()), []);
      assert.deepEqual(problemsOf(folder, "README.md", new Set(["here_test.ts"])).sort(), [
        "README.md:13: lost.md: is not there",
        "README.md:14: docs/a.md#lost: has no heading #lost",
        "README.md:15: #not-a-heading: has no heading #not-a-heading",
        "README.md:16: ../out.md: leads out of the repository",
        "README.md:17: lost.svg: is not there",
        "README.md:18: there is no test lost_test.ts",
        "README.md:19: lost.md: is not there",
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
    assert.deepEqual(linksOf("[a](b.md) and <img src='x' alt=''> `[c](d.md)`"), [
      { target: "b.md", line: 1 },
    ]);
    assert.deepEqual([...anchorsOf("# A\n## A\n## `b()`, c!")], ["a", "a-1", "b-c"]);
  });

  test("has every file of the sources in its map", () => {
    const map = readFileSync(path.join(root, "docs/internals.md"), "utf8");
    assert.deepEqual(sourceFiles().filter((file) => !map.includes(`\`${file}\``)), []);
    const named = [...map.matchAll(/`((?:\w+\/)*\w+\.ts)`/g)].map(([, name]) => name!);
    assert.deepEqual(named.filter((name) => !existsSync(path.join(root, name))), []);
  });

  const deno = runtimes.some(({ name }) => name === "deno");
  const withDeno = deno ? { ...slow, ...crewOnly } : { skip: "Deno makes the reference" };
  test("of the API has a page for each class and function", withDeno, async () => {
    const folder = mkdtempSync(`${keyFolder}api-`);
    try {
      const { command, name } = ownRuntime;
      const script = path.join(root, "scripts/docs.ts");
      const args = name === "deno" ? ["run", "-A", script, folder] : [script, folder];
      const { status, stderr } = spawnSync(command, args, { encoding: "utf8" });
      assert.equal(status, 0, stderr);
      const missing: string[] = [];
      for (
        const [page, file] of [["~", "mod.ts"], ["inspect/~", "inspect.ts"], [
          "sync/~",
          "sync/mod.ts",
        ], ["collections/~", "collections/mod.ts"]]
      ) {
        const exports = Object.keys(await import(`../../${file}`));
        assert.ok(exports.length > 0);
        for (const name of exports) {
          if (!existsSync(path.join(folder, page!, `${name}.html`))) {
            missing.push(`${page}/${name}`);
          }
        }
      }
      assert.deepEqual(missing, []);
      const text = readFileSync(path.join(folder, "~/SharedMemory.html"), "utf8");
      for (const word of ["createOrAttach", "withLockAsync", "Symbol.dispose"]) {
        assert.ok(text.includes(word), word);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

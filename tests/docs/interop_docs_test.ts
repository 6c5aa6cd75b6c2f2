/** The programs of docs/interop.md, taken from that page, beside each other. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { blocksOfPage, runnable } from "../support/pages.ts";
import {
  isRequired,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  needsQt,
  ownRuntime,
  slow,
  withDeadline,
} from "../support/support.ts";

const python = "/usr/bin/python3";
const isOnLinux = linuxOnly.skip === undefined;
const has = (command: string, ...args: string[]) =>
  isOnLinux && spawnSync(command, args).status === 0;

/** The options of a test that needs a peer. */
function needs(peer: string, isThere: boolean, what: string) {
  if (!isOnLinux) return linuxOnly;
  return isThere || isRequired(peer) ? slow : { skip: `there is no ${what}` };
}

const withC = needs("c", has("cc", "--version"), "C compiler (cc)");
const withPython = needs(
  "python",
  has(python, "-c", "import multiprocessing.shared_memory"),
  `Python with multiprocessing.shared_memory as ${python}`,
);
const withQt = (version: 5 | 6) => ({ ...slow, ...linuxOnly, ...needsQt(version) });
const qtFlags = spawnSync("pkg-config", ["--cflags", "--libs", "Qt6Core"], { encoding: "utf8" });
const withQtC = needs(
  "qt-c++",
  qtFlags.status === 0 && has("g++", "--version"),
  "Qt 6 for C++ (Debian: qt6-base-dev g++)",
);

/** Names that no other run uses, for objects that no folder keeps apart. */
const name = `interop_frames_${process.pid}`;
const cli = fileURLToPath(new URL("../../cli.ts", import.meta.url));
let folder = "";
let TMPDIR = "";

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd: folder,
    env: { ...process.env, TMPDIR },
    encoding: "utf8",
  });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

/** A program of the page: `attached` when it has printed that, `total` what it prints in the end. */
function start(command: string, ...args: string[]) {
  const child = spawn(command, args, { cwd: folder, env: { ...process.env, TMPDIR } });
  const lines: string[] = [];
  let stderr = "";
  child.stderr.on("data", (data) => stderr += data);
  const output = createInterface({ input: child.stdout });
  const attached = new Promise<void>((resolve) =>
    output.on("line", (line) => {
      lines.push(line);
      if (line === "attached") resolve();
    })
  );
  const total = new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0 && lines.length === 2) resolve(Number(lines[1]));
      else reject(new Error(`${command} ${args.join(" ")} (${code}): ${stderr}${lines}`));
    });
  });
  total.catch(() => {}); // it is looked at later
  const what = `${command} ${args.join(" ")}`;
  return {
    attached: () => withDeadline(Promise.race([attached, total.then(() => {})]), what),
    total: () => withDeadline(total, what),
  };
}

const ours = (file: string, ...args: string[]) =>
  start(ownRuntime.command, ...ownRuntime.args, file, ...args);

/** Ours first, as it makes the segment, and then the peers. */
async function assertCountsTogether(file: string, ...peers: [string, ...string[]][]) {
  const count = peers.length + 1;
  const first = ours(file, `${count}`);
  await first.attached();
  const all = [first, ...peers.map(([command, ...args]) => start(command, ...args, `${count}`))];
  const totals = await Promise.all(all.map((program) => program.total()));
  assert.deepEqual(totals, totals.map(() => count * 10_000));
  // What ours may leave: the lock that it made, if a peer held it for more than 10 ms as ours detached.
  const left = readdirSync(TMPDIR);
  assert.ok(
    left.length <= 1 && left.every((file) => file.startsWith("qipc_systemsem_")),
    `${left}`,
  );
  if (left.length > 0) run(ownRuntime.command, ...ownRuntime.args, cli, "cleanup");
  assert.deepEqual(readdirSync(TMPDIR), []);
}

describe("the programs of docs/interop.md", () => {
  leaveNothingBehind();

  before(() => {
    if (!isOnLinux) return;
    folder = mkdtempSync(`${keyFolder}interop-`);
    TMPDIR = `${folder}/keys`;
    mkdirSync(TMPDIR);
    for (const { file, text } of blocksOfPage("docs/interop.md")) {
      if (file === "") continue;
      const program = runnable(text.replaceAll("interop_frames", name));
      writeFileSync(`${folder}/${file}`, program, { flag: "wx" });
      if (!program.includes("PyQt6")) continue;
      writeFileSync(`${folder}/qt5_${file}`, program.replaceAll("PyQt6", "PyQt5"));
    }
  });

  after(() => {
    if (folder !== "") rmSync(folder, { recursive: true });
  });

  for (const version of [5, 6] as const) {
    test(`count together with PyQt${version}`, withQt(version), async () => {
      const file = version === 5 ? "qt5_count_qt.py" : "count_qt.py";
      await assertCountsTogether("count.ts", [python, file]);
    });
  }

  test("count together with C++ Qt, and PyQt", { ...withQtC, ...withQt(6) }, async () => {
    run("g++", "-fPIC", "count_qt.cpp", "-o", "count_qt", ...qtFlags.stdout.trim().split(/\s+/));
    await assertCountsTogether("count.ts", [`${folder}/count_qt`], [python, "count_qt.py"]);
  });

  test("count together with C, by the key files", withC, async () => {
    run("cc", "-Wall", "-Werror", "count_systemv.c", "-o", "count_systemv");
    const files = run(ownRuntime.command, ...ownRuntime.args, "count_key_files.ts").trim();
    await assertCountsTogether("count.ts", [`${folder}/count_systemv`, ...files.split("\n")]);
  });

  test("count together with Python, in a POSIX segment", withPython, async () => {
    await assertCountsTogether("frames.ts", [python, "frames.py"]);
  });

  test("count together with C, in a POSIX segment", withC, async () => {
    run("cc", "-Wall", "-Werror", "frames.c", "-o", "frames", "-pthread");
    await assertCountsTogether("frames.ts", [`${folder}/frames`]);
  });
});

/** The command in each runtime: what it prints, and its exit codes. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { bytes, details, listing } from "../../cli_table.ts";
import type { Inventory, SegmentInfo } from "../../inspect.ts";
import { platformSafeName } from "../../backends/native_key.ts";
import { type Agent, keyFolder, leaveNothingBehind, ownRuntime } from "../support/support.ts";
import {
  isolatedOnly,
  linuxOnly,
  slow,
  startAgent,
  uniqueKey,
  withDeadline,
} from "../support/support.ts";

const cli = fileURLToPath(new URL("../../cli.ts", import.meta.url));
const username = spawnSync("id", ["-un"], { encoding: "utf8" }).stdout?.trim();

let folder: string;

interface Output {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command, with the one permission that Deno needs. */
async function run(runtime: typeof ownRuntime, ...args: string[]): Promise<Output> {
  const flags = runtime.name === "deno" ? [...runtime.args, "--no-prompt"] : [];
  const child = spawn(runtime.command, [...flags, cli, ...args], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (data) => stdout += data);
  child.stderr.on("data", (data) => stderr += data);
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  const code = await withDeadline(ended, `${runtime.name} cli.ts ${args.join(" ")}`);
  return { code, stdout, stderr };
}

/** Runs it where it is to succeed without a warning. */
async function output(runtime: typeof ownRuntime, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(runtime, ...args);
  assert.deepEqual([code, stderr], [0, ""], stdout);
  return stdout;
}

const start = () => startAgent(ownRuntime, { TMPDIR: folder });

async function create(agent: Agent, key: string): Promise<void> {
  await agent.request("memory", key, key);
  assert.equal(await agent.call(key, "create", 5000), true);
}

describe("the command", linuxOnly, () => {
  leaveNothingBehind();
  beforeEach(() => folder = realpathSync(mkdtempSync(keyFolder + "cli-")));
  afterEach(() => rmSync(folder, { recursive: true }));

  const alone = { ...slow, ...isolatedOnly };
  test(`lists, shows and cleans up in ${ownRuntime.name}`, alone, async () => {
    const [used, lost, slots] = [uniqueKey("used"), uniqueKey("lost"), uniqueKey("slots")];
    const path = (key: string, kind = "sharedmemory") =>
      `${folder}/${platformSafeName(key, `qipc_${kind}_`)}`;
    const [user, victim] = [start(), start()];
    await create(user, used);
    assert.equal(await user.call(used, "lock"), true);
    await create(victim, lost);
    await victim.request("semaphore", "s", slots, 3);
    await victim.kill();
    const [userPid, victimPid] = [user.child.pid!, victim.child.pid!];

    const list = await output(ownRuntime, "list");
    const line = (key: string, kind?: string) =>
      list.split("\n").find((line) => line.includes(path(key, kind)))!.trim().split(/ {2,}/);
    const { id, lock }: SegmentInfo = (await inventory("show", used)).segments[0]!;
    const locked = `held by ${userPid}`;
    assert.deepEqual(line(used), [
      ...[path(used), `${id}`, "4.9 KiB", username, "0600", "1", `${userPid}`, `${userPid}`],
      ...[locked, "in use"],
    ]);
    assert.deepEqual(line(lost).slice(5), [
      ...["0", `${victimPid} ended`, `${victimPid} ended`, "free", "stale: no process is attached"],
    ]);
    const ended = `process ${victimPid}, which used it last, has ended`;
    assert.deepEqual(line(slots, "systemsem").slice(2), [
      ...["3", "0", username, "0600", `${victimPid} ended`, `stale: ${ended}`],
    ]);
    assert.match(list, /^\d+ segments$/m);
    assert.ok(!list.includes("\x1b"));

    // The process that attached last is the one that has looked last.
    const withoutLast = (shown: string) => shown.replace(/^ {2}last .*$/m, "");

    // A key, its key file with and without the folder, and the file of its lock.
    const shown = await output(ownRuntime, "show", used);
    const text = (name: string) => new RegExp(`^  ${name} +(.*)$`, "m").exec(shown)?.[1];
    assert.equal(shown.split("\n")[0], `segment ${id}`);
    assert.equal(text("key file"), path(used));
    assert.equal(text("size"), "5000 bytes (4.9 KiB)");
    assert.equal(text("lock"), locked);
    assert.match(shown, /\n\ncontents\n.*\n +0 +5000 +- +other bytes +zeros\n$/);
    assert.equal(text("lock file"), path(used, "systemsem"));
    for (const name of [path(used), path(used).slice(folder.length + 1), lock!.keyFile]) {
      assert.equal(withoutLast(await output(ownRuntime, "show", name)), withoutLast(shown));
    }

    async function inventory(...args: string[]): Promise<Inventory> {
      return JSON.parse(await output(ownRuntime, ...args, "--json"));
    }
    const all = await inventory("list");
    assert.deepEqual(
      all.segments.filter(({ keyFile }) => keyFile === path(used)),
      (await inventory("show", used)).segments,
    );
    const semaphore = all.semaphores.find(({ keyFile }) => keyFile === path(slots, "systemsem"))!;
    assert.deepEqual((await inventory("show", slots)).semaphores, [semaphore]);

    const stale = [
      `segment ${all.segments.find(({ keyFile }) => keyFile === path(lost))!.id} ${path(lost)}` +
      ": no process is attached",
      `semaphore ${semaphore.id} ${path(slots, "systemsem")}: ${ended}`,
    ];
    const files = readdirSync(folder);
    const here = (text: string) => text.split("\n").filter((line) => line.includes(folder));
    const would = await output(ownRuntime, "cleanup", "--dry-run");
    assert.deepEqual(here(would), stale.map((text) => `would remove ${text}`));
    assert.deepEqual(readdirSync(folder), files);
    const did = await output(ownRuntime, "cleanup");
    assert.deepEqual(here(did), stale.map((text) => `removed ${text}`));
    assert.deepEqual(JSON.parse(await output(ownRuntime, "cleanup", "--json")), {
      removed: [],
      failed: [],
    });
    assert.equal(await output(ownRuntime, "cleanup"), "Nothing is stale.\n");
    assert.deepEqual((await inventory("show", used)).segments[0]!.lock, lock);
    assert.equal(await user.end(), 0);
    assert.deepEqual(readdirSync(folder), []);

    assert.deepEqual(await run(ownRuntime, "show", used), {
      code: 1,
      stdout: "",
      stderr: `There is no object of the key "${used}" in ${folder}\n`,
    });
  });

  test(`says what is wrong with its arguments in ${ownRuntime.name}`, slow, async () => {
    assert.match(await output(ownRuntime, "--help"), /^Usage: shared-memory list /m);
    assert.match(await output(ownRuntime, "show", "-h"), /Exit code: 0 fine; 1 .*; 2 /);
    for (
      const [says, ...args] of [
        ["Give a command: list, show KEY, top, cleanup or remove KEY"],
        [`There is no command "delete"`, "delete"],
        ["remove takes a KEY", "remove"],
        ["A KEY is empty", "remove", ""],
        ["show takes a KEY", "show"],
        ["show takes a KEY", "show", ""],
        [`Unexpected "key"; quote a key with spaces`, "show", "my", "key"],
        ["A KEY is empty", "cleanup", ""],
        ["--all-users is for list and show", "cleanup", "--all-users"],
        ["--dry-run is for cleanup and remove", "list", "--dry-run"],
        ["--all-users is for list and show", "top", "--all-users"],
        ["--json is not for top", "top", "--json"],
        [`Unexpected "orders"`, "top", "orders"],
        ["--interval and --once are for top", "list", "--once"],
        ["--interval must be a number of seconds from 0.1 to 3600", "top", "--interval", "0"],
        ["--interval must be a number of seconds from 0.1 to 3600", "top", "--interval", "soon"],
        ["'--force'", "cleanup", "--force"],
      ] as const
    ) {
      const { code, stdout, stderr } = await run(ownRuntime, ...args);
      assert.deepEqual([code, stdout], [2, ""]);
      const [first, ...rest] = stderr.split("\n");
      assert.ok(first!.startsWith("shared-memory: ") && first!.includes(says), stderr);
      assert.deepEqual(rest, ["Try --help.", ""]);
    }
  });

  test("fails where it cannot look, and says why", slow, async () => {
    rmSync(folder, { recursive: true });
    const { code, stdout, stderr } = await run(ownRuntime, "list");
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, /^shared-memory: inspect: the folder of the key files, .*\n$/);
    folder = mkdtempSync(keyFolder + "cli-");
  });
});

describe("its tables", () => {
  const process = { pid: 4711, alive: true };
  const segment: SegmentInfo = {
    kind: "segment",
    type: "systemv",
    orphan: false,
    nativeKey: "/tmp/qipc_sharedmemory_visits40f8c56cfb3d001fd0aae44600b4ae0ee5510f50",
    keyFile: "/tmp/qipc_sharedmemory_visits40f8c56cfb3d001fd0aae44600b4ae0ee5510f50",
    id: 3,
    size: 4096,
    owner: { uid: 1000, name: "ada" },
    isOwn: true,
    mode: 0o600,
    attached: 2,
    creator: process,
    last: { pid: 12, alive: false },
    persistent: false,
    unfinished: false,
    lock: { id: 1, keyFile: "/tmp/x", value: 0, holder: process, waiting: 1 },
    stale: false,
    reason: "in use",
  };
  const lost: SegmentInfo = {
    ...segment,
    keyFile: null,
    id: 65536,
    owner: { uid: 1001, name: null },
    creator: null,
    attached: 0,
    lock: null,
    stale: true,
    orphan: true,
    reason: "left",
  };
  const inventory = { folder: "/tmp", segments: [segment, lost], semaphores: [], keyFiles: [] };

  test("are aligned, and shorten names where the terminal is narrow", () => {
    const lines = [
      "2 segments",
      "  KEY FILE             ID   SIZE  OWNER  MODE  ATTACHED  CREATOR  LAST      LOCK          STATE",
      "  visits 40f8c56c…      3  4 KiB  ada    0600         2  4711     12 ended  held by 4711  in use",
      "  (none)            65536  4 KiB  1001   0600         0  ?        12 ended  none          stale: left",
      "",
      "1 stale, without a key file or another program's: cleanup --orphans removes it.",
      "",
      "A segment without a key file in /tmp may be that of programs with another TMPDIR: TMPDIR=FOLDER shared-memory",
      "list shows those of a folder.",
    ];
    assert.deepEqual(listing(inventory, { color: false, width: 110 }).split("\n"), lines);
    const wide = listing(inventory, { color: false, width: Infinity });
    assert.ok(wide.includes(`  ${segment.keyFile}      3  4 KiB  ada`), wide);
  });

  const named = (key: string, more: Partial<SegmentInfo>): SegmentInfo => {
    const keyFile = `/tmp/${platformSafeName(key, "qipc_sharedmemory_")}`;
    return { ...segment, keyFile, nativeKey: keyFile, ...more };
  };
  const old = { stale: true, reason: "no process is attached", attached: 0 };

  test("fit a terminal of 80 columns, and tell keys of the same letters apart", () => {
    const reason = "in use, without a key file in /tmp, as process 4711 has another TMPDIR: " +
      "TMPDIR=/run/shop shared-memory list";
    const posix = named("frames", { type: "posix", id: 2 ** 31, size: 12345678 });
    const segments = [
      ...[named("old cache 1", old), named("old cache 2", old), named("cache", {}), posix],
      { ...lost, stale: false, attached: 1, reason },
      named("x", { keyFile: `/dev/shm/${"long".repeat(60)}`, nativeKey: `/${"long".repeat(60)}` }),
    ];
    const text = listing({ ...inventory, segments }, { color: false, width: 80 });
    const rows = text.split("\n");
    assert.deepEqual(rows.filter((row) => row.length > 80), []);
    const hashes = [1, 2].map((number) => platformSafeName(`old cache ${number}`, "").slice(8, 16));
    for (const hash of hashes) {
      assert.ok(rows.some((row) => row.startsWith(`  oldcache ${hash}… `)), text);
    }
    // These have nothing but letters, so that the key itself is known.
    for (const key of ["cache ", "posix:frames "]) {
      assert.ok(rows.some((row) => row.startsWith(`  ${key}`)), text);
    }
    assert.ok(rows.some((row) => row.endsWith("TMPDIR=/run/shop shared-memory list")), text);
    assert.equal(rows.filter((row) => row === "      stale: no process is attached").length, 2);
    for (const width of [20, 40, 60, 100, 120]) {
      const words = listing({ ...inventory, segments }, { color: false, width }).split(/\s+/);
      for (const word of ["/run/shop", "oldcache", ...hashes]) {
        assert.ok(words.some((one) => one.includes(word)), `${width}: ${words}`);
      }
    }
  });

  test("are in the README as they are in a terminal of 80 columns", () => {
    const user = { pid: 4720, alive: true };
    const dead = { pid: 4650, alive: false };
    const lock = { ...segment.lock!, value: 1, holder: null };
    const used = named("my counter", { size: 8, creator: process, last: user });
    const left = named("cache", {
      ...old,
      id: 4,
      size: 12 * 2 ** 20,
      creator: dead,
      last: dead,
      lock,
    });
    const segments = [{ ...used, lock: { ...lock, value: 0, holder: user } }, left];
    const text = listing({ ...inventory, segments }, { color: false, width: 80 });
    const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
    assert.ok(readme.includes(`\n\`\`\`\n${text}\n\`\`\`\n`), text);
  });

  test("of one thing fit too, and break no path", () => {
    const one = named("old cache 1", old);
    const text = details({ ...inventory, segments: [one] }, { color: false, width: 80 });
    assert.deepEqual(text.split("\n").filter((row) => row.length > 80), []);
    assert.ok(text.includes(one.keyFile!), text);
    assert.ok(!/^ {2}key {2,}/m.test(text), text);
    const clear = details({ ...inventory, segments: [named("cache", {})] }, {
      color: false,
      width: 80,
    });
    assert.match(clear, /^ {2}key {2,}cache$/m);
  });

  test("have colors on request only, which change nothing else", () => {
    for (const table of [listing, details]) {
      const painted = table(inventory, { color: true, width: 110 });
      assert.ok(painted.includes("\x1b[33mstale: left\x1b[0m"), painted);
      assert.ok(painted.includes("\x1b[32min use\x1b[0m"), painted);
      // deno-lint-ignore no-control-regex
      const plain = painted.replaceAll(/\x1b\[\d+m/g, "");
      assert.equal(plain, table(inventory, { color: false, width: 110 }));
    }
  });

  test("have sizes that people can read", () => {
    const sizes = [0, 1, 1023, 1024, 1536, 2 ** 20, 12345678, 5 * 2 ** 30, 2 ** 53];
    assert.deepEqual(sizes.map(bytes), [
      ...["0 B", "1 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "11.8 MiB", "5 GiB", "8192 TiB"],
    ]);
  });

  test("say so when nothing is there", () => {
    const nothing: Inventory = { folder: "/tmp", segments: [], semaphores: [], keyFiles: [] };
    const text = listing(nothing, { color: true, width: 80 });
    assert.equal(text, "There are no objects; the folder of the key files is /tmp.");
  });
});

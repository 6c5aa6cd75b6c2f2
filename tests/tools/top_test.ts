/** The live view: what it shows, and how it leaves a terminal. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { frame, type Look, rateText } from "../../cli_top.ts";
import { SharedMap } from "../../collections/mod.ts";
import { layout } from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import type { Observed } from "../../observe/observer.ts";
import type { Part } from "../../observe/types.ts";
import { Counter, Mutex } from "../../sync/mod.ts";
import {
  isolatedOnly,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  startAgent,
  stop,
  uniqueKey,
  until,
  withDeadline,
} from "../support/support.ts";
import { blocksOfPage } from "../support/pages.ts";
import { platformSafeName } from "../../backends/native_key.ts";

const cli = fileURLToPath(new URL("../../cli.ts", import.meta.url));
const flags = ownRuntime.name === "deno" ? ["--no-prompt"] : [];
const command = [ownRuntime.command, ...ownRuntime.args, ...flags, cli, "top"];

const plain = { color: false, width: 80 } as const;

function observed(key: string, parts: readonly Part[], more: Partial<Observed> = {}): Observed {
  const keyFile = `/tmp/${platformSafeName(key, "qipc_sharedmemory_")}`;
  return {
    segment: {
      type: "systemv",
      nativeKey: keyFile,
      keyFile,
      id: key.length,
      size: 65_536,
      isOwn: true,
      mode: 0o600,
      attached: 3,
      persistent: false,
      unfinished: false,
      isLookedInto: true,
      lock: { id: 1, keyFile: "/tmp/lock", value: 1, holder: null, waiting: 0 },
    },
    lockHolder: null,
    parts,
    searched: 65_536,
    problem: null,
    ...more,
  };
}

const map = (changes: number, evicted: number): Part => ({
  name: null,
  kind: "SharedMap",
  offset: 0,
  bytes: 60_000,
  facts: { entries: 10, changes, evicted },
  holders: [],
  waiting: null,
});

const mutex: Part = {
  name: "shop.state",
  kind: "Mutex",
  offset: 0,
  bytes: 64,
  facts: { state: "held" },
  holders: [{ pid: 4711, command: "node server.js", state: "stopped" }],
  waiting: 0,
};

const left: Part = {
  ...mutex,
  name: "left",
  holders: [],
  facts: { state: "free", abandoned: "x" },
};
const before: Look = {
  time: 0,
  observed: [observed("sessions", [map(1000, 0)]), observed("a b", [])],
};
const now: Look = {
  time: 2000,
  observed: [
    observed("a b", [mutex, left]),
    observed("sessions", [map(31_000, 3)]),
    observed("new one with a long name that takes much of the width", [map(5, 0)], {
      problem: "its mode does not let this user read it",
    }),
  ],
};
const hash = (key: string) => platformSafeName(key, "").slice(-40).slice(0, 8);

describe("the view of all segments", () => {
  test("fits a terminal of 80 columns, with the busiest segment first", () => {
    const lines = frame(now, before, plain);
    const long = hash("new one with a long name that takes much of the width");
    assert.deepEqual(lines, [
      "3 segments, 192 KiB, 1 held, 1 by stopped or dead processes",
      "  SEGMENT                        SIZE  ATT  OPS/S  GONE/S  WAIT  HELD  PARTS",
      "  sessions                     64 KiB    3    15k     1.5    1+     0  SharedMap",
      `  ab ${hash("a b")}…                 64 KiB    3      0       0     0     1  2 Mutex`,
      "    shop.state is held by process 4711 (node server.js), stopped",
      "    left was abandoned: x",
      `  newonewithalongn… ${long}…  64 KiB    3      -       -    1+     0  SharedMap`,
      "    its mode does not let this user read it",
    ]);
    assert.deepEqual(lines.filter((line) => line.length > 80), []);
  });

  test("is in the README as it is in a terminal of 80 columns", () => {
    const part = (kind: string, facts: Part["facts"], waiting: number | null): Part => {
      return { ...mutex, name: kind, kind, facts, holders: [], waiting };
    };
    const look = (time: number, notifications: number, changes: number): Look => {
      const server = observed("bun server", [
        part("CounterBlock", {}, 0),
        part("Mutex", {}, 0),
        part("SharedTopic", { published: notifications }, null),
        part("SharedQueue", {}, 0),
      ]);
      const pages = observed("pages", [part("SharedMap", { changes }, 0)]);
      const sizes = [[server, 1.8 * 2 ** 20, 5], [pages, 66_851_712, 4]] as const;
      return {
        time,
        observed: sizes.map(([one, size, attached]) => {
          return { ...one, segment: { ...one.segment, size, attached } };
        }),
      };
    };
    const text = frame(look(1000, 1400, 117), look(0, 0, 0), plain).join("\n");
    const blocks = blocksOfPage("README.md").map(({ text }) => text.trimEnd());
    assert.ok(blocks.includes(text), text);
  });

  test("leaves columns out where the terminal is narrower, and never passes its width", () => {
    for (const width of [50, 60, 70, 80, 100, 200]) {
      const lines = frame(now, before, { color: false, width });
      assert.deepEqual(lines.filter((line) => line.length > width), [], `${width}`);
      assert.match(lines.find((line) => line.includes("SEGMENT"))!, /ATT +OPS\/S/);
    }
    assert.ok(!frame(now, before, { color: false, width: 50 }).join("\n").includes("GONE/S"));
  });

  test("counts the columns of a terminal, in which some characters take two and marks none", () => {
    const columns = (line: string) =>
      [...line].length + (line.match(/[日本語名前한글]|😀/gu)?.length ?? 0) -
      (line.match(/\u0301/g)?.length ?? 0);
    const names = ["日本語名前".repeat(9), "한글 한글", "😀".repeat(30), "e\u0301".repeat(9), "ab"];
    const some = names.map((name) => {
      const one = observed(name, [map(1, 0)]);
      const posix = { type: "posix", keyFile: `/dev/shm/${name}`, nativeKey: `/${name}` } as const;
      return { ...one, segment: { ...one.segment, ...posix } };
    });
    for (const width of [46, 60, 80, 200]) {
      const lines = frame({ time: 1, observed: some }, null, { color: false, width });
      assert.deepEqual(lines.filter((line) => columns(line) > width), [], `${width}`);
      const upToHeld = lines.slice(1).map((line) =>
        columns(line.replace(/ {2}(PARTS|SharedMap)$/, ""))
      );
      assert.equal(new Set(upToHeld).size, 1, lines.join("\n"));
    }
  });

  test("has colors on request only, which change nothing else", () => {
    const painted = frame(now, before, { color: true, width: 80 });
    assert.ok(painted.join("\n").includes("\x1b[31m"));
    // deno-lint-ignore no-control-regex
    const stripped = painted.map((line) => line.replaceAll(/\x1b\[\d+m/g, ""));
    assert.deepEqual(stripped, frame(now, before, plain));
  });

  test("has no rates after the first look, and none below 0 after a segment was created again", () => {
    assert.match(frame(now, null, plain).join("\n"), /sessions +64 KiB +3 +- +- /);
    assert.match(
      frame(before, { ...now, time: -1000 }, plain).join("\n"),
      /sessions +64 KiB +3 +0 +0 /,
    );
    assert.deepEqual(frame({ time: 0, observed: [] }, null, plain), ["0 segments, 0 B, 0 held"]);
  });

  test("writes rates in at most five characters", () => {
    assert.deepEqual(
      [0, 0.04, 9.96, 42.4, 999.4, 999.6, 1500, 12_345, 999_700, 5e6, 3e9, 2e12].map(rateText),
      ["0", "0.0", "10.0", "42", "999", "1.0k", "1.5k", "12k", "1.0M", "5.0M", "3G", "2000G"],
    );
  });
});

describe("shared-memory top", linuxOnly, () => {
  leaveNothingBehind();

  test("prints the segments in use once, with their rates, if it is asked to", {
    ...slow,
    ...isolatedOnly,
  }, async () => {
    const [key, held] = [uniqueKey("busy"), uniqueKey("held")];
    using counted = SharedMap.open(key, { bytes: 70_000 });
    using shared = layout({ hits: Counter, state: Mutex }).open(held);
    const agent = startAgent(ownRuntime);
    await agent.run(`
      objects.shared = collections.layout({ hits: sync.Counter, state: sync.Mutex })
        .open(${JSON.stringify(held)});
      objects.shared.state.lock();`);
    await stop(agent.child.pid!);
    const timer = setInterval(() => void counted.set("a", 1), 5);
    const look = async () => {
      const child = spawn(command[0]!, [...command.slice(1), "--once", "--interval", "0.3"]);
      let [stdout, stderr] = ["", ""];
      child.stdout.on("data", (data) => stdout += data);
      child.stderr.on("data", (data) => stderr += data);
      const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
      assert.deepEqual([await withDeadline(ended, "top --once"), stderr], [0, ""]);
      assert.match(stdout, /^2 segments, .* 1 held, 1 by stopped or dead processes$/m);
      return stdout;
    };
    // About 200 changes a second, unless this process or the command stands still between the looks.
    const isSeen = (stdout: string) => {
      const [, rate] = /^ {2}busy\w* \w+… .* {2}(\S+) +0 +\S+ +0 {2}SharedMap$/m.exec(stdout) ?? [];
      return Number(rate) > 5 && Number(rate) < 300;
    };
    let stdout = "";
    try {
      for (let looks = 0; looks < 10 && !isSeen(stdout); looks++) stdout = await look();
    } finally {
      clearInterval(timer);
    }
    assert.ok(isSeen(stdout), stdout);
    assert.match(stdout, new RegExp(`^ {4}state is held by process ${agent.child.pid} `, "m"));
    assert.ok(!stdout.includes("\x1b"));
    await agent.kill();
    assert.equal(shared.hits.get(), 0n);
  });

  test(
    "prints again and again into a pipe, and ends without an error when it is closed",
    slow,
    async () => {
      using memory = SharedMemory.open(uniqueKey("pipe"), { size: 100 });
      const child = spawn(command[0]!, [...command.slice(1), "--interval", "0.1"]);
      let [stdout, stderr] = ["", ""];
      child.stdout.on("data", (data) => stdout += data);
      child.stderr.on("data", (data) => stderr += data);
      const ended = new Promise<number | string | null>((resolve) => {
        child.on("close", (code, signal) => resolve(code ?? signal));
      });
      await until(() => stdout.split("SEGMENT").length > 3, "three views");
      child.stdout.destroy();
      assert.deepEqual([await withDeadline(ended, "the end"), stderr], [0, ""]);
      assert.ok(!stdout.includes("\x1b"));
      assert.ok(memory.isAttached());
    },
  );

  const hasScript = spawnSync("script", ["--version"]).status === 0;
  const needsScript = hasScript ? slow : { skip: "the command `script` is not installed" };
  for (const [how, keys, rows] of [["q", "q", 10], ["Ctrl-C", "\x03", 1]] as const) {
    test(`takes the terminal and gives it back as it was, after ${how}`, needsScript, async () => {
      using memory = SharedMemory.open(uniqueKey("screen"), { size: 100 });
      const quoted = command.map((word) => `'${word}'`).join(" ");
      const line =
        `stty cols 80 rows ${rows}; stty -g; ${quoted} --interval 0.1; echo "code $?"; stty -g`;
      const child = spawn("script", ["-qec", line, "/dev/null"], {
        env: { ...process.env, SHELL: "/bin/sh", TERM: "xterm", NO_COLOR: "1" },
      });
      let stdout = "";
      child.stdout.on("data", (data) => stdout += data);
      const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
      await until(() => stdout.split("\x1b[H").length > 3, "three views");
      child.stdin.write(keys);
      assert.equal(await withDeadline(ended, "the end"), 0, stdout);
      const [settings, ...rest] = stdout.split("\x1b[?1049h");
      const [view, after] = rest.join().split("\x1b[?1049l");
      assert.match(after!, /^\r?\ncode 0\r?\n|^code 0\r?\n/);
      assert.equal(after!.trim().split(/\r?\n/).at(-1), settings!.trim());
      assert.equal(view!.includes("SEGMENT"), rows > 1);
      assert.match(view!, /q quits/);
      const frames = view!.split("\x1b[H").slice(1);
      assert.ok(frames.every((one) => one.split("\r\n").length <= rows), "it fits the rows");
      assert.ok(view!.startsWith("\x1b[?25l\x1b[?7l"), "no line goes on in the next row");
      assert.ok(view!.endsWith("\x1b[?7h\x1b[?25h"), "but they do afterwards");
      assert.ok(view!.endsWith("\x1b[?25h"), "the cursor is shown again");
      assert.ok(memory.isAttached());
    });
  }
});

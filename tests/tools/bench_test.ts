/** The benchmark as short as can be: that it works, and what it writes. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chartOf } from "../../bench/chart.ts";
import { elementCosts, elementsBytes } from "../../bench/elements.ts";
import { pageTable, rowsOf as reportRowsOf } from "../../bench/report.ts";
import { peerJobs, type PeerRow } from "../../bench/peers_bench.ts";
import {
  DEADLINE_MS,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  withDeadline,
} from "../support/support.ts";

const main = fileURLToPath(new URL("../../bench/main.ts", import.meta.url));
const page = fileURLToPath(new URL("../../docs/performance.md", import.meta.url));
/** The benchmark starts dozens of processes, one after the other. */
const BENCHMARK_MS = 1.9 * DEADLINE_MS;
const hasC = spawnSync("cc", ["--version"]).status === 0;
const needsC = hasC ? linuxOnly : { skip: "no C compiler (cc)" };

/** The rows of the table that a marker of the page begins, without the lines of the heading. */
function rowsOf(text: string, table: string): string[][] {
  const block = new RegExp(`<!-- table ${table}[^>]*-->\n([^]*?)<!-- end -->`).exec(text)?.[1];
  assert.ok(block !== undefined, `the page has the table ${table}`);
  const lines = block.trim().split("\n").filter((line) => line.startsWith("|"));
  const cells = lines.map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  for (const row of cells) assert.equal(row.length, cells[0]!.length, row.join("|"));
  return cells.slice(2);
}

/** Everything that was opened is closed, in order. */
function assertWellFormed(xml: string): void {
  const open: string[] = [];
  for (
    const [, end, name, empty] of xml.matchAll(/<(\/?)([a-z]+)(?: [a-zA-Z-]+="[^"<]*")*(\/?)>/g)
  ) {
    if (end) assert.equal(open.pop(), name);
    else if (!empty) open.push(name!);
  }
  assert.deepEqual(open, []);
  assert.doesNotMatch(xml.replace(/<[^<>]*>/g, ""), /[<>]|&(?!#\d+;)/);
}

/** The page as the benchmark of this runtime alone leaves it, as short as can be. */
async function pageOf(part: string): Promise<string> {
  const folder = mkdtempSync(`${keyFolder}bench-test-`);
  try {
    const copy = `${folder}/performance.md`;
    writeFileSync(copy, readFileSync(page));
    const flags = ownRuntime.name === "deno" ? ["run", "--quiet", "--no-check", "-A"] : [];
    const options = ["--part", part, "--quick", "--only", ownRuntime.name];
    const written = ["--write", "--page", copy, "--chart", `${folder}/chart.svg`];
    const child = spawn(ownRuntime.command, [...flags, main, ...options, ...written], {
      env: { ...process.env, NODE_NO_WARNINGS: "1" },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.on("data", (data) => stderr += data);
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    assert.equal(await withDeadline(ended, "the benchmark", BENCHMARK_MS), 0, stderr);
    return readFileSync(copy, "utf8");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const isTime = /^\d+(\.\d+)? (ns|µs|ms)$/;
const isRatio = /^\d+(\.\d+)?×$/;
const isVerdict = /^(yes|\*\*no\*\*)$/;

describe("benchmark", () => {
  leaveNothingBehind();

  test("checks and measures each primitive, and writes the page", needsC, async () => {
    const text = await pageOf("sync");
    const own = rowsOf(text, "sync").filter(([, name]) => name === ownRuntime.name);
    assert.equal(own.length, 7, "each operation once");
    for (const [, , , time] of own) assert.match(time!, isTime);
    const judged = rowsOf(text, "targets").filter(([, name]) => name === ownRuntime.name);
    assert.ok(judged.length > 0);
    for (const [, , , , reached] of judged) assert.match(reached!, isVerdict);
  });

  test(
    "checks and measures each operation of the collections, and writes the page",
    needsC,
    async () => {
      const text = await pageOf("collections");
      const rows = rowsOf(text, "collections");
      const [c, own] = ["C", ownRuntime.name].map((who) => rows.filter(([, name]) => name === who));
      assert.equal(c!.length, 9, "each operation once");
      assert.equal(own!.length, 11, "the same, and `get` beside `getInto`, hot and cold");
      for (const [, , processes, time, , half, most, perSecond] of rows) {
        assert.equal(processes, "1");
        for (const one of [time, half, most]) assert.match(one!, isTime);
        assert.match(perSecond!, /^\d+(\.\d+)? million$/);
      }
      for (const [, , , , toC] of own!) assert.match(toC!, isRatio);
      const judged = rowsOf(text, "collections-targets");
      assert.ok(judged.length > 0);
      for (const [, name, , , reached] of judged) {
        assert.equal(name, ownRuntime.name);
        assert.match(reached!, isVerdict);
      }
    },
  );

  test(
    "checks and measures the queue, the topic and the value, and writes the page",
    { ...needsC, ...slow },
    async () => {
      const text = await pageOf("messaging");
      const rows = rowsOf(text, "messaging");
      const own = rows.filter(([, name]) => name === ownRuntime.name);
      assert.equal(own.length, 6, "each short operation of at most two processes once");
      assert.ok(rows.some(([, name]) => name === "msgsnd and msgrcv"));
      for (const [, , , time] of rows) assert.match(time!, isTime);
      const latency = rowsOf(text, "messaging-latency");
      assert.equal(latency.length, 6);
      for (const [, half, most] of latency) {
        assert.match(half!, isTime);
        assert.match(most!, isTime);
      }
      const judged = rowsOf(text, "messaging-targets");
      assert.equal(judged.length, 4);
      for (const [, name, , , reached] of judged) {
        assert.equal(name, ownRuntime.name);
        assert.match(reached!, isVerdict);
      }
    },
  );

  test(
    "checks and measures each call, views and waiting, and writes the page",
    needsC,
    async () => {
      const text = await pageOf("calls");
      const rows = rowsOf(text, "calls");
      const own = rows.filter(([, who]) => who === ownRuntime.name);
      const others = rows.filter(([, who]) => who !== ownRuntime.name).map(([, who]) => who);
      assert.deepEqual([...new Set(others)].filter((who) => who !== "C++ Qt"), ["bare C"]);
      const [operations, elements, handOffs] = [own.slice(0, -5), own.slice(-5, -2), own.slice(-2)];
      assert.ok(operations.length >= 3); // and one more on a tmpfs
      for (const [, , time] of own) assert.match(time!, isTime);
      for (const [, , , toC] of operations) assert.match(toC!, isRatio);
      for (const [, , , , , toBuffer] of elements) assert.match(toBuffer!, isRatio);
      for (const [, , , , , , toSocket] of handOffs) assert.match(toSocket!, isRatio);
      assert.match(text, /\. 1 turns? of 5 ms for the calls, .* started anew once; .* once\.\n/);
    },
  );

  test("an element costs something, even if the time is over before the first pass", () => {
    const costs = elementCosts(new Uint8Array(elementsBytes), 0);
    for (const [name, ns] of Object.entries(costs)) assert.ok(ns > 0, `${name}: ${ns} ns`);
  });

  test("the calls of SharedMemory are a table, with what each is compared with", () => {
    const samplesOf = (...ns: number[]) => ({
      "lock+unlock": ns,
      "sum of Uint8": ns.map((one) => one / 400),
      "hand-off": ns,
    });
    const samples = new Map([
      ["bare C", samplesOf(100, 200)],
      ["deno", samplesOf(150, 400)],
    ]);
    const cells = pageTable(reportRowsOf(samples)).split("\n").map((line) =>
      line.split("|").slice(1, -1).map((cell) => cell.trim())
    );
    assert.deepEqual(cells.slice(2), [
      ["lock+unlock", "bare C", "150 ns", "1.00×", "", "", ""],
      ["", "deno", "275 ns", "1.75×", "", "", ""],
      ["sum of Uint8, each", "bare C", "0.38 ns", "1.00×", "", "", ""],
      ["", "deno", "0.69 ns", "1.75×", "", "", ""],
      ["hand-off", "bare C", "150 ns", "", "", "", ""],
      ["", "deno", "275 ns", "", "", "", ""],
    ]);
  });

  test("the chart is well-formed, and a time ten times as long a fixed distance longer", () => {
    const rows: PeerRow[] = peerJobs.flatMap(({ title }) => [
      { title, name: "fast", ns: 20, isOurs: true },
      { title, name: 'a <slow> & "odd" one', ns: 200, isOurs: false },
      { title, name: "slower", ns: 2000, isOurs: false },
    ]);
    const svg = chartOf(rows, "a machine");
    assertWellFormed(svg);
    const widths = [...svg.matchAll(/<rect [^>]* width="([\d.]+)"/g)].map(([, width]) =>
      Number(width)
    );
    assert.equal(widths.length, rows.length);
    const [first, second, third] = widths as [number, number, number];
    assert.ok(first > 0);
    assert.ok(Math.abs((third - second) - (second - first)) < 0.5, `${widths}`);
  });
});

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import process from "node:process";
import test, { describe, it } from "node:test";
import { writeFileSync, rmSync } from "node:fs";
const how = process.env.ZZ ?? "";
test("adds alpha", () => assert.equal(1 + 1, 2));
test("a name (x.y) [1]", () => {});
test("skipped one", { skip: "no partner" }, () => {});
describe("suite", () => {
  it("inner alpha", () => {});
  it("inner skip", { skip: "reason" }, () => {});
});
test("parent", async (t) => { await t.test("child", () => {}); });
if (how === "fail") test("fails", () => assert.equal(1, 2));
if (how === "crash") test("crashes", () => { process.kill(process.pid, "SIGSEGV"); return new Promise((r) => setTimeout(r, 5000)); });
if (how === "exit") test("exits", () => process.exit(0));
if (how === "hang") test("hangs", async () => { spawn("sleep", ["1234"], { stdio: "ignore" }); await new Promise((r) => setTimeout(r, 50000)); });
if (how === "spin") test("spins", () => { for (;;); });
if (how === "throw") throw new Error("at load");
if (how === "leak") test("leaks", () => {
  execFileSync("ipcmk", ["-M", "4096"]); execFileSync("ipcmk", ["-S", "1"]);
  writeFileSync("/tmp/qipc_zz", ""); writeFileSync("/dev/shm/zz", "");
});

/**
 * Writes the tables of docs/platforms.md from what the backends and the tests say of themselves; with
 * `--check` it only looks whether they are up to date. `node scripts/platform_docs.ts`.
 */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import type { Capabilities } from "../backends/capabilities.ts";
import { keyTypeOf } from "../backends/mod.ts";
import { NativeIpcKeyType } from "../native_ipc_key.ts";
import { PLATFORMS } from "./platforms/verified.ts";

const { SystemV, PosixRealtime, Windows } = NativeIpcKeyType;
const KINDS: readonly Capabilities[] = [
  keyTypeOf(SystemV, "linux")!.capabilities, // the same on macOS
  keyTypeOf(PosixRealtime, "linux")!.capabilities,
  keyTypeOf(PosixRealtime, "darwin")!.capabilities,
  keyTypeOf(Windows, "win32")!.capabilities,
];

/** What each of the capabilities is called, and what its values mean. */
const ROWS: readonly [string, (can: Capabilities) => string][] = [
  ["`size()`", ({ exactSize }) => exactSize ? "as created" : "rounded up to whole pages"],
  [
    "after the last detach, or a normal end",
    ({ removedWith }) => removedWith === "lastUser" ? "removed" : "removed by whoever created it",
  ],
  [
    "after all its users were killed",
    ({ survivesCrash, removedWith }) => {
      if (!survivesCrash) return "gone";
      return removedWith === "creator"
        ? "stays until the system is started again"
        : "stays, stale, until somebody uses it or cleans up";
    },
  ],
  [
    "the lock of a killed holder",
    ({ killedHolder }) =>
      ({
        undone: "free at once: the kernel undoes it",
        takenOver: "taken over by the next of this module's that waits",
        lost: "stays taken",
      })[killedHolder],
  ],
  [
    "what a killed process acquired of a `SystemSemaphore`",
    ({ semaphoreUndo }) => semaphoreUndo ? "given back by the kernel" : "lost",
  ],
  [
    "`SystemSemaphoreMode.Create` on one that exists",
    ({ semaphoreCreate }) => semaphoreCreate === "sets" ? "sets its value" : "uses it as it is",
  ],
  [
    "a wait that is over names the holder",
    ({ namesHolder }) => namesHolder ? "yes" : "no",
  ],
  ["the option `permissions`", ({ permissions }) => permissions ? "yes" : "no effect"],
];

function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heading, heading.map(() => "---"), ...rows];
  return all.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

const tables: Readonly<Record<string, string>> = {
  platforms: table(
    ["platform", "runtimes", "keys", "verified by"],
    PLATFORMS.map(({ name, runtimes, keys, verified }) => [name, runtimes, keys, verified]),
  ),
  keys: table(
    ["", ...KINDS.map(({ name }) => name)],
    ROWS.map(([what, cell]) => [what, ...KINDS.map(cell)]),
  ),
};

const file = path.join(import.meta.dirname!, "../docs/platforms.md");
const before = readFileSync(file, "utf8");
const after = Object.entries(tables).reduce((text, [name, content]) => {
  const block = new RegExp(`(<!-- table ${name}[^>]*-->\n)[^]*?(<!-- end -->)`);
  if (!block.test(text)) throw new Error(`docs/platforms.md has no place for the table ${name}`);
  return text.replace(block, (_, start, end) => `${start}\n${content}\n\n${end}`);
}, before);

/** `deno fmt` aligns the columns. */
const plain = (text: string) => text.replace(/ +/g, " ").replace(/-{3,}/g, "---");
if (plain(before) === plain(after)) process.exit();
if (process.argv.includes("--check")) {
  console.error("The tables of docs/platforms.md are out of date: node scripts/platform_docs.ts");
  process.exit(1);
}
writeFileSync(file, after);

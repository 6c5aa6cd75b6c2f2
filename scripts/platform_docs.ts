/**
 * Writes the tables of docs/platforms.md from the records of the key types (the `mod.ts` of each folder of backends/) and `scripts/platforms/verified.ts`. With
 * `--check` it writes nothing, and fails if the tables are out of date. `node scripts/platform_docs.ts` runs it.
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

/** The rows of the table of keys: the heading of each row, and the text for the capabilities of a kind of key. */
const ROWS: readonly [string, (can: Capabilities) => string][] = [
  [
    "`size()`",
    ({ exactSize }) =>
      exactSize ? "is the size that was asked for" : "is rounded up to whole pages",
  ],
  [
    "a segment after a detach or a normal end of a process",
    ({ removedWith }) =>
      removedWith === "lastUser"
        ? "is removed with its last user"
        : "is removed when the object that created it detaches",
  ],
  [
    "a segment after all its users were killed",
    ({ survivesCrash, removedWith }) => {
      if (!survivesCrash) return "is removed by the system";
      return removedWith === "creator"
        ? "stays until the system is restarted"
        : "is stale until a process uses it or `cleanup()` removes it";
    },
  ],
  [
    'the lifetime `"until-removed"`',
    ({ persistent }) => persistent ? "keeps the segment without a user" : "is refused",
  ],
  [
    "the lock after its holder was killed",
    ({ killedHolder }) =>
      ({
        undone: "is released at once by the kernel",
        takenOver: "is taken over by the next process of this module that waits",
        lost: "stays held",
      })[killedHolder],
  ],
  [
    "the permits of a `SystemSemaphore` that a killed process held",
    ({ semaphoreUndo }) => semaphoreUndo ? "are released by the kernel" : "are lost",
  ],
  [
    "`SystemSemaphoreMode.Create` on an existing semaphore",
    ({ semaphoreCreate }) => semaphoreCreate === "sets" ? "sets its value" : "leaves its value",
  ],
  [
    "the error of a wait that timed out names the holder",
    ({ namesHolder }) => namesHolder ? "yes" : "no",
  ],
  [
    "the option `permissions`",
    ({ permissions }) => permissions ? "gives other users access" : "has no effect",
  ],
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

/** Removes the alignment of the columns, which `deno fmt` adds. */
const plain = (text: string) => text.replace(/ +/g, " ").replace(/-{3,}/g, "---");
if (plain(before) === plain(after)) process.exit();
if (process.argv.includes("--check")) {
  console.error("The tables of docs/platforms.md are out of date: node scripts/platform_docs.ts");
  process.exit(1);
}
writeFileSync(file, after);

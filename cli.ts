/**
 * The command `shared-memory` lists segments, semaphores and key files, and removes stale ones. In Deno it runs with
 * `deno run --allow-ffi cli.ts`.
 *
 * @module
 */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { thisPlatform } from "./backends/platform.ts";
import { sharedLibrary } from "./backends/unix/shared_libc.ts";
import { runInStarter } from "./cli_starter.ts";
import { contentsText } from "./cli_contents.ts";
import { top } from "./cli_top.ts";
import { details, listing, paint, type Style } from "./cli_table.ts";
import { AccessMode, UnsupportedError } from "./errors.ts";
import { selectFfi } from "./ffi/mod.ts";
import {
  belongsTo,
  cleanup,
  type CleanupResult,
  inspect,
  type Inventory,
  type KeyFileInfo,
  type Removal,
  type SegmentInfo,
  type SemaphoreInfo,
} from "./inspect.ts";
import { NativeIpcKey } from "./native_ipc_key.ts";
import { AttachedPeek } from "./observe/attached_peek.ts";
import { atOnce, contentsOf, contentsSeenBy, Observer } from "./observe/observer.ts";
import { sliced } from "./observe/sliced.ts";
import { printable } from "./printable.ts";
import { SharedMemory } from "./shared_memory.ts";

const STARTS = "bunx --bun shared-memory, or deno run --allow-ffi npm:@shared-memory/shared-memory";

const HELP = `Lists and removes the shared memory of this module and of Qt.

Usage: shared-memory list                  all objects, in tables
       shared-memory show KEY              everything about one object, and what lies in a segment: KEY is
                                           the key that a program gives to SharedMemory or
                                           SystemSemaphore, or a key file
       shared-memory top [--interval S] [--once]
                                           a live view of the segments that are in use; q quits
       shared-memory cleanup [KEY...] [--dry-run] [--orphans]
                                           removes the stale objects of this user; with KEYs
                                           only those that belong to them
       shared-memory remove KEY... [--dry-run]
                                           removes the unused segments of the KEYs even if they are kept
                                           on purpose (lifetime "until-removed"), and what is stale

Options:
  --json      print JSON for programs: sizes in bytes, everything that is known
  --all-users let list and show include the objects of other users
  --interval  the seconds between two looks of top, 1 if left out
  --once      let top look twice, print what it has seen, and end
  --dry-run   only say what cleanup or remove would remove
  --orphans   let cleanup also remove stale segments that no key file leads to (programs with another
              TMPDIR may have theirs elsewhere), and POSIX objects that other programs created
  -h, --help  this text

top counts for each segment the processes that are attached (ATT), changes and messages per second
(OPS/S; reads are not counted), entries per second that had to go as there was no room (GONE/S), threads
that wait (WAIT), and locks that are held (HELD).

The command reads the key files in TMPDIR or else /tmp, as the programs do. These objects are stale:
a segment to which no process is attached, a semaphore for which no process waits and whose last user
has ended, and a key file that leads to no object. NO_COLOR turns the colors off.

Exit code: 0 fine; 1 something failed, or show found nothing; 2 wrong arguments.`;

const COMMANDS = ["list", "show", "top", "cleanup", "remove"] as const;

class UsageError extends Error {}

interface Command {
  readonly name: typeof COMMANDS[number];
  readonly keys: readonly string[];
  readonly allUsers: boolean;
  readonly dryRun: boolean;
  readonly orphans: boolean;
  readonly json: boolean;
  readonly intervalMs: number;
  readonly once: boolean;
}

/** The least and the greatest number of seconds between two looks of top. */
const [INTERVAL_MIN, INTERVAL_MAX] = [0.1, 3600];

/** Parses the arguments; returns `null` if they ask for help. */
function parse(args: string[]): Command | null {
  const { values, positionals } = parsed(args);
  if (values.help) return null;
  const [word, ...keys] = positionals;
  if (word === undefined) {
    throw new UsageError("Give a command: list, show KEY, top, cleanup or remove KEY");
  }
  const name = COMMANDS.find((one) => one === word);
  if (name === undefined) throw new UsageError(`There is no command "${word}"`);
  const removes = name === "cleanup" || name === "remove";
  if (name === "show" && !keys[0]) throw new UsageError("show takes a KEY");
  if (name === "remove" && keys.length === 0) throw new UsageError("remove takes a KEY");
  const extra = removes ? undefined : keys[name === "show" ? 1 : 0];
  if (extra !== undefined) throw new UsageError(`Unexpected "${extra}"; quote a key with spaces`);
  if (removes && keys.includes("")) throw new UsageError("A KEY is empty");
  const dryRun = values["dry-run"] ?? false;
  if (dryRun && !removes) throw new UsageError("--dry-run is for cleanup and remove");
  const orphans = values.orphans ?? false;
  if (orphans && name !== "cleanup") throw new UsageError("--orphans is for cleanup");
  const allUsers = values["all-users"] ?? false;
  if (allUsers && removes) throw new UsageError("--all-users is for list and show");
  if (allUsers && name === "top") throw new UsageError("--all-users is for list and show");
  const json = values.json ?? false;
  if (json && name === "top") throw new UsageError("--json is not for top");
  const once = values.once ?? false;
  if ((once || values.interval !== undefined) && name !== "top") {
    throw new UsageError("--interval and --once are for top");
  }
  const seconds = Number(values.interval ?? 1);
  if (!(seconds >= INTERVAL_MIN && seconds <= INTERVAL_MAX)) {
    throw new UsageError(
      `--interval must be a number of seconds from ${INTERVAL_MIN} to ${INTERVAL_MAX}`,
    );
  }
  return { name, keys, allUsers, dryRun, orphans, json, intervalMs: seconds * 1000, once };
}

function parsed(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        json: { type: "boolean" },
        "all-users": { type: "boolean" },
        "dry-run": { type: "boolean" },
        orphans: { type: "boolean" },
        interval: { type: "string" },
        once: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Runs a command; returns the exit code. */
function run(command: Command): number | Promise<number> {
  const { name, keys, allUsers, dryRun, orphans, json, intervalMs, once } = command;
  if (name === "top") {
    const observer = new Observer();
    const look = async () => {
      return { observed: await sliced(observer.look()), time: performance.now() };
    };
    return top({ intervalMs, once, look, style });
  }
  if (name === "cleanup" || name === "remove") {
    const isAll = keys.length === 0;
    const before = isAll || json ? null : inspect();
    const result = cleanup({
      dryRun,
      orphans,
      persistent: name === "remove",
      keys: isAll ? undefined : keys,
    });
    if (json) printJson(result);
    else report(result, dryRun, name);
    if (before !== null) reportKept(before, keys, result);
    return result.failed.length > 0 ? 1 : 0;
  }
  if (name === "show" && thisPlatform().os === "win32") return showOnWindows(keys[0]!, json);
  const all = inspect({ allUsers });
  const [key = ""] = keys;
  const inventory = name === "show" ? only(all, key) : all;
  const isEmpty = thingsOf(inventory).length === 0;
  if (name === "list" && json) printJson(inventory);
  else if (name === "list") console.log(listing(inventory, style()));
  else if (json) printJson({ ...inventory, contents: inventory.segments.map(contentsJson) });
  else if (!isEmpty) showAll(inventory);
  if (name === "list" || !isEmpty) return 0;
  const others = allUsers ? [] : thingsOf(only(inspect({ allUsers: true }), key));
  const hint = others.length > 0 ? "; another user has one, which --all-users shows" : "";
  console.error(printable(`There is no object of the key "${key}" in ${all.folder}${hint}`));
  return 1;
}

/** Shows what lies in the segment of a key. Windows has no list of its segments, so nothing else is known. */
function showOnWindows(key: string, json: boolean): number {
  const native = /^\w+:/.test(key) ? NativeIpcKey.fromString(key) : null;
  const memory = new SharedMemory(native ?? key); // not `using`: an older Node is to say what is wrong
  if (!memory.attach(AccessMode.ReadOnly)) {
    console.error(printable(memory.errorString()));
    return 1;
  }
  try {
    const { search: _, ...contents } = atOnce(contentsSeenBy(new AttachedPeek(memory)));
    const none = { folder: "", segments: [], semaphores: [], keyFiles: [] };
    const found = { kind: "contents", segment: null, keyFile: null, ...contents };
    if (json) printJson({ ...none, contents: [found] });
    else console.log(contentsText(contents, memory.size(), style()));
    return 0;
  } finally {
    memory.detach();
  }
}

/** Prints everything that is known of a few objects, each segment with what lies in it. */
function showAll({ segments, semaphores, keyFiles, folder }: Inventory): void {
  const blocks = segments.map((segment) => {
    const text = details({ folder, segments: [segment], semaphores: [], keyFiles: [] }, style());
    const contents = contentsText(atOnce(contentsOf(segment)), segment.size, style());
    return `${text}\n\n${contents}`;
  });
  const rest = details({ folder, segments: [], semaphores, keyFiles }, style());
  console.log([...blocks, ...rest === "" ? [] : [rest]].join("\n\n"));
}

/** Returns what lies in a segment, for JSON. */
function contentsJson(segment: SegmentInfo) {
  const { parts, searched, problem } = atOnce(contentsOf(segment));
  const { id, keyFile } = segment;
  return { kind: "contents", segment: id, keyFile, searched, problem, parts };
}

type Thing = SegmentInfo | SemaphoreInfo | KeyFileInfo;

function thingsOf({ segments, semaphores, keyFiles }: Inventory): Thing[] {
  return [...segments, ...semaphores, ...keyFiles];
}

/** Returns the objects that belong to a key. */
function only({ folder, segments, semaphores, keyFiles }: Inventory, key: string): Inventory {
  const isWanted = (one: Thing) => belongsTo(one, key);
  return {
    folder,
    segments: segments.filter(isWanted),
    semaphores: semaphores.filter(isWanted),
    keyFiles: keyFiles.filter(isWanted),
  };
}

function report({ removed, failed }: CleanupResult, dryRun: boolean, name: string): void {
  const done = paint(dryRun ? "would remove" : "removed", "yellow", style());
  for (const one of removed) console.log(`${done} ${printable(`${nameOf(one)}: ${one.reason}`)}`);
  for (const one of failed) {
    console.error(printable(`could not remove ${nameOf(one)}: ${one.reason}`));
  }
  if (removed.length + failed.length > 0) return;
  console.log(name === "remove" ? "Nothing is unused." : "Nothing is stale.");
}

/** Reports the objects of the keys that cleanup has kept, and why it has kept them. */
function reportKept(before: Inventory, keys: readonly string[], result: CleanupResult): void {
  const others = new Set([...result.removed, ...result.failed].map(nameOf));
  for (const key of keys) {
    const things = thingsOf(only(before, key));
    for (const thing of things.filter((one) => !others.has(nameOf(one)))) {
      const { stale, reason } = thing;
      const text = stale ? `${reason}; --orphans lets cleanup remove it` : reason;
      console.log(printable(`kept ${nameOf(thing)}: ${text}`));
    }
    if (things.length > 0) continue;
    console.log(printable(`There is no object of the key "${key}" in ${before.folder}`));
  }
}

function nameOf(thing: Thing | Removal): string {
  const id = "id" in thing ? thing.id : null;
  return [thing.kind, id, thing.keyFile].filter((part) => part !== null).join(" ");
}

/** Prints JSON, and escapes every character that a terminal would obey. */
function printJson(value: unknown): void {
  // JSON has no BigInt. A number that is not exact as a float is a string.
  const isExact = (one: bigint) => Number.isSafeInteger(Number(one));
  const jsonOf = (_: string, one: unknown) =>
    typeof one !== "bigint" ? one : isExact(one) ? Number(one) : String(one);
  const text = JSON.stringify(value, jsonOf, 2);
  const escaped = (character: string) =>
    character.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join("");
  console.log(text.replace(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escaped));
}

function style(): Style {
  const { isTTY, columns } = process.stdout;
  // This calls C, since Deno would ask for the permission to read the environment.
  const isColorless = thisPlatform().os === "win32"
    ? process.env["NO_COLOR"]
    : sharedLibrary().getenv("NO_COLOR");
  return { color: isTTY && !isColorless, width: columns || (isTTY ? 80 : Infinity) };
}

async function main(args: string[]): Promise<number> {
  try {
    const command = parse(args);
    if (command === null) {
      console.log(HELP);
      return 0;
    }
    return startElsewhere(args) ?? await run(command);
  } catch (error) {
    const isUsage = error instanceof UsageError;
    const text = error instanceof Error ? error.message : String(error);
    console.error(`shared-memory: ${printable(text)}`);
    if (isUsage) console.error("Try --help.");
    return isUsage ? 2 : 1;
  }
}

/**
 * Runs the command in the runtime that started this one, if this one has no FFI; returns its exit code, else `null`.
 */
function startElsewhere(args: string[]): number | null {
  try {
    selectFfi();
    return null;
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    const code = runInStarter(fileURLToPath(import.meta.url), args);
    if (code !== null) return code;
    throw new UnsupportedError(`${error.message}: ${STARTS}`);
  }
}

// Node warns that its FFI is experimental. The reader of a table does not need this warning.
process.removeAllListeners("warning");
process.exitCode = await main(process.argv.slice(2));

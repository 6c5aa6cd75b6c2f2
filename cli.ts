/**
 * The command `shared-memory` lists segments, semaphores and key files, and removes stale ones. In Deno it runs with
 * `deno run --allow-ffi cli.ts`.
 *
 * @module
 */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { sharedLibrary } from "./backends/unix/shared_libc.ts";
import { runInStarter } from "./cli_starter.ts";
import { details, listing, paint, type Style } from "./cli_table.ts";
import { UnsupportedError } from "./errors.ts";
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
import { printable } from "./printable.ts";

const STARTS = "bunx --bun shared-memory, or deno run --allow-ffi npm:@shared-memory/shared-memory";

const HELP = `Lists and removes the shared memory of this module and of Qt.

Usage: shared-memory list                  all objects, in tables
       shared-memory show KEY              everything about one object: KEY is the key that a program
                                           gives to SharedMemory or SystemSemaphore, or a key file
       shared-memory cleanup [KEY...] [--dry-run] [--orphans]
                                           removes the stale objects of this user; with KEYs
                                           only those that belong to them
       shared-memory remove KEY... [--dry-run]
                                           removes the unused segments of the KEYs even if they are kept
                                           on purpose (lifetime "until-removed"), and what is stale

Options:
  --json      print JSON for programs: sizes in bytes, everything that is known
  --all-users let list and show include the objects of other users
  --dry-run   only say what cleanup or remove would remove
  --orphans   let cleanup also remove stale segments that no key file leads to (programs with another
              TMPDIR may have theirs elsewhere), and POSIX objects that other programs created
  -h, --help  this text

The command reads the key files in TMPDIR or else /tmp, as the programs do. These objects are stale:
a segment to which no process is attached, a semaphore for which no process waits and whose last user
has ended, and a key file that leads to no object. NO_COLOR turns the colors off.

Exit code: 0 fine; 1 something failed, or show found nothing; 2 wrong arguments.`;

const COMMANDS = ["list", "show", "cleanup", "remove"] as const;

class UsageError extends Error {}

interface Command {
  readonly name: typeof COMMANDS[number];
  readonly keys: readonly string[];
  readonly allUsers: boolean;
  readonly dryRun: boolean;
  readonly orphans: boolean;
  readonly json: boolean;
}

/** Parses the arguments; returns `null` if they ask for help. */
function parse(args: string[]): Command | null {
  const { values, positionals } = parsed(args);
  if (values.help) return null;
  const [word, ...keys] = positionals;
  if (word === undefined) {
    throw new UsageError("Give a command: list, show KEY, cleanup or remove KEY");
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
  return { name, keys, allUsers, dryRun, orphans, json: values.json ?? false };
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
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Runs a command; returns the exit code. */
function run({ name, keys, allUsers, dryRun, orphans, json }: Command): number {
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
  const all = inspect({ allUsers });
  const [key = ""] = keys;
  const inventory = name === "show" ? only(all, key) : all;
  const isEmpty = thingsOf(inventory).length === 0;
  if (json) printJson(inventory);
  else if (name === "list") console.log(listing(inventory, style()));
  else if (!isEmpty) console.log(details(inventory, style()));
  if (name === "list" || !isEmpty) return 0;
  const others = allUsers ? [] : thingsOf(only(inspect({ allUsers: true }), key));
  const hint = others.length > 0 ? "; another user has one, which --all-users shows" : "";
  console.error(printable(`There is no object of the key "${key}" in ${all.folder}${hint}`));
  return 1;
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
  const text = JSON.stringify(value, null, 2);
  const escaped = (character: string) =>
    character.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join("");
  console.log(text.replace(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escaped));
}

function style(): Style {
  const { isTTY, columns } = process.stdout;
  // This calls C, since Deno would ask for the permission to read the environment.
  const isColorless = sharedLibrary().getenv("NO_COLOR");
  return { color: isTTY && !isColorless, width: columns || (isTTY ? 80 : Infinity) };
}

function main(args: string[]): number {
  try {
    const command = parse(args);
    if (command === null) {
      console.log(HELP);
      return 0;
    }
    return startElsewhere(args) ?? run(command);
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
process.exitCode = main(process.argv.slice(2));

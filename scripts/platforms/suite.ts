/** Runs the tests in runtimes for another platform, with the system's own as their peers. */
import { spawn } from "node:child_process";
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { findRuntime } from "../runtimes.ts";
import { root } from "./common.ts";
import { isolated } from "./isolated.ts";
import { type Name, names, type Part, partsOf, type Plan, showLeftOut } from "./plan.ts";

export interface Platform {
  /** What is run, with its versions. */
  readonly description: string;
  /** How each of its runtimes is started. */
  readonly commands: Readonly<Partial<Record<Name, string>>>;
  /** The same without `variableOf` it in the environment. */
  readonly aloneCommands?: Readonly<Partial<Record<Name, string>>>;
  /** Of the tests. */
  readonly env: Readonly<Record<string, string>>;
}

/** For the command that starts a runtime: the tests are to start it too, in place of the system's. */
export function variableOf(name: Name): string {
  return `SHARED_MEMORY_TEST_${name.toUpperCase()}`;
}

interface Outcome extends Part {
  readonly counts: readonly [passed: number, failed: number, skipped: number];
  readonly seconds: number;
}

/** Gives the tests processes and POSIX objects of their own. */
const ALONE = `
  mount -t proc proc /proc
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  status=0 # and no exec: the shell stays process 1, whose end is that of all the processes
  "$@" || status=$?
  exit "$status"`;

/** Waits for the end, and says how it was. */
function runAlone(args: string[], env: NodeJS.ProcessEnv, output: number): Promise<string> {
  const [first, rest] = isolated(ALONE, ...args);
  const child = spawn(first, rest, { cwd: root, env, stdio: ["ignore", output, output] });
  return new Promise((resolve) => {
    child.once("error", ({ message }) => resolve(message));
    child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
}

/** Folders that are to go, however this ends. */
const folders = new Set<string>();
process.once("exit", () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  process.once(signal, () => process.exit(code)); // the tests end with us
}

function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), "shared-memory-platform-"));
  folders.add(folder);
  chmodSync(folder, 0o1777); // some tests are other users
  return folder;
}

async function test(platform: Platform, part: Part, args: readonly string[]): Promise<Outcome> {
  const { name, agents, alone, files } = part;
  const [folder, log] = [temporaryFolder(), path.join(temporaryFolder(), "log")];
  const hosts = names.flatMap((host) => {
    const found = findRuntime(host);
    return "missing" in found
      ? []
      : [[`SHARED_MEMORY_TEST_HOST_${host.toUpperCase()}`, found.command]];
  });
  const others = alone ? names.filter((other) => other !== name) : [];
  const env = {
    NO_COLOR: "1",
    ...process.env,
    ...platform.env,
    ...Object.fromEntries(hosts),
    ...Object.fromEntries(others.map((other) => [variableOf(other), "none"])),
    [variableOf(name)]: (agents ? platform.commands : platform.aloneCommands)?.[name],
    TMPDIR: folder,
  };
  const script = path.join(root, "scripts/test.ts");
  const started = performance.now();
  const output = openSync(log, "w");
  const ended = await runAlone(
    [process.execPath, script, `--runtime=${name}`, ...args, ...files],
    env,
    output,
  );
  closeSync(output);
  const seconds = (performance.now() - started) / 1000;
  const printed = readFileSync(log, "utf8").trimEnd();
  const summary = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(printed.split("\n").at(-1)!);
  console.log(`\n=== ${platform.description}\n${printed}`);
  if (summary === null) console.log(`\n${name} FAILED: ${ended}, and no summary`);
  const [passed = 0, failed = 1, skipped = 0] = summary?.slice(1).map(Number) ?? [];
  return { ...part, counts: [passed, failed, skipped], seconds };
}

/** As many parts at once as there are processors. */
export async function testPlatform(
  platform: Platform,
  plan: Plan,
  chosen: readonly Name[],
  texts: readonly string[],
  args: readonly string[],
): Promise<number> {
  const waiting = chosen.flatMap((name) => partsOf(plan, name, texts));
  const outcomes: Outcome[] = [];
  const work = async () => {
    for (let part; (part = waiting.shift()) !== undefined;) {
      outcomes.push(await test(platform, part, args));
    }
  };
  console.log("running the tests; what they print is shown when they have ended");
  await Promise.all(Array.from({ length: os.availableParallelism() }, work));
  console.log(`\n${platform.description}`);
  if (texts.length === 0) showLeftOut(plan);
  const text = ([passed, failed, skipped]: Outcome["counts"]) =>
    `${passed} passed, ${failed} failed, ${skipped} skipped`;
  for (const { name, agents, alone, files, counts, seconds } of outcomes) {
    const peers = agents ? "of the platform too" : "the system's";
    const others = alone ? ", and no other runtime is started" : "";
    console.log(
      `${name}, ${files.length} files, the ${name} they start is ${peers}${others}: ` +
        `${text(counts)} in ${seconds.toFixed(0)} s`,
    );
  }
  const sum = (index: number) => outcomes.reduce((total, { counts }) => total + counts[index]!, 0);
  const total = [sum(0), sum(1), sum(2)] as const;
  console.log(`\n${text(total)}`);
  return total[1] === 0 && total[0] > 0 ? 0 : 1;
}

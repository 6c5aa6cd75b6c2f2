/** Who takes part: plain C, Qt and each runtime, as far as this machine has them. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { findRuntime, type RuntimeName } from "../scripts/runtimes.ts";
import { type Absent, available, compile, here, output, Unavailable } from "./programs.ts";

/** What is measured a second time, and what that is called: with the key files in memory, which no disk slows down. */
export const createMeasure = "create+detach";
export const createInMemory = "create+detach, key files in tmpfs";

/** Where the key files of a run are. */
export interface Folders {
  usual: string;
  /** On a tmpfs; `null` if this system has none. */
  memory: string | null;
}

/** The nanoseconds of one operation, by measure. */
export type Sample = Record<string, number>;

export interface Contender {
  name: string;
  version: string;
  command: string;
  /** The arguments of each part of a run that keeps to `key` and to files in `directory`. */
  parts(key: string, directory: string): string[][];
  /** The arguments to measure only making segments, for those who make key files for that. */
  create?(key: string): string[];
}

function bareC(): Contender {
  const name = "bare C";
  const version = output("cc", ["-dumpfullversion", "-dumpversion"]);
  if (version === null) throw new Unavailable("no C compiler (cc)");
  const command = compile("cc", ["-pthread", join(here, "bare.c")], "bare");
  return {
    name,
    version: `cc ${version} -O2`,
    command,
    parts: (key, directory) => [[join(directory, key)]],
  };
}

function cppQt(): Contender {
  const flags = output("pkg-config", ["--cflags", "--libs", "Qt6Core"]);
  if (flags === null) throw new Unavailable("no Qt (pkg-config Qt6Core, package qt6-base-dev)");
  if (output("c++", ["--version"]) === null) throw new Unavailable("no C++ compiler (c++)");
  const args = ["-fPIC", join(here, "qt.cpp"), ...flags.split(/\s+/)];
  const command = compile("c++", args, "qt");
  const version = output(command, ["--version"]);
  if (version === null) throw new Unavailable("the compiled program does not start");
  return {
    name: "C++ Qt",
    version: `Qt ${version}`,
    command,
    parts: (key) => [[key]],
    create: (key) => [key, "create"],
  };
}

function runtime(name: RuntimeName, args: string[], handOffArgs = args): Contender {
  const found = findRuntime(name);
  if ("missing" in found) throw new Unavailable(found.missing);
  const { command, version } = found;
  const parts = (key: string, directory: string) => [
    [...args, join(here, "contender.ts"), key],
    [...handOffArgs, join(here, "hand_off.ts"), key, directory],
  ];
  const create = (key: string) => [...args, join(here, "contender.ts"), key, "create"];
  return { name, version, command, parts, create };
}

export function findContenders(): { present: Contender[]; absent: Absent[] } {
  return available([
    ["bare C", bareC],
    ["C++ Qt", cppQt],
    [
      "deno",
      () =>
        runtime(
          "deno",
          ["run", "--quiet", "--allow-ffi"],
          ["run", "--quiet", "--allow-all"], // for the other process, and for the socket
        ),
    ],
    ["bun", () => runtime("bun", [])],
    ["node", () => runtime("node", [])],
  ]);
}

/** Runs a contender once. Its key files go into these folders alone, so that none can be missed. */
export async function run(
  contender: Contender,
  key: string,
  { usual, memory }: Folders,
  signal: AbortSignal,
): Promise<Sample> {
  const part = async (args: string[], TMPDIR: string): Promise<Sample> => {
    const env = { ...process.env, TMPDIR, NO_COLOR: "1" };
    const options = { env, signal, timeout: 120_000 };
    const { stdout } = await promisify(execFile)(contender.command, args, options);
    return JSON.parse(stdout);
  };
  const sample: Sample = {};
  for (const args of contender.parts(key, usual)) Object.assign(sample, await part(args, usual));
  const create = contender.create?.(key);
  if (create !== undefined && memory !== null) {
    sample[createInMemory] = (await part(create, memory))[createMeasure]!;
  }
  for (const [measure, ns] of Object.entries(sample)) {
    if (!(ns > 0)) throw new Error(`${contender.name}: ${measure} took ${ns} ns`);
  }
  return sample;
}

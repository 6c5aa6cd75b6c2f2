/** Who takes part: plain C, Qt and each runtime, as far as this machine has them. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { findRuntime, type RuntimeName } from "../scripts/runtimes.ts";
import { type Absent, available, compile, here, output, Unavailable } from "./programs.ts";

/** The nanoseconds of one operation, by measure. */
export type Sample = Record<string, number>;

export interface Contender {
  name: string;
  version: string;
  command: string;
  /** The arguments of each part of a run that keeps to `key` and to files in `directory`. */
  parts(key: string, directory: string): string[][];
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
  return { name: "C++ Qt", version: `Qt ${version}`, command, parts: (key) => [[key]] };
}

function runtime(name: RuntimeName, args: string[], handOffArgs = args): Contender {
  const found = findRuntime(name);
  if ("missing" in found) throw new Unavailable(found.missing);
  const { command, version } = found;
  const parts = (key: string, directory: string) => [
    [...args, join(here, "contender.ts"), key],
    [...handOffArgs, join(here, "hand_off.ts"), key, directory],
  ];
  return { name, version, command, parts };
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

/** Runs a contender once. Its key files go into `directory`, so that none can be missed. */
export async function run(
  contender: Contender,
  key: string,
  directory: string,
  signal: AbortSignal,
): Promise<Sample> {
  const sample: Sample = {};
  for (const args of contender.parts(key, directory)) {
    const { stdout } = await promisify(execFile)(
      contender.command,
      args,
      { env: { ...process.env, TMPDIR: directory, NO_COLOR: "1" }, signal, timeout: 120_000 },
    );
    Object.assign(sample, JSON.parse(stdout));
  }
  for (const [measure, ns] of Object.entries(sample)) {
    if (!(ns > 0)) throw new Error(`${contender.name}: ${measure} took ${ns} ns`);
  }
  return sample;
}

/** What is measured in a process alone, which compares with something of its own: views, and waiting for the lock. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { findRuntime, type RuntimeName } from "../scripts/runtimes.ts";
import { type Absent, available, compileBare, here, Unavailable } from "./programs.ts";

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
  const parts = (key: string, directory: string) => [[join(directory, key)]];
  return { name: "bare C", ...compileBare(), parts };
}

function runtime(name: RuntimeName, args: string[], handOffArgs = args): Contender {
  const found = findRuntime(name);
  if ("missing" in found) throw new Unavailable(found.missing);
  const { command, version } = found;
  const parts = (key: string, directory: string) => [
    [...args, join(here, "views.ts"), key],
    [...handOffArgs, join(here, "hand_off.ts"), key, directory],
  ];
  return { name, version, command, parts };
}

export function findContenders(): { present: Contender[]; absent: Absent[] } {
  return available([
    ["bare C", bareC],
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

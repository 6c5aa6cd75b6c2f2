/** The programs that take part, as far as this machine has them. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { findRuntime, type RuntimeName as AnyRuntimeName } from "../scripts/runtimes.ts";
import type { Program } from "./crew.ts";

export type RuntimeName = Exclude<AnyRuntimeName, "qt">;

/** Where the module runs. */
export const runtimeNames: readonly RuntimeName[] = ["deno", "bun", "node"];

/** One who does a job. */
export interface Contender {
  name: string;
  version: string;
  /** How it takes part in `job`, with others of its kind in what `key` and `folder` name. */
  program(job: string, key: string, folder: string): Program;
}

export interface Absent {
  name: string;
  /** And how to get it. */
  reason: string;
}

export const here = import.meta.dirname!;
const build = join(here, "build");

/** Thrown while looking for a contender that cannot take part. */
export class Unavailable extends Error {}

export function output(command: string, args: string[]): string | null {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
      .trim();
  } catch {
    return null;
  }
}

function isOlder(file: string, other: string): boolean {
  return statSync(file).mtimeMs < statSync(other).mtimeMs;
}

export function compile(compiler: string, args: string[], program: string): string {
  mkdirSync(build, { recursive: true });
  const target = join(build, program);
  const sources = [...args.filter((file) => existsSync(file)), join(here, "cost.h")];
  if (existsSync(target) && sources.every((file) => isOlder(file, target))) return target;
  try {
    execFileSync(compiler, ["-O2", "-o", target, ...args], { stdio: ["ignore", "ignore", "pipe"] });
  } catch (cause) {
    throw new Unavailable(`${compiler} failed: ${cause instanceof Error ? cause.message : cause}`);
  }
  return target;
}

/** A runtime, with all permissions if nothing else is said. */
export function runtime(
  name: RuntimeName,
  permission = "--allow-all",
): [command: string, args: string[], version: string] {
  const found = findRuntime(name);
  if ("missing" in found) throw new Unavailable(found.missing);
  const args = name === "deno" ? ["run", "--quiet", "--no-check", permission] : found.args;
  return [found.command, [...args], found.version];
}

/** Compiles NAME.c; the version is that of the compiler. */
function compileC(name: string): { command: string; version: string } {
  const version = output("cc", ["-dumpfullversion", "-dumpversion"]);
  if (version === null) throw new Unavailable("no C compiler (cc): apt-get install gcc");
  return { command: compile("cc", ["-pthread", join(here, `${name}.c`)], name), version };
}

/** What is made in plain C: sync.c or map.c. */
export function c(file = "sync"): Contender {
  const { command, version } = compileC(file);
  return {
    name: "C",
    version: `gcc ${version} -O2`,
    program: (job, key) => ({
      command,
      args: (index, count) => [job, String(count), String(index), `/${key}`],
    }),
  };
}

/** The system calls that nobody can do without; its key file is its own. */
export function bareCalls(): Contender {
  const { command, version } = compileBare();
  return {
    name: "bare C",
    version,
    program: (job, key, folder) => ({
      command,
      args: (index, count) => [job, String(count), String(index), join(folder, key)],
    }),
  };
}

export function compileBare(): { command: string; version: string } {
  const { command, version } = compileC("bare");
  return { command, version: `cc ${version} -O2` };
}

export function cppQt(): Contender {
  const flags = output("pkg-config", ["--cflags", "--libs", "Qt6Core"]);
  if (flags === null) throw new Unavailable("no Qt 6: apt-get install qt6-base-dev");
  if (output("c++", ["--version"]) === null) {
    throw new Unavailable("no C++ compiler (c++): apt-get install g++");
  }
  const args = ["-fPIC", join(here, "qt_jobs.cpp"), ...flags.split(/\s+/)];
  const command = compile("c++", args, "qt_jobs");
  return {
    name: "C++ Qt",
    version: output("pkg-config", ["--modversion", "Qt6Core"])!,
    program: (job, key) => ({
      command,
      args: (index, count) => [job, String(count), String(index), key],
    }),
  };
}

/** The module in one of the runtimes, which does the jobs of `file`. */
export function ours(name: RuntimeName, file = "sync_jobs.ts"): Contender {
  const [command, args, version] = runtime(name);
  return {
    name,
    version,
    program: (job, key) => ({
      command,
      args: (index, count) => [
        ...args,
        join(here, file),
        job,
        String(count),
        String(index),
        key,
      ],
    }),
  };
}

/** Those of `candidates` that this machine has. */
export function available<Found>(
  candidates: readonly (readonly [name: string, find: () => Found])[],
): { present: Found[]; absent: Absent[] } {
  const present: Found[] = [];
  const absent: Absent[] = [];
  for (const [name, find] of candidates) {
    try {
      present.push(find());
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      absent.push({ name, reason: error.message });
    }
  }
  return { present, absent };
}

/** What each module of the built package loads: its size and the time that its import takes. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { findRuntime } from "./runtimes.ts";

const RUNTIMES = ["deno", "bun", "node"] as const;

/** How often a program is started, of which the median counts. */
const STARTS = 7;

/** The files that a file of the package loads, with itself. */
export function loadedFiles(folder: string, file: string): Set<string> {
  const files = new Set([path.normalize(file)]);
  for (const loaded of files) {
    const code = readFileSync(path.join(folder, loaded), "utf8");
    for (const [, other] of code.matchAll(/^(?:import|export)\b[^"';]*"(\.[^"]+)";/gm)) {
      files.add(path.join(path.dirname(loaded), other!));
    }
  }
  return files;
}

/** The JavaScript that a file of the package loads. */
export function loadedCode(folder: string, file: string): string {
  return [...loadedFiles(folder, file)]
    .map((loaded) => readFileSync(path.join(folder, loaded), "utf8")).join("");
}

/** The size of a code as a server would send it, in KiB. */
export function packedKibibytes(code: string): number {
  return gzipSync(code, { level: 9 }).length / 1024;
}

/** How long programs run, in ms: the median of several starts of each, in turn. */
function runningTimes(command: string, args: readonly string[], programs: string[]): number[] {
  const times = programs.map((): number[] => []);
  for (let start = 0; start < STARTS; start++) {
    for (const [i, program] of programs.entries()) {
      const began = performance.now();
      const { status, stderr } = spawnSync(command, [...args, program], { encoding: "utf8" });
      times[i]!.push(performance.now() - began);
      if (status === 0) continue;
      throw new Error(stderr);
    }
  }
  return times.map((of) => of.sort((a, b) => a - b)[STARTS >> 1]!);
}

/**
 * A line for each module of a package that lies in `folder/package`. The time is that of a program that
 * imports the module beyond that of an empty program.
 */
export function moduleTable(folder: string, modules: Readonly<Record<string, string>>): string {
  const empty = path.join(folder, "empty.mjs");
  writeFileSync(empty, "");
  const programs = Object.values(modules).map((file) => {
    const program = path.join(folder, `import_${path.basename(file, ".js")}.mjs`);
    writeFileSync(program, `import "./package/${path.normalize(file)}";`);
    return program;
  });
  const columns = RUNTIMES.map((name) => {
    const runtime = findRuntime(name);
    if ("missing" in runtime) return { name, cells: programs.map(() => "missing") };
    const { command, args } = runtime;
    const [base, ...times] = runningTimes(command, args, [empty, ...programs]);
    return { name, cells: times.map((time) => `${(time - base!).toFixed(0)} ms`) };
  });
  const row = (name: string, size: string, cells: readonly string[]) =>
    name.padEnd(26) + size.padStart(8) + cells.map((cell) => cell.padStart(9)).join("");
  const sizes = Object.values(modules).map((file) =>
    packedKibibytes(loadedCode(path.join(folder, "package"), file))
  );
  return [
    row("module", "gzipped", columns.map(({ name }) => name)),
    ...Object.keys(modules).map((module, i) =>
      row(module, `${sizes[i]!.toFixed(0)} KiB`, columns.map(({ cells }) => cells[i]!))
    ),
  ].join("\n");
}

/**
 * Builds the npm package from deno.json: `npm run pack`, or with another folder than dist as argument.
 *
 * `deno pack` makes the JavaScript, the declarations and the exports; scripts/package_fields.ts has the
 * fields that deno.json lacks. esbuild then makes a few files of the many, since Node looks for each of
 * them in turn, and leaves the comments to the declarations.
 */
import { spawnSync } from "node:child_process";
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { COMMAND, PACKAGE_FIELDS } from "./package_fields.ts";
import { findRuntime } from "./runtimes.ts";

interface Export {
  readonly types: string;
  readonly default: string;
}

interface Contents {
  /** The JavaScript that is exported, or run. */
  readonly entries: string[];
  /** What others import a module by, for its source's path. */
  readonly names: Readonly<Record<string, string>>;
}

const RUNTIMES = ["deno", "bun", "node"] as const;

const root = path.dirname(import.meta.dirname!);
const target = path.resolve(process.argv[2] ?? path.join(root, "dist"));

function run(command: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (status === 0) return stdout;
  console.error(stdout, stderr, error?.message ?? "");
  process.exit(1);
}

function esbuild(files: string[], folder: string, ...args: string[]): void {
  const command = path.join(root, "node_modules/.bin/esbuild");
  const common = ["--charset=utf8", "--target=esnext", "--log-level=warning", "--outbase=."];
  run(command, [...files, `--outdir=${folder}`, ...common, ...args], folder);
}

/** Makes of all JavaScript in `folder` the entries, and what they share; without the comments. */
function bundle(folder: string, entries: string[]): void {
  const bundling = ["--bundle", "--splitting", "--format=esm", "--platform=node"];
  const all = globSync("**/*.js", { cwd: folder });
  // Only without white space are all comments gone; the second run makes it readable again.
  esbuild(entries, folder, ...bundling, "--minify-whitespace", "--allow-overwrite");
  for (const file of all) if (!entries.includes(file)) rmSync(path.join(folder, file));
  esbuild(globSync("**/*.js", { cwd: folder }), folder, "--allow-overwrite");
}

/** Completes the package.json of `deno pack`. */
function completeFields(folder: string): Contents {
  const file = path.join(folder, "package.json");
  const { name, version, exports, ...rest } = JSON.parse(readFileSync(file, "utf8"));
  const { "./cli": cli, ...modules } = exports as Record<string, Export>;
  const fields = {
    ...{ name, version, ...PACKAGE_FIELDS, ...rest },
    bin: { [COMMAND]: cli!.default },
    // The command is no module: it would run when it is imported.
    exports: { ...modules, "./package.json": "./package.json" },
  };
  writeFileSync(file, JSON.stringify(fields, null, 2) + "\n");
  rmSync(path.join(folder, cli!.types));
  const sources = Object.entries(modules).map(([module, { types }]) => [
    path.normalize(types).replace(/\.d\.ts$/, ".ts"),
    path.posix.join(name, module),
  ]);
  return {
    entries: [cli!, ...Object.values(modules)].map((entry) => path.normalize(entry.default)),
    names: Object.fromEntries(sources),
  };
}

/**
 * Puts into the declarations what `deno pack` leaves out, members with a computed name
 * (https://github.com/denoland/deno/issues/36567), and into their examples the package's modules by the
 * names that they have for others.
 */
function completeTypes(folder: string, names: Readonly<Record<string, string>>): void {
  for (const file of globSync("**/*.d.ts", { cwd: folder })) {
    const text = readFileSync(path.join(folder, file), "utf8");
    const named = text.replace(/(\* .* from )"(\.\.?\/[^"]*\.ts)"/g, (line, start, module) => {
      const name = names[path.join(path.dirname(file), module)];
      return name === undefined ? line : `${start}"${name}"`;
    });
    const dispose =
      "  /** What `using` calls at the end of its block. */\n  [Symbol.dispose](): void;\n";
    const disposable = named.replace(/( implements Disposable \{\n)/g, `$1${dispose}`);
    writeFileSync(path.join(folder, file), disposable);
  }
}

/** In each runtime, the least of some runs, in ms: the first ones also fill the system's caches. */
function importTimes(folder: string): string {
  const script = path.join(folder, "import_time.mjs");
  writeFileSync(
    script,
    `const start = performance.now();
    await import("./package/mod.js");
    console.log(performance.now() - start);`,
  );
  const times = RUNTIMES.map((name) => {
    const runtime = findRuntime(name);
    if ("missing" in runtime) return `${name} is missing`;
    const { command, args } = runtime;
    const runs = Array.from({ length: 4 }, () => Number(run(command, [...args, script], folder)));
    return `${name} ${Math.min(...runs).toFixed(0)} ms`;
  });
  return times.join(", ");
}

const deno = findRuntime("deno");
if ("missing" in deno) {
  console.error(`Deno builds the package: ${deno.missing}`);
  process.exit(1);
}
const folder = mkdtempSync(path.join(os.tmpdir(), "shared-memory-pack-"));
try {
  const packed = path.join(folder, "packed.tgz");
  run(deno.command, ["pack", "--quiet", "--allow-dirty", "--no-source-maps", "-o", packed], root);
  run("tar", ["-xzf", packed], folder);
  const unpacked = path.join(folder, "package");
  const { entries, names } = completeFields(unpacked);
  bundle(unpacked, entries);
  completeTypes(unpacked, names);
  mkdirSync(target, { recursive: true });
  const output = run("npm", ["pack", "--json", "--pack-destination", target], unpacked);
  const [{ filename, size, unpackedSize, entryCount }] = JSON.parse(output);
  const kibibytes = (bytes: number) => `${Math.round(bytes / 1024)} KiB`;
  console.log(path.join(target, filename));
  console.log(
    `${entryCount} files, ${kibibytes(size)} packed, ${kibibytes(unpackedSize)} unpacked`,
  );
  console.log(`import: ${importTimes(folder)}`);
} finally {
  rmSync(folder, { recursive: true });
}

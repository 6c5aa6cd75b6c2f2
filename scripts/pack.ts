/**
 * Builds the npm package from deno.json: `npm run pack`, or with another folder than dist as argument.
 *
 * esbuild makes a few files of the many sources, since Node looks for each file in turn, and leaves the
 * comments to the declarations, which are TypeScript's own. scripts/package_fields.ts has the fields that
 * deno.json lacks.
 */
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { COMMAND, MANIFEST, PACKAGE_FIELDS } from "./package_fields.ts";
import { packageNames, packagePage } from "./package_pages.ts";
import { findRuntime } from "./runtimes.ts";

const RUNTIMES = ["deno", "bun", "node"] as const;

const root = path.dirname(import.meta.dirname!);
const target = path.resolve(process.argv[2] ?? path.join(root, "dist"));

const { name, version, license, exports } = MANIFEST;
/** Each source that is exported or run, by the name of its file in the package. */
const sources = Object.fromEntries(
  Object.entries(exports).map(([module, source]) => [
    module === "." ? "mod" : path.basename(module),
    path.normalize(source),
  ]),
);
const { cli: _, ...modules } = sources;

function run(command: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (status === 0) return stdout;
  console.error(stdout, stderr, error?.message ?? "");
  process.exit(1);
}

function esbuild(files: string[], folder: string, ...args: string[]): void {
  const command = path.join(root, "node_modules/.bin/esbuild");
  const common = ["--charset=utf8", "--target=esnext", "--log-level=warning", "--tsconfig-raw={}"];
  run(command, [...files, `--outdir=${folder}`, ...common, ...args], root);
}

/** Writes the JavaScript of all sources and what they share, without the comments. */
function bundle(folder: string): void {
  const entries = Object.entries(sources).map(([name, source]) => `${name}=${source}`);
  const bundling = ["--bundle", "--splitting", "--format=esm", "--platform=node"];
  // Only without white space are all comments gone; the second run makes it readable again.
  esbuild(entries, folder, ...bundling, "--minify-whitespace");
  const files = globSync("*.js", { cwd: folder }).map((file) => path.join(folder, file));
  esbuild(files, folder, `--outbase=${folder}`, "--allow-overwrite");
  for (const file of files) {
    // Not in the source: dnt writes one of its own before it.
    const start = path.basename(file) === "cli.js" ? "#!/usr/bin/env node\n" : "";
    writeFileSync(file, start + withOwnNames(readFileSync(file, "utf8")));
  }
}

/**
 * Gives the classes their names, which stack traces and `console.log` show: esbuild calls a class that
 * refers to itself `var Mutex = class _Mutex`.
 */
function withOwnNames(code: string): string {
  for (const [, name] of code.matchAll(/\bvar (\w+) = class _\1\b/g)) {
    code = code.replaceAll(new RegExp(`\\b_${name}\\b`, "g"), name!);
  }
  const others = [...code.matchAll(/\bclass (_\w+)/g)].map(([, name]) => name);
  if (others.length === 0) return code;
  console.error(`classes have names that they do not have in the sources: ${others.join(", ")}`);
  process.exit(1);
}

/** Writes the declarations that the modules need. */
function declare(folder: string): void {
  const all = mkdtempSync(path.join(path.dirname(folder), "declarations-"));
  const options = {
    ...{ declaration: true, emitDeclarationOnly: true, stripInternal: true },
    ...{ target: "esnext", module: "nodenext", lib: ["esnext", "dom"], types: [] },
    ...{ strict: true, exactOptionalPropertyTypes: true, allowImportingTsExtensions: true },
    ...{ rootDir: root, outDir: all },
    noCheck: true, // `npm run check` has done it, with the types of Deno
  };
  const files = Object.values(modules).map((source) => path.join(root, source));
  const project = path.join(all, "tsconfig.json");
  writeFileSync(project, JSON.stringify({ compilerOptions: options, files }));
  run(path.join(root, "node_modules/typescript/bin/tsc"), ["--project", project], root);

  const wanted = new Set(Object.values(modules));
  for (const source of wanted) {
    const file = source.replace(/\.ts$/, ".d.ts");
    const text = readFileSync(path.join(all, file), "utf8");
    const code = text.replace(/\/\*[^]*?\*\//g, "");
    if (/\bany\b/.test(code)) {
      console.error(`${file} says "any": give what it declares a type`);
      process.exit(1);
    }
    for (const [, other] of code.matchAll(/\b(?:from |import\()"(\.[^"]+\.ts)"/g)) {
      wanted.add(path.join(path.dirname(source), other!));
    }
    mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
    writeFileSync(path.join(folder, file), published(source, text));
  }
  for (const [name, source] of Object.entries(modules)) {
    if (`${name}.ts` === source) continue;
    const from = `./${source.replace(/\.ts$/, ".js")}`;
    const text = readFileSync(path.join(folder, source.replace(/\.ts$/, ".d.ts")), "utf8");
    const hasDefault = /^export default /m.test(text); // which `*` is without
    const what = hasDefault ? ["{ default }", "*"] : ["*"];
    const lines = what.map((exported) => `export ${exported} from "${from}";\n`);
    writeFileSync(path.join(folder, `${name}.d.ts`), lines.join(""));
  }
}

/** A declaration file as others see it: with the names of the published files and modules. */
function published(source: string, text: string): string {
  const named = packageNames(text, path.dirname(source), /(\* .* from )"(\.\.?\/[^"]*\.ts)"/g);
  const imported = named.replace(/\b(from |import\()"(\.[^"]+)\.ts"/g, '$1"$2.js"');
  // What `using` needs is in no lib before "esnext.disposable", which TypeScript has since 5.2.
  const isDisposable = /\bDisposable\b|\bSymbol\.dispose\b/.test(imported);
  return isDisposable ? `/// <reference lib="esnext.disposable" />\n${imported}` : imported;
}

function manifest(): object {
  const exported = Object.keys(exports).filter((module) => module !== "./cli").map((module) => {
    const file = `./${module === "." ? "mod" : path.basename(module)}`;
    return [module, { types: `${file}.d.ts`, default: `${file}.js` }];
  });
  return {
    ...{ name, version, ...PACKAGE_FIELDS, license, type: "module" },
    bin: { [COMMAND]: "./cli.js" },
    // For what does not know `exports`, which finds the other modules by the names of their files.
    ...{ main: "./mod.js", types: "./mod.d.ts" },
    // The command is no module: it would run when it is imported.
    exports: { ...Object.fromEntries(exported), "./package.json": "./package.json" },
  };
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

const folder = mkdtempSync(path.join(os.tmpdir(), "shared-memory-pack-"));
try {
  const unpacked = path.join(folder, "package");
  bundle(unpacked);
  declare(unpacked);
  writeFileSync(path.join(unpacked, "package.json"), JSON.stringify(manifest(), null, 2) + "\n");
  for (const page of ["README.md", "CHANGELOG.md"]) {
    writeFileSync(path.join(unpacked, page), packagePage(page));
  }
  copyFileSync(path.join(root, "LICENSE"), path.join(unpacked, "LICENSE"));
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

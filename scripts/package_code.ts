/**
 * Writes the JavaScript of the npm package: few files, since Node looks for each file in turn, without
 * comments, and with short names for what only one function knows. Functions, classes and methods keep
 * their names, so that stack traces are those of the sources.
 */
import { spawnSync } from "node:child_process";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

const root = path.dirname(import.meta.dirname!);

const esbuild = path.join(root, "node_modules/.bin/esbuild");

/** Runs a command and returns what it prints. @throws {Error} with what it complains about */
export function run(command: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (status === 0) return stdout;
  throw new Error(`${command}: ${stdout}${stderr}${error?.message ?? ""}`);
}

/** The statements of esbuild that make a module of a script. Those of built-in modules are in its midst. */
const IMPORTS = /(?<=^|[;}])import(?:[\w$*{}, ]+from)?"[^"]+";/g;
const EXPORTS = /export\{[^}]*\};\s*$/;

/** An uncaught error prints the line that threw it, so that the lines must be short. */
const LINE_LIMIT = 400;

/**
 * Writes modules and the chunks that they share.
 *
 * @param sources the source of each module, by the name of its file in the package
 */
export function writeCode(sources: Readonly<Record<string, string>>, folder: string): void {
  const common = [`--outdir=${folder}`, "--charset=utf8", "--target=esnext", "--log-level=warning"];
  const entries = Object.entries(sources).map(([name, source]) => `${name}=${source}`);
  const bundling = ["--bundle", "--splitting", "--format=esm", "--platform=node"];
  const alias = `--alias:node:process=${path.join(root, "scripts/package_process.ts")}`;
  const options = [...bundling, alias, "--minify-whitespace", "--tsconfig-raw={}"];
  run(esbuild, [...entries, ...common, ...options], root);

  const files = globSync("*.js", { cwd: folder }).map((file) => path.join(folder, file));
  const parts = files.map((file) => {
    const code = withOwnNames(readFileSync(file, "utf8"));
    const imports = [...code.matchAll(IMPORTS)].join("");
    const script = code.replace(IMPORTS, "").replace(EXPORTS, "");
    return { file, imports, script, exports: EXPORTS.exec(code)?.[0] ?? "" };
  });
  const minify = (some: typeof parts, ...options: string[]) => {
    for (const { file, script } of some) writeFileSync(file, script);
    const paths = some.map(({ file }) => file);
    const all = ["--allow-overwrite", `--outbase=${folder}`, `--line-limit=${LINE_LIMIT}`];
    run(esbuild, [...paths, ...common, ...all, ...options], root);
  };
  // Without import and export it is a script, whose top-level names esbuild keeps.
  minify(parts, "--minify");
  // A class inside of a function has lost its name. The files that have one are small.
  const nameless = parts.filter(({ file, script }) =>
    classNames(script).difference(classNames(readFileSync(file, "utf8"))).size > 0
  );
  minify(nameless, "--minify-whitespace", "--minify-syntax");
  for (const { file, imports, exports } of parts) {
    // Not in the source: dnt writes one of its own before it.
    const start = path.basename(file) === "cli.js" ? "#!/usr/bin/env node\n" : "";
    const code = readFileSync(file, "utf8");
    writeFileSync(file, `${start}${wrapped(imports)}${code}${wrapped(exports)}`);
  }
}

/** The names of the classes that a code declares. */
function classNames(code: string): Set<string> {
  return new Set(
    [...code.matchAll(/\bclass (?!extends\b)(\w+)|(\w+)=class\b/g)].map(([, a, b]) => (a ?? b)!),
  );
}

/** Breaks the long lists of names in lines. */
function wrapped(statements: string): string {
  return statements.replaceAll(";", ";\n").replace(/.{300,}?,/g, "$&\n");
}

/**
 * Declares the classes as the sources do: esbuild calls a class that refers to itself
 * `var Mutex=class _Mutex`, and stack traces and `console.log` would show that name.
 */
function withOwnNames(code: string): string {
  const declared = code.replace(/\bvar (\w+)=class _\1\b/g, "class $1");
  return declared.replace(
    /\b_(\w+)\b/g,
    (name, own: string) => code.includes(`var ${own}=class ${name}`) ? own : name,
  );
}

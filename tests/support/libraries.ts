/** The libraries that adapters are for. `npm ci --ignore-scripts` in tests/adapters/libraries installs them. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { Runtime } from "../../scripts/runtimes.ts";
import { type Agent, isRequired, startAgent } from "./support.ts";

/** Where they are. */
export const librariesFolder: string = fileURLToPath(
  new URL("../adapters/libraries/", import.meta.url),
);

const require = createRequire(`${librariesFolder}package.json`);

/** `{ skip: reason }` where they are not installed, unless the environment requires them. */
export const needsLibraries: { skip?: string } = Object.keys(require("./package.json").dependencies)
    .every((name) => existsSync(`${librariesFolder}node_modules/${name}`)) ||
    isRequired("libraries")
  ? {}
  : {
    skip: "the libraries are not installed: npm ci --ignore-scripts in tests/adapters/libraries",
  };

/** What a library exports; nothing where the tests are left out. */
// deno-lint-ignore no-explicit-any -- they are tested as the programs of others use them, also of JavaScript
export function library(name: string): any {
  return needsLibraries.skip === undefined ? require(name) : {};
}

/** An agent that may import what its own program does not. */
export function startImporting(runtime: Runtime, permissions: readonly string[] = []): Agent {
  const flags = runtime.name === "deno" ? ["--allow-read", ...permissions] : [];
  return startAgent(runtime, {}, flags);
}

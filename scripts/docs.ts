/**
 * Builds the API reference as pages of HTML from the documentation in the sources: `npm run docs`, or
 * with another folder than dist/api as argument. The folder can be served as it is.
 */
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { findRuntime } from "./runtimes.ts";

/** The entry points that programs import, of deno.json. */
const MODULES = [
  ...["mod.ts", "inspect.ts", "metrics.ts", "sync/mod.ts", "collections/mod.ts", "testing.ts"],
  ...["keyv", "unstorage", "rate_limiter_flexible", "express_session"].map((name) =>
    `adapters/${name}.ts`
  ),
];

const root = path.dirname(import.meta.dirname!);
const target = path.resolve(process.argv[2] ?? path.join(root, "dist/api"));

const deno = findRuntime("deno");
if ("missing" in deno) {
  console.error(`Deno makes the reference: ${deno.missing}`);
  process.exit(1);
}
rmSync(target, { recursive: true, force: true }); // pages of what is no longer there
const args = ["doc", "--html", "--name=shared-memory", `--output=${target}`, ...MODULES];
const { status, stderr, error } = spawnSync(deno.command, args, { cwd: root, encoding: "utf8" });
if (status !== 0) {
  console.error(stderr, error?.message ?? "");
  process.exit(1);
}
console.log(`${path.join(target, "index.html")}`);

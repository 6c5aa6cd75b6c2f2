/**
 * Checks the types of the TypeScript files that README.md and docs/*.md show with their names, which may
 * import each other. `deno test --doc` checks, and runs, all blocks but those that say `ignore`.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { blocksOf, pages } from "./markdown.ts";
import { findRuntime } from "./runtimes.ts";

const root = path.dirname(import.meta.dirname!);
/** Within the repository, whose compiler options are to hold. */
const target = path.join(root, "dist/pages");

const deno = findRuntime("deno");
if ("missing" in deno) {
  console.error(`Deno checks the types: ${deno.missing}`);
  process.exit(1);
}
const files: string[] = [];
for (const page of pages(root)) {
  const folder = path.join(target, path.basename(page, ".md"));
  mkdirSync(folder, { recursive: true });
  for (const { file, text } of blocksOf(readFileSync(path.join(root, page), "utf8"))) {
    if (!file.endsWith(".ts")) continue;
    files.push(path.join(folder, file));
    writeFileSync(path.join(folder, file), text);
  }
}
const { status } = spawnSync(deno.command, ["check", ...files], { cwd: root, stdio: "inherit" });
rmSync(target, { recursive: true });
process.exitCode = status ?? 1;

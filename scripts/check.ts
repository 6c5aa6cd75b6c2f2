/**
 * Checks everything that needs no run: format, lint, types, documentation, the package as JSR would
 * take it, and the examples in the documentation. `npm run check`.
 */

import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { pages } from "./markdown.ts";
import { findRuntime } from "./runtimes.ts";
import { sourceFiles } from "./sources.ts";

const root = path.dirname(import.meta.dirname!);

function publicModules(): string[] {
  return sourceFiles().filter((file) => !file.includes("/") || file.startsWith("sync/"));
}

const steps: [name: string, args: string[]][] = [
  ["format", ["fmt", "--check"]],
  ["lint", ["lint"]],
  ["types", ["check"]],
  ["layers", ["run", "--allow-read", "scripts/check_layers.ts"]],
  ["documentation", ["doc", "--lint", "mod.ts", "inspect.ts", "sync/mod.ts", "cli.ts"]],
  ["package", ["publish", "--dry-run", "--allow-dirty"]],
  ["tables", ["run", "--allow-read", "scripts/platform_docs.ts", "--check"]],
  ["links", ["run", "--allow-read", "scripts/check_links.ts"]],
  ["files of pages", ["run", "-A", "scripts/check_pages.ts"]],
  // Only the permission that the documentation promises is enough.
  ["examples", ["test", "--doc", "--allow-ffi", "--no-prompt", ...publicModules(), ...pages(root)]],
];

const deno = findRuntime("deno");
if ("missing" in deno) {
  console.error(`The checks need deno: ${deno.missing}`);
  process.exit(1);
}

let failed = 0;
for (const [name, args] of steps) {
  const started = performance.now();
  const result = spawnSync(deno.command, args, {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 64 * 2 ** 20,
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
  const ok = result.status === 0;
  console.log(
    `${ok ? "ok    " : "FAILED"} ${name.padEnd(14)} ${seconds} s  deno ${args.join(" ")}`,
  );
  if (ok) continue;
  failed++;
  console.log(`${result.stdout}${result.stderr}${result.error?.message ?? ""}`.trimEnd());
}
if (failed > 0) console.log(`${failed} of ${steps.length} checks failed`);
process.exitCode = failed > 0 ? 1 : 0;

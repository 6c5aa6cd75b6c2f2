/**
 * Checks everything that needs no run: format, lint, types, documentation, the package as JSR would
 * take it, and the examples in the documentation. `npm run check`.
 */

import { spawn } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { pages } from "./markdown.ts";
import { findRuntime } from "./runtimes.ts";
import { sourceFiles } from "./sources.ts";

const root = path.dirname(import.meta.dirname!);

function publicModules(): string[] {
  return sourceFiles().filter((file) =>
    !file.includes("/") || /^(sync|collections|adapters)\//.test(file)
  );
}

type Step = readonly [name: string, args: string[]];

const steps: Step[] = [
  ["format", ["fmt", "--check"]],
  ["lint", ["lint"]],
  ["types", ["check"]],
  ["layers", ["run", "--allow-read", "scripts/check_layers.ts"]],
  ["documentation", [
    ...[
      "doc",
      "--lint",
      "mod.ts",
      "inspect.ts",
      "metrics.ts",
      "sync/mod.ts",
      "collections/mod.ts",
      "cli.ts",
    ],
    ...["keyv", "unstorage", "rate_limiter_flexible", "express_session"].map((name) =>
      `adapters/${name}.ts`
    ),
    "testing.ts",
  ]],
  ["package", ["publish", "--dry-run", "--allow-dirty"]],
  ["tables", ["run", "--allow-read", "scripts/platform_docs.ts", "--check"]],
  ["links", ["run", "--allow-read", "scripts/check_links.ts"]],
  ["files of pages", ["run", "-A", "scripts/check_pages.ts"]],
  ["mutants", ["run", "--allow-read", "scripts/check_mutants.ts"]],
];

// Only the permission that the documentation promises is enough.
const permission = ["--allow-ffi", "--no-prompt"];
const examples: Step = ["examples", [
  ...["test", "--doc", ...permission, ...publicModules(), ...pages(root)],
]];

const found = findRuntime("deno");
if ("missing" in found) {
  console.error(`The checks need deno: ${found.missing}`);
  process.exit(1);
}
const deno = found.command;

/** Runs a step; returns whether it succeeded, and what there is to print. */
async function check([name, args]: Step): Promise<{ ok: boolean; text: string }> {
  const started = performance.now();
  const child = spawn(deno, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (data) => output += data);
  }
  const ok = await new Promise<boolean>((resolve) => {
    child.once("error", ({ message }) => {
      output += message;
      resolve(false);
    });
    child.once("close", (code) => resolve(code === 0));
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
  const title = `${ok ? "ok    " : "FAILED"} ${name.padEnd(14)} ${seconds} s  deno ${
    args.join(" ")
  }`;
  return { ok, text: ok ? title : `${title}\n${output.trimEnd()}` };
}

// The examples take as long as all the others, which stay one after the other: some write files that others read.
const running = check(examples);
let failed = 0;
for (const step of [...steps, undefined]) {
  const { ok, text } = await (step ? check(step) : running);
  console.log(text);
  if (!ok) failed++;
}
if (failed > 0) console.log(`${failed} of ${steps.length + 1} checks failed`);
process.exitCode = failed > 0 ? 1 : 0;

/**
 * Builds the npm package from deno.json: `npm run pack`, or with another folder than dist as argument.
 * `deno pack` does it but for what deno.json has no fields for.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { findRuntime } from "./runtimes.ts";

/** What npm shows of the package and does with it, beside what `deno pack` writes. */
const FIELDS = {
  description:
    "Named shared memory and system-wide locks between processes, with the semantics of " +
    "QSharedMemory, for Deno, Bun and Node, without a native add-on",
  keywords: ["shared-memory", "ipc", "semaphore", "lock", "mmap", "QSharedMemory", "ffi"],
  engines: { node: ">=26.9", bun: ">=1.2", deno: ">=2.0" },
  sideEffects: false,
  bin: { "shared-memory": "./cli.js" },
};

const root = path.dirname(import.meta.dirname!);
const target = path.resolve(process.argv[2] ?? path.join(root, "dist"));

function run(command: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (status === 0) return stdout;
  console.error(stdout, stderr, error?.message ?? "");
  process.exit(1);
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
  const file = path.join(unpacked, "package.json");
  const { name, version, ...rest } = JSON.parse(readFileSync(file, "utf8"));
  writeFileSync(file, JSON.stringify({ name, version, ...FIELDS, ...rest }, null, 2) + "\n");
  mkdirSync(target, { recursive: true });
  const output = run("npm", ["pack", "--json", "--pack-destination", target], unpacked);
  const [{ filename, unpackedSize }] = JSON.parse(output);
  console.log(`${path.join(target, filename)} (${Math.round(unpackedSize / 1024)} KiB unpacked)`);
} finally {
  rmSync(folder, { recursive: true });
}

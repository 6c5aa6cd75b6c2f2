/** Makes what Bun for musl needs on a Debian, whose own C library is glibc. */
import { readFileSync, symlinkSync } from "node:fs";
import { createHash } from "node:crypto";
import path from "node:path";
import process from "node:process";
import { aptInstall, buildFolder, cacheFolder, root, run, unpackNpm, versionOf } from "./common.ts";
import type { Platform } from "./suite.ts";
import { writeWrapper } from "./wrapper.ts";

const SHIM = path.join(root, "scripts/platforms/musl_shim.c");
/** Debian has these only for glibc; the shim makes them load. */
const LIBRARIES = "/usr/lib/x86_64-linux-gnu";

/** A folder for the loader to look in. */
function buildLibraries(folder: string): void {
  const name = "ld-linux-x86-64.so.2"; // by which they name glibc's loader
  const flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", `-Wl,-soname,${name}`];
  run("musl-gcc", [...flags, "-o", path.join(folder, name), SHIM]);
  for (const file of ["libstdc++.so.6", "libgcc_s.so.1"]) {
    symlinkSync(path.join(LIBRARIES, file), path.join(folder, file));
  }
}

/** Makes what is not there yet. */
export function setUpMusl(): Platform {
  aptInstall(["musl-tools", "gcc", "libstdc++6", "libgcc-s1", "ca-certificates"]);
  const cache = cacheFolder("musl");
  const version = versionOf("bun");
  const bun = path.join(unpackNpm(`@oven/bun-linux-x64-musl@${version}`, cache), "bin/bun");
  const hash = createHash("sha256").update(readFileSync(SHIM)).digest("hex").slice(0, 16);
  const libraries = path.join(cache, `lib-${hash}`);
  buildFolder(libraries, buildLibraries);
  const musl = run("dpkg-query", ["--show", "--showformat=${Version}", "musl"]);
  return {
    // glibc's programs that Bun starts see the variable too, and find what they had anyway.
    commands: { bun: writeWrapper(cache, "bun", { LD_LIBRARY_PATH: libraries }, [bun]) },
    // Two halves of the tests share the processors.
    env: { SHARED_MEMORY_TEST_PATIENCE: process.env["SHARED_MEMORY_TEST_PATIENCE"] ?? "2" },
    description: `Linux x64 with musl ${musl}: Bun ${version}`,
  };
}

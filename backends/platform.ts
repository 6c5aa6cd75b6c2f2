import process from "node:process";
import { perProcess } from "../context.ts";
import { UnsupportedError } from "../errors.ts";

/** The operating system and processor that a backend is for: those of this process, or those that a test passes. */
export interface Platform {
  readonly os: string;
  readonly arch: string;
}

/**
 * Checks that a platform is one of the expected systems, on x64 or arm64.
 *
 * @throws {UnsupportedError} on another system, or on a processor other than x64 and arm64
 */
export function requireSystem(expected: readonly string[], { os, arch }: Platform): void {
  if (expected.includes(os) && (arch === "x64" || arch === "arm64")) return;
  throw new UnsupportedError(
    `shared memory is not supported on ${os} ${arch} yet: only on Linux, macOS and Windows, x64 and ` +
      "arm64",
  );
}

/** Returns the platform that this process runs on. */
export const thisPlatform: () => Platform = perProcess(() => {
  return { os: process.platform, arch: process.arch };
});

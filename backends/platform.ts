import process from "node:process";
import { UnsupportedError } from "../errors.ts";

/** The system that a backend is for: this one, or what a test gives it. */
export interface Platform {
  readonly os: string;
  readonly arch: string;
}

/** @throws {UnsupportedError} on another system, or another processor than x64 and arm64 */
export function requireSystem(expected: readonly string[], { os, arch }: Platform): void {
  if (expected.includes(os) && (arch === "x64" || arch === "arm64")) return;
  throw new UnsupportedError(
    `shared memory is not supported on ${os} ${arch} yet: only on Linux, macOS and Windows, x64 and ` +
      "arm64",
  );
}

/** The system that this process runs on. */
export function thisPlatform(): Platform {
  return { os: process.platform, arch: process.arch };
}

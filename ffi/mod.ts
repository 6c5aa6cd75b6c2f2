import process from "node:process";
import { perProcess } from "../context.ts";
import { UnsupportedError } from "../errors.ts";
import { bunFfi } from "./bun.ts";
import { denoFfi } from "./deno.ts";
import { nodeFfi } from "./node.ts";
import type { Ffi } from "./types.ts";

/**
 * Returns the FFI of the current runtime. It is selected on first use, because importing the module must load nothing.
 * The order matters: Deno and Bun imitate Node's `process`, so Node comes last.
 */
export const selectFfi: () => Ffi = perProcess(select);

function select(): Ffi {
  const { versions } = process;
  if (versions["deno"] !== undefined) return denoFfi;
  if (versions["bun"] !== undefined) return bunFfi();
  const ffi = nodeFfi();
  if (ffi !== undefined) return ffi;
  throw new UnsupportedError(whyMissing(versions.node));
}

function whyMissing(version: string | undefined): string {
  if (version === undefined) {
    return "shared memory needs the FFI of Deno, Bun or Node; a browser or another runtime has none";
  }
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major > 26 || major === 26 && minor >= 9) {
    return `shared memory needs node:ffi, which is switched off in this Node ${version}; start it ` +
      "without --no-experimental-ffi";
  }
  return `shared memory needs node:ffi, which Node ${version} does not provide; use Node 26.9 or ` +
    "newer, Deno or Bun";
}

/** Whether the engine allocates an `ArrayBuffer` in nanoseconds, as JavaScriptCore does and V8 does not. */
export function hasCheapBuffers(): boolean {
  return process.versions["bun"] !== undefined;
}

/** Whether a call of C takes a few nanoseconds, as in Deno and Bun. In Node it takes longer than `performance.now()`. */
export function hasCheapCalls(): boolean {
  return process.versions["bun"] !== undefined || process.versions["deno"] !== undefined;
}

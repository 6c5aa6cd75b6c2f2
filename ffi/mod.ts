import process from "node:process";
import { UnsupportedError } from "../errors.ts";
import { bunFfi } from "./bun.ts";
import { denoFfi } from "./deno.ts";
import { nodeFfi } from "./node.ts";
import type { Ffi } from "./types.ts";

/**
 * The FFI of the runtime this runs in, found on first use: importing the module must load nothing.
 * Order matters: Deno and Bun imitate Node's `process`, so Node is what is left.
 */
export function selectFfi(): Ffi {
  const { versions } = process;
  if (versions["deno"] !== undefined) return denoFfi;
  if (versions["bun"] !== undefined) return bunFfi();
  const ffi = nodeFfi();
  if (ffi !== undefined) return ffi;
  throw new UnsupportedError(
    `shared memory needs node:ffi, which Node ${versions.node} does not provide; ` +
      "use Node 26.9 or newer, Deno or Bun",
  );
}

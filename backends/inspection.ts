import process from "node:process";
import { selectFfi } from "../ffi/mod.ts";
import type { Inspection } from "./inventory.ts";
import { libraryOf, temporaryFolder } from "./mod.ts";
import { SystemVInspection } from "./systemv_inspection.ts";

let inspection: Inspection | undefined;

/** The inspection of this system, loaded on first use. Apart from the backend, which needs none of it. */
export function defaultInspection(): Inspection {
  if (inspection === undefined) {
    const libc = libraryOf(selectFfi(), { os: process.platform, arch: process.arch });
    inspection = new SystemVInspection(libc, () => temporaryFolder(libc));
  }
  return inspection;
}

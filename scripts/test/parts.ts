/** Divides the test files of a runtime into parts that can be run at once. */
import process from "node:process";
import type { Name } from "./runtime.ts";

export interface Part {
  /** The name of the runtime, and which part it is, if there are several. */
  readonly part: string;
  readonly files: readonly string[];
}

/** So many that those that are left at the end do not keep one processor busy for long while the others are idle. */
const PARTS = 3;
/** A part of a few files may have no test that is run, which counts as a failure. */
const LEAST_FILES = 20;

function isSimulation(file: string): boolean {
  return file.startsWith("./tests/simulation/");
}

/** Whether the runtime runs the whole simulation, which takes minutes, and needs a processor all the time. */
function isCrew(name: Name): boolean {
  return process.env["SHARED_MEMORY_TEST_CREW"] === name;
}

/** The tests other than the simulation wait most of the time, so that those of several parts can be run at once. */
export function partsOf(name: Name, files: readonly string[]): Part[] {
  const count = Math.min(PARTS, Math.floor(files.length / LEAST_FILES));
  if (count < 2) return [{ part: name, files }];
  const own = isCrew(name) ? files.filter(isSimulation) : [];
  const others = files.filter((file) => !own.includes(file));
  // Neighbours are alike, so each part gets some of each folder.
  const shares = Array.from(
    { length: count },
    (_, share) => others.filter((_, i) => i % count === share),
  );
  return [own, ...shares].filter((files) => files.length > 0)
    .map((files, i) => ({ part: `${name}-${i + 1}`, files }));
}

/** What of the primitives is measured, what it is compared with, and what is to be reached. */
import type { Combine } from "./crew.ts";

export interface Measure {
  /** In the table. */
  title: string;
  /** What the programs call it. */
  job: string;
  /** The programs of other names that do the same, by contender. */
  others?: Readonly<Record<string, string>>;
  counts: readonly number[];
  combine: Combine;
  /** Whether they count to a total. */
  isCounted?: boolean;
  /** What is to be reached with the first of `counts`: by what it is compared with, the largest ratio of each runtime. */
  targets: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** The longest time in ns that each runtime may take. */
  timeTargets?: Readonly<Record<string, number>>;
}

export const bareC = "C";
export const qt = "C++ Qt";
export const atomics = "Atomics.add";

/** A limit for Deno and Bun. */
const both = (limit: number) => ({ deno: limit, bun: limit });

export const measures: readonly Measure[] = [
  {
    title: "mutex: lock, unlock",
    job: "mutex",
    counts: [1, 2, 4],
    combine: "rate",
    isCounted: true,
    // What is 20 times as fast takes a twentieth.
    targets: { [bareC]: { ...both(1.5), node: 2 }, [qt]: both(1 / 20) },
  },
  {
    title: "counter: add",
    job: "counter",
    others: { [atomics]: "atomics" },
    counts: [1, 2, 4],
    combine: "rate",
    isCounted: true,
    targets: { [atomics]: both(1.5) },
  },
  {
    title: "snapshot of 100 fields: refresh",
    job: "snapshot",
    counts: [1, 2, 4],
    combine: "mean",
    targets: { [bareC]: both(2) },
  },
  {
    title: "snapshot of 100 fields: refresh, and the sum of all fields",
    job: "fields",
    counts: [1],
    combine: "mean",
    targets: {},
  },
  {
    title: "snapshot of 100 fields: read, a new object",
    job: "objects",
    others: { [bareC]: "snapshot" },
    counts: [1],
    combine: "mean",
    targets: {},
    timeTargets: { deno: 500, node: 500 },
  },
  {
    title: "event: round trip",
    job: "event",
    counts: [2, 4],
    combine: "mean",
    targets: { [bareC]: both(1.3) },
  },
  {
    title: "1 MiB: write, notify, read in place, answer",
    job: "mib",
    counts: [2, 4],
    combine: "mean",
    targets: { [bareC]: both(1.5) },
  },
];

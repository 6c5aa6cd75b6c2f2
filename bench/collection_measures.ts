/** What of the collections is measured, and what is to be reached. */

/** An operation of this module, which is compared with one of the C program. */
export interface Line {
  title: string;
  /** What the programs call it. */
  job: string;
  /** The largest ratio to C, with one process. */
  target?: number;
  /** The largest ratio to the first line of its measure, with one process. */
  targetToFirst?: number;
  /** The longest time in ns of half of the operations, with the largest number of processes. */
  targetOfMost?: number;
}

/** What is measured in the same turns. The C program does the job of the first line. */
export interface Measure {
  lines: readonly Line[];
  counts: readonly number[];
  isCounted?: boolean;
}

const processes = [1, 2, 4];

export const measures: readonly Measure[] = [
  {
    lines: [
      { title: "getInto, hot", job: "getInto:hot", target: 2.2 },
      { title: "get, hot", job: "get:hot", targetToFirst: 1.3 },
    ],
    counts: [1],
  },
  {
    lines: [
      { title: "getInto, cold", job: "getInto:cold", target: 2, targetOfMost: 1000 },
      { title: "get, cold", job: "get:cold", targetToFirst: 1.3 },
    ],
    counts: processes,
  },
  { lines: [{ title: "set, hot", job: "set:hot" }], counts: [1] },
  { lines: [{ title: "set, cold", job: "set:cold", target: 3 }], counts: [1] },
  { lines: [{ title: "9 getInto, 1 set, cold", job: "mix:cold" }], counts: processes },
  { lines: [{ title: "incr, hot", job: "incr:hot", target: 2 }], counts: [1], isCounted: true },
  { lines: [{ title: "incr, cold", job: "incr:cold" }], counts: [1], isCounted: true },
  { lines: [{ title: "take, hot", job: "take:hot" }], counts: [1] },
  { lines: [{ title: "take, cold", job: "take:cold" }], counts: [1] },
];

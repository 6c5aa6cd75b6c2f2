/** Schedules in which the simulation has found a fault of this module. */
import type { Deviation } from "./scenario.ts";

export interface Found {
  /** What was wrong. */
  readonly what: string;
  /** What was said about the schedule. */
  readonly failure: RegExp;
  readonly programs: readonly string[];
  readonly deviations: readonly Deviation[];
}

export const FOUND: readonly Found[] = [
  {
    what:
      "two processes hold the lock, as Qt deletes the key file that a process has created for it",
    failure: /^two processes hold the lock/,
    programs: ["open", "open", "Qt attach"],
    deviations: [
      { process: 0, at: 3, what: "preempted", next: 2 },
      { process: 2, at: 10, what: "yields", next: 1 },
      { process: 1, at: 23, what: "preempted", next: 0 },
    ],
  },
  {
    what: "Qt waits for ever if a process is killed while it repairs the lock that Qt has reset",
    failure: /waits for ever/,
    programs: ["open", "Qt create"],
    deviations: [
      { process: 0, at: 11, what: "preempted", next: 1 },
      { process: 1, at: 5, what: "preempted", next: 0 },
      { process: 0, at: 22, what: "killed 3" },
    ],
  },
  {
    what:
      "two segments of one key, as Qt deletes the key file that the process has opened which creates the first one",
    failure: /^two segments/,
    programs: ["open", "open", "Qt create"],
    deviations: [
      { process: 0, at: 16, what: "preempted", next: 2 },
      { process: 0, at: 21, what: "preempted", next: 1 },
    ],
  },
  {
    what:
      "open() with `initialize` gives up at once while another process fills the segment under a deleted lock",
    failure: /again and again/,
    programs: ["initialize", "initialize", "rm lock file"],
    deviations: [
      { process: 0, at: 18, what: "preempted", next: 2 },
      { process: 2, at: 2, what: "yields", next: 1 },
    ],
  },
  {
    what: "a semaphore stays behind without a crash, created by another process at the same moment",
    failure: /^left without a crash/,
    programs: ["open semaphore", "open semaphore"],
    deviations: [{ process: 0, at: 2, what: "preempted", next: 1 }],
  },
  {
    what: "a semaphore stays behind without a crash, whose key file the other process has created",
    failure: /^left without a crash/,
    programs: ["open semaphore", "open semaphore"],
    deviations: [
      { process: 0, at: 0, what: "preempted", next: 1 },
      { process: 1, at: 2, what: "preempted", next: 0 },
    ],
  },
  {
    what: "open() that is refused removes the segment of a C program that has just detached",
    failure: /^the segment of the C program is gone/,
    programs: ["chosen", "C program"],
    deviations: [
      { process: -1, at: 0, what: "yields", next: 1 },
      { process: 1, at: 5, what: "preempted", next: 0 },
      { process: 0, at: 19, what: "preempted", next: 1 },
    ],
  },
  {
    what: "open() with `initialize` deletes the key file of the segment that Qt has just created",
    failure: /^left|^two segments/,
    programs: ["initialize", "Qt create"],
    deviations: [
      { process: 0, at: 12, what: "preempted", next: 1 },
      { process: 1, at: 12, what: "preempted", next: 0 },
    ],
  },
];

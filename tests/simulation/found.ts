/** Schedules in which the simulation has found a fault of this module. */
import type { Deviation } from "./scenario.ts";

export interface Found {
  /** What was wrong. */
  readonly what: string;
  readonly programs: readonly string[];
  readonly deviations: readonly Deviation[];
}

export const FOUND: readonly Found[] = [
  {
    what: "a semaphore stays behind without a crash, created by another process at the same moment",
    programs: ["open semaphore", "open semaphore"],
    deviations: [{ process: 0, at: 2, what: "preempted", next: 1 }],
  },
  {
    what: "a semaphore stays behind without a crash, whose key file the other process has created",
    programs: ["open semaphore", "open semaphore"],
    deviations: [
      { process: 0, at: 0, what: "preempted", next: 1 },
      { process: 1, at: 2, what: "preempted", next: 0 },
    ],
  },
  {
    what: "open() that is refused removes the segment of a C program that has just detached",
    programs: ["chosen", "C program"],
    deviations: [
      { process: -1, at: 0, what: "yields", next: 1 },
      { process: 1, at: 5, what: "preempted", next: 0 },
      { process: 0, at: 19, what: "preempted", next: 1 },
    ],
  },
  {
    what: "open() with `initialize` deletes the key file of the segment that Qt has just created",
    programs: ["initialize", "Qt create"],
    deviations: [
      { process: 0, at: 11, what: "preempted", next: 1 },
      { process: 1, at: 12, what: "preempted", next: 0 },
    ],
  },
  {
    what: "attach() finds an object of 0 bytes, to which a C program is about to give its size",
    programs: ["POSIX attach", "POSIX C lock"],
    deviations: [
      { process: -1, at: 0, what: "yields", next: 1 },
      { process: 1, at: 1, what: "preempted", next: 0 },
    ],
  },
  {
    what:
      "a process that tries to take the lock of a C program is killed, and the next one gets it",
    programs: ["POSIX C lock", "POSIX open", "POSIX open"],
    deviations: [
      { process: 0, at: 18, what: "preempted", next: 1 },
      { process: 1, at: 37, what: "killed 3" },
      { process: 1, at: 37, what: "yields", next: 2 },
    ],
  },
];

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
  {
    what:
      "the lock's key file stays without a crash, as a process that relied on it could not acquire the lock",
    failure: /^left without a crash: qipc_systemsem/,
    programs: ["create again", "refused again"],
    deviations: [
      { process: 0, at: 20, what: "preempted", next: 1 },
      { process: 1, at: 8, what: "preempted", next: 0 },
      { process: 0, at: 40, what: "preempted", next: 1 },
      { process: 1, at: 19, what: "delayed" },
      { process: 0, at: 75, what: "preempted", next: 1 },
    ],
  },
  {
    what: "a lock whose creator is stopped before it acquires the lock is taken by another process",
    failure: /^two processes hold the lock$/,
    programs: ["hold", "open"],
    deviations: [
      { process: -1, at: 0, what: "yields", next: 1 },
      { process: 1, at: 10, what: "stopped" },
    ],
  },
  {
    what: "a semaphore has no value for ever, as its creator was killed before it set the value",
    failure: /timed out/,
    programs: ["open semaphore", "open semaphore"],
    deviations: [{ process: 0, at: 9, what: "killed 3" }],
  },
  {
    what:
      "a semaphore stays that was created while another process was stopped in the middle of a removal",
    failure: /^left after cleanup\(\): semaphore/,
    programs: ["open semaphore", "open semaphore"],
    deviations: [{ process: 0, at: 24, what: "stopped" }],
  },
  {
    what: "detach() fails, as a user of the segment that has replaced the stale one holds the lock",
    failure: /timed out/,
    programs: ["open", "hold"],
    deviations: [
      { process: 0, at: 23, what: "preempted", next: 1 },
      { process: 0, at: 51, what: "preempted", next: 1 },
    ],
  },
  {
    what:
      "a program that ends leaves a segment which another one has replaced, as a user of that holds the lock",
    failure: /^left after cleanup\(\): segment/,
    programs: ["exit", "hold", "rm key file"],
    deviations: [
      { process: 0, at: 10, what: "preempted", next: 1 },
      { process: 0, at: 24, what: "preempted", next: 2 },
      { process: 2, at: 2, what: "yields", next: 1 },
    ],
  },
  {
    what: "cleanup() leaves the note about a semaphore that it has removed",
    failure: /^left without a crash: qipc_inherited/,
    programs: ["open semaphore", "open semaphore", "cleanup"],
    deviations: [
      { process: 0, at: 0, what: "preempted", next: 1 },
      { process: 1, at: 2, what: "preempted", next: 0 },
      { process: 1, at: 15, what: "preempted", next: 2 },
    ],
  },
  {
    what:
      "a semaphore stays, as its last user opened it between the last two looks of the owner that leaves",
    failure: /^left without a crash: semaphore/,
    programs: ["open semaphore", "open semaphore", "open semaphore"],
    deviations: [
      { process: 0, at: 2, what: "preempted", next: 1 },
      { process: 1, at: 31, what: "preempted", next: 0 },
      { process: 1, at: 43, what: "preempted", next: 2 },
      { process: 2, at: 23, what: "preempted", next: 1 },
    ],
  },
  {
    what:
      "what a process adds to a semaphore is lost, as another one sets its first value at that moment",
    failure: /waits for ever/,
    programs: ["signal semaphore", "await semaphore"],
    deviations: [{ process: 1, at: 38, what: "stopped" }],
  },
  {
    what:
      "open() gives up while a living process fills the segment for long under a lock whose key file is gone",
    failure: /again and again/,
    programs: ["initialize for long", "initialize patiently", "rm lock file"],
    deviations: [
      { process: 0, at: 22, what: "preempted", next: 2 },
      { process: 2, at: 2, what: "yields", next: 1 },
      { process: 0, at: 29, what: "killed 3" },
    ],
  },
  {
    what: "attach() finds an object of 0 bytes, to which a C program is about to give its size",
    failure: /InvalidSize/,
    programs: ["POSIX attach", "POSIX C lock"],
    deviations: [
      { process: -1, at: 0, what: "yields", next: 1 },
      { process: 1, at: 1, what: "preempted", next: 0 },
    ],
  },
  {
    what:
      "a process that tries to take the lock of a C program is killed, and the next one gets it",
    failure: /^two processes hold the lock$/,
    programs: ["POSIX C lock", "POSIX open", "POSIX open"],
    deviations: [
      { process: 0, at: 18, what: "preempted", next: 1 },
      { process: 1, at: 37, what: "killed 3" },
      { process: 1, at: 37, what: "yields", next: 2 },
    ],
  },
  {
    what:
      "a lock stays taken after the end of a worker, as its process was stopped while a thread was about to release it",
    failure: /has waited for a free lock/,
    programs: ["async exit of a worker", "hold for a while"],
    deviations: [
      { process: -1, at: 0, what: "yields", next: 1 },
      { process: 0, at: 123, what: "preempted", next: 1 },
      { process: 1, at: 35, what: "yields", next: 2 },
      { process: 2, at: 7, what: "stopped" },
    ],
  },
];

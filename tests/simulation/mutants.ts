/** The deliberate faults of which scripts/mutants.ts shows that the simulation finds them. */
import type { Bounds } from "./explorer.ts";

export interface Mutant {
  readonly name: string;
  readonly file: string;
  /** The text to replace, which occurs exactly once in the file. */
  readonly find: string;
  readonly replace: string;
  readonly programs: readonly string[];
  readonly bounds: Bounds;
  /** Why the scenario must catch it. */
  readonly why: string;
  /** Why no schedule can show the fault, if that is so. */
  readonly equivalent?: string;
}

const SYSTEMV = "backends/systemv";
/** The bounds by the number of preemptions, and of kills and stops. */
const within = (preemptions: number, crashes: number): Bounds => ({ preemptions, crashes });

export const MUTANTS: readonly Mutant[] = [
  {
    name: "no mark in a lock that is being removed",
    file: `${SYSTEMV}/semaphore_set.ts`,
    find: "if (operations.markRemoved(this.id, ownUid(libc), path.permissions)) return true;",
    replace: "if (operations.status !== 0n) return true;",
    programs: ["open", "open"],
    bounds: within(0, 1),
    why:
      "A process that is killed between `unlink` and IPC_RMID leaves a lock that only the mark leads to.",
  },
  {
    name: "the undo of a lock that is being removed is not doubled",
    file: `${SYSTEMV}/lock.ts`,
    find: "if (isLast) this.operations.undoTwice.apply(this.id);",
    replace: "",
    programs: ["open", "open"],
    bounds: within(1, 1),
    why:
      "A process that waits gets the lock of one that is killed before IPC_RMID, although its file is deleted.",
  },
  {
    name: "no check after semget whether the key file is current",
    file: `${SYSTEMV}/semaphore_set.ts`,
    find: "if (make && !file.created && !file.isCurrent()) {",
    replace: "if (make && file.key === -1) {",
    programs: ["open", "rm lock file"],
    bounds: within(2, 0),
    why: "The lock's file is deleted between its lookup and `semget`.",
  },
  {
    name: "LOCK_SH is not taken",
    file: `${SYSTEMV}/key_file.ts`,
    find: "if (this.#isShared) return true; // the file is deleted only under LOCK_EX",
    replace: "if (this.#fd !== -1) return this.isCurrent();",
    programs: ["open semaphore", "open semaphore"],
    bounds: within(2, 0),
    why: "The last user deletes the file on which the one that attaches relies.",
  },
  {
    name: "isSole() is always true",
    file: `${SYSTEMV}/key_file.ts`,
    find: "return this.#flock(LOCK_EX | LOCK_NB);",
    replace: "return this.#flock(LOCK_EX | LOCK_NB) || true;",
    programs: ["open semaphore", "open semaphore", "open semaphore"],
    bounds: within(2, 0),
    why: "The owner removes the semaphore that another process uses.",
  },
  {
    name: "the segment is removed although processes are attached",
    file: `${SYSTEMV}/segment.ts`,
    find: "status.attached === 0;",
    replace: "status.attached >= 0;",
    programs: ["open", "open"],
    bounds: within(1, 0),
    why: "The first one detaches while the second one uses the segment.",
  },
  {
    name: "the lock is removed before its key file",
    file: `${SYSTEMV}/lock.ts`,
    find:
      "if (mayUnlink) file.unlink();\n    if (this.libc.c.semctl(this.id, 0, IPC_RMID, 0n) !== 0) this.release();",
    replace:
      "const isRemoved = this.libc.c.semctl(this.id, 0, IPC_RMID, 0n) === 0;\n    if (mayUnlink) file.unlink();\n    if (!isRemoved) this.release();",
    programs: ["open", "open"],
    bounds: within(0, 1),
    why: "A process creates a lock with the file that is deleted next.",
  },
  {
    name: "the key file is deleted before the segment is removed",
    file: `${SYSTEMV}/segment.ts`,
    find:
      "const removed = this.#shm.remove(this.id); // a segment of another user may have to stay\n    const isSole = removed && isSoleSoon(this.#libc, this.file);",
    replace:
      "const isSole = isSoleSoon(this.#libc, this.file);\n    if (isSole && this.#lock !== null) this.file.unlink();\n    const removed = this.#shm.remove(this.id);",
    programs: ["open", "open"],
    bounds: within(0, 1),
    why: "A process that is killed in between leaves a segment to which no file leads.",
  },
  {
    name: "no takeover of an abandoned lock",
    file: `${SYSTEMV}/lock.ts`,
    find: 'if (value !== 0 || !this.#isAbandoned()) return "held";',
    replace: 'if (value !== 0 || this.id !== -1) return "held";',
    programs: ["open", "open"],
    bounds: within(0, 1),
    why:
      "A process that is killed between `semget` and the first `semop` leaves a lock of value 0.",
  },
  {
    name: "initialize publishes the segment before it is filled",
    file: `${SYSTEMV}/segments.ts`,
    find:
      "leave(true);\n    initialize(made);\n    leave(false);\n    if (isMarked) {\n      made.finish(path.permissions);\n    } else if (!made.publish(path)) {",
    replace:
      "const isPublished = isMarked || made.publish(path);\n    leave(true);\n    initialize(made);\n    leave(false);\n    if (isMarked) {\n      made.finish(path.permissions);\n    } else if (!isPublished) {",
    programs: ["initialize", "initialize"],
    bounds: within(1, 0),
    why: "Another process attaches before the bytes are stored.",
  },
  {
    name: "a stale segment is not replaced",
    file: `${SYSTEMV}/segments.ts`,
    find: 'if (isStale && request.stale === "replace" && this.#shm.remove(id)) {',
    replace: "if (isStale && id === -1) {",
    programs: ["initialize", "initialize"],
    bounds: within(0, 1),
    why: "The second one attaches to the segment of one that was killed.",
  },
  {
    name: "the last user removes the segment without the lock",
    file: `${SYSTEMV}/segment.ts`,
    find:
      "if (!locked) return true; // the holder of the lock looks for users that have left meanwhile",
    replace: "if (locked) lock.release();",
    programs: ["open", "open"],
    bounds: within(2, 0),
    why: "Another process attaches under the lock between the last look and the removal.",
  },
  {
    name: "the last look is not under the lock",
    file: `${SYSTEMV}/segment.ts`,
    find: "if (this.#isUnused()) return this.#remove();",
    replace: "if (lock !== null || this.#isUnused()) return this.#remove();",
    programs: ["open", "open"],
    bounds: within(2, 0),
    why: "Another process attaches between the look and the lock.",
  },
  {
    name: "the last user does not wait for the lock",
    file: `${SYSTEMV}/segment.ts`,
    find: "? enterLock(lock, () => !this.#isUnused())",
    replace: "? lock.acquire(0)",
    programs: ["open", "open"],
    bounds: within(2, 0),
    why: "The holder of the lock has already looked for users, so nobody removes the segment.",
  },
  {
    name: "a mark about a semaphore is forgotten at each attempt to open it",
    file: `${SYSTEMV}/semaphore.ts`,
    find: "if (mode === SystemSemaphoreMode.Open && this.#markedKey !== file.key) {",
    replace: "if (mode === SystemSemaphoreMode.Open) {",
    programs: ["open semaphore", "open semaphore"],
    bounds: within(2, 0),
    why: "The owner sets the mark between two attempts of the other one.",
  },
  {
    name: "semaphores without a key file are not looked for",
    file: `${SYSTEMV}/orphan_semaphores.ts`,
    find: "if (user > 0 && !isRunning(libc, user)) libc.c.semctl(id, 0, IPC_RMID, 0n);",
    replace: "if (user < 0 && !isRunning(libc, user)) libc.c.semctl(id, 0, IPC_RMID, 0n);",
    programs: ["open", "open"],
    bounds: within(0, 1),
    why: "A process that is killed between `unlink` and IPC_RMID leaves a lock.",
  },
  {
    name: "the removal of a lock during a wait is not handled",
    file: `${SYSTEMV}/semaphore_set.ts`,
    find: "} else if (this.#saysRemoved(errno)) {",
    replace: "} else if (this.#saysRemoved(errno) && errno === EINVAL) {",
    programs: ["open", "open"],
    bounds: within(1, 0),
    why: "A process waits for the lock that its holder removes (EIDRM).",
  },
  {
    name: "a wait ends one slice early",
    file: `${SYSTEMV}/semaphore_set.ts`,
    find: 'if (state === "held" && left <= slice) return false;',
    replace: 'if (state === "held") return false;',
    programs: ["open", "open"],
    bounds: within(0, 1),
    why: "A process that waits for ever gets the lock of one that was stopped.",
  },
  {
    name: "a wait never ends",
    file: `${SYSTEMV}/semaphore_set.ts`,
    find: 'if (state === "held" && left <= slice) return false;',
    replace: "",
    programs: ["open", "open"],
    bounds: within(0, 1),
    why: "A process that is to wait for a short time waits for one that was stopped.",
  },
  {
    name: "a process that leaves keeps LOCK_SH of the lock's file",
    file: `${SYSTEMV}/segment.ts`,
    find: "this.#lock?.letGo?.();",
    replace: "",
    programs: ["open", "open"],
    bounds: within(2, 0),
    why: "The last user finds the file in use and leaves it.",
  },
  {
    name: "a process that leaves keeps LOCK_SH of the segment's file",
    file: `${SYSTEMV}/segment.ts`,
    find: "this.#lock?.letGo?.();\n        this.file.unshare();",
    replace: "this.#lock?.letGo?.();",
    programs: ["open", "open"],
    bounds: within(2, 0),
    why: "The last user finds the file in use and leaves it.",
  },
  {
    name: "the key file of a segment that exists is deleted",
    file: `${SYSTEMV}/segments.ts`,
    find: "const isUnused = file.isSole() && this.#shm.idOf(file) === -1;",
    replace: "const isUnused = file.isSole();",
    programs: ["initialize", "Qt create"],
    bounds: within(2, 0),
    why: "Qt creates the segment after the look of the one that initializes.",
  },
];

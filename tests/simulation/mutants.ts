/** The deliberate faults of which scripts/mutants.ts shows that the simulation finds them. */
import type { Bounds } from "./scenario.ts";

/** A text that occurs exactly once in a file, and what replaces it. */
export interface Replacement {
  readonly find: string;
  readonly replace: string;
}

export interface Mutant extends Replacement {
  readonly name: string;
  readonly file: string;
  /** Another text to replace in the same file. */
  readonly also?: Replacement;
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
    find: "if (make && !file.isCurrent()) {",
    replace: "if (make && file.key === -1) {",
    programs: ["open", "rm lock file"],
    bounds: within(2, 0),
    why: "The lock's file is deleted between its lookup and `semget`.",
    equivalent: "a file that is deleted right after the check has the same effect",
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
    programs: ["open", "hold"],
    bounds: within(0, 1),
    why: "A process creates a lock with the file that is deleted next.",
    equivalent:
      "the unchanged code fails in the same way if it is stopped for seconds between its last look at the file and `unlink`",
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
    programs: ["open", "ipcrm -s", "Qt attach"],
    bounds: within(1, 1),
    why:
      "Qt creates the lock of an attached process again, and is killed before it sets the value.",
  },
  {
    name: "initialize publishes the segment before it is filled",
    file: `${SYSTEMV}/segments.ts`,
    find:
      "leave(true);\n    initialize(made);\n    leave(false);\n    if (isMarked) {\n      made.finish(path.permissions);\n    } else if (!made.publish(path)) {",
    replace:
      "const isPublished = isMarked || made.publish(path);\n    leave(true);\n    initialize(made);\n    leave(false);\n    if (isMarked) {\n      made.finish(path.permissions);\n    } else if (!isPublished) {",
    programs: ["initialize slowly", "initialize slowly"],
    bounds: within(0, 0),
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
    find: "? enterLock(lock, () => !this.#isUnused())",
    replace: "? true",
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
    equivalent:
      "the holder of the lock is attached itself, or looks for users that have left before it releases the lock",
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
    equivalent:
      "the one that removes the lock waits for LOCK_SH, and a process that was stopped meanwhile removes the rest itself",
  },
  {
    name: "unlock without the test for 0",
    file: `${SYSTEMV}/semop_arrays.ts`,
    find: "this.unlock = operation(UNLOCK, isZero, [1, SEM_UNDO]);",
    replace: "this.unlock = operation(UNLOCK, [1, SEM_UNDO]);",
    programs: ["open", "Qt reset"],
    bounds: within(1, 0),
    why: "After the reset of a lock that is held, its release makes the value 2.",
  },
  {
    name: "lock without its second step",
    file: `${SYSTEMV}/semop_arrays.ts`,
    find: "this.tryLock = operation(TRY_DOWN, [-1, SEM_UNDO | IPC_NOWAIT], isZero);",
    replace: "this.tryLock = operation(TRY_DOWN, [-1, SEM_UNDO | IPC_NOWAIT]);",
    programs: ["open", "Qt reset twice"],
    bounds: within(1, 0),
    why: "A lock whose value Qt has raised to 2 is taken, and has the value 1 then.",
  },
  {
    name: "ABANDONED_MS is 0",
    file: `${SYSTEMV}/lock.ts`,
    find: "const ABANDONED_MS = 1000;",
    replace: "const ABANDONED_MS = 0;",
    programs: ["open", "open"],
    bounds: within(0, 1),
    why: "A process that is slow between `semget` and the first `semop` still takes the lock.",
    equivalent:
      "a simulated process is either quick or stopped for 20 s, against which no limit of 1 s helps",
  },
  {
    name: "a lock is not removed with its segment",
    file: `${SYSTEMV}/segment.ts`,
    find: "lock.remove?.(isSole && (!isReplaced || this.file.isExplicit));",
    replace: "lock.release();",
    programs: ["open", "attach"],
    bounds: within(0, 0),
    why: "The lock stays.",
  },
  {
    name: "the owner of a semaphore does not pass its removal on",
    file: `${SYSTEMV}/semaphore.ts`,
    find: "this.offer(mark);",
    replace: "",
    programs: ["open semaphore", "open semaphore"],
    bounds: within(2, 0),
    why: "The owner closes while the other one uses the semaphore.",
  },
  {
    name: "the owner of a semaphore does not look again after it has set the mark",
    file: `${SYSTEMV}/semaphore.ts`,
    find:
      "if (!file.isSole()) {\n        if (!this.readStatus()) mark.clear(); // the last user has just removed the semaphore\n        return;\n      }",
    replace: "return;",
    programs: ["open semaphore", "open semaphore"],
    bounds: within(2, 0),
    why: "The last user leaves between the owner's look and its mark.",
  },
  {
    name: "a user of a semaphore reads the mark before it gives up LOCK_SH",
    file: `${SYSTEMV}/semaphore.ts`,
    find: "file.unshare();\n      const text = mark.read();",
    replace: "const text = mark.read();\n      file.unshare();",
    programs: ["open semaphore", "open semaphore"],
    bounds: within(2, 0),
    why: "The owner sets the mark in between, and still sees LOCK_SH.",
  },
  {
    name: "the mark of a semaphore stays after its removal",
    file: `${SYSTEMV}/semaphore.ts`,
    find:
      "mark.clear(); // last: if this process is killed before, the mark still leads to the semaphore",
    replace: "",
    programs: ["open semaphore", "open semaphore"],
    bounds: within(2, 0),
    why: "The last user inherits the removal by the mark, which is left.",
  },
  {
    name: "a semaphore that another process has just created is an error",
    file: `${SYSTEMV}/semaphore_set.ts`,
    find: "if (errno === EEXIST) return null;",
    replace: "",
    programs: ["open", "open"],
    bounds: within(1, 0),
    why: "Both create the lock.",
  },
  {
    name: "LOCK_SH of a chosen file is ignored",
    file: `${SYSTEMV}/segments.ts`,
    find: "if (attached === 0 || !file.isExplicit) return attached > 0;",
    replace: "if (file.key !== -1) return attached > 0;",
    programs: ["chosen", "C program"],
    bounds: within(2, 0),
    why: "A refused open() removes the segment of a C program that has just detached.",
  },
  {
    name: "create() does not release the lock",
    file: `${SYSTEMV}/segments.ts`,
    find: "if (segment !== undefined) lock?.release();",
    replace: "if (segment !== undefined) void 0;",
    programs: ["create", "attach"],
    bounds: within(0, 0),
    why: "The next wait for the lock is one for this process.",
  },
  {
    name: "attach() waits for a user that holds the lock",
    file: `${SYSTEMV}/lock_section.ts`,
    find: "if (isUsed()) return false;",
    replace: "",
    programs: ["hold", "attach"],
    bounds: within(0, 0),
    why: "The holder is attached and takes its time.",
  },
  {
    name: "a process that has ended counts as alive",
    file: `${SYSTEMV}/semaphore_set.ts`,
    find: 'if (!isRunning(this.libc, pid)) return "gone";',
    replace: "",
    programs: ["open", "Qt reset"],
    bounds: within(1, 1),
    why: "The lock has the value 0, and the process that changed it last was killed.",
    equivalent:
      "only the program that `exec` replaced leaves such a lock, and there is no `exec` in the simulation",
  },
  {
    name: "a lock without a holder is not taken over by create, attach and detach",
    file: `${SYSTEMV}/lock_section.ts`,
    find: "if (lock.takeOver?.(() => !mayBeHeld(), left)) return true;",
    replace: "",
    programs: ["open", "open"],
    bounds: within(0, 1),
    why:
      "A process that is killed between `semget` and the first `semop` leaves a lock of value 0.",
    equivalent:
      "acquire() repairs such a lock too; only a holder in another pid namespace makes a difference, and there is none",
  },
];

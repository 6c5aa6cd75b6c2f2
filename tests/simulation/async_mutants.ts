/** Deliberate faults of asynchronous calls; mutants.ts says more. */
import type { Mutant } from "./mutants.ts";
import type { Bounds } from "./scenario.ts";

const QUEUE = "core/acquire_queue.ts";
const THREADS = "ffi/threads.ts";
const within = (preemptions: number, crashes: number): Bounds => ({ preemptions, crashes });

export const ASYNC_MUTANTS: readonly Mutant[] = [
  {
    name: "a wait that was given up keeps what its thread has acquired before",
    file: QUEUE,
    find: "if (current.wait.claim()) giveBack(current.semaphore);",
    replace: "",
    programs: ["async abort", "hold briefly"],
    bounds: within(1, 0),
    why: "The event loop is blocked after the abort.",
  },
  {
    name: "a wait is not given up",
    file: QUEUE,
    find: "current.wait.giveUp();",
    replace: "",
    programs: ["async abort", "hold briefly"],
    bounds: within(1, 0),
    why: "The thread acquires the lock after the abort, while the event loop is blocked.",
  },
  {
    name: "a thread keeps what it acquires after its wait was given up",
    file: THREADS,
    find: "before === ${WAITING} ? ${TAKEN} : ${RETURNING}",
    replace: "${TAKEN}",
    programs: ["async abort", "hold briefly"],
    bounds: within(1, 0),
    why: "The event loop is blocked after the abort.",
  },
  {
    name: "the last call of a thread is served first",
    file: QUEUE,
    find: "entries.push(entry);",
    replace: "entries.unshift(entry);",
    programs: ["async lock twice", "hold briefly"],
    bounds: within(0, 0),
    why: "Two calls wait.",
  },
  {
    name: "a call does not wait behind the others of its thread",
    file: QUEUE,
    find: "if (!isAwaited(key) && acquireWithin(semaphore, 0)) {",
    replace: "if (acquireWithin(semaphore, 0)) {",
    programs: ["async lock twice", "hold briefly"],
    bounds: within(1, 0),
    why: "The lock becomes free between the two calls.",
  },
  {
    name: "the end of a worker does not wait for its threads",
    file: THREADS,
    find: 'process.on("exit", () => this.#joinAll());',
    replace: "",
    programs: ["async exit of a worker", "hold briefly"],
    bounds: within(1, 0),
    why: "A thread acquires the lock, and ends before it releases it.",
  },
  {
    name: "detach() does not end the calls that wait",
    file: "core/attachment.ts",
    find: 'failWaits(lock, new BackendError("NotAttached", "detached while it waited"));',
    replace: "",
    programs: ["async detach", "hold briefly"],
    bounds: within(1, 0),
    why: "The call is never over.",
  },
  {
    name: "an idle thread keeps the program alive",
    file: THREADS,
    find: "worker.unref();\n      this.#idle.push(worker);",
    replace: "this.#idle.push(worker);",
    programs: ["async lock", "hold briefly"],
    bounds: within(0, 0),
    why: "The program does not end.",
  },
  {
    name: "the wait of a thread goes on after the lock was handed out",
    file: QUEUE,
    find: "hand(entries.shift()!);\n    giveUpUnwanted(queue);",
    replace: "hand(entries.shift()!);",
    programs: ["async lock with timeout", "hold briefly"],
    bounds: within(1, 0),
    why: "The thread acquires the lock after the call has released it.",
  },
  {
    name: "a thread does not release the System V lock that nobody waits for",
    file: "backends/systemv/semop_wait.ts",
    find: '"({ semop }, _memory, id, _down, _downCount, up, upCount) => semop(id, up, upCount)"',
    replace: '"() => {}"',
    programs: ["async abort", "hold briefly"],
    bounds: within(1, 0),
    why: "The thread acquires the lock after the abort.",
  },
  {
    name: "a thread does not release the POSIX lock that nobody waits for",
    file: "backends/posix/lock.ts",
    find: "if (isTaken()) c.sem_post(semaphore);",
    replace: "",
    programs: ["POSIX async abort", "POSIX hold briefly"],
    bounds: within(1, 0),
    why: "The thread acquires the lock after the abort.",
  },
];

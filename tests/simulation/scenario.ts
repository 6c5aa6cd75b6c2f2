/** What is explored: the programs of a scenario, what must be true of them, and the deviations of a schedule. */
import type { SimulatedFfi } from "./ffi.ts";
import type { BootOptions, State } from "./kernel.ts";

/**
 * What one process does. It may only use the given FFI, the clock, `Atomics.wait`, timers and `note`. It is asynchronous if
 * it returns a promise, which is resolved with `EXIT` if the program then calls `process.exit()`.
 */
export type Program = (ffi: SimulatedFfi, note: Note) => void | Promise<unknown>;
/** Tells the explorer something about the process; the address is that of a segment. */
export type Note = (fact: Fact, address: number) => number;
/**
 * `attached`: the process uses a segment from now on; `adopting`: it may go on with the bytes of others that have ended;
 * `locked`: it holds the lock; `unlocked`, `detaching`: no longer.
 * `store` and `load` stand for the bytes of the segment. `acquired`: the process holds a semaphore of value 1, until it
 * is `released`. `waiting`: the process begins to wait for a lock or a semaphore.
 */
export type Fact =
  | "attached"
  | "adopting"
  | "locked"
  | "unlocked"
  | "detaching"
  | "store"
  | "load"
  | "acquired"
  | "released"
  | "waiting";

/** The facts at which a process holds the lock, or has just released it. */
export type LockFact = "locked" | "unlocked" | "detaching";

export interface Scenario {
  readonly name: string;
  /** What each process does. */
  readonly programs: readonly Program[];
  /** The processes, of user 1000 by default, and other options of the system. */
  readonly system?: Partial<BootOptions>;
  /** The crashes of the scenario; all by default. */
  readonly crashes?: readonly Crash[];
  /** Whether one of the programs is asynchronous. */
  readonly isAsync?: boolean;
  /** Whether loads and stores may be reordered. */
  readonly isReordered?: boolean;
  /** Creates what exists before. */
  setUp?(kernel: State): void;
  /**
   * Says what is wrong with the lock when a process has taken it, is about to release it, or has released it and
   * detaches; `null` if nothing is.
   */
  lockProblem?(kernel: State, fact: LockFact, process: number): string | null;
  /** Returns the lock that a process holds, if that is not always the one of its segment. */
  readonly lockOf?: ((kernel: State, process: number) => number | undefined) | undefined;
  /** Says what is wrong after all processes have ended; `null` if nothing is. */
  check(ending: Ending): string | null;
  /** Whether something is wrong that this module cannot prevent. */
  tolerates?(what: string, ending: Ending): boolean;
}

/** What is known when all processes have ended. */
export interface Ending {
  readonly kernel: State;
  /** How each process has ended: `"ok"`, `"killed"`, or the text of an error. */
  readonly outcomes: readonly string[];
  readonly hasKill: boolean;
  readonly hasStop: boolean;
}

/**
 * A deviation from the usual schedule, in which each process runs until it waits or ends, and then the first one that
 * can go on. A schedule is known by its deviations.
 */
export interface Deviation {
  /** The process, and which of its calls is the next one: the first is 0. */
  readonly process: number;
  readonly at: number;
  /**
   * `preempted`: another process runs, although this one could. `yields`: this one waits or has ended, and not the first
   * process that could go on does. `delayed`: it does not run for a moment, as on a busy machine. `reordered`: its next
   * load or store of shared memory takes effect in one of the ways that ordering.ts describes. `stopped`: as by SIGSTOP,
   * until the timeouts of others have run out. `killed` after
   * so many of the three steps of its end, the others of which happen when no other process can go on.
   */
  readonly what:
    | "preempted"
    | "yields"
    | "delayed"
    | "reordered"
    | "stopped"
    | "killed 1"
    | "killed 2"
    | "killed 3";
  /** Which process runs next. */
  readonly next?: number;
  /** What happens to an access that is `reordered`. */
  readonly alternative?: number;
}

export type Crash = "stopped" | `killed ${1 | 2 | 3}`;

export interface Failure {
  readonly scenario: string;
  readonly what: string;
  readonly deviations: readonly Deviation[];
  readonly trace: readonly string[];
}

export interface Bounds {
  /** The number of preemptions. */
  readonly preemptions: number;
  /** The number of kills and stops. */
  readonly crashes: number;
  /** The number of loads and stores that do not take effect at once; 0 if it is left out. */
  readonly reorderings?: number;
  /** Whether processes are only killed, and not stopped: stops take most of the time. */
  readonly isWithoutStops?: boolean;
}

/**
 * Explores schedules of simulated processes by deterministic replay in one thread. A process is a function whose system
 * calls are logged. To resume it, the function runs again from its start and gets the logged results, until it reaches
 * the call at which it was suspended. A world is a kernel as plain data together with these logs, so that a copy of it
 * is one more future.
 */
import { SimulatedFfi } from "./ffi.ts";
import {
  addProcess,
  type Blocked,
  boot,
  type BootOptions,
  type Call,
  call,
  clone,
  digest,
  endFiles,
  endMemory,
  endSemaphores,
  EPOCH_MS,
  isBlocked,
  reap,
  type Result,
  type State,
} from "./kernel.ts";

/** What one process does. It may only use the given FFI, the clock, `Atomics.wait` and `note`. */
export type Program = (ffi: SimulatedFfi, note: Note) => void;
/** Tells the explorer something about the process; the address is that of a segment. */
export type Note = (fact: Fact, address: number) => number;
/**
 * `attached`: the process uses a segment from now on; `locked`: it holds the lock; `unlocked`, `detaching`: no longer.
 * `store` and `load` stand for the bytes of the segment. `acquired`: the process holds a semaphore of value 1, until it
 * is `released`.
 */
export type Fact =
  | "attached"
  | "locked"
  | "unlocked"
  | "detaching"
  | "store"
  | "load"
  | "acquired"
  | "released";

export interface Scenario {
  readonly name: string;
  /** What each process does. */
  readonly programs: readonly Program[];
  /** The processes, of user 1000 by default, and other options of the system. */
  readonly system?: Partial<BootOptions>;
  /** Creates what exists before. */
  setUp?(kernel: State): void;
  /**
   * Says what is wrong with the lock when a process has taken it, is about to release it, or has released it and
   * detaches; `null` if nothing is.
   */
  lockProblem?(kernel: State, fact: "locked" | "unlocked" | "detaching"): string | null;
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
   * process that could go on does. `stopped`: as by SIGSTOP, until the timeouts of others have run out. `killed` after
   * so many of the three steps of its end, the others of which happen when no other process can go on.
   */
  readonly what: "preempted" | "yields" | "stopped" | "killed 1" | "killed 2" | "killed 3";
  /** Which process runs next. */
  readonly next?: number;
}

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
}

export interface Report {
  schedules: number;
  kills: number;
  stops: number;
  /** The number of worlds that had been reached before by another schedule. */
  known: number;
  calls: number;
  readonly failures: Failure[];
  /** Whether all schedules within the bounds were explored. */
  isComplete: boolean;
}

/** A stopped process goes on when so much time has passed. */
const STOP_MS = 20_000;
/** After so much time, a process that still waits is said to wait for ever. */
const FOREVER_MS = 3 * STOP_MS;
/** How long after the end of all processes the next one begins. */
const LATER_MS = 10_000;
/** Stands for the semaphore of a scenario, where others stand for a segment. */
const ANY_SEMAPHORE = -1;
/** A process that makes so many calls without a pause tries something again and again. */
const BUSY_CALLS = 2000;
/** Later calls of a process are repetitions of its earlier ones, at which nothing deviates. */
const DEVIATING_CALLS = 250;
/** Calls that no other process can notice, so a preemption before them is the same as one before the next call. */
const PRIVATE_CALLS: ReadonlySet<unknown> = new Set(["read", "mmap", "munmap", "getenv"]);
/** What a process tells before it gives up what it holds: others must have had time to run into it. */
const ENDS_OF_HOLDING: ReadonlySet<unknown> = new Set(["unlocked", "released"]);

function isPrivate([name, fact]: Call): boolean {
  return name === "note" ? !ENDS_OF_HOLDING.has(fact) : PRIVATE_CALLS.has(name);
}

interface Entry {
  readonly call: Call;
  readonly result: Result;
}

/** A step of a schedule, as a list from the last one to the first. */
interface Trace {
  readonly before: Trace | null;
  readonly process: number;
  readonly entry: Entry | string;
}

/** Deviations, as a list from the last one to the first. */
interface Path {
  readonly before: Path | null;
  readonly deviation: Deviation;
}

interface Actor {
  log: Entry[];
  status: "ready" | "waiting" | "stopped" | "ending" | "ended";
  /** The call for which it waits, and until when. */
  pending: Call | null;
  until: number;
  /** How many steps of its end are left. */
  endSteps: number;
  outcome: string;
  /** A hash of its log. */
  hash: number;
  /** The calls since time has passed for it. */
  busy: number;
  /** The virtual time at which the process began, which is its first look at the clock. */
  began: number | null;
  /** The segment that it uses, and the one whose lock it holds. */
  uses: number | null;
  holds: number | null;
}

interface World {
  readonly kernel: State;
  readonly actors: Actor[];
  trace: Trace | null;
  path: Path | null;
  /** The virtual time at which the first process began. */
  readonly began: number;
  /** What is wrong already. */
  bad: string | null;
  /** What `store` has stored in each segment. */
  readonly stored: Map<number, number>;
  hasKill: boolean;
  hasStop: boolean;
}

/** Thrown through a program that is suspended; every later call throws it again, as `finally` and `catch` go on. */
class Suspended extends Error {}

/** Returns the id of the segment that a process has at an address. */
function segmentAt(kernel: State, process: number, address: number): number | null {
  return kernel.processes[process]!.maps.get(address)?.id ?? null;
}

const realNow = performance.now;
const realDate = Date.now;
const realWait = Atomics.wait;

/** The clock of the process that runs, and how it sleeps. */
let clock = 0;
let sleep: (ms: number) => void = () => {};

function simulateClocks(): void {
  performance.now = () => clock;
  Date.now = () => EPOCH_MS + clock;
  Atomics.wait = ((...args: unknown[]) => {
    sleep(args[3] as number);
    return "timed-out";
  }) as typeof Atomics.wait;
}

function restoreClocks(): void {
  performance.now = realNow;
  Date.now = realDate;
  Atomics.wait = realWait;
}

const NEW = 0, AGAIN = 1, TIMED_OUT = 2;
type Mode = typeof NEW | typeof AGAIN | typeof TIMED_OUT;

function start(scenario: Scenario): World {
  const processes = scenario.programs.map(() => ({ uid: 1000 }));
  const kernel = boot({ processes, ...scenario.system });
  scenario.setUp?.(kernel);
  const actors = scenario.programs.map(newActor);
  return { ...EMPTY_WORLD, kernel, actors, stored: new Map() };
}

const EMPTY_WORLD = {
  began: 0,
  trace: null,
  path: null,
  bad: null,
  hasKill: false,
  hasStop: false,
};

function newActor(): Actor {
  return {
    ...{ log: [], status: "ready", pending: null, until: 0, endSteps: 3, outcome: "", hash: 0 },
    ...{ busy: 0, began: null, uses: null, holds: null },
  };
}

function copy(world: World): World {
  const actors = world.actors.map((actor) => ({ ...actor, log: actor.log.slice() }));
  return { ...world, kernel: clone(world.kernel), actors, stored: new Map(world.stored) };
}

/** What a process has told, and what is wrong with it. */
function noted(scenario: Scenario, world: World, i: number, fact: Fact, address: number): number {
  const { kernel, actors, stored } = world;
  const actor = actors[i]!;
  const others = actors.filter((other) => other !== actor && other.status !== "ended");
  if (fact === "acquired" || fact === "released") {
    actor.holds = fact === "acquired" ? ANY_SEMAPHORE : null;
    if (fact === "acquired" && others.some(({ holds }) => holds === ANY_SEMAPHORE)) {
      world.bad ??= "two processes hold the semaphore";
    }
    return 0;
  }
  const segment = segmentAt(kernel, i, address)!;
  const { objects } = kernel.ipc[kernel.processes[i]!.ipc]!.shm;
  const isRemoved = (objects.get(segment)?.key ?? 0) === 0;
  if (fact === "attached") {
    actor.uses = segment;
    if (others.some(({ uses }) => uses !== null && uses !== segment)) {
      world.bad ??= "two segments of one key are in use";
    }
  } else if (fact === "locked") {
    actor.holds = segment;
    if (others.some(({ holds }) => holds === segment)) world.bad ??= "two processes hold the lock";
  } else if (fact === "unlocked") actor.holds = null;
  else if (fact === "detaching") actor.uses = actor.holds = null;
  else if (fact === "store") stored.set(segment, (stored.get(segment) ?? 0) + 1);
  if (fact === "locked" || fact === "unlocked" || fact === "detaching") {
    world.bad ??= scenario.lockProblem?.(kernel, fact) ?? null;
  }
  if (fact !== "unlocked" && isRemoved) world.bad ??= `the segment was removed while P${i} uses it`;
  return stored.get(segment) ?? 0;
}

/** Runs process `i` until it waits, ends, or `before` says that it is not to make a call. */
function run(
  scenario: Scenario,
  world: World,
  { process: i, mode }: Choice,
  before: ((call: Call) => boolean) | null,
): void {
  const { kernel } = world;
  const actor = world.actors[i]!;
  const { log } = actor;
  const { length } = log;
  let next = 0;
  let how = mode;
  let suspended: Suspended | null = null;
  const suspend = (status: Actor["status"]): never => {
    actor.status = status;
    throw suspended = new Suspended();
  };
  const system = (made: Call): Result => {
    if (suspended !== null) throw suspended;
    if (next < length) {
      const { call: logged, result } = log[next++]!;
      if (logged[0] !== made[0]) throw new Error(`not deterministic: ${logged[0]} was ${made[0]}`);
      clock = result.now;
      return result;
    }
    if (how === NEW && before !== null && !before(made)) suspend("ready");
    const result = perform(scenario, world, i, made, how);
    how = NEW;
    if (isBlocked(result)) {
      if (actor.pending === null) actor.until = kernel.now + result.wait;
      actor.pending = made;
      return suspend("waiting");
    }
    actor.pending = null;
    actor.busy = kernel.now > clock ? 0 : actor.busy + 1;
    if (actor.busy > BUSY_CALLS) {
      world.bad ??= `P${i} tries ${made[0]} again and again without a pause`;
      suspend("ended");
    }
    clock = kernel.now;
    const entry: Entry = { call: made, result };
    log.push(entry);
    next++;
    actor.hash = mixed(actor.hash, entry);
    world.trace = { before: world.trace, process: i, entry };
    return result;
  };
  clock = actor.began ??= kernel.now;
  sleep = (ms) => void system(["sleep", ms]);
  actor.status = "ready";
  const ffi = new SimulatedFfi(system, kernel.processes[i]!);
  let outcome = "ok";
  try {
    scenario.programs[i]!(ffi, (fact, address) => system(["note", fact, address]).ret);
    system(["exit"]);
  } catch (error) {
    outcome = textOf(error);
  }
  if (suspended !== null) return;
  actor.outcome = outcome;
  kill(world, i, 3);
  world.trace = { before: world.trace, process: i, entry: `ends: ${outcome}` };
}

function textOf(error: unknown): string {
  const { code, message, stack } = error as Error & { code?: string };
  return code === undefined ? String(stack) : `${code}: ${message}`;
}

function perform(
  scenario: Scenario,
  world: World,
  i: number,
  made: Call,
  how: Mode,
): Result | Blocked {
  const { kernel } = world;
  const [name, fact, address] = made;
  if (name === "exit") return { ret: 0, errno: 0, out: null, now: kernel.now };
  if (name === "note") {
    const ret = noted(scenario, world, i, fact as Fact, address as number);
    return { ret, errno: 0, out: null, now: kernel.now };
  }
  const result = call(kernel, i, made, how);
  if (!isBlocked(result) || result.wait === Infinity || !isAlone(world, i, result.wait)) {
    return result;
  }
  kernel.now += result.wait; // no other process can do anything meanwhile
  return call(kernel, i, made, TIMED_OUT);
}

/** Whether no other process can do anything within `ms`. */
function isAlone(world: World, i: number, ms: number): boolean {
  const until = world.kernel.now + ms;
  return world.actors.every((actor, j) =>
    j === i || actor.status === "ended" || actor.status === "stopped" && actor.until > until
  );
}

const END_STEPS = [endMemory, endSemaphores, endFiles];

/** Kills a process, and does the first `steps` steps of its end. */
function kill(world: World, i: number, steps: number): void {
  const actor = world.actors[i]!;
  actor.uses = actor.holds = actor.pending = null;
  actor.status = "ending";
  if (actor.outcome === "") actor.outcome = "killed";
  for (let step = 0; step < steps; step++) goOnEnding(world, i);
}

function goOnEnding(world: World, i: number): void {
  const actor = world.actors[i]!;
  END_STEPS[3 - actor.endSteps]!(world.kernel, i);
  if (--actor.endSteps > 0) return;
  reap(world.kernel, i);
  actor.status = "ended";
}

/** A process that can go on, and in which way. */
interface Choice {
  readonly process: number;
  readonly mode: Mode;
}

/** The processes that can go on at once. */
function runnable(world: World): Choice[] {
  const choices: Choice[] = [];
  for (const [process, { status }] of world.actors.entries()) {
    if (status === "ready") choices.push({ process, mode: NEW });
    else if (status === "waiting" && world.kernel.processes[process]!.wait?.result != null) {
      choices.push({ process, mode: AGAIN });
    }
  }
  return choices;
}

/**
 * The processes of which one goes on when the one that ran waits or has ended. If there is none, the next step of an
 * end happens, or time passes. It is empty when all have ended, or when something is wrong.
 */
function choicesOf(world: World): Choice[] {
  const { kernel, actors } = world;
  while (world.bad === null) {
    const choices = runnable(world);
    if (choices.length > 0) return choices;
    const ending = actors.findIndex(({ status }) => status === "ending");
    if (ending !== -1) {
      goOnEnding(world, ending);
      continue;
    }
    const waiting = actors.filter(({ status }) => status === "waiting" || status === "stopped");
    if (waiting.length === 0) return [];
    const until = Math.min(...waiting.map((actor) => actor.until));
    if (until > FOREVER_MS + world.began) {
      const calls = waiting.map(({ pending }) => pending?.[0]).join(" and ");
      world.bad = `nobody can go on: a process waits for ever in ${calls}`;
      return [];
    }
    kernel.now = Math.max(kernel.now, until);
    world.trace = { before: world.trace, process: -1, entry: `${kernel.now} ms have passed` };
    const process = actors.findIndex((actor) => waiting.includes(actor) && actor.until === until);
    if (actors[process]!.status === "waiting") return [{ process, mode: TIMED_OUT }];
    actors[process]!.status = "ready";
  }
  return [];
}

function deviate(world: World, deviation: Deviation): void {
  const { process, what } = deviation;
  world.path = { before: world.path, deviation };
  if (what === "yields") return;
  world.trace = { before: world.trace, process, entry: `is ${what}` };
  if (what === "stopped") {
    world.hasStop = true;
    world.actors[process]!.status = "stopped";
    world.actors[process]!.until = world.kernel.now + STOP_MS;
  } else if (what !== "preempted") {
    world.hasKill = true;
    kill(world, process, Number(what.slice(-1)));
  }
}

/** Says what is wrong with a world in which nothing can go on. */
function verdict(scenario: Scenario, world: World): string | null {
  const { kernel, actors, hasKill, hasStop } = world;
  const ending = { kernel, outcomes: actors.map(({ outcome }) => outcome), hasKill, hasStop };
  const what = world.bad ?? scenario.check(ending);
  return what === null || scenario.tolerates?.(what, ending) ? null : what;
}

function failureOf(scenario: Scenario, world: World, what: string): Failure {
  const deviations: Deviation[] = [];
  for (let path = world.path; path !== null; path = path.before) deviations.unshift(path.deviation);
  const trace: string[] = [];
  for (let step = world.trace; step !== null; step = step.before) trace.unshift(lineOf(step));
  return { scenario: scenario.name, what, deviations, trace };
}

function lineOf({ process, entry }: Trace): string {
  const who = process === -1 ? "--" : `P${process}`;
  if (typeof entry === "string") return `${who} ${entry}`;
  const [name, ...args] = entry.call;
  const { ret, errno } = entry.result;
  return `${who} ${name}(${args.map((arg) => JSON.stringify(arg)).join(", ")}) = ${
    ret === -1 ? `errno ${errno}` : ret
  }`;
}

const CRASHES = ["stopped", "killed 3", "killed 1", "killed 2"] as const;

/** Returns a failure's text without numbers, such as ids, which differ from schedule to schedule. */
export function kindOf(what: string): string {
  return what.replace(/\d+/g, "N");
}

/**
 * Explores all schedules of a scenario within `bounds`, for at most `limitMs`. Each kind of failure is reported once.
 *
 * @param isEnough whether no more schedules are to be explored after this failure
 */
export function explore(
  scenario: Scenario,
  bounds: Bounds,
  limitMs = Infinity,
  isEnough: (failure: Failure) => boolean = () => false,
): Report {
  const report: Report = {
    ...{ schedules: 0, kills: 0, stops: 0, known: 0, calls: 0, failures: [], isComplete: true },
  };
  let isFound = false;
  const isOver = () => isFound || realNow.call(performance) - began > limitMs;
  const began = realNow.call(performance);
  const visited = new Set<string>();
  const kinds = new Set<string>();

  function leave(world: World): void {
    report.schedules++;
    if (world.hasKill) report.kills++;
    if (world.hasStop) report.stops++;
    const what = verdict(scenario, world);
    if (what === null || kinds.has(kindOf(what))) return;
    kinds.add(kindOf(what));
    const failure = failureOf(scenario, world, what);
    report.failures.push(failure);
    isFound ||= isEnough(failure);
  }

  function goOn(world: World, current: number, preemptions: number, crashes: number): void {
    const choices = choicesOf(world);
    if (choices.length === 0) return leave(world);
    for (const [index, choice] of choices.entries()) {
      const future = index === choices.length - 1 ? world : copy(world);
      if (index > 0) {
        const at = current === -1 ? 0 : world.actors[current]!.log.length;
        deviate(future, { process: current, at, what: "yields", next: choice.process });
      }
      step(future, choice, preemptions, crashes);
    }
  }

  function step(world: World, choice: Choice, preemptions: number, crashes: number): void {
    if (isOver()) {
      report.isComplete = false;
      return;
    }
    const key = `${keyOf(world)} ${choice.process} ${choice.mode} ${preemptions} ${crashes}`;
    if (visited.has(key)) {
      report.known++;
      return;
    }
    visited.add(key);
    const { process } = choice;
    const { log } = world.actors[process]!;
    const branches: World[] = [];
    const before = (made: Call) => {
      const mayDeviate = log.length < DEVIATING_CALLS && !isPrivate(made);
      if (mayDeviate && preemptions + crashes > 0) branches.push(copy(world));
      return true;
    };
    const made = log.length;
    run(scenario, world, choice, before);
    report.calls += log.length - made;
    goOn(world, process, preemptions, crashes);
    for (const branch of branches) {
      const at = branch.actors[process]!.log.length;
      for (const choice of preemptions > 0 ? runnable(branch) : []) {
        if (choice.process === process) continue;
        const future = copy(branch);
        deviate(future, { process, at, what: "preempted", next: choice.process });
        step(future, choice, preemptions - 1, crashes);
      }
      for (const what of crashes > 0 ? CRASHES : []) {
        const future = copy(branch);
        deviate(future, { process, at, what });
        goOn(future, process, preemptions, crashes - 1);
      }
    }
  }

  simulateClocks();
  try {
    goOn(start(scenario), -1, bounds.preemptions, bounds.crashes);
  } finally {
    restoreClocks();
  }
  return report;
}

/** Runs the one schedule that has these deviations. Returns what is wrong, `null` if nothing is. */
export function replay(scenario: Scenario, deviations: readonly Deviation[]): Failure | null {
  const left = new Set(deviations);
  return drive(scenario, (process, at, choices, isRunning) => {
    for (const one of left) {
      const isHere = one.process === process && one.at === at &&
        (one.what === "yields") !== isRunning;
      const isPossible = one.next === undefined ||
        choices.some((choice) => choice.process === one.next);
      if (isHere && isPossible && left.delete(one)) return one;
    }
    return null;
  }).failure;
}

/** A schedule that has been run. */
export interface Driven {
  readonly failure: Failure | null;
  readonly hasKill: boolean;
  readonly hasStop: boolean;
}

/** Runs a schedule with random deviations, which `random` decides; it returns numbers from 0 to below 1. */
export function wander(scenario: Scenario, random: () => number): Driven {
  const rates = [random() ** 3, random() < 0.5 ? 0 : 0.02 * random()] as const;
  const any = <T>(list: readonly T[]) => list[Math.floor(random() * list.length)];
  let crashes = 2;
  return drive(scenario, (process, at, choices, isRunning) => {
    if (!isRunning) {
      const index = Math.floor(random() * choices.length);
      return index === 0 ? null : { process, at, what: "yields", next: choices[index]!.process };
    }
    if (crashes > 0 && random() < rates[1]) {
      crashes--;
      return { process, at, what: any(CRASHES)! };
    }
    const next = random() < rates[0] ? any(choices)?.process : undefined;
    return next === undefined ? null : { process, at, what: "preempted", next };
  });
}

/** Runs one more process on a copy of a kernel on which all have ended, a while later. */
export function runOn(kernel: State, program: Program): {
  readonly kernel: State;
  readonly outcome: string;
  readonly ms: number;
} {
  const later = clone(kernel);
  later.now += LATER_MS;
  const process = addProcess(later, { uid: 1000 });
  const ended: Actor = { ...newActor(), status: "ended" };
  const actors = later.processes.map((_, i) => i === process ? newActor() : ended);
  const world: World = {
    ...EMPTY_WORLD,
    began: later.now,
    kernel: later,
    actors,
    stored: new Map(),
  };
  const scenario: Scenario = { name: "", programs: actors.map(() => program), check: () => null };
  for (let choices: Choice[] = runnable(world); choices.length > 0; choices = choicesOf(world)) {
    run(scenario, world, choices[0]!, null);
  }
  const { outcome } = actors[process]!;
  return { kernel: later, outcome: world.bad ?? outcome, ms: later.now - world.began };
}

/** Decides on a deviation: at a call of a running process, or when a process waits or has ended. */
type Decide = (
  process: number,
  at: number,
  choices: readonly Choice[],
  isRunning: boolean,
) => Deviation | null;

function drive(scenario: Scenario, decide: Decide): Driven {
  const world = start(scenario);
  simulateClocks();
  try {
    let current = -1;
    let next: Choice | null = null;
    for (;;) {
      if (next === null) {
        const choices = choicesOf(world);
        if (choices.length === 0) break;
        const at = current === -1 ? 0 : world.actors[current]!.log.length;
        const deviation = choices.length > 1 ? decide(current, at, choices, false) : null;
        if (deviation !== null) deviate(world, deviation);
        next = choices.find(({ process }) => process === deviation?.next) ?? choices[0]!;
      }
      const { process }: Choice = next;
      const { log } = world.actors[process]!;
      let decision: Deviation | null = null;
      run(scenario, world, next, (made) => {
        if (log.length >= DEVIATING_CALLS || isPrivate(made)) return true;
        const others = runnable(world).filter((choice) => choice.process !== process);
        decision = decide(process, log.length, others, true);
        return decision === null;
      });
      current = process;
      next = null;
      if (decision !== null) {
        const { next: to } = decision as Deviation;
        next = runnable(world).find((choice) => choice.process === to) ?? null;
        deviate(world, decision);
      }
    }
    const what = verdict(scenario, world);
    const failure = what === null ? null : failureOf(scenario, world, what);
    return { failure, hasKill: world.hasKill, hasStop: world.hasStop };
  } finally {
    restoreClocks();
  }
}

/** Leaves out the deviations without which the same failure occurs. */
export function shrunk(scenario: Scenario, failure: Failure): Failure {
  for (let best = failure;;) {
    const smaller = best.deviations
      .map((_, i) => replay(scenario, best.deviations.toSpliced(i, 1)))
      .find((found) =>
        found !== null && kindOf(found.what) === kindOf(failure.what) &&
        found.deviations.length < best.deviations.length
      );
    if (smaller === undefined || smaller === null) return best;
    best = smaller;
  }
}

function mixedText(hash: number, text: string): number {
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
}

function mixed(hash: number, { call, result }: Entry): number {
  const { ret, errno, now, out } = result;
  hash = Math.imul(mixedText(hash ^ 0x811c9dc5, call[0]) ^ ret, 0x01000193) ^ errno ^ now;
  if (typeof out === "string") hash = mixedText(hash, out);
  else if (out !== null) hash = mixedText(hash, Object.values(out).join());
  return hash >>> 0;
}

function keyOf({ kernel, actors, hasKill, hasStop }: World): string {
  const parts = actors.map(({ hash, log, status, until }) =>
    `${hash},${log.length},${status},${until}`
  );
  return `${parts.join(";")} ${hasKill} ${hasStop} ${digest(kernel)}`;
}

/**
 * The simulated processes on a kernel, by deterministic replay in one thread. A process is at a moment of its program,
 * and its next call is known if the program has been at this moment before. If it is not, the program runs again from its
 * start and gets the results of its earlier calls, until it reaches the call at which the process was suspended. A world
 * is a kernel as plain data together with these moments, so that a copy of it is one more future.
 */
import { thisPlatform } from "../../backends/platform.ts";
import { type Context, enterContext } from "../../context.ts";
import { collection } from "../../core/collection.ts";
import { closeAll } from "../../core/exit_hook.ts";
import { selectFfi } from "../../ffi/mod.ts";
import { newRegistry } from "../../registry.ts";
import { ARCH, type FfiOptions, SimulatedFfi } from "./ffi.ts";
import { drainJobs, EventLoop } from "./event_loop.ts";
import { Fingerprint } from "./fingerprint.ts";
import {
  addState,
  alternativesTo,
  type Blocked,
  boot,
  type Call,
  call,
  clone,
  endFiles,
  endMemory,
  endSemaphores,
  endThread,
  fence,
  interrupt,
  isBlocked,
  reap,
  type Result,
  type State,
  threadsOf,
  waitsForTime,
} from "./kernel.ts";
import { FIRST_WORD } from "./memory.ts";
import { beginningOf, type Moment } from "./moments.ts";
import { alternativeText, orderingOf } from "./ordering.ts";
import type { Deviation, Fact, Failure, Program, Scenario } from "./scenario.ts";
import { running } from "./virtual_time.ts";
import { threadProgram } from "./workers.ts";

/** A stopped process goes on when so much time has passed. */
const STOP_MS = 20_000;
/** The same beside an asynchronous program, which makes many calls meanwhile. It is longer than the timeouts of others. */
const ASYNC_STOP_MS = 7000;
/** A new thread begins to run when so much time has passed. */
const THREAD_START_MS = 5;
/** A delayed process goes on when so much time has passed: as long as others wait where microseconds usually do. */
const DELAY_MS = 1;
/** A call may take so long that the timers of others are due meanwhile. */
const SLOW_MS = 200;
/** After so much time, a process that still waits is said to wait for ever. */
const FOREVER_MS = 4 * STOP_MS;
/** Stands for the semaphore of a scenario, where others stand for a segment. */
const ANY_SEMAPHORE = -1;
/**
 * Within this time in ms, a process that waits for the lock of its segment gets it when it has become free, and the next
 * user of a key gets that, whatever a killed process has left behind.
 */
export const NEXT_MS = 2200;
/** A process that makes so many calls without a pause tries something again and again. */
const BUSY_CALLS = 2000;
/** Calls that no other process can notice, so a preemption before them is the same as one before the next call. */
const PRIVATE_CALLS: ReadonlySet<unknown> = new Set([
  ...["read", "mmap", "munmap", "getenv", "clock", "timer"],
  ...["fallocate", "fchmod", "sem_init", "madvise"], // the objects that they change have no name yet
]);
/** What `/proc` says about the process itself, and about the system. */
const PRIVATE_PATH = /^\/proc\/(self|sys)\//;
/** What a process tells before it gives up what it holds: others must have had time to run into it. */
const ENDS_OF_HOLDING: ReadonlySet<unknown> = new Set(["unlocked", "released"]);

export function isPrivate([name, first, second]: Call): boolean {
  if (name === "note") return !ENDS_OF_HOLDING.has(first);
  return PRIVATE_CALLS.has(name) || name === "open" && PRIVATE_PATH.test(first as string) ||
    name === "statx" && PRIVATE_PATH.test(second as string);
}

/** A step of a schedule, as a list from the last one to the first. */
interface Trace {
  readonly before: Trace | null;
  readonly process: number;
  /** What has happened; `null` stands for a call, which the moment before it knows. */
  readonly what: string | null;
  readonly moment: Moment | null;
}

/** Deviations, as a list from the last one to the first. */
interface Path {
  readonly before: Path | null;
  readonly deviation: Deviation;
}

/** A process, or a thread of one. */
export interface Actor {
  readonly program: Program;
  /** How far the program is; `null` if it has not begun. */
  moment: Moment | null;
  status: "ready" | "waiting" | "stopped" | "ending" | "ended";
  /** Until when it waits or is stopped. */
  until: number;
  /** How many steps of its end are left. */
  endSteps: number;
  outcome: string;
  /** The segment that it uses, since when it does or has waited for a lock or semaphore, and the lock that it holds. */
  uses: number | null;
  since: number;
  holds: number | null;
  /** The number of calls since time has passed for it, and the time of the last one. */
  busy: number;
  now: number;
}

export interface World {
  readonly kernel: State;
  readonly actors: Actor[];
  trace: Trace | null;
  path: Path | null;
  /** The virtual time at which the first process began. */
  readonly began: number;
  /** What is wrong already. */
  bad: string | null;
  /** When a process last released a lock, was killed, or went on after a stop. */
  freed: number;
  /** What `store` has stored in each segment. */
  readonly stored: Map<number, number>;
  hasKill: boolean;
  hasStop: boolean;
  readonly isAsync: boolean;
}

/** Thrown through a program that is suspended; every later call throws it again, as `finally` and `catch` go on. */
class Suspended extends Error {}

/**
 * The result of calls that do not throw in a program that is suspended: those of a promise job that polls what a thread
 * does, as nobody would catch that.
 */
const ANY_RESULT: Result = { ret: 0, errno: 0, out: "1" };

function suspended([name, address]: Call): Result {
  const isWord = name.startsWith("Atomics.") && address as number >= FIRST_WORD;
  if (isWord || name === "timer") return ANY_RESULT;
  throw new Suspended();
}

/** Returns the segment that a process has at an address, and whether it has been removed. */
function segmentAt(kernel: State, process: number, address: number) {
  const { ipc, maps } = kernel.processes[process]!;
  const { kind, id } = maps.get(address)!;
  if (kind === "segment") {
    return { segment: id, isRemoved: (kernel.ipc[ipc]!.shm.objects.get(id)?.key ?? 0) === 0 };
  }
  const { inode } = kernel.opens.get(id)!;
  const { links, isTemporary } = kernel.inodes.get(inode)!;
  return { segment: inode, isRemoved: links === 0 && !isTemporary };
}

/** Names the process that has created a segment, where the kernel notes it. */
function creatorOf(kernel: State, process: number, segment: number): string {
  const { objects } = kernel.ipc[kernel.processes[process]!.ipc]!.shm;
  const creator = objects.get(segment)?.creator;
  return creator === undefined ? "a process" : `P${creator}`;
}

export const NEW = 0;
const AGAIN = 1, TIMED_OUT = 2;
type Mode = typeof NEW | typeof AGAIN | typeof TIMED_OUT;

/** Starts a scenario, in which so many loads and stores are reordered if any may be. */
export function start(scenario: Scenario, reorderings: number): World {
  const processes = scenario.programs.map(() => ({ uid: 1000 }));
  const kernel = boot({ processes, ...scenario.system });
  scenario.setUp?.(kernel);
  if (scenario.isReordered && reorderings > 0) {
    kernel.ordering = orderingOf(processes.length, reorderings);
  }
  const actors = scenario.programs.map((program) => newActor(program));
  const { isAsync = false } = scenario;
  return { ...EMPTY_WORLD, isAsync, kernel, actors, stored: new Map() };
}

export const EMPTY_WORLD = {
  began: 0,
  trace: null,
  path: null,
  bad: null,
  freed: 0,
  hasKill: false,
  hasStop: false,
  isAsync: false,
};

export function newActor(program: Program): Actor {
  return {
    program,
    ...{ moment: null, status: "ready", until: 0, endSteps: 3, outcome: "" },
    ...{ uses: null, since: Infinity, holds: null, busy: 0, now: 0 },
  };
}

export function copy(world: World): World {
  const actors = world.actors.map((actor) => ({ ...actor }));
  return { ...world, kernel: clone(world.kernel), actors, stored: new Map(world.stored) };
}

/** Returns the number of calls that a process has made. */
export function callsOf({ moment }: Actor): number {
  return moment === null ? 0 : moment.calls;
}

/** What a process has told, and what is wrong with it. */
function noted(scenario: Scenario, world: World, i: number, fact: Fact, address: number): number {
  const { kernel, actors, stored } = world;
  const actor = actors[i]!;
  const others = actors.filter((other) => other !== actor && other.status !== "ended");
  const noteWait = (what: string) => {
    const waited = kernel.now - Math.max(actor.since, world.freed);
    if (waited > NEXT_MS) world.bad ??= `P${i} has waited for a free ${what} for ${waited} ms`;
  };
  if (fact === "waiting") {
    actor.since = kernel.now;
    return 0;
  }
  if (fact === "acquired" || fact === "released") {
    actor.holds = fact === "acquired" ? ANY_SEMAPHORE : null;
    if (fact === "released") world.freed = kernel.now;
    else {
      if (others.some(({ holds }) => holds === ANY_SEMAPHORE)) {
        world.bad ??= "two processes hold the semaphore";
      }
      noteWait("semaphore");
    }
    return 0;
  }
  const { segment, isRemoved } = segmentAt(kernel, i, address);
  if (fact === "attached") {
    actor.uses = segment;
    actor.since = kernel.now;
    const other = others.find(({ uses }) => uses !== null && uses !== segment);
    if (other !== undefined) {
      const creators = [segment, other.uses!].map((id) => creatorOf(kernel, i, id));
      world.bad ??= `two segments of one key are in use, created by ${creators.join(" and ")}`;
    }
  } else if (fact === "adopting") {
    const other = actors.findIndex(({ uses }, j) => j !== i && uses === segment);
    if (other !== -1) world.bad ??= `P${i} adopts a segment that P${other} uses`;
  } else if (fact === "locked") {
    const lock = actor.holds = scenario.lockOf?.(kernel, i) ?? segment;
    if (others.some(({ holds }) => holds === lock)) world.bad ??= "two processes hold the lock";
    noteWait("lock");
  } else if (fact === "unlocked") {
    actor.holds = null;
    world.freed = kernel.now;
  } else if (fact === "detaching") actor.uses = actor.holds = null;
  else if (fact === "store") stored.set(segment, (stored.get(segment) ?? 0) + 1);
  if (fact === "locked" || fact === "unlocked" || fact === "detaching") {
    world.bad ??= scenario.lockProblem?.(kernel, fact, i) ?? null;
  }
  if (fact !== "unlocked" && isRemoved) world.bad ??= `the segment was removed while P${i} uses it`;
  return stored.get(segment) ?? 0;
}

/** Runs process `i` until it waits, ends, or `before` says that it is not to make a call. */
export function run(
  scenario: Scenario,
  world: World,
  { process: i, mode }: Choice,
  before: ((call: Call) => boolean) | null,
): void {
  const { kernel } = world;
  const actor = world.actors[i]!;
  const options = kernel.processes[i]!;
  if (mode === TIMED_OUT) kernel.now = Math.max(kernel.now, actor.until);
  actor.status = "ready";
  actor.moment ??= beginningOf(actor.program, options);
  let how = mode;
  /** Makes the next call. Returns whether the process goes on. */
  const goOn = (): boolean => {
    const moment = actor.moment!;
    const made = moment.call!;
    if (how === NEW && before !== null && !before(made)) return false;
    const result = perform(scenario, world, i, made, how);
    if (isBlocked(result)) {
      if (how === NEW) actor.until = kernel.now + result.wait;
      actor.status = "waiting";
      return false;
    }
    how = NEW;
    actor.moment = moment.after(result);
    world.trace = { before: world.trace, process: i, what: null, moment: actor.moment };
    if (kernel.processes[i]!.isEnding) {
      endThread(kernel, i);
      actor.status = "ended";
      return false;
    }
    actor.busy = kernel.now > actor.now ? 0 : actor.busy + 1;
    actor.now = kernel.now;
    if (actor.busy > BUSY_CALLS) {
      world.bad ??= `P${i} tries ${made[0]} again and again without a pause`;
    }
    return world.bad === null;
  };
  for (;;) {
    const { call, outcome } = actor.moment;
    if (outcome !== null) return leave(world, i, outcome);
    if (!(call === null ? discover(actor, options, goOn) : goOn())) return;
  }
}

/** Ends a process whose program has ended. */
function leave(world: World, i: number, outcome: string): void {
  if (world.kernel.processes[i]!.leader !== i) {
    world.bad ??= `a thread has ended: ${outcome}`;
    return;
  }
  world.actors[i]!.outcome = outcome;
  kill(world, i, 3);
  world.trace = { before: world.trace, process: i, what: `ends: ${outcome}`, moment: null };
}

/**
 * Runs a program from its start to the moment at which its process is, and on from there. Returns whether the process
 * goes on: the program has then ended.
 */
function discover(
  actor: Actor,
  options: FfiOptions,
  goOn: () => boolean,
): boolean {
  const path = actor.moment!.path();
  let next = 1;
  let isSuspended = false;
  const system = (made: Call): Result => {
    if (isSuspended) return suspended(made);
    let moment = path[next++];
    const call = moment === undefined ? actor.moment!.call ??= made : moment.before!.call!;
    if (call[0] !== made[0]) throw new Error(`not deterministic: ${call[0]} was ${made[0]}`);
    if (moment === undefined) {
      isSuspended = !goOn();
      if (isSuspended) return suspended(made);
      moment = actor.moment!;
    }
    return moment.result!;
  };
  running.clock = () => system(["clock"]).ret;
  running.sleep = (ms) => void system(["sleep", ms]);
  const ffi = running.ffi = new SimulatedFfi(system, options);
  const loop = running.loop = new EventLoop(ffi);
  const outer = enterContext(contextOf(ffi));
  let outcome = "ok";
  let main: void | Promise<unknown> = undefined;
  try {
    main = actor.program(ffi, (fact, address) => system(["note", fact, address]).ret);
    if (main !== undefined) loop.run(main);
    closeAll(); // the exit hook
    loop.exit();
    system(["exit"]);
  } catch (error) {
    outcome = textOf(error);
  }
  const hasEnded = !isSuspended;
  if (main !== undefined) {
    isSuspended = true; // the jobs that are left are no part of the program
    drainJobs();
  }
  enterContext(outer);
  if (hasEnded) actor.moment!.outcome = outcome;
  return hasEnded;
}

/** A new context for a process that is run from its start. */
function contextOf(ffi: SimulatedFfi): Context {
  const platform = { os: "linux", arch: ARCH };
  // The objects of an earlier run of the process are garbage, whose collection must do nothing.
  const nothing = { register() {}, unregister: () => false };
  return {
    registry: { ...newRegistry(), hasExitHook: true },
    values: new Map<() => unknown, unknown>([
      [selectFfi, ffi],
      [thisPlatform, platform],
      [collection, nothing],
    ]),
  };
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
  if (name === "exit") {
    fence(kernel, i);
    return { ret: 0, errno: 0, out: null };
  }
  if (name === "clock" || name === "timer") return { ret: kernel.now, errno: 0, out: null };
  if (name === "note") {
    const ret = noted(scenario, world, i, fact as Fact, address as number);
    return { ret, errno: 0, out: null };
  }
  const result = call(kernel, i, made, how);
  if (name === "thread") addThread(world, fact as number);
  else if (name === "terminate") noteEnded(world);
  if (!isBlocked(result)) return result;
  if (result.wait > 0 && (result.wait === Infinity || !isAlone(world, i, result.wait))) {
    return result;
  }
  kernel.now += result.wait; // no other process can do anything meanwhile
  return call(kernel, i, made, TIMED_OUT);
}

function addThread({ actors, kernel }: World, program: number): void {
  const thread = newActor(threadProgram(program));
  thread.status = "stopped";
  thread.until = kernel.now + THREAD_START_MS;
  actors.push(thread);
}

function noteEnded({ actors, kernel }: World): void {
  for (const [i, { stage, leader }] of kernel.processes.entries()) {
    if (leader !== i && stage === "reaped") actors[i]!.status = "ended";
  }
}

/** Whether no other process can do anything within `ms`, which pass before the process waits for ever. */
function isAlone(world: World, i: number, ms: number): boolean {
  const until = world.kernel.now + ms;
  return until <= FOREVER_MS + world.began &&
    world.actors.every((actor, j) =>
      j === i || actor.status === "ended" || actor.status === "stopped" && actor.until > until
    );
}

const END_STEPS = [endMemory, endSemaphores, endFiles];

/** Kills a process with its threads, and does the first `steps` steps of its end. */
function kill(world: World, thread: number, steps: number): void {
  const i = world.kernel.processes[thread]!.leader;
  for (const other of threadsOf(world.kernel, i)) {
    if (other !== i) world.actors[other]!.status = "ended";
  }
  const actor = world.actors[i]!;
  actor.uses = actor.holds = null;
  actor.status = "ending";
  if (actor.outcome === "") actor.outcome = "killed";
  for (let step = 0; step < steps; step++) goOnEnding(world, i);
}

function goOnEnding(world: World, i: number): void {
  const actor = world.actors[i]!;
  END_STEPS[3 - actor.endSteps]!(world.kernel, i);
  if (actor.outcome === "killed") world.freed = world.kernel.now; // others have released what they held before
  if (--actor.endSteps > 0) return;
  reap(world.kernel, i);
  actor.status = "ended";
}

/** A process that can go on, and in which way. */
export interface Choice {
  readonly process: number;
  readonly mode: Mode;
}

/** The processes that can go on at once. */
export function runnable(world: World): Choice[] {
  const choices: Choice[] = [];
  const { now } = world.kernel;
  for (const [process, actor] of world.actors.entries()) {
    if (actor.status === "stopped" && actor.until <= now) {
      const { wait } = world.kernel.processes[process]!;
      actor.status = wait === null ? "ready" : "waiting";
      actor.until = wait === null ? 0 : wait.until;
      world.freed = now; // whatever the process has held meanwhile
    }
    const { status } = actor;
    if (status === "ready") {
      choices.push({ process, mode: NEW });
    } else if (status === "waiting" && world.kernel.processes[process]!.wait?.result != null) {
      choices.push({ process, mode: AGAIN });
    } else if (isDue(world, process, now)) choices.push({ process, mode: TIMED_OUT });
  }
  return choices;
}

/** Whether a process waits for nothing but a time that is `now` or earlier, beside an asynchronous program. */
function isDue({ isAsync, kernel, actors }: World, process: number, now: number): boolean {
  if (!isAsync) return false;
  const { status, until } = actors[process]!;
  return status === "waiting" && until <= now && waitsForTime(kernel, process);
}

/**
 * The processes that may run instead of one that could go on: those that can go on too, and those that wait for a time
 * which may have come before the one makes its next call.
 */
export function rivalsOf(world: World, process: number): Choice[] {
  const others = runnable(world).filter((choice) => choice.process !== process);
  const soon = world.kernel.now + SLOW_MS;
  for (const other of world.actors.keys()) {
    if (
      other !== process && isDue(world, other, soon) &&
      !others.some((one) => one.process === other)
    ) {
      others.push({ process: other, mode: TIMED_OUT });
    }
  }
  return others;
}

/**
 * The processes of which one goes on when the one that ran waits or has ended. If there is none, the next step of an
 * end happens, or time passes. It is empty when all have ended, or when something is wrong.
 */
export function choicesOf(world: World): Choice[] {
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
      const calls = actors.flatMap((actor, i) =>
        waiting.includes(actor) && kernel.processes[i]!.leader === i
          ? [`P${i} waits for ever in ${actor.moment?.call?.[0]}`]
          : []
      );
      world.bad = `nobody can go on: ${calls.join(", ")}`;
      return [];
    }
    kernel.now = Math.max(kernel.now, until);
    const what = `${kernel.now} ms have passed`;
    world.trace = { before: world.trace, process: -1, what, moment: null };
    const process = actors.findIndex((actor) => waiting.includes(actor) && actor.until === until);
    if (actors[process]!.status === "waiting") return [{ process, mode: TIMED_OUT }];
  }
  return [];
}

export function deviate(world: World, deviation: Deviation): void {
  const { process, what } = deviation;
  world.path = { before: world.path, deviation };
  if (what === "yields") return;
  if (what === "reordered") {
    reorder(world, process, deviation.alternative!);
    return;
  }
  world.trace = { before: world.trace, process, what: `is ${what}`, moment: null };
  if (what === "stopped") stop(world, process);
  else if (what === "delayed") pause(world, process, DELAY_MS);
  else if (what !== "preempted") {
    world.hasKill = true;
    kill(world, process, Number(what.slice(-1)));
  }
}

/** Stops a process with its threads. */
function stop(world: World, thread: number): void {
  const { kernel } = world;
  world.hasStop = true;
  for (const other of threadsOf(kernel, kernel.processes[thread]!.leader)) {
    interrupt(kernel, other);
    pause(world, other, world.isAsync ? ASYNC_STOP_MS : STOP_MS);
  }
}

function pause({ actors, kernel }: World, i: number, ms: number): void {
  actors[i]!.status = "stopped";
  actors[i]!.until = kernel.now + ms;
}

/** Chooses one of the alternatives to what usually happens at the next call of a process. */
function reorder(world: World, process: number, number: number): void {
  const { kernel, actors } = world;
  const alternative = alternativesTo(kernel, process, actors[process]!.moment!.call!)[number];
  if (alternative === undefined) return;
  kernel.ordering!.chosen = number;
  world.trace = { before: world.trace, process, what: alternativeText(alternative), moment: null };
}

/** Says what is wrong with a world in which nothing can go on. */
export function verdict(scenario: Scenario, world: World): string | null {
  const { kernel, actors, hasKill, hasStop } = world;
  const outcomes = actors.slice(0, scenario.programs.length).map(({ outcome }) => outcome);
  const ending = { kernel, outcomes, hasKill, hasStop };
  const what = world.bad ?? scenario.check(ending);
  return what === null || scenario.tolerates?.(what, ending) ? null : what;
}

export function failureOf(scenario: Scenario, world: World, what: string): Failure {
  const deviations: Deviation[] = [];
  for (let path = world.path; path !== null; path = path.before) deviations.unshift(path.deviation);
  const trace: string[] = [];
  for (let step = world.trace; step !== null; step = step.before) {
    trace.unshift(lineOf(world.kernel, step));
  }
  return { scenario: scenario.name, what, deviations, trace };
}

function lineOf({ processes }: State, { process, what, moment }: Trace): string {
  const { leader } = processes[process] ?? { leader: process };
  const who = process === -1 ? "--" : leader === process ? `P${process}` : `P${leader}.${process}`;
  if (moment === null) return `${who} ${what}`;
  const [name, ...args] = moment.before!.call!;
  const { ret, errno, out } = moment.result!;
  const result = ret === -1 ? `errno ${errno}` : typeof out === "string" ? out : ret;
  return `${who} ${name}(${args.map((arg) => JSON.stringify(arg)).join(", ")}) = ${result}`;
}

/** Returns a hash of all that the future of a world depends on, and what is said about it at its end. */
export function fingerprint(world: World): Fingerprint {
  const { kernel, actors, stored, freed, hasKill, hasStop } = world;
  const hash = new Fingerprint().add(hasKill ? 1 : 0).add(hasStop ? 1 : 0).add(freed);
  for (const { moment, status, until, since, endSteps, outcome } of actors) {
    hash.addText(status);
    if (status === "ended" || status === "ending") hash.add(endSteps).addText(outcome);
    else {
      hash.add(moment === null ? 0 : moment.number).add(status === "ready" ? 0 : until).add(since);
    }
  }
  for (const [segment, count] of stored) hash.add(segment).add(count);
  addState(hash, kernel);
  return hash;
}

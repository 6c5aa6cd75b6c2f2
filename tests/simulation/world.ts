/**
 * The simulated processes on a kernel, by deterministic replay in one thread. A process is a function whose system
 * calls are logged. To resume it, the function runs again from its start and gets the logged results, until it reaches
 * the call at which it was suspended. A world is a kernel as plain data together with these logs, so that a copy of it
 * is one more future.
 */
import { SimulatedFfi } from "./ffi.ts";
import {
  type Blocked,
  boot,
  type Call,
  call,
  clone,
  digest,
  endFiles,
  endMemory,
  endSemaphores,
  isBlocked,
  reap,
  type Result,
  type State,
} from "./kernel.ts";
import type { Deviation, Fact, Failure, Scenario } from "./scenario.ts";
import { running } from "./virtual_time.ts";

/** A stopped process goes on when so much time has passed. */
const STOP_MS = 20_000;
/** After so much time, a process that still waits is said to wait for ever. */
const FOREVER_MS = 3 * STOP_MS;
/** Stands for the semaphore of a scenario, where others stand for a segment. */
const ANY_SEMAPHORE = -1;
/** A process that makes so many calls without a pause tries something again and again. */
const BUSY_CALLS = 2000;
/** Calls that no other process can notice, so a preemption before them is the same as one before the next call. */
const PRIVATE_CALLS: ReadonlySet<unknown> = new Set([
  ...["read", "mmap", "munmap", "getenv"],
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

export interface Actor {
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
  /** The segment that it uses, and the lock that it holds. */
  uses: number | null;
  holds: number | null;
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
  /** What `store` has stored in each segment. */
  readonly stored: Map<number, number>;
  hasKill: boolean;
  hasStop: boolean;
}

/** Thrown through a program that is suspended; every later call throws it again, as `finally` and `catch` go on. */
class Suspended extends Error {}

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

const NEW = 0, AGAIN = 1, TIMED_OUT = 2;
type Mode = typeof NEW | typeof AGAIN | typeof TIMED_OUT;

export function start(scenario: Scenario): World {
  const processes = scenario.programs.map(() => ({ uid: 1000 }));
  const kernel = boot({ processes, ...scenario.system });
  scenario.setUp?.(kernel);
  const actors = scenario.programs.map(newActor);
  return { ...EMPTY_WORLD, kernel, actors, stored: new Map() };
}

export const EMPTY_WORLD = {
  began: 0,
  trace: null,
  path: null,
  bad: null,
  hasKill: false,
  hasStop: false,
};

export function newActor(): Actor {
  return {
    ...{ log: [], status: "ready", pending: null, until: 0, endSteps: 3, outcome: "", hash: 0 },
    ...{ busy: 0, began: null, uses: null, holds: null },
  };
}

export function copy(world: World): World {
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
  const { segment, isRemoved } = segmentAt(kernel, i, address);
  if (fact === "attached") {
    actor.uses = segment;
    if (others.some(({ uses }) => uses !== null && uses !== segment)) {
      world.bad ??= "two segments of one key are in use";
    }
  } else if (fact === "locked") {
    const lock = actor.holds = scenario.lockOf?.(kernel, i) ?? segment;
    if (others.some(({ holds }) => holds === lock)) world.bad ??= "two processes hold the lock";
  } else if (fact === "unlocked") actor.holds = null;
  else if (fact === "detaching") actor.uses = actor.holds = null;
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
      running.clock = result.now;
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
    actor.busy = kernel.now > running.clock ? 0 : actor.busy + 1;
    if (actor.busy > BUSY_CALLS) {
      world.bad ??= `P${i} tries ${made[0]} again and again without a pause`;
      suspend("ended");
    }
    running.clock = kernel.now;
    const entry: Entry = { call: made, result };
    log.push(entry);
    next++;
    actor.hash = mixed(actor.hash, entry);
    world.trace = { before: world.trace, process: i, entry };
    return result;
  };
  running.clock = actor.began ??= kernel.now;
  running.sleep = (ms) => void system(["sleep", ms]);
  actor.status = "ready";
  const ffi = running.ffi = new SimulatedFfi(system, kernel.processes[i]!);
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

/** Whether no other process can do anything within `ms`, which pass before the process waits for ever. */
function isAlone(world: World, i: number, ms: number): boolean {
  const until = world.kernel.now + ms;
  return until <= FOREVER_MS + world.began &&
    world.actors.every((actor, j) =>
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
export interface Choice {
  readonly process: number;
  readonly mode: Mode;
}

/** The processes that can go on at once. */
export function runnable(world: World): Choice[] {
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
        waiting.includes(actor) ? [`P${i} waits for ever in ${actor.pending?.[0]}`] : []
      );
      world.bad = `nobody can go on: ${calls.join(", ")}`;
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

export function deviate(world: World, deviation: Deviation): void {
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
export function verdict(scenario: Scenario, world: World): string | null {
  const { kernel, actors, hasKill, hasStop } = world;
  const ending = { kernel, outcomes: actors.map(({ outcome }) => outcome), hasKill, hasStop };
  const what = world.bad ?? scenario.check(ending);
  return what === null || scenario.tolerates?.(what, ending) ? null : what;
}

export function failureOf(scenario: Scenario, world: World, what: string): Failure {
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
  const { ret, errno, out } = entry.result;
  const result = ret === -1 ? `errno ${errno}` : typeof out === "string" ? out : ret;
  return `${who} ${name}(${args.map((arg) => JSON.stringify(arg)).join(", ")}) = ${result}`;
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

export function keyOf({ kernel, actors, hasKill, hasStop }: World): string {
  const parts = actors.map(({ hash, log, status, until }) =>
    `${hash},${log.length},${status},${until}`
  );
  return `${parts.join(";")} ${hasKill} ${hasStop} ${digest(kernel)}`;
}

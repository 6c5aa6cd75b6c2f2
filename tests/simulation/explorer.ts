/** Explores the schedules of a scenario: all within bounds, one with given deviations, or random ones. */
import { addProcess, alternativesTo, clone, type State } from "./kernel.ts";
import type { Bounds, Crash, Deviation, Failure, Program, Scenario } from "./scenario.ts";
import { inVirtualTime, realNow } from "./virtual_time.ts";
import { forgetMoments } from "./moments.ts";
import {
  type Actor,
  callsOf,
  type Choice,
  choicesOf,
  copy,
  deviate,
  EMPTY_WORLD,
  failureOf,
  fingerprint,
  isPrivate,
  NEW,
  newActor,
  rivalsOf,
  run,
  runnable,
  start,
  verdict,
  type World,
} from "./world.ts";

/** How long after the end of all processes the next one begins. */
const LATER_MS = 10_000;
/** Later calls of a process are repetitions of its earlier ones, at which nothing deviates. */
const DEVIATING_CALLS = 250;

export interface Report {
  /** The number of schedules, and of those with a kill or a stop. */
  schedules: number;
  kills: number;
  stops: number;
  /** The number of schedules that were not run to their ends, as they reached a state that another one had reached. */
  known: number;
  /** The number of states in which a process was about to make a call that others can notice. */
  states: number;
  calls: number;
  /** The states in which schedules have ended, as hashes. */
  readonly ends: Set<number>;
  readonly failures: Failure[];
  /** Whether all schedules within the bounds were explored. */
  isComplete: boolean;
}

export interface ExploreOptions {
  readonly limitMs?: number;
  /** Whether no more schedules are to be explored after this failure. */
  readonly isEnough?: (failure: Failure) => boolean;
  /** Whether a state that was reached before is explored again. The results are the same, after a longer time. */
  readonly isThorough?: boolean;
  /** Is called after each schedule. */
  readonly onSchedule?: (report: Report) => void;
}

/** Where nothing deviates any more, a state is looked up only before every so many calls. */
const STRIDE = 4;

const CRASHES: readonly Crash[] = ["stopped", "killed 3", "killed 1", "killed 2"];

/** Returns a failure's text without numbers, such as ids, which differ from schedule to schedule. */
export function kindOf(what: string): string {
  return what.replace(/\d+/g, "N");
}

/** Remembers with which bounds states were explored. */
class Known {
  /** One bit for each bounds, by the hashes of the states. */
  readonly #bounds = new Map<number, number>();

  get size(): number {
    return this.#bounds.size;
  }

  /** Notes a state. Returns whether it was explored before with the same bounds or larger ones. */
  has(hash: number, preemptions: number, crashes: number): boolean {
    const before = this.#bounds.get(hash) ?? 0;
    if ((before >> 4 * crashes + preemptions & 1) !== 0) return true;
    let covered = before;
    for (let c = 0; c <= crashes; c++) covered |= 2 ** (preemptions + 1) - 1 << 4 * c;
    this.#bounds.set(hash, covered);
    return false;
  }
}

/** Whether the next access of the process that runs is reordered. */
function isReordered({ kernel }: World): boolean {
  return kernel.ordering !== null && kernel.ordering.chosen !== -1;
}

/** Explores all schedules of a scenario within `bounds`. Each kind of failure is reported once. */
export function explore(
  scenario: Scenario,
  bounds: Bounds,
  { limitMs = Infinity, isEnough = () => false, isThorough = false, onSchedule }: ExploreOptions =
    {},
): Report {
  const report: Report = {
    ...{ schedules: 0, kills: 0, stops: 0, known: 0, states: 0, calls: 0 },
    ...{ ends: new Set(), failures: [], isComplete: true },
  };
  let isFound = false;
  const isOver = () => isFound || realNow() - began > limitMs;
  const began = realNow();
  const known = new Known();
  const kinds = new Set<string>();
  forgetMoments();

  function count({ hasKill, hasStop }: World): void {
    report.schedules++;
    if (hasKill) report.kills++;
    if (hasStop) report.stops++;
    report.states = known.size;
    onSchedule?.(report);
  }

  function leave(world: World): void {
    count(world);
    if (world.bad === null) {
      const end = fingerprint(world).value;
      if (report.ends.has(end) && !isThorough) return;
      report.ends.add(end);
    }
    const what = verdict(scenario, world);
    if (what === null || kinds.has(kindOf(what))) return;
    kinds.add(kindOf(what));
    const failure = failureOf(scenario, world, what);
    report.failures.push(failure);
    isFound ||= isEnough(failure);
  }

  /** Whether the future of a world, in which a process goes on, has been explored before. */
  function isKnown(world: World, { process, mode }: Choice, { preemptions, crashes }: Bounds) {
    const hash = fingerprint(world).add(process).add(mode).value;
    if (!known.has(hash, preemptions, crashes) || isThorough) return false;
    report.known++;
    count(world);
    return true;
  }

  function goOn(world: World, current: number, bounds: Bounds): void {
    const choices = choicesOf(world);
    if (choices.length === 0) return leave(world);
    for (const [index, choice] of choices.entries()) {
      const future = index === choices.length - 1 ? world : copy(world);
      if (index > 0) {
        const at = current === -1 ? 0 : callsOf(world.actors[current]!);
        deviate(future, { process: current, at, what: "yields", next: choice.process });
      }
      step(future, choice, bounds);
    }
  }

  function step(world: World, choice: Choice, bounds: Bounds): void {
    if (isOver()) {
      report.isComplete = false;
      return;
    }
    const { process } = choice;
    const isAlone = world.actors.every(({ status }, i) =>
      status.startsWith("end") || i === process
    );
    if (isAlone && bounds.preemptions > 0) bounds = { ...bounds, preemptions: 0 };
    const { preemptions, crashes } = bounds;
    const actor = world.actors[process]!;
    const made = callsOf(actor);
    let isOld = isKnown(world, choice, bounds);
    if (isOld) return;
    const branches: World[] = [];
    run(scenario, world, choice, (call) => {
      if (isPrivate(call)) return true;
      if (isReordered(world)) return true;
      const calls = callsOf(actor);
      const mayDeviate = calls < DEVIATING_CALLS &&
        (crashes > 0 || preemptions > 0 && rivalsOf(world, process).length > 0 ||
          alternativesTo(world.kernel, process, call).length > 0);
      if (!mayDeviate && calls % STRIDE !== 0) return true;
      isOld = calls > made && isKnown(world, { process, mode: NEW }, bounds);
      if (isOld) return false;
      if (mayDeviate) branches.push(copy(world));
      return true;
    });
    report.calls += callsOf(actor) - made;
    if (!isOld) goOn(world, process, bounds);
    for (const branch of branches) {
      const at = callsOf(branch.actors[process]!);
      for (const choice of preemptions > 0 ? rivalsOf(branch, process) : []) {
        const future = copy(branch);
        deviate(future, { process, at, what: "preempted", next: choice.process });
        step(future, choice, { ...bounds, preemptions: preemptions - 1 });
      }
      for (const what of crashes > 0 ? scenario.crashes ?? CRASHES : []) {
        if (what === "stopped" && bounds.isWithoutStops) continue;
        const future = copy(branch);
        deviate(future, { process, at, what });
        goOn(future, process, { ...bounds, crashes: crashes - 1 });
      }
      const next = branch.actors[process]!.moment!.call!;
      for (const alternative of alternativesTo(branch.kernel, process, next).keys()) {
        const future = copy(branch);
        deviate(future, { process, at, what: "reordered", alternative });
        step(future, { process, mode: NEW }, bounds);
      }
    }
  }

  inVirtualTime(() => goOn(start(scenario, bounds.reorderings ?? 0), -1, bounds));
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
  const rates = [random() ** 3, random() < 0.5 ? 0 : 0.02 * random(), random() ** 2] as const;
  const any = <T>(list: readonly T[]) => list[Math.floor(random() * list.length)];
  let crashes = 2;
  const crashesOf = scenario.crashes ?? CRASHES;
  const mayStop = crashesOf.includes("stopped");
  return drive(scenario, (process, at, choices, isRunning, alternatives) => {
    if (!isRunning) {
      const index = Math.floor(random() * choices.length);
      return index === 0 ? null : { process, at, what: "yields", next: choices[index]!.process };
    }
    if (crashes > 0 && random() < rates[1]) {
      crashes--;
      return { process, at, what: any(crashesOf)! };
    }
    if (alternatives > 0 && random() < rates[2]) {
      const alternative = Math.floor(random() * alternatives);
      return { process, at, what: "reordered", alternative };
    }
    if (random() >= rates[0] || choices.length === 0) return null;
    if (mayStop && random() < 0.2) return { process, at, what: "delayed" };
    return { process, at, what: "preempted", next: any(choices)!.process };
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
  const ended: Actor = { ...newActor(program), status: "ended" };
  const actors = later.processes.map((_, i) => i === process ? newActor(program) : ended);
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
  /** The number of alternatives to what usually happens at the call. */
  alternatives: number,
) => Deviation | null;

function drive(scenario: Scenario, decide: Decide): Driven {
  forgetMoments();
  return inVirtualTime(() => {
    const world = start(scenario, Infinity);
    runAll(scenario, world, decide);
    const what = verdict(scenario, world);
    const failure = what === null ? null : failureOf(scenario, world, what);
    return { failure, hasKill: world.hasKill, hasStop: world.hasStop };
  });
}

/** Runs all processes to their ends. */
function runAll(scenario: Scenario, world: World, decide: Decide): void {
  let current = -1;
  let next: Choice | null = null;
  for (;;) {
    if (next === null) {
      const choices = choicesOf(world);
      if (choices.length === 0) return;
      const at = current === -1 ? 0 : callsOf(world.actors[current]!);
      const deviation = choices.length > 1 ? decide(current, at, choices, false, 0) : null;
      if (deviation !== null) deviate(world, deviation);
      next = choices.find(({ process }) => process === deviation?.next) ?? choices[0]!;
    }
    const process: number = next.process;
    const actor = world.actors[process]!;
    let decision: Deviation | null = null;
    run(scenario, world, next, (made) => {
      if (callsOf(actor) >= DEVIATING_CALLS || isPrivate(made) || isReordered(world)) return true;
      const others = rivalsOf(world, process);
      const alternatives = alternativesTo(world.kernel, process, made).length;
      decision = decide(process, callsOf(actor), others, true, alternatives);
      return decision === null;
    });
    current = process;
    next = null;
    if (decision !== null) {
      const { what, next: other } = decision as Deviation;
      const to: number | undefined = what === "reordered" ? process : other;
      const choices = to === process ? runnable(world) : rivalsOf(world, process);
      next = choices.find((choice) => choice.process === to) ?? null;
      deviate(world, decision);
    }
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

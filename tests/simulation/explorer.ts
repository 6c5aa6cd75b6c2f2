/** Explores the schedules of a scenario: all within bounds, one with given deviations, or random ones. */
import { addProcess, type Call, clone, type State } from "./kernel.ts";
import type { Bounds, Deviation, Failure, Program, Scenario } from "./scenario.ts";
import { inVirtualTime, realNow } from "./virtual_time.ts";
import {
  type Actor,
  type Choice,
  choicesOf,
  copy,
  deviate,
  EMPTY_WORLD,
  failureOf,
  isPrivate,
  keyOf,
  newActor,
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
  const isOver = () => isFound || realNow() - began > limitMs;
  const began = realNow();
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

  inVirtualTime(() => goOn(start(scenario), -1, bounds.preemptions, bounds.crashes));
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
    if (random() >= rates[0] || choices.length === 0) return null;
    if (random() < 0.2) return { process, at, what: "delayed" };
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
  return inVirtualTime(() => {
    const world = start(scenario);
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

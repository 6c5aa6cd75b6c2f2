/** What must be true when the programs of a schedule have ended. */
import type { Random } from "../../scripts/random.ts";
import { runOn } from "./explorer.ts";
import { asyncPrograms, holders } from "./async_programs.ts";
import { classPrograms } from "./class_programs.ts";
import { SimulatedFfi } from "./ffi.ts";
import { deadCreator, foreignPrograms, rareForeignPrograms } from "./foreign_programs.ts";
import { type Call, call, type Result, type State } from "./kernel.ts";
import { type KeyType, keyTypeOf, POSIX, SYSTEM_V } from "./keys.ts";
import { type Objects, POSIX_OBJECTS, SYSTEM_V_OBJECTS } from "./objects.ts";
import { posixForeignPrograms, rarePosixForeignPrograms } from "./posix_foreign_programs.ts";
import { programs, slowPrograms } from "./programs.ts";
import type { Ending, Program, Scenario } from "./scenario.ts";
import { isTolerated } from "./tolerances.ts";
import { NEXT_MS } from "./world.ts";

/** A call may fail like this if another process was stopped while it held a lock, or LOCK_EX of a POSIX object. */
const STOPPED = /^(LockError|Timeout): .*timed out|is removed again and again$/;
/** A note about an object, which only `cleanup()` removes if the process that set it was killed. */
const NOTE = /^qipc_(unfinished|inherited)_/;

/** The program before which a process has created the semaphore and was killed before it set the value. */
const UNSET = "await semaphore";

function listed(things: readonly string[], what: string): string | null {
  return things.length === 0 ? null : `left ${what}: ${things.join(", ")}`;
}

/** Says what is wrong with what is left in the end. */
function leftBehind(
  { prefix }: KeyType,
  { leftovers }: Objects,
  names: readonly string[],
  ending: Ending,
): string | null {
  const { kernel, hasKill, hasStop } = ending;
  const isForeign = names.some((name) => name in FOREIGN);
  const isDisturbed = hasKill || hasStop || isForeign;
  if (!isDisturbed) return listed(leftovers(kernel), "without a crash");
  if (names.includes(`${prefix}chosen`)) return null; // cleanup() does not know files that users have chosen
  const isSemaphore = names.some((name) => name.includes("semaphore"));
  const next = runOn(kernel, programs[prefix + (isSemaphore ? "open semaphore" : "open")]!);
  if (next.outcome !== "ok") return `the next user failed: ${next.outcome}`;
  if (next.ms > NEXT_MS) return `the next user waited for ${next.ms} ms`;
  const rest = leftovers(next.kernel).filter((name) => !NOTE.test(name));
  if (!isSemaphore && !isForeign && rest.length > 0) return listed(rest, "after the next user");
  // The second run removes the notes about the objects that the first one has removed.
  const first = runOn(next.kernel, programs[`${prefix}cleanup`]!);
  const second = runOn(first.kernel, programs[`${prefix}cleanup`]!);
  const failure = [first, second].find(({ outcome }) => outcome !== "ok");
  if (failure !== undefined) return `cleanup() failed: ${failure.outcome}`;
  return listed(leftovers(second.kernel), "after cleanup()");
}

const FOREIGN = {
  ...foreignPrograms,
  ...rareForeignPrograms,
  ...posixForeignPrograms,
  ...rarePosixForeignPrograms,
};

/** The names of the programs for a type of keys: those of this module, and others. */
function namesOf(type: KeyType): { readonly own: string[]; readonly all: string[] } {
  const own = Object.keys(programs).filter((name) => keyTypeOf(name) === type);
  const foreign = type === POSIX ? posixForeignPrograms : foreignPrograms;
  return { own, all: [...own, ...Object.keys(foreign)] };
}

/** All pairs of programs of which at least one uses this module, and that have something to do with each other. */
export function pairs(): [string, string][] {
  return [SYSTEM_V, POSIX].flatMap((type) => {
    const { own, all } = namesOf(type);
    return own.flatMap((first, i) =>
      all.slice(i).map((second): [string, string] => [first, second])
    ).filter((pair) => areRelated(type, pair));
  });
}

/** The pairs of programs of which the first one uses the classes. */
export function classPairs(): [string, string][] {
  const others = ["open", "exit", "Qt create", "Qt attach"];
  return Object.keys(classPrograms).flatMap((name): [string, string][] => {
    if (name.endsWith("semaphore")) return [[name, name], [name, "open semaphore"]];
    if (name === "class initialize") return [[name, name], [name, "Qt create"]];
    return [name, ...others].map((other) => [name, other]);
  });
}

/** The pairs of programs of which the first one is asynchronous, for both types of keys. */
export function asyncPairs(): [string, string][] {
  const others = {
    [SYSTEM_V.prefix]: {
      locks: [
        ...["open", "create", "try lock", "exit", "class exit with lock", "cleanup"],
        ...["Qt create", "Qt attach", "rm lock file", "ipcrm -s"],
      ],
      semaphores: ["open semaphore", "create semaphore", "class exit with semaphore"],
    },
    [POSIX.prefix]: {
      locks: ["POSIX open", "POSIX exit"],
      semaphores: ["POSIX open semaphore"],
    },
  };
  return [SYSTEM_V, POSIX].flatMap((type) =>
    (["locks", "semaphores"] as const).flatMap((what) => {
      const isOfThese = (name: string) =>
        keyTypeOf(name) === type && name.endsWith("semaphore") === (what === "semaphores");
      const own = Object.keys(asyncPrograms).filter(isOfThese);
      const blocking = [
        ...Object.keys(holders).filter(isOfThese),
        ...others[type.prefix]![what],
      ];
      return own.flatMap((first, i) =>
        [...own.slice(i), ...blocking].map((second): [string, string] => [first, second])
      );
    })
  );
}

function areRelated({ prefix }: KeyType, pair: readonly [string, string]): boolean {
  const both = pair.map((name) => name.slice(prefix.length));
  const [first, second] = both as [string, string];
  const has = (name: string) => both.includes(name);
  const semaphores = both.filter((name) => name.endsWith("semaphore")).length;
  if (semaphores > 0) return semaphores === 2 || has("cleanup");
  if (has("chosen") || has("C program")) {
    return has("chosen") && (has("C program") || first === second);
  }
  // With another program that creates the segment, nobody may have called `initialize`.
  const creates = (name: string) =>
    !["attach", "cleanup", "initialize"].includes(name) && prefix + name in programs;
  return !has("initialize") || !creates(first) && !creates(second);
}

/**
 * All triples of programs with System V keys of which at least one uses this module, and that have something to do with
 * each other; first those with Qt or another foreign program.
 */
export function triples(): [string, string, string][] {
  const { all } = namesOf(SYSTEM_V);
  const areBoth = (one: string, other: string) => areRelated(SYSTEM_V, [one, other]);
  const found = pairs().filter(([name]) => keyTypeOf(name) === SYSTEM_V)
    .flatMap(([first, second]) =>
      all.slice(all.indexOf(second))
        .filter((third) => areBoth(first, third) && areBoth(second, third))
        .map((third): [string, string, string] => [first, second, third])
    );
  const isForeign = (names: readonly string[]) => names.some((name) => name in foreignPrograms);
  return [...found.filter(isForeign), ...found.filter((names) => !isForeign(names))];
}

/**
 * Scenarios with a program that only a few need: one that takes its time in
 * `initialize`, a reset of the lock as by Qt, or a third user of a semaphore.
 */
export function rareScenarios(): string[][] {
  const users = ["create", "attach", "open", "try lock", "exit"];
  const rare = Object.keys(rareForeignPrograms);
  return [
    ...rare.flatMap((name) => users.map((user) => [user, name])),
    ["initialize slowly", "initialize slowly"],
    ["open semaphore", "open semaphore", "open semaphore"],
    ["signal semaphore", "await semaphore"],
  ];
}

/** Chooses two to four programs that have something to do with each other. */
export function wanderings(random: Random): string[] {
  const chosen: string[] = [...random.oneOf(pairs())];
  const type = keyTypeOf(chosen[0]!);
  while (chosen.length < 4 && random.chance(0.5)) {
    const others = namesOf(type).all.filter((name) =>
      chosen.every((one) => areRelated(type, [one, name]) || areRelated(type, [name, one])) &&
      (name !== `${type.prefix}hold` || !chosen.includes(name)) // more of them would seem to wait for ever
    );
    chosen.push(random.oneOf(others));
  }
  return chosen;
}

/** Runs a program as the first process before the programs of a scenario begin. */
function runBefore(kernel: State, program: Program): void {
  const system = (made: Call) => call(kernel, 0, made) as Result; // it never waits
  program(new SimulatedFfi(system, kernel.processes[0]!), () => 0);
}

const ALL = {
  ...programs,
  ...classPrograms,
  ...asyncPrograms,
  ...holders,
  ...slowPrograms,
  ...FOREIGN,
};

/** The scenario in which these programs meet. They use one type of keys. */
export function scenarioOf(...names: readonly string[]): Scenario {
  const type = keyTypeOf(names[0]!);
  const objects = type === POSIX ? POSIX_OBJECTS : SYSTEM_V_OBJECTS;
  const isUnset = names.includes(UNSET);
  const hasChosen = names.includes(`${type.prefix}C program`);
  return {
    name: names.join(", "),
    ...isUnset ? { crashes: ["stopped"] } : {}, // nobody else signals
    programs: names.map((name) => ALL[name]!),
    isAsync: names.some((name) => name in asyncPrograms),
    setUp(kernel) {
      if (hasChosen) objects.addChosen(kernel);
      if (isUnset) runBefore(kernel, deadCreator);
    },
    lockProblem: objects.lockProblem,
    lockOf: objects.lockOf,
    check(ending) {
      const { outcomes, hasStop } = ending;
      const bad = outcomes.find((text) =>
        text !== "ok" && text !== "killed" && !(hasStop && STOPPED.test(text))
      );
      if (bad !== undefined) return `a program failed: ${bad}`;
      if (isUnset) return null; // the next user would wait for another signal
      return leftBehind(type, objects, names, ending) ??
        (hasChosen ? objects.harmed(ending.kernel) : null);
    },
    tolerates: (what, ending) => isTolerated(names, what, ending),
  };
}

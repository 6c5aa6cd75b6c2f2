/** What must be true when the programs of a schedule have ended. */
import { IPC_CREAT, S_IFREG } from "../../backends/unix/linux_constants.ts";
import type { Random } from "../../scripts/random.ts";
import { runOn } from "./explorer.ts";
import { CHOSEN_FILE, foreignPrograms, rareForeignPrograms } from "./foreign_programs.ts";
import { call, type State } from "./kernel.ts";
import { LOCK_KEY } from "./keys.ts";
import { programs, slowPrograms } from "./programs.ts";
import type { Ending, Scenario } from "./scenario.ts";
import { addInode } from "./state.ts";

/** A wait may time out if the process that holds what is waited for was stopped. */
const TIMED_OUT = /^LockError: timed out/;
/** Within this time in ms, the next user of a key gets it, whatever a killed process has left behind. */
const NEXT_MS = 2200;
/** A note about an object, which only `cleanup()` removes if the process that set it was killed. */
const NOTE = /^qipc_(unfinished|inherited)_/;

function temporaryFolder({ inodes, roots }: State) {
  return inodes.get(inodes.get(roots[0]!)!.entries!.get("tmp")!)!;
}

/** Names what programs have left in the system, except the file and the segment of the C program. */
function leftovers(kernel: State): string[] {
  const [{ shm, sem }] = kernel.ipc as [State["ipc"][0]];
  const own = [...shm.objects].filter(([, { mode }]) => (mode & 0o777) !== 0o777);
  return [
    ...own.map(([id, { creator }]) => `segment ${id} created by P${creator}`),
    ...[...sem.objects.keys()].map((id) => `semaphore ${id}`),
    ...[...temporaryFolder(kernel).entries!.keys()].filter((name) => !CHOSEN_FILE.endsWith(name)),
  ];
}

/** Says what is wrong with the lock that a process holds or has just released. */
function lockProblem(kernel: State, fact: "locked" | "unlocked" | "detaching"): string | null {
  const sets = [...kernel.ipc[0]!.sem.objects.values()];
  const inode = temporaryFolder(kernel).entries!.get(LOCK_KEY.slice("/tmp/".length));
  const key = inode === undefined ? null : keyOfFile(kernel, inode);
  if (fact === "detaching") {
    // A lock without a key file is being removed, and its value tells those who wait to create another.
    const isWrong = sets.some((set) => set.value > 1 && set.key === key);
    return isWrong ? "a lock was released twice" : null;
  }
  const held = sets.filter(({ value }) => value === 0);
  if (held.length === 0) {
    return fact === "locked"
      ? "a process has taken a lock whose value is not 0"
      : "a lock that is held does not have the value 0";
  }
  return held.some((set) => set.key === key)
    ? null
    : "a process holds a lock whose key file is gone";
}

/** Returns the key of a file as `ftok(path, 'Q')` does. */
function keyOfFile(kernel: State, inode: number): number {
  const { device, number } = kernel.inodes.get(inode)!;
  return 0x51 << 24 | kernel.devices[device]!.minor << 16 | number & 0xffff;
}

function listed(things: readonly string[], what: string): string | null {
  return things.length === 0 ? null : `left ${what}: ${things.join(", ")}`;
}

/** Says what is wrong with what is left in the end. */
function leftBehind(names: readonly string[], ending: Ending): string | null {
  const { kernel, hasKill, hasStop } = ending;
  const isForeign = names.some((name) => name in foreignPrograms || name in rareForeignPrograms);
  const isDisturbed = hasKill || hasStop || isForeign;
  if (!isDisturbed) return listed(leftovers(kernel), "without a crash");
  if (names.includes("chosen")) return null; // cleanup() does not know files that users have chosen
  const isSemaphore = names.some((name) => name.includes("semaphore"));
  const next = runOn(kernel, programs[isSemaphore ? "open semaphore" : "open"]!);
  if (next.outcome !== "ok") return `the next user failed: ${next.outcome}`;
  if (next.ms > NEXT_MS) return `the next user waited for ${next.ms} ms`;
  const rest = leftovers(next.kernel).filter((name) => !NOTE.test(name));
  if (!isSemaphore && !isForeign && rest.length > 0) return listed(rest, "after the next user");
  // The second run removes the notes about the objects that the first one has removed.
  const first = runOn(next.kernel, programs["cleanup"]!);
  const second = runOn(first.kernel, programs["cleanup"]!);
  const failure = [first, second].find(({ outcome }) => outcome !== "ok");
  if (failure !== undefined) return `cleanup() failed: ${failure.outcome}`;
  return listed(leftovers(second.kernel), "after cleanup()");
}

/** Says whether something of the C program has been changed or removed. */
function harmed({ kernel }: Ending): string | null {
  const file = temporaryFolder(kernel).entries!.has(CHOSEN_FILE.slice("/tmp/".length));
  if (!file) return "the file of the C program is gone";
  const segments = [...kernel.ipc[0]!.shm.objects.values()];
  const isThere = segments.some(({ mode, size }) => mode === 0o777 && size === 50);
  return isThere ? null : "the segment of the C program is gone";
}

interface Tolerance {
  /** The program that causes it. */
  readonly program: RegExp;
  /** What is wrong, where `P0` is replaced by the name of the program. */
  readonly what: RegExp;
  /** Whether it occurs only if a process was killed or stopped. */
  readonly needsCrash?: boolean;
  /** Whether it occurs only if there are three processes or more. */
  readonly needsThird?: boolean;
  readonly why: string;
}

/** What this module cannot prevent, or does not promise. */
const TOLERANCES: readonly Tolerance[] = [
  {
    program: /^ipcrm -m$/,
    what: /^the segment was removed while/,
    why: "that is what the user has asked for",
  },
  {
    program: /^rm |^ipcrm/,
    what: /^left after cleanup\(\): (segment|semaphore) /,
    why: "no key file leads to the object any more, so only cleanup({ orphans: true }) removes it",
  },
  {
    program: /^Qt create$/,
    what: /^left after cleanup\(\): segment \d+ created by Qt create$/,
    why: "Qt creates the segment after another process has reset the lock and deleted the key file",
  },
  {
    program: /^Qt create$/,
    what: /^left after cleanup\(\): segment /,
    needsThird: true,
    why: "Qt deletes the key file of a segment to which another Qt program is attached",
  },
  {
    program: /^Qt create$/,
    what: /^left after cleanup\(\): segment /,
    needsCrash: true,
    why:
      "Qt deletes the key file of a segment that another process has just created, and that one is killed",
  },
  {
    program: /^(Qt create|Qt reset|Qt reset twice|ipcrm -s)$/,
    what: /^two processes hold the lock$/,
    why: "Qt resets the lock that another process holds, and `ipcrm -s` removes it",
  },
  {
    program: /^Qt attach$/,
    what: /^two processes hold the lock$/,
    needsThird: true,
    why:
      "Qt deletes the key file of the lock that another process has just created, and a third one creates another",
  },
  {
    program: /^rm lock file$/,
    what: /^two processes hold the lock$/,
    needsThird: true,
    why:
      "another process creates a lock while the segment of the one that holds the lock is not attached",
  },
  {
    program: /^Qt create$/,
    what: /^two segments of one key are in use, created by .*Qt create/,
    why:
      "Qt has looked up the key file, which another process then deletes because it leads to no segment",
  },
  {
    program: /^Qt create$/,
    what: /^two segments of one key are in use/,
    needsThird: true,
    why: "Qt deletes the key file of a segment that another process has just created",
  },
  {
    program: /^Qt create$/,
    what: /^the segment was removed while/,
    needsThird: true,
    why:
      "after a reset of the lock, Qt attaches to the segment that another process is about to remove",
  },
  {
    program: /^Qt create$/,
    what: /^left after cleanup\(\): semaphore \d+$/,
    needsThird: true,
    why: "Qt deletes the key file of a lock that another process has just created",
  },
  {
    program: /^(rm key file|ipcrm -m)$/,
    what: /^two segments of one key/,
    why:
      "the next process creates another segment after the key file was deleted, or the segment removed",
  },
  {
    program: /^Qt/,
    what: /^left after cleanup\(\): semaphore \d+$/,
    needsCrash: true,
    why: "Qt deletes the key file before the semaphore, and leaves no note about that",
  },
  {
    program: /^Qt create$|^Qt attach$|^rm lock file$|^ipcrm -s$/,
    what: /^a process holds a lock whose key file is gone$/,
    why: "these delete the key file of a lock, or remove it, without looking who waits for it",
  },
  {
    program: /^Qt create$|^Qt reset twice$/,
    what: /^a lock was released twice$/,
    why: "Qt resets the lock that another process holds, and both release it",
  },
  {
    program: /^Qt (create|attach|reset|reset twice)$|^ipcrm -s$/,
    what: /^a lock that is held does not have the value 0$/,
    why: "Qt resets or removes the lock that another process holds, and `ipcrm -s` removes it",
  },
  {
    program: /^Qt (create|attach)$|^ipcrm -s$/,
    what: /^a process has taken a lock whose value is not 0$/,
    why:
      "Qt resets or removes the lock that another process has just taken while it created it, and `ipcrm -s` removes it",
  },
  {
    program: /^create semaphore$/,
    what: /^two processes hold the semaphore$/,
    why: "the mode Create sets the value again, whoever has acquired the semaphore",
  },
  {
    program: /^Qt attach$/,
    what: /waits for ever in semop$/,
    why:
      "Qt has no timeout, and uses a semaphore whose creator has not set its value or has removed it",
  },
  {
    program: /^Qt create$/,
    what: /the bytes were stored 0 times/,
    why: "Qt has created the segment, and knows nothing of `initialize`",
  },
  {
    program: /semaphore$/,
    what: /^left after cleanup\(\): (semaphore \d+|qipc_systemsem_)/,
    needsCrash: true,
    why:
      "a semaphore that no process has used is kept, as its value may be set at any moment; a process that was " +
      "stopped for seconds while it removed a semaphore deletes the key file of the next one",
  },
];

function isTolerated(names: readonly string[], what: string, { hasKill, hasStop }: Ending) {
  return partsOf(what.replace(/\bP(\d)\b/g, (who, i) => names[i] ?? who)).every((part) =>
    TOLERANCES.some(({ program, what: pattern, needsCrash = false, needsThird = false }) =>
      names.some((name) => program.test(name)) && pattern.test(part) &&
      (!needsCrash || hasKill || hasStop) && (!needsThird || names.length > 2)
    )
  );
}

/** Splits what is wrong into one text for each thing that is left. */
function partsOf(what: string): string[] {
  const [, start, things] = /^(left [^:]*: )(.*)$/.exec(what) ?? [];
  return things === undefined ? [what] : things.split(", ").map((thing) => start + thing);
}

/** All pairs of programs of which at least one uses this module, and that have something to do with each other. */
export function pairs(): [string, string][] {
  const own = Object.keys(programs);
  const all = [...own, ...Object.keys(foreignPrograms)];
  return own.flatMap((first, i) => all.slice(i).map((second): [string, string] => [first, second]))
    .filter(areRelated);
}

/**
 * All triples of programs of which at least one uses this module, and that have something to do with each other; first
 * those with Qt or another foreign program.
 */
export function triples(): [string, string, string][] {
  const own = Object.keys(programs);
  const all = [...own, ...Object.keys(foreignPrograms)];
  const found = pairs().flatMap(([first, second]) =>
    all.slice(all.indexOf(second))
      .filter((third) => areRelated([first, third]) && areRelated([second, third]))
      .map((third): [string, string, string] => [first, second, third])
  );
  const isForeign = (names: readonly string[]) => names.some((name) => name in foreignPrograms);
  return [...found.filter(isForeign), ...found.filter((names) => !isForeign(names))];
}

function areRelated(both: [string, string]): boolean {
  const has = (name: string) => both.includes(name);
  const semaphores = both.filter((name) => name.endsWith("semaphore")).length;
  if (semaphores > 0) return semaphores === 2 || has("cleanup");
  if (has("chosen") || has("C program")) {
    return has("chosen") && (has("C program") || both[0] === both[1]);
  }
  // With another program that creates the segment, nobody may have called `initialize`.
  const [first, second] = both;
  const creates = (name: string) =>
    !["attach", "cleanup", "initialize"].includes(name) && name in programs;
  return !has("initialize") || !creates(first) && !creates(second);
}

/** Chooses two to four programs that have something to do with each other. */
export function wanderings(random: Random): string[] {
  const chosen: string[] = [...random.oneOf(pairs())];
  const all = [...Object.keys(programs), ...Object.keys(foreignPrograms)];
  while (chosen.length < 4 && random.chance(0.5)) {
    const others = all.filter((name) =>
      chosen.every((one) => areRelated([one, name]) || areRelated([name, one]))
    );
    chosen.push(random.oneOf(others));
  }
  return chosen;
}

const ALL = { ...programs, ...slowPrograms, ...foreignPrograms, ...rareForeignPrograms };

/** The scenario in which these programs meet. */
export function scenarioOf(...names: readonly string[]): Scenario {
  const hasFile = names.includes("C program");
  return {
    name: names.join(", "),
    programs: names.map((name) => ALL[name]!),
    setUp(kernel) {
      if (!hasFile) return;
      const inode = addInode(kernel, 0, { uid: 1000, gid: 1000 }, S_IFREG | 0o644, { size: 5 });
      temporaryFolder(kernel).entries!.set(CHOSEN_FILE.slice("/tmp/".length), inode);
      call(kernel, 0, ["shmget", keyOfFile(kernel, inode), 50, IPC_CREAT | 0o777]);
    },
    lockProblem,
    check(ending) {
      const { outcomes, hasStop } = ending;
      const bad = outcomes.find((text) =>
        text !== "ok" && text !== "killed" && !(hasStop && TIMED_OUT.test(text))
      );
      if (bad !== undefined) return `a program failed: ${bad}`;
      return leftBehind(names, ending) ?? (hasFile ? harmed(ending) : null);
    },
    tolerates: (what, ending) => isTolerated(names, what, ending),
  };
}

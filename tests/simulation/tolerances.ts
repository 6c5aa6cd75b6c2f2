/** What this module cannot prevent, or does not promise, and so is no failure of a scenario. */
import type { Ending } from "./scenario.ts";

type Need = "kill" | "stop" | "crash" | "kill and stop";

interface Tolerance {
  /** The program that causes it. */
  readonly program: RegExp;
  /** What is wrong, where `P0` is replaced by the name of the program. */
  readonly what: RegExp;
  /** Another program without which it does not occur. */
  readonly beside?: RegExp;
  /** Whether it occurs only if a process was killed, stopped, either, or both. */
  readonly needs?: Need;
  /** Whether it occurs only if there are three processes or more. */
  readonly needsThird?: boolean;
  readonly why: string;
}

const TOLERANCES: readonly Tolerance[] = [
  {
    program: /^ipcrm -m$/,
    what: /^the segment was removed while/,
    why: "that is what the user has asked for",
  },
  {
    program: /^(ipcrm -s|rm lock file|Qt attach)$/,
    what: /^left after cleanup\(\): segment /,
    needs: "kill",
    needsThird: true,
    why:
      "one process removes its segment and the key file while another one, without the lock that was removed, creates the " +
      "next segment with that file, and is killed",
  },
  {
    program: /^rm key file$/,
    what: /^left after cleanup\(\): segment /,
    needs: "kill",
    why: "no key file leads to the segment any more, so only cleanup({ orphans: true }) removes it",
  },
  {
    program: /^rm lock file$/,
    what: /^left after cleanup\(\): semaphore \d+$/,
    needs: "kill",
    why: "no key file leads to the lock any more, so only cleanup({ orphans: true }) removes it",
  },
  {
    program: /^rm (key|lock) file$/,
    beside: /^Qt attach$/,
    what: /^left after cleanup\(\): (segment|semaphore) /,
    needsThird: true,
    why: "Qt is the last user, and looks for what it removes by the key file",
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
    needs: "kill",
    why:
      "Qt deletes the key file of a segment that another process has just created, and that one is killed",
  },
  {
    program: /^(Qt create|Qt attach|ipcrm -s)$/,
    what: /^two processes hold the lock$/,
    needsThird: true,
    why:
      "Qt resets the lock that another process holds, or removes the one that it has created, and so does `ipcrm -s`",
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
    what: /^two segments of one key are in use/,
    needsThird: true,
    why: "Qt deletes the key file of a segment that another process has just created",
  },
  {
    program: /^Qt (create|attach)$/,
    what: /^the segment was removed while/,
    needsThird: true,
    why:
      "Qt resets or removes the lock that a process holds while it creates or removes the segment",
  },
  {
    program: /^Qt create$/,
    what: /^left after cleanup\(\): semaphore \d+$/,
    needsThird: true,
    why: "Qt deletes the key file of a lock that another process has just created",
  },
  {
    program: /^ipcrm -s$/,
    what: /^two segments of one key|^the segment was removed while/,
    needsThird: true,
    why:
      "without the lock that `ipcrm -s` has removed, one process creates or removes the segment beside another",
  },
  {
    program: /^rm lock file$/,
    what: /^the segment was removed while/,
    needsThird: true,
    why:
      "a process that attaches creates another lock while the last user is about to remove the segment",
  },
  {
    program: /^rm lock file$/,
    what: /^two segments of one key/,
    needsThird: true,
    why:
      "a process with another lock takes the segment for stale at the moment in which its creator attaches to it",
  },
  {
    program: /^(rm key file|ipcrm -m)$/,
    what: /^two segments of one key/,
    needsThird: true,
    why:
      "the next process creates another segment after the key file was deleted, or the segment removed",
  },
  {
    program: /^Qt/,
    what: /^left after cleanup\(\): semaphore \d+$/,
    needs: "kill",
    why: "Qt deletes the key file before the semaphore, and leaves no note about that",
  },
  {
    program: /^Qt create$|^Qt attach$|^rm lock file$/,
    what: /^a process holds a lock whose key file is gone$/,
    why:
      "these delete the key file of a lock, or remove it, without looking whether a process waits for it",
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
    program: /^Qt create$/,
    what: /^a process has taken a lock whose value is not 0$/,
    why: "Qt resets the lock that another process has just taken while it created it",
  },
  {
    program: /^Qt attach$|^ipcrm -s$/,
    what: /^a process has taken a lock whose value is not 0$/,
    needsThird: true,
    why:
      "Qt resets or removes the lock that another process has just taken while it created it, and `ipcrm -s` removes it",
  },
  {
    program: /^(class )?create semaphore$/,
    what: /^two processes hold the semaphore$/,
    why: "the mode Create sets the value again, although a process has acquired the semaphore",
  },
  {
    program: /semaphore$/,
    what: /^left after cleanup\(\): (semaphore \d+|qipc_inherited_\w+)$/,
    needs: "kill and stop",
    why:
      "a process that was stopped for seconds while it removed a semaphore deletes the key file of the next one, and is " +
      "killed before it removes that; or a process was killed, and `cleanup()` was stopped while it removed what it left",
  },
  {
    program: /^Qt attach$/,
    what: /Qt attach waits for ever in semop/,
    why:
      "Qt has no timeout, and uses a semaphore whose creator has not set its value or has removed it",
  },
  {
    program: /^rm key file$/,
    beside: /^(hold|initialize slowly)$/,
    what: /LockError: timed out/,
    needsThird: true,
    why:
      "a process that holds the lock for long is attached to a segment which others do not find any more",
  },
  {
    program: /^Qt create$/,
    what: /the bytes were stored 0 times/,
    why: "Qt has created the segment, and knows nothing of `initialize`",
  },
  {
    program: /./,
    what: /^a process holds a lock whose key file is gone$/,
    needs: "stop",
    why:
      "a process that was stopped for seconds while it removed a lock deletes the key file that the next one uses; " +
      "processes that attach to the segment find the lock nevertheless",
  },
];

const POSIX_TOLERANCES: readonly Tolerance[] = [
  {
    program: /^POSIX rm segment$/,
    what: /^the segment was removed while/,
    why: "that is what the user has asked for",
  },
  {
    program: /^POSIX (C lock|Qt)/,
    what: /^the segment was removed while POSIX (C lock|Qt \w+) uses it$/,
    why:
      "other programs hold no flock, so the last user of this module removes what it has created",
  },
  {
    program: /^POSIX C lock$/,
    what: /^POSIX C lock holds a lock that has no name$/,
    why:
      "other programs hold no flock, so the last user of this module removes what it has created",
  },
  {
    program: /^POSIX (Qt|rm lock)/,
    what: /holds a lock that has no name$/,
    why: "Qt unlinks the lock while others use it, as `rm` does",
  },
  {
    program: /^POSIX (Qt create|C lock|rm lock)$/,
    what: /the bytes were stored 0 times|created the segment while this one initialized it/,
    why: "a program that does not hold the same lock has created the segment",
  },
  {
    program: /^POSIX (Qt create|C lock)$/,
    what: /InvalidSize: the segment has 0 bytes/,
    needs: "crash",
    why: "another program is killed or stopped before it gives the segment its size",
  },
  {
    program: /^POSIX (Qt|C lock)/,
    what: /LockError: timed out|waits for ever in /,
    needs: "crash",
    why:
      "no process knows that another program which was killed has held the lock; and a process of this module that is " +
      "killed when it has just got the lock from another program has not noted that yet",
  },
  {
    program: /^POSIX (C lock|Qt|rm segment)/,
    what: /^two segments of one key/,
    why: "the segment loses its name while others use it, and newcomers create another one",
  },
  {
    program: /^POSIX (C lock|Qt)/,
    what: /^two processes hold the lock$/,
    needs: "kill",
    needsThird: true,
    why:
      "a process that is killed between taking the semaphore and noting that looks like one before it, and the other way round",
  },
  {
    program: /^POSIX (open|create|async .*) semaphore$|^POSIX async semaphore$/,
    what: /(LockError|Timeout): .*timed out|waits for ever in /,
    needs: "crash",
    why: "the kernel does not return what a killed process has acquired of a POSIX semaphore",
  },
  {
    program: /^POSIX create semaphore$/,
    what: /^two processes hold the semaphore$/,
    why: "the mode Create sets the value again, although a process has acquired the semaphore",
  },
];

/** Whether what is wrong with an ending is not to be called a failure of this module. */
export function isTolerated(
  names: readonly string[],
  what: string,
  ending: Ending,
): boolean {
  return partsOf(what.replace(/\bP(\d)\b/g, (who, i) => names[i] ?? who)).every((part) =>
    [...TOLERANCES, ...POSIX_TOLERANCES].some((tolerance) => {
      const { program, what: pattern, beside = /^/, needs, needsThird = false } = tolerance;
      return names.some((name) => program.test(name)) && pattern.test(part) &&
        names.some((name) => beside.test(name)) && (needs === undefined || isMet(needs, ending)) &&
        (!needsThird || names.length > 2);
    })
  );
}

function isMet(needs: Need, { hasKill, hasStop }: Ending): boolean {
  if (needs === "kill and stop") return hasKill && hasStop;
  return needs !== "stop" && hasKill || needs !== "kill" && hasStop;
}

/** Splits what is wrong into one text for each thing that is left. */
function partsOf(what: string): string[] {
  const [, start, things] = /^(left [^:]*: )(.*)$/.exec(what) ?? [];
  return things === undefined ? [what] : things.split(", ").map((thing) => start + thing);
}

/** What this module cannot prevent, or does not promise, and so is no failure of a scenario. */
import type { Ending } from "./scenario.ts";

interface Tolerance {
  /** The program that causes it. */
  readonly program: RegExp;
  /** What is wrong, with the names of programs instead of `P0` and `P1`. */
  readonly what: RegExp;
  /** Whether it occurs only if a process was killed or stopped. */
  readonly needsCrash?: boolean;
  readonly why: string;
}

const TOLERANCES: readonly Tolerance[] = [
  {
    program: /^ipcrm -m$/,
    what: /^the segment was removed while/,
    why: "that is what the user has asked for",
  },
  {
    program: /^rm |^ipcrm/,
    what: /^left after cleanup\(\): (segment|semaphore) \d+$/,
    why: "no key file leads to the object any more, so only cleanup({ orphans: true }) removes it",
  },
  {
    program: /^Qt create$/,
    what: /^left after cleanup\(\): segment \d+$/,
    why: "Qt resets the lock that another process holds, and both create the segment",
  },
  {
    program: /^(Qt create|Qt reset|Qt reset twice|ipcrm -s)$/,
    what: /^two processes hold the lock$/,
    why: "Qt resets the lock that another process holds, and `ipcrm -s` removes it",
  },
  {
    program: /^(Qt create|rm key file)$/,
    what: /^two segments of one key/,
    why:
      "two processes create the segment after a reset of the lock, or after its key file was deleted",
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
    program: /^Qt (create|attach)$/,
    what: /^a process has taken a lock whose value is not 0$/,
    why: "Qt resets or removes the lock that another process has just taken while it created it",
  },
  {
    program: /^create semaphore$/,
    what: /^two processes hold the semaphore$/,
    why: "the mode Create sets the value again, whoever has acquired the semaphore",
  },
  {
    program: /^Qt attach$/,
    what: /Qt attach waits for ever in semop$/,
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
    what: /^left after cleanup\(\): semaphore \d+/,
    needsCrash: true,
    why:
      "a semaphore that no process has used is kept, as its value may be set at any moment; a process that was " +
      "stopped for seconds while it removed a semaphore deletes the key file of the next one",
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
    needsCrash: true,
    why: "another program is killed or stopped before it gives the segment its size",
  },
  {
    program: /^POSIX (Qt|C lock)/,
    what: /LockError: timed out|waits for ever in /,
    needsCrash: true,
    why:
      "nobody knows that another program which was killed has held the lock; and a process of this module that is " +
      "killed when it has just got the lock from another program has not noted that yet",
  },
  {
    program: /^POSIX (C lock|Qt|rm segment)/,
    what: /^two segments of one key/,
    why: "the segment loses its name while others use it, and newcomers create another one",
  },
  {
    program: /^POSIX create semaphore$/,
    what: /^two processes hold the semaphore$/,
    why: "the mode Create sets the value again, whoever has acquired the semaphore",
  },
];

/** Whether what is wrong with an ending is not to be called a failure of this module. */
export function isTolerated(
  names: readonly string[],
  what: string,
  { hasKill, hasStop }: Ending,
): boolean {
  const text = what.replace(/\bP(\d)\b/g, (_, process) => names[process]!);
  return [...TOLERANCES, ...POSIX_TOLERANCES].some((tolerance) =>
    names.some((name) => tolerance.program.test(name)) && tolerance.what.test(text) &&
    (!tolerance.needsCrash || hasKill || hasStop)
  );
}

import type { ErrnoTable } from "../failure.ts";
import { EINVAL, EMFILE, ENOMEM, ENOSPC } from "../unix/errno.ts";

/** The error texts for limits of the system, which say how to raise them. */
interface Limits {
  /** The errors of `shmget`. */
  readonly create: ErrnoTable;
  /** The errors of `shmat`. */
  readonly attach: ErrnoTable;
  /** The errors of `semget` and `semop`. */
  readonly semaphores: ErrnoTable;
}

const ADDRESS_SPACE = [
  "OutOfResources",
  "out of memory or address space; the memory of detached segments is released when the garbage collector " +
  "has run, so let the event loop turn",
] as const;

const LINUX: Limits = {
  create: {
    [EINVAL]: [
      "InvalidSize",
      "the system allows no segment of this size; raise kernel.shmmax (see `ipcs -lm`)",
    ],
    [ENOMEM]: ["OutOfResources", "out of memory: there is not enough for a segment of this size"],
    [ENOSPC]: [
      "OutOfResources",
      "the system's limit of segments is reached; raise kernel.shmmni or kernel.shmall, or look for " +
      "stale ones with `ipcs -mp` and remove them with `ipcrm -m ID`",
    ],
  },
  attach: {
    [ENOMEM]: ADDRESS_SPACE,
    [EMFILE]: ["OutOfResources", "this process has too many segments attached"],
  },
  semaphores: {
    [ENOSPC]: [
      "OutOfResources",
      "the system's limit of semaphores is reached; raise kernel.sem (its 4th and 2nd number), or " +
      "look for stale ones with `ipcs -s` and remove them with `ipcrm -s ID`",
    ],
  },
};

/**
 * The error texts of macOS, where the limits are far lower, and changes last only until the next start of the system.
 */
const DARWIN: Limits = {
  create: {
    [EINVAL]: [
      "InvalidSize",
      "macOS allows no segment of this size (kern.sysv.shmmax, usually 4 MiB); raise it, and " +
      "kern.sysv.shmall, the number of pages of all segments together, at every start of the " +
      "system: `sudo sysctl kern.sysv.shmmax=BYTES kern.sysv.shmall=PAGES`, where BYTES is a " +
      "multiple of 16384",
    ],
    [ENOMEM]: [
      "OutOfResources",
      "all segments of the system together have as many pages as macOS allows (kern.sysv.shmall, " +
      "usually 1024), or it is out of memory; raise that at every start of the system with `sudo " +
      "sysctl kern.sysv.shmall=PAGES`, or look for stale segments with `ipcs -mp` and remove them " +
      "with `ipcrm -m ID`",
    ],
    [ENOSPC]: [
      "OutOfResources",
      "macOS has as many segments as it allows (kern.sysv.shmmni, usually 32); look for stale ones " +
      "with `ipcs -mp` and remove them with `ipcrm -m ID`, or raise it right after a start of the " +
      "system, before the first segment is created, with `sudo sysctl kern.sysv.shmmni=NUMBER`",
    ],
  },
  attach: {
    [ENOMEM]: ADDRESS_SPACE,
    [EMFILE]: [
      "OutOfResources",
      "this process has as many segments attached as macOS allows (kern.sysv.shmseg, usually 8); " +
      "detach() some, or raise it with `sudo sysctl kern.sysv.shmseg=NUMBER` before the program " +
      "starts",
    ],
  },
  semaphores: {
    [ENOSPC]: [
      "OutOfResources",
      "the system's limit of semaphores is reached (kern.sysv.semmni, semmns and semmnu); look for " +
      "stale ones with `ipcs -s` and remove them with `ipcrm -s ID`",
    ],
    [EINVAL]: [
      "OutOfResources",
      "this process holds as many locks and semaphores as macOS can release when it ends " +
      "(kern.sysv.semume, usually 10); unlock() or release() some first",
    ],
  },
};

/** Returns the error texts of an operating system, named as in `process.platform`. */
export function limitsOf(os: string): Limits {
  return os === "darwin" ? DARWIN : LINUX;
}

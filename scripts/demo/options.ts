import { parseArgs } from "node:util";
import { parseOrExit } from "../options.ts";
import type { RuntimeName } from "../runtimes.ts";

export interface Options {
  readonly workers: number;
  readonly seconds: number;
  readonly runtimes: readonly RuntimeName[];
  /** `--runtimes` was given, so each of them must be there. */
  readonly chosen: boolean;
  readonly locked: boolean;
}

export const HELP =
  `Several processes in several runtimes increment one counter in one shared segment.

Usage: npm run demo -- [options]
       node scripts/demo.ts [options]      (Node 26.9 or newer)
       deno run -A scripts/demo.ts [options]
       bun scripts/demo.ts [options]

Every worker does this as often as it can: lock(), read the total, write it back plus one, the
same for its own counter, unlock(). The reads and writes are ordinary ones, so that only the lock
between the processes keeps the total right. At the end the total in the segment, the sum of the
workers' own counters in the segment and the sum of what each process says it did must be equal,
and nothing may be left behind in the system.

Options:
  --workers N      workers in each runtime, 1 to 32 (default 2)
  --seconds S      how long they work, up to 3600, e.g. 0.5 (default 3)
  --runtimes LIST  some of deno,bun,node,qt (default: all that are installed). qt is real Qt,
                   through PyQt6 or PyQt5
  --without-lock   to see what happens without the lock: the total is wrong and the exit code 1
  --help           this text

Ctrl-C stops the workers early; the counts are verified and everything is cleaned up all the same.
A second Ctrl-C kills the workers.

Exit code: 0 all is right; 1 a wrong count, a failed worker, a missing runtime or something left
behind; 2 wrong arguments; 130 stopped by Ctrl-C, all is right (143 SIGTERM, 129 SIGHUP).
`;

const RUNTIMES: readonly RuntimeName[] = ["deno", "bun", "node", "qt"];

function isRuntimeName(name: string): name is RuntimeName {
  return RUNTIMES.some((known) => known === name);
}

/** @throws {Error} with a text for the user. */
function parse(args: string[]): Options | "help" {
  const { values } = parseArgs({
    args,
    options: {
      workers: { type: "string", default: "2" },
      seconds: { type: "string", default: "3" },
      runtimes: { type: "string" },
      "without-lock": { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  const workers = Number(values.workers);
  if (!/^\d+$/.test(values.workers) || workers < 1 || workers > 32) {
    throw new Error(`--workers takes a whole number from 1 to 32, not "${values.workers}"`);
  }
  const seconds = Number(values.seconds);
  if (!/^\d*\.?\d+$/.test(values.seconds) || seconds <= 0 || seconds > 3600) {
    throw new Error(`--seconds takes a number above 0, up to 3600, not "${values.seconds}"`);
  }
  const names = values.runtimes?.split(",").map((name) => name.trim()) ?? RUNTIMES;
  const runtimes = [...new Set(names)].map((name) => {
    if (isRuntimeName(name)) return name;
    throw new Error(`--runtimes takes some of ${RUNTIMES.join(",")}, not "${name}"`);
  });
  return {
    workers,
    seconds,
    runtimes,
    chosen: values.runtimes !== undefined,
    locked: !values["without-lock"],
  };
}

/** Ends the process for `--help` and for wrong arguments. */
export function parseOptions(args: string[]): Options {
  return parseOrExit(HELP, () => parse(args));
}

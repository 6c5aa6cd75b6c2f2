import { parseArgs } from "node:util";
import { parseOrExit } from "../options.ts";

export interface Options {
  readonly minutes: number;
  readonly workers: number;
  readonly seed: number;
  /** What is left out. */
  readonly without: readonly Fault[];
}

const FAULTS = ["kill", "stop", "delete", "qt"] as const;
export type Fault = typeof FAULTS[number];

export const HELP = `Random load and faults, in all installed runtimes together, and in real Qt.

Usage: npm run soak -- [options]
       node scripts/soak.ts [options]      (Node 26.9 or newer)
       deno run -A scripts/soak.ts [options]
       bun scripts/soak.ts [options]

Workers count under a lock that they take in every way there is, make, fill, attach to and detach from
segments, and share semaphores. Meanwhile they are killed and replaced, stopped and continued, and key
files are deleted. With PyQt, Qt resets the lock of a segment whose count nobody relies on.

At the end every count must be exact but for the increment that a killed worker had begun, no worker
may have ended by a signal that was not sent, no call may have hung, every lock must work, and nothing
may be left behind.

Options:
  --minutes N     how long, e.g. 0.5 or 60 (default 1)
  --workers N     workers in each runtime, 1 to 16 (default 2)
  --seed N        of the random choices (default: of the clock); the processes' timing is not repeated
  --without LIST  some of kill,stop,delete,qt, to find out what it takes to fail
  --help          this text

Ctrl-C ends it early, with its verdict. Exit code: 0 all is right; 1 it is not; 2 wrong arguments.
`;

function number(name: string, text: string, minimum: number, maximum: number): number {
  const value = Number(text);
  if (/^\d*\.?\d+$/.test(text) && value >= minimum && value <= maximum) return value;
  throw new Error(`--${name} takes a number from ${minimum} to ${maximum}, not "${text}"`);
}

function fault(name: string): Fault {
  const found = FAULTS.find((known) => known === name);
  if (found !== undefined) return found;
  throw new Error(`--without takes some of ${FAULTS.join(",")}, not "${name}"`);
}

/** @throws {Error} with a text for the user. */
function parse(args: string[]): Options | "help" {
  const { values } = parseArgs({
    args,
    options: {
      minutes: { type: "string", default: "1" },
      workers: { type: "string", default: "2" },
      seed: { type: "string", default: `${Date.now() % 2 ** 31}` },
      without: { type: "string", default: "" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  return {
    minutes: number("minutes", values.minutes, 0.01, 10_000),
    workers: Math.ceil(number("workers", values.workers, 1, 16)),
    seed: Math.trunc(number("seed", values.seed, 0, 2 ** 31)),
    without: values.without.split(",").filter((name) => name !== "").map(fault),
  };
}

/** Ends the process for `--help` and for wrong arguments. */
export function parseOptions(args: string[]): Options {
  return parseOrExit(HELP, () => parse(args));
}

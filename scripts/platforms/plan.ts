/** Which tests are run on another platform, and what is left out. */
import path from "node:path";
import { testFiles } from "../sources.ts";

export const names = ["deno", "bun", "node"] as const;
export type Name = typeof names[number];

const ENDING = "_test.ts";

/** Test files that are not run, in all the platform's runtimes or in these. Names lack `_test.ts`. */
export interface LeftOut {
  readonly why: string;
  readonly runtimes?: readonly Name[];
  readonly files?: readonly string[];
  /** Only these are run. */
  readonly allBut?: readonly string[];
}

export interface Plan {
  readonly leftOut: readonly LeftOut[];
  /** The tests that start processes of the platform too; in the others they are the system's. */
  readonly agents: "all" | readonly string[];
  /** Those of them that start no others: the system's cannot share what they are about. */
  readonly alone?: readonly string[];
  /** What `--core` runs: the tests of what differs from platform to platform. */
  readonly core: readonly string[];
}

/** What chooses test files by their names, as arguments of scripts/test.ts. */
export function argumentsFor(files: readonly string[]): string[] {
  return files.map((file) => `/${file}${ENDING}`);
}

/** Some tests, in one runtime. */
export interface Part {
  readonly name: Name;
  /** Whether the processes that they start of this runtime are of the platform too. */
  readonly agents: boolean;
  /** Whether they start no others. */
  readonly alone: boolean;
  /** For the arguments of scripts/test.ts. */
  readonly files: readonly string[];
}

function isLeftOut(file: string, name: Name, { runtimes, files, allBut }: LeftOut): boolean {
  if (runtimes !== undefined && !runtimes.includes(name)) return false;
  return files?.includes(file) === true || allBut?.includes(file) === false;
}

/** The tests whose names contain one of the texts; if there are none, all that are not left out. */
export function partsOf(plan: Plan, name: Name, texts: readonly string[]): Part[] {
  const all = testFiles().map((file) => path.basename(file, ENDING));
  const agents = plan.agents === "all" ? all : plan.agents;
  const alone = plan.alone ?? [];
  const known = [
    ...agents,
    ...alone,
    ...plan.core,
    ...plan.leftOut.flatMap(({ files, allBut }) => files ?? allBut ?? []),
  ];
  const unknown = known.find((file) => !all.includes(file));
  if (unknown !== undefined) throw new Error(`there is no tests/${unknown}${ENDING}`);
  const files = texts.length > 0
    ? all.filter((file) => texts.some((text) => `/${file}${ENDING}`.includes(text)))
    : all.filter((file) => !plan.leftOut.some((rule) => isLeftOut(file, name, rule)));
  const part = (isIn: (file: string) => boolean, how: Pick<Part, "agents" | "alone">) => ({
    ...{ name, ...how },
    files: argumentsFor(files.filter(isIn)),
  });
  return [
    part((file) => alone.includes(file), { agents: true, alone: true }),
    part((file) => agents.includes(file) && !alone.includes(file), { agents: true, alone: false }),
    part((file) => !agents.includes(file), { agents: false, alone: false }),
  ].filter(({ files }) => files.length > 0);
}

export function showLeftOut({ leftOut }: Plan): void {
  for (const { why, runtimes, files = [], allBut } of leftOut) {
    const where = runtimes ? ` in ${runtimes.join(" and ")}` : "";
    const what = allBut ? `all but ${allBut.join(", ")}` : files.join(", ");
    console.log(`left out${where}: ${what}\n  ${why}`);
  }
}

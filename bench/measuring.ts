/** Has contenders do the same job in turns, and tells what each took. */
import { rmSync } from "node:fs";
import process from "node:process";
import { type Combine, Crew } from "./crew.ts";
import { removeLeftovers } from "./leftovers.ts";
import type { Contender } from "./programs.ts";
import { medianRatio } from "./timing.ts";

export interface Effort {
  /** How often everybody is started anew. */
  rounds: number;
  /** How often in a round everybody has a turn, and how long that is, in ms. */
  turns: number;
  turnMs: number;
  /** Before it is measured, in ms. */
  checkMs: number;
  warmUpMs: number;
  /** Of views, how long each loop lasts, in ms, and of waiting for the lock, how often it is handed over. */
  alone: { rounds: number; ms: number; handOffs: number };
}

export const thorough: Effort = {
  ...{ rounds: 3, turns: 8, turnMs: 40, checkMs: 20, warmUpMs: 300 },
  alone: { rounds: 5, ms: 150, handOffs: 200 },
};
export const quick: Effort = {
  ...{ rounds: 1, turns: 1, turnMs: 5, checkMs: 2, warmUpMs: 0 },
  alone: { rounds: 1, ms: 2, handOffs: 2 },
};

/** Who does which job. */
export interface Entry {
  name: string;
  contender: Contender;
  job: string;
  /** How many do it, besides a server. */
  count: number;
  hasServer?: boolean;
}

/** The ns of one operation, turn by turn, by the name of the entry. */
export type Turns = Map<string, number[]>;

export interface Place {
  /** For the files that peers have. */
  folder: string;
  /** For the key files, which must be gone afterwards. */
  keys: string;
  signal: AbortSignal;
  /** What went wrong, and whose fault it was. */
  faults: string[];
}

let made = 0;

export interface MeasureOptions {
  combine: Combine;
  /** Whether they count to a total. */
  isCounted: boolean;
  /** Is called after each turn of an entry, for what else is measured of its processes. */
  afterTurn?(name: string, crew: Crew): Promise<void>;
}

/** All turns of an `entry` that goes wrong are left out, and it is named in `faults`. */
export async function measure(
  entries: readonly Entry[],
  options: MeasureOptions,
  effort: Effort,
  { folder, keys, signal, faults }: Place,
): Promise<Turns> {
  const turns: Turns = new Map(entries.map(({ name }) => [name, []]));
  for (let round = 0; round < effort.rounds; round++) {
    const crews = new Map<string, Crew>();
    const attempt = async (name: string, step: () => Promise<void>) => {
      signal.throwIfAborted();
      if (!turns.has(name)) return;
      try {
        await step();
      } catch (error) {
        await crews.get(name)?.kill();
        turns.delete(name);
        faults.push(`${name}: ${error instanceof Error ? error.message : error}`);
      }
    };
    try {
      for (const { name, contender, job, count, hasServer } of entries) {
        await attempt(name, async () => {
          const key = `bench-${process.pid}-${made++}`;
          const { env, ...program } = contender.program(job, key, folder);
          const crew = await Crew.start(
            { ...program, env: { ...env, TMPDIR: keys } },
            count,
            options.combine,
            hasServer,
          );
          crews.set(name, crew);
          await crew.run("check", effort.checkMs);
          if (options.isCounted) await crew.checkTotal();
          if (effort.warmUpMs > 0) await crew.run("run", effort.warmUpMs);
        });
      }
      for (let turn = 0; turn < effort.turns; turn++) {
        // Nobody always comes after the same one: ext4 is slow to make files where many were deleted.
        for (const { name } of shuffled(entries)) {
          await attempt(name, async () => {
            const crew = crews.get(name)!;
            turns.get(name)!.push(await crew.run("run", effort.turnMs));
            await options.afterTurn?.(name, crew);
          });
        }
      }
      for (const { name } of entries) {
        await attempt(name, async () => {
          if (options.isCounted) await crews.get(name)!.checkTotal();
          await crews.get(name)!.end();
        });
      }
    } finally {
      await Promise.all([...crews.values()].map((crew) => crew.kill()));
      for (let key = made - entries.length; key < made; key++) {
        rmSync(`/dev/shm/bench-${process.pid}-${key}`, { force: true });
      }
    }
    const leftovers = removeLeftovers(keys);
    signal.throwIfAborted();
    if (leftovers.length > 0) faults.push(`left behind: ${leftovers.join(", ")}`);
  }
  return turns;
}

function shuffled<T>(values: readonly T[]): T[] {
  const places = values.map((value) => ({ value, place: Math.random() }));
  return places.sort((a, b) => a.place - b.place).map(({ value }) => value);
}

export function ratio(turns: Turns, own: string, other: string): number | undefined {
  const [mine, others] = [turns.get(own), turns.get(other)];
  if (mine === undefined || others === undefined) return undefined;
  return mine.length > 0 ? medianRatio(mine, others) : undefined;
}

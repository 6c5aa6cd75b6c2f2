/** Measures `./sync` in each runtime beside the same in C, and beside what Qt has. */
import process from "node:process";
import { type Effort, type Entry, measure, type Place, ratio, type Turns } from "./measuring.ts";
import type { Contender } from "./programs.ts";
import { atomics, bareC, type Measure, measures, qt } from "./sync_measures.ts";
import { median } from "./timing.ts";
import { ratioVerdict, timeVerdict, type Verdict } from "./verdicts.ts";

export interface SyncRow {
  title: string;
  count: number;
  name: string;
  ns: number;
  /** To those of the same title and count, by their names. */
  ratios: Record<string, number>;
}

function entriesOf({ job, others = {} }: Measure, count: number, contenders: Contender[]): Entry[] {
  const bareJob = others[atomics];
  return contenders.flatMap((contender): Entry[] => {
    const { name } = contender;
    if (name === qt) return job === "mutex" ? [{ name, contender, job, count }] : [];
    if (name === bareC) return [{ name, contender, job: others[bareC] ?? job, count }];
    const entry = { name, contender, job, count };
    if (bareJob === undefined || count > 1) return [entry];
    return [entry, { name: `${name} ${atomics}`, contender, job: bareJob, count }];
  });
}

/** The name of the entry that `name` is compared with. */
function otherOf(against: string, name: string): string {
  return against === atomics ? `${name} ${atomics}` : against;
}

/** What was reached by those who took part. */
function verdictsOf({ title, targets, timeTargets = {} }: Measure, turns: Turns): Verdict[] {
  const verdicts: Verdict[] = [];
  for (const [against, limits] of Object.entries(targets)) {
    for (const [name, limit] of Object.entries(limits)) {
      const found = ratio(turns, name, otherOf(against, name));
      verdicts.push(ratioVerdict(title, name, against, limit, found));
    }
  }
  for (const [name, limit] of Object.entries(timeTargets)) {
    const samples = turns.get(name);
    verdicts.push(timeVerdict(title, name, limit, samples && median(samples)));
  }
  return verdicts;
}

/** @param isShort whether to measure each with the smallest number of processes only */
export async function measureSync(
  contenders: Contender[],
  effort: Effort,
  place: Place,
  isShort: boolean,
): Promise<{ rows: SyncRow[]; verdicts: Verdict[] }> {
  const rows: SyncRow[] = [];
  const verdicts: Verdict[] = [];
  for (const one of measures) {
    const { title, combine, isCounted = false } = one;
    for (const count of isShort ? one.counts.slice(0, 1) : one.counts) {
      process.stderr.write(`${title}, ${count} ${count === 1 ? "process" : "processes"}\n`);
      const entries = entriesOf(one, count, contenders);
      const turns = await measure(entries, { combine, isCounted }, effort, place);
      for (const [name, samples] of turns) {
        const ratios: Record<string, number> = {};
        for (const against of [bareC, qt, atomics]) {
          const other = otherOf(against, name);
          const found = other === name ? undefined : ratio(turns, name, other);
          if (found !== undefined) ratios[against] = found;
        }
        rows.push({ title, count, name, ns: median(samples), ratios });
      }
      if (count === one.counts[0]) verdicts.push(...verdictsOf(one, turns));
    }
  }
  return { rows, verdicts };
}

/** Measures `./collections` in each runtime beside the same in C. */
import process from "node:process";
import { type Line, type Measure, measures } from "./collection_measures.ts";
import { type Effort, type Entry, measure, type Place, ratio, type Turns } from "./measuring.ts";
import type { Contender } from "./programs.ts";
import { bareC } from "./sync_measures.ts";
import { median } from "./timing.ts";
import { ratioVerdict, timeVerdict, type Verdict } from "./verdicts.ts";

export interface CollectionRow {
  title: string;
  count: number;
  name: string;
  /** From one operation to the next one of any process. */
  ns: number;
  toC: number | undefined;
  /** Of single operations: the time that half of them take at most, and 99 of 100. */
  p50: number;
  p99: number;
}

function entryName(name: string, { job }: Line): string {
  return name === bareC ? name : `${name} ${job}`;
}

function entriesOf({ lines }: Measure, count: number, contenders: readonly Contender[]): Entry[] {
  return contenders.flatMap((contender) => {
    const own = contender.name === bareC ? lines.slice(0, 1) : lines;
    return own.map((line): Entry => ({
      name: entryName(contender.name, line),
      contender,
      job: line.job,
      count,
    }));
  });
}

function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;
}

function rowsOf(
  { lines }: Measure,
  count: number,
  contenders: readonly Contender[],
  turns: Turns,
  latencies: Map<string, number[]>,
): CollectionRow[] {
  return lines.flatMap((line, i) =>
    contenders.flatMap(({ name }): CollectionRow[] => {
      const entry = entryName(name, line);
      const samples = turns.get(entry);
      if (samples === undefined || (name === bareC && i > 0)) return [];
      const sorted = latencies.get(entry)!.toSorted((a, b) => a - b);
      return [{
        title: line.title,
        count,
        name,
        ns: median(samples),
        toC: name === bareC ? undefined : ratio(turns, entry, bareC),
        p50: quantile(sorted, 0.5),
        p99: quantile(sorted, 0.99),
      }];
    })
  );
}

/** The verdicts on the turns of one number of processes. */
function verdictsOf(
  { lines, counts }: Measure,
  count: number,
  names: readonly string[],
  turns: Turns,
  rows: readonly CollectionRow[],
): Verdict[] {
  const verdicts: Verdict[] = [];
  for (const line of lines) {
    const { title, target, targetToFirst, targetOfMost } = line;
    for (const name of names) {
      const to = (other: string) => ratio(turns, entryName(name, line), other);
      if (count === counts[0] && target !== undefined) {
        verdicts.push(ratioVerdict(title, name, bareC, target, to(bareC)));
      }
      if (count === counts[0] && targetToFirst !== undefined) {
        const first = lines[0]!;
        const found = to(entryName(name, first));
        verdicts.push(ratioVerdict(title, name, first.title, targetToFirst, found));
      }
      if (count === counts.at(-1) && targetOfMost !== undefined) {
        const own = rows.find((row) => row.name === name && row.title === title);
        const what = `${title}, ${count} processes, half of all`;
        verdicts.push(timeVerdict(what, name, targetOfMost, own?.p50));
      }
    }
  }
  return verdicts;
}

/** @param isShort whether to measure each with the smallest number of processes only */
export async function measureCollections(
  contenders: readonly Contender[],
  effort: Effort,
  place: Place,
  isShort: boolean,
): Promise<{ rows: CollectionRow[]; verdicts: Verdict[] }> {
  const rows: CollectionRow[] = [];
  const verdicts: Verdict[] = [];
  const names = contenders.map(({ name }) => name).filter((name) => name !== bareC);
  for (const one of measures) {
    for (const count of isShort ? one.counts.slice(0, 1) : one.counts) {
      const titles = one.lines.map(({ title }) => title).join("; ");
      process.stderr.write(`${titles}: ${count} ${count === 1 ? "process" : "processes"}\n`);
      const latencies = new Map<string, number[]>();
      const turns = await measure(
        entriesOf(one, count, contenders),
        {
          combine: "rate",
          isCounted: one.isCounted ?? false,
          async afterTurn(name, crew) {
            const own = latencies.get(name) ?? [];
            latencies.set(name, [...own, ...await crew.latencies(effort.turnMs)]);
          },
        },
        effort,
        place,
      );
      const found = rowsOf(one, count, contenders, turns, latencies);
      rows.push(...found);
      verdicts.push(...verdictsOf(one, count, names, turns, found));
    }
  }
  return { rows, verdicts };
}

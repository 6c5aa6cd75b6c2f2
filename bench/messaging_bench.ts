/** Measures the queue, the topic and the value in each runtime, beside C and System V. */
import process from "node:process";
import { type Effort, type Entry, measure, type Place, ratio, type Turns } from "./measuring.ts";
import { fewTurns, type Measure, measures } from "./messaging_measures.ts";
import type { Contender } from "./programs.ts";
import { bareC } from "./sync_measures.ts";
import { median } from "./timing.ts";
import { ratioVerdict, type Verdict } from "./verdicts.ts";

export interface MessagingRow {
  title: string;
  name: string;
  /** The number of processes. */
  count: number;
  ns: number;
  /** To what it is compared with, by their names. */
  ratios: Readonly<Record<string, number>>;
  woken: number | undefined;
}

/** The name of what a runtime is compared with. */
function otherOf({ inC = {} }: Measure, against: string, name: string): string {
  return against in inC ? against : `${name}: ${against}`;
}

function entriesOf(one: Measure, contenders: readonly Contender[]): Entry[] {
  const { job, count, inC = {}, others = {} } = one;
  return contenders.flatMap((contender): Entry[] => {
    const { name } = contender;
    if (name === bareC) {
      return Object.entries(inC).map(([name, job]) => ({ name, contender, job, count }));
    }
    return [
      { name, contender, job, count },
      ...Object.entries(others).map(([against, job]) => ({
        name: otherOf(one, against, name),
        contender,
        job,
        count,
      })),
    ];
  });
}

function rowsOf(one: Measure, names: readonly string[], turns: Turns): MessagingRow[] {
  const { title, count, inC = {}, others = {}, woken } = one;
  const against = [...Object.keys(inC), ...Object.keys(others)];
  return [...turns].map(([name, samples]) => {
    const ratios = names.includes(name)
      ? against.flatMap((other) => {
        const found = ratio(turns, name, otherOf(one, other, name));
        return found === undefined ? [] : [[other, found] as const];
      })
      : [];
    return { title, name, count, ns: median(samples), ratios: Object.fromEntries(ratios), woken };
  });
}

function verdictsOf(one: Measure, names: readonly string[], turns: Turns): Verdict[] {
  const { title, targets = {} } = one;
  return Object.entries(targets).flatMap(([against, limit]) =>
    names.map((name) => {
      const found = ratio(turns, name, otherOf(one, against, name));
      return ratioVerdict(title, name, against, limit, found);
    })
  );
}

/** @param isShort whether to leave out what more than two processes do, and what takes long */
export async function measureMessaging(
  contenders: readonly Contender[],
  effort: Effort,
  place: Place,
  isShort: boolean,
): Promise<{ rows: MessagingRow[]; verdicts: Verdict[] }> {
  const rows: MessagingRow[] = [];
  const verdicts: Verdict[] = [];
  const names = contenders.map(({ name }) => name).filter((name) => name !== bareC);
  for (const one of measures) {
    if (isShort && (one.count > 2 || one.isLong)) continue;
    process.stderr.write(`${one.title}\n`);
    const { combine, isLong = false } = one;
    const turnsOf = { rounds: 1, turns: Math.min(fewTurns, effort.turns) };
    const turns = await measure(
      entriesOf(one, contenders),
      { combine, isCounted: false },
      isLong ? { ...effort, ...turnsOf } : effort,
      place,
    );
    rows.push(...rowsOf(one, names, turns));
    verdicts.push(...verdictsOf(one, names, turns));
  }
  return { rows, verdicts };
}

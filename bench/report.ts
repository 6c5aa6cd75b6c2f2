/** What the samples say. */
import { duration, markdownTable, times as inTimes } from "./table.ts";
import { median, medianRatio } from "./timing.ts";

/**
 * The ns of one operation, by contender and measure, in the order in which they were measured: the first of all was
 * measured at the same time, and so on.
 */
export type Samples = Map<string, Record<string, number[]>>;

interface Row {
  contender: string;
  measure: string;
  ns: number;
  min: number;
  max: number;
  ratios: Record<string, number | undefined>;
}

export interface Goal {
  contender: string;
  measure: string;
  against: string;
  limit: number;
  ratio: number | undefined;
}

interface Call {
  title: string;
  /** What the programs call it. */
  job: string;
  /** Whether the key files are in memory, where no disk slows it down. */
  inMemory?: boolean;
}

export const calls: readonly Call[] = [
  { title: "lock+unlock", job: "lock" },
  { title: "create+detach", job: "create" },
  { title: "create+detach, key files in tmpfs", job: "create", inMemory: true },
  { title: "attach+detach", job: "attach" },
];
const operations = calls.map(({ title }) => title);
const elements = ["sum of Uint8", "increment Int32", "sum of Float64"];
const handOffs = ["hand-off", "hand-off to sleeper"];
const buffer = "ordinary buffer";
const socket = "Unix socket";

/** What is measured in the contender itself, and how that measure's name ends. */
const suffixes: Record<string, string> = {
  [buffer]: " (buffer)",
  [socket]: " (socket)",
};

/** The groups of measures, as the table shows them, each with what it is compared with. */
const groups = [
  { heading: "ns per operation", measures: operations, against: ["bare C", "C++ Qt"] },
  { heading: "ns per element", measures: elements, against: ["bare C", buffer] },
  { heading: "ns per hand-off", measures: handOffs, against: [socket] },
];

export function addSamples(
  samples: Samples,
  name: string,
  title: string,
  values: readonly number[],
): void {
  const own = samples.get(name) ?? {};
  samples.set(name, own);
  (own[title] ??= []).push(...values);
}

function ratio(samples: Samples, contender: string, measure: string, against: string) {
  const suffix = suffixes[against];
  const own = samples.get(contender)?.[measure];
  const other = samples.get(suffix === undefined ? against : contender)?.[measure + (suffix ?? "")];
  if (own === undefined || other === undefined) return undefined;
  return medianRatio(own, other);
}

function measuresOf({ measures, against }: typeof groups[number]) {
  return measures.map((measure) => ({ measure, against }));
}

export function rowsOf(samples: Samples): Row[] {
  const rows: Row[] = [];
  for (const { measure, against } of groups.flatMap(measuresOf)) {
    for (const [contender, own] of samples) {
      const values = own[measure];
      if (values === undefined || values.length === 0) continue;
      const ratios = against.map((name) => [name, ratio(samples, contender, measure, name)]);
      rows.push({
        contender,
        measure,
        ns: median(values),
        min: Math.min(...values),
        max: Math.max(...values),
        ratios: Object.fromEntries(ratios),
      });
    }
  }
  return rows;
}

export function goalsOf(samples: Samples): Goal[] {
  const limits: [string, string, number][] = [
    ["lock+unlock", "bare C", 1.25],
    ...operations.map((measure): [string, string, number] => [measure, "C++ Qt", 1]),
    ...elements.map((measure): [string, string, number] => [measure, buffer, 1.1]),
  ];
  const goals = (contenders: string[], own: [string, string, number][]): Goal[] =>
    contenders.flatMap((contender) =>
      own.map(([measure, against, limit]) => (
        { contender, measure, against, limit, ratio: ratio(samples, contender, measure, against) }
      ))
    );
  const waits = handOffs.map((measure): [string, string, number] => [measure, socket, 3]);
  return [...goals(["deno", "bun"], limits), ...goals(["deno", "bun", "node"], waits)];
}

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);
}

function times(value: number | undefined): string {
  return value === undefined ? "" : `${value.toFixed(2)}x`;
}

export function tableOf(rows: Row[]): string {
  const lines: string[][] = [];
  for (const { heading, measures, against } of groups) {
    const own = rows.filter(({ measure }) => measures.includes(measure));
    if (own.length === 0) continue;
    if (lines.length > 0) lines.push([]);
    lines.push([heading, "", "median", "range", ...against.map((name) => `/ ${name}`)]);
    let last = "";
    for (const { measure, contender, ns, min, max, ratios } of own) {
      lines.push([
        measure === last ? "" : measure,
        contender,
        number(ns),
        `${number(min)} - ${number(max)}`,
        ...against.map((name) => times(ratios[name])),
      ]);
      last = measure;
    }
  }
  const widths = [0, 1, 2, 3, 4, 5].map((column) =>
    Math.max(...lines.map((line) => line[column]?.length ?? 0))
  );
  return lines.map((line) =>
    line.map((cell, column) =>
      column < 2 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
    ).join("  ").trimEnd()
  ).join("\n");
}

/** The same for a page, in Markdown. */
export function pageTable(rows: readonly Row[]): string {
  const against = [...new Set(groups.flatMap((group) => group.against))];
  let last = "";
  return markdownTable(
    ["operation", "program", "time", ...against.map((name) => `to ${name}`)],
    rows.map(({ measure, contender, ns, ratios }) => {
      const shown = measure === last
        ? ""
        : elements.includes(measure)
        ? `${measure}, each`
        : measure;
      last = measure;
      const found = against.map((name) => inTimes(ratios[name]));
      return [shown, contender, duration(ns), ...found];
    }),
  );
}

export function goalLine({ contender, measure, against, limit, ratio }: Goal): string {
  const verdict = ratio === undefined ? "unmeasured" : ratio <= limit ? "met" : "not met";
  const found = ratio === undefined ? "" : `: ${ratio.toFixed(3)}x`;
  const goal = `${contender} ${measure} <= ${limit.toFixed(2)}x ${against}`;
  return `${verdict.padEnd(10)}  ${goal}${found}`;
}

/** What is to be reached, and whether it was. */
import { duration, markdownTable, times } from "./table.ts";

export interface Verdict {
  title: string;
  name: string;
  target: string;
  found: string;
  /** `undefined` if it was not measured. */
  isReached: boolean | undefined;
}

/** For a ratio that is at most `limit`; one below 1 is told as how much faster it is. */
export function ratioVerdict(
  title: string,
  name: string,
  against: string,
  limit: number,
  ratio: number | undefined,
): Verdict {
  const isFaster = limit < 1;
  const target = isFaster
    ? `at least ${(1 / limit).toFixed(0)} times as fast as ${against}`
    : `at most ${limit}× ${against}`;
  const isReached = ratio === undefined ? undefined : ratio <= limit;
  const found = ratio === undefined
    ? "unmeasured"
    : isFaster
    ? `${(1 / ratio).toFixed(1)} times as fast`
    : times(ratio);
  return { title, name, target, found, isReached };
}

/** For a time that is at most `limit` ns. */
export function timeVerdict(
  title: string,
  name: string,
  limit: number,
  ns: number | undefined,
): Verdict {
  const target = `at most ${duration(limit)}`;
  if (ns === undefined) return { title, name, target, found: "unmeasured", isReached: undefined };
  return { title, name, target, found: duration(ns), isReached: ns <= limit };
}

export function verdictTable(verdicts: readonly Verdict[]): string {
  return markdownTable(
    ["operation", "runtime", "target", "found", "reached"],
    verdicts.map(({ title, name, target, found, isReached }) => {
      const reached = isReached === undefined ? "" : isReached ? "yes" : "**no**";
      return [title, name, target, found, reached];
    }),
  );
}

import process from "node:process";

/** The time since some fixed moment, in nanoseconds. */
export function now(): number {
  return Number(process.hrtime.bigint());
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/**
 * The ratio at each time first, then their median: what slows the machine down for a while slows both sides
 * of a ratio down.
 */
export function medianRatio(own: readonly number[], other: readonly number[]): number {
  return median(own.map((ns, time) => ns / other[time]!));
}

/** The mean without the batches during which the machine did something else. */
export function undisturbedMean(batches: number[]): number {
  const sorted = batches.toSorted((a, b) => a - b);
  const limit = 2 * sorted[Math.floor(sorted.length / 2)]!;
  const used = sorted.filter((ns) => ns <= limit);
  return used.reduce((sum, ns) => sum + ns) / used.length;
}

import process from "node:process";

/** How long each operation is repeated, per round. */
export const measureNs = 150e6;
/** So often before it counts: it takes V8 a second to compile all that `create()` and `detach()` call as best it can. */
const warmUps = 6;

/** The time since some fixed moment, in nanoseconds. */
export function now(): number {
  return Number(process.hrtime.bigint());
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The mean without the batches during which the machine did something else. */
export function undisturbedMean(batches: number[]): number {
  const sorted = batches.toSorted((a, b) => a - b);
  const limit = 2 * sorted[Math.floor(sorted.length / 2)]!;
  const used = sorted.filter((ns) => ns <= limit);
  return used.reduce((sum, ns) => sum + ns) / used.length;
}

function costOnce(operation: () => void, batch: number): number {
  const batches: number[] = [];
  const begin = now();
  let end = begin;
  while (end - begin < measureNs) {
    const start = end;
    for (let i = 0; i < batch; i++) operation();
    end = now();
    batches.push(end - start);
  }
  return undisturbedMean(batches) / batch;
}

/**
 * The nanoseconds that one call of `operation` takes after the warm-up, measured in batches, so that reading the clock
 * does not count.
 */
export function cost(operation: () => void, batch: number): number {
  for (let i = 0; i < warmUps; i++) costOnce(operation, batch);
  return costOnce(operation, batch);
}

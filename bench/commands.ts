/**
 * How a process that takes part is told what to do, in lines on its standard input, and answers, in lines of
 * JSON, in whatever language it is written:
 *
 * - At first it says `ready`, once those who come later can join it.
 * - `check MS` and `run MS` do the job for so long, the first with a look at every result. The answer is
 *   a {@linkcode Result}, which is empty in a process that only serves the others.
 * - `total` is answered with the number that all of them have counted up.
 * - `latencies MS` does the job for so long and measures some of its operations one by one. The answer is a
 *   {@linkcode Latencies}, with 1,000 quantiles of the times if there are more.
 * - `bytes` is answered with what the process keeps takes in memory or on disk.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { now, undisturbedMean } from "./timing.ts";

export interface Result {
  /** How often, and in how many ns altogether. */
  ops: number;
  ns: number;
  /** The ns of one, without what the machine did in between. */
  perOp: number;
}

/** Operations that were measured one by one. */
export interface Latencies {
  /** How many there were, with those between them. */
  ops: number;
  /** The ns of each. */
  times: number[];
}

export interface Job {
  run(ms: number, isCheck: boolean): Partial<Result> | Promise<Partial<Result>>;
  total?(): number | Promise<number>;
  latencies?(ms: number): Latencies;
  bytes?(): number | Promise<number>;
  end?(): void | Promise<void>;
}

const mostQuantiles = 1000;

/** As many numbers as are sent at a time, which are distributed like `times`. */
function quantiles(times: readonly number[]): number[] {
  const sorted = times.toSorted((a, b) => a - b);
  const count = Math.min(mostQuantiles, sorted.length);
  return Array.from({ length: count }, (_, i) => {
    return sorted[Math.floor((i + 0.5) * sorted.length / count)]!;
  });
}

/** Does `operation` for `ms`, in batches, so that reading the clock does not count. */
export function repeat(ms: number, batch: number, operation: () => void): Result {
  return repeatBatches(ms, batch, () => {
    for (let i = 0; i < batch; i++) operation();
  });
}

/** The same with the loop of a batch where it is written, as V8 takes 25 ns to call a function that is not always the same. */
export function repeatBatches(ms: number, batch: number, runBatch: () => void): Result {
  const batches: number[] = [];
  const begin = now();
  let end = begin;
  while (end - begin < ms * 1e6) {
    const start = end;
    runBatch();
    end = now();
    batches.push(end - start);
  }
  const perOp = undisturbedMean(batches) / batch;
  return { ops: batches.length * batch, ns: end - begin, perOp };
}

/** The same with what takes a turn of the event loop. */
export async function repeatAsync(
  ms: number,
  batch: number,
  operation: () => Promise<void>,
): Promise<Result> {
  const batches: number[] = [];
  const begin = now();
  let end = begin;
  while (end - begin < ms * 1e6) {
    const start = end;
    for (let i = 0; i < batch; i++) await operation();
    end = now();
    batches.push(end - start);
  }
  const perOp = undisturbedMean(batches) / batch;
  return { ops: batches.length * batch, ns: end - begin, perOp };
}

/** Obeys until the input ends. */
export async function obey(job: Job): Promise<void> {
  const say = (answer: unknown) => process.stdout.write(`${JSON.stringify(answer)}\n`);
  process.stdout.write("ready\n");
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, ms] = line.split(" ");
    if (command === "total") say({ total: await job.total?.() });
    else if (command === "bytes") say({ bytes: await job.bytes?.() });
    else if (command === "latencies") {
      const { ops, times } = job.latencies!(Number(ms));
      say({ ops, times: quantiles(times) });
    } else say(await job.run(Number(ms), command === "check"));
  }
  await job.end?.();
}

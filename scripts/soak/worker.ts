/**
 * One worker of the soak: `worker.ts <keys> <control> <slot> <seed> [qt]`. It ends when the control segment
 * says so, which it knows by its native key, as its own key files may lie elsewhere.
 */
import process from "node:process";
import { setImmediate } from "node:timers/promises";
import { SharedMemory } from "../../mod.ts";
import { Random } from "../random.ts";
import { withQt } from "./churn_jobs.ts";
import { detachCounters } from "./counting_jobs.ts";
import type { Context } from "./job.ts";
import { jobs } from "./jobs.ts";
import { Keys, slotWord, STOPPING, Word } from "./layout.ts";

async function work(context: Context, isForQt: boolean): Promise<void> {
  const choices = jobs.filter((job) => (job === withQt) === isForQt)
    .map((job) => [job.weight, job] as const);
  const { control, slot, random } = context;
  const set = (word: number, value: number) => control[slotWord(slot, word)] = value;
  for (let operations = 0; control[STOPPING] === 0; operations++) {
    const job = random.weighted(choices);
    set(Word.Job, jobs.indexOf(job));
    set(Word.Since, Date.now());
    await job.run(context);
    set(Word.Operations, operations + 1);
    if (operations % 8 === 0) await setImmediate();
  }
}

async function main([base = "", path = "", slot, seed, qt]: string[]): Promise<void> {
  const keys = new Keys(base);
  using memory = new SharedMemory();
  memory.setNativeKey(path);
  if (!memory.attach()) throw new Error(memory.errorString());
  const control = memory.view(Float64Array);
  const context: Context = { keys, slot: Number(slot), random: new Random(Number(seed)), control };
  control[slotWord(context.slot, Word.Since)] = Date.now();
  control[slotWord(context.slot, Word.Pid)] = process.pid;
  await work(context, qt === "qt");
  detachCounters();
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.stack : error);
  process.exitCode = 1;
}

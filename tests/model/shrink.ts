/** Makes a failing sequence short: delta debugging, with new agents for each attempt. */
import type { Reserve } from "./crew.ts";
import { Mismatch, Run } from "./run.ts";
import type { Step } from "./steps.ts";

/** Runs the steps that have a rule; what went wrong, or `null`. */
export async function failureOf(
  steps: readonly Step[],
  reserve: Reserve | null = null,
): Promise<Mismatch | null> {
  const run = new Run(reserve);
  try {
    for (const step of steps) await run.step(step);
    await run.finish();
    return null;
  } catch (error) {
    if (error instanceof Mismatch) return error;
    throw error;
  } finally {
    await run.close();
  }
}

/** The candidates for leaving out: all of one agent or object, then ever smaller pieces. */
function* pieces(steps: readonly Step[]): Generator<readonly Step[]> {
  for (const who of new Set(steps.map(([who]) => who))) {
    yield steps.filter((step) => step[0] === who);
  }
  const objects = new Set(steps.map(([who, object]) => `${who} ${object}`));
  for (const name of objects) yield steps.filter(([who, object]) => `${who} ${object}` === name);
  for (let length = Math.ceil(steps.length / 2);; length = Math.ceil(length / 2)) {
    for (let at = 0; at < steps.length; at += length) yield steps.slice(at, at + length);
    if (length <= 1) return;
  }
}

/** A part of the steps that fails still, as short as can be found in the time. */
export async function shrink(failure: Mismatch, ms: number, reserve: Reserve): Promise<Mismatch> {
  const deadline = performance.now() + ms;
  let best = failure;
  for (let isShorter = true; isShorter;) {
    isShorter = false;
    for (const piece of pieces(best.steps)) {
      if (performance.now() > deadline) return best;
      const left = best.steps.filter((step) => !piece.includes(step));
      if (left.length === best.steps.length || left.length === 0) continue;
      const shorter = await failureOf(left, reserve);
      if (shorter === null) continue;
      best = shorter;
      isShorter = true;
    }
  }
  return best;
}

/** Long random sequences of calls in several processes do what a small model of the rules says. */
import process from "node:process";
import { describe, test } from "node:test";
import { Reserve } from "../model/crew.ts";
import { randomStep } from "../model/generator.ts";
import { permanent } from "../model/permanent.ts";
import { Random } from "../../scripts/random.ts";
import { Mismatch, Run } from "../model/run.ts";
import { failureOf, shrink } from "../model/shrink.ts";
import { asCode } from "../model/steps.ts";
import { crewOnly, leaveNothingBehind, systemVOnly } from "../support/support.ts";

/** `MODEL_SEED=…` plays one sequence again, the one that a failure names. */
const given = process.env["MODEL_SEED"];
const SEQUENCES = 8;
const STEPS = 300;
const SHRINK_MS = 90_000;
const patient = { timeout: SHRINK_MS + 60_000 };

/** Runs a random sequence; what went wrong, or `null`. */
async function playRandom(seed: number, reserve: Reserve): Promise<Mismatch | null> {
  const random = new Random(seed);
  const run = new Run(reserve);
  try {
    while (run.steps.length < STEPS) await run.step(randomStep(random, run.world));
    await run.finish();
    return null;
  } catch (error) {
    if (error instanceof Mismatch) return error;
    throw error;
  } finally {
    await run.close();
  }
}

/** What a failure says: how to see it again, and a short sequence that fails too. */
async function explain(seed: number, failure: Mismatch, reserve: Reserve): Promise<string> {
  console.error(`MODEL_SEED=${seed}: ${failure.message}\n${asCode(failure.steps)}`);
  console.error("Looking for a shorter sequence…");
  const { message, steps } = await shrink(failure, SHRINK_MS, reserve);
  const code = `  [\n    "say the rule",\n    [\n${asCode(steps)}    ],\n  ],\n`;
  return `MODEL_SEED=${seed}: ${message}\nFor tests/model/permanent.ts:\n${code}`;
}

// The model knows key files, crashes that leave segments, and the undoing of semaphores. Agents of all runtimes do the work.
describe("the model says what comes of", { ...crewOnly, ...systemVOnly }, () => {
  leaveNothingBehind();

  for (const [rule, steps] of permanent) {
    test(rule, patient, async () => {
      const failure = await failureOf(steps);
      if (failure !== null) throw failure;
    });
  }

  const first = Date.now() % 2 ** 31;
  const seeds = given !== undefined
    ? [Number(given)]
    : Array.from({ length: SEQUENCES }, (_, n) => first + n);
  test(`${seeds.length} times ${STEPS} random calls in three processes`, patient, async () => {
    const reserve = new Reserve();
    for (const seed of seeds) {
      const failure = await playRandom(seed, reserve);
      if (failure !== null) throw new Error(await explain(seed, failure, reserve));
    }
    await reserve.dismiss();
  });
});

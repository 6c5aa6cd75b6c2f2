/**
 * The simulated kernel does what the real one does. Random sequences of calls are compared, and directed ones for what
 * chance seldom meets. `SIMULATION_SEQUENCES=5000` compares more of them, and `SIMULATION_SEED=7` begins with that seed.
 */
import assert from "node:assert/strict";
import process from "node:process";
import { after, describe, test } from "node:test";
import { DEADLINE_MS, hasPython } from "../support/support.ts";
import { randomSequence } from "./random_calls.ts";
import { RealKernel, type Sequence, shrink } from "./real_kernel.ts";

const SEQUENCES = Number(process.env["SIMULATION_SEQUENCES"] || 150);
const SEED = Number(process.env["SIMULATION_SEED"] || 1);
/** The time for which more sequences are begun. */
const BUDGET_MS = process.env["SIMULATION_SEQUENCES"] ? Infinity : 8000;
const SHRINK_MS = 20_000;

const comparable = hasPython && process.getuid?.() === 0
  ? {}
  : { skip: "only root can give processes other users, and Python makes the calls" };

function shown({ uids, steps }: Sequence): string {
  const lines = steps.map(([index, call]) => `  P${index} ${JSON.stringify(call)}`);
  return [`processes of the users ${uids.join(", ")}:`, ...lines].join("\n");
}

describe("the simulated kernel", comparable, () => {
  const real = new RealKernel();
  after(() => real.end());

  test("agrees with the real one in random sequences of calls", {
    timeout: 2 * DEADLINE_MS + SEQUENCES * 1000,
  }, async () => {
    const deadline = performance.now() + BUDGET_MS;
    let compared = 0;
    for (let seed = SEED; seed < SEED + SEQUENCES && performance.now() < deadline; seed++) {
      const sequence = randomSequence(seed);
      if ((await real.differences(sequence)).length > 0) {
        const shorter = await shrink(real, sequence, SHRINK_MS);
        const found = await real.differences(shorter);
        assert.fail(`seed ${seed}: ${shown(shorter)}\n${found.join("\n")}`);
      }
      compared++;
    }
    assert.ok(compared > 20, `only ${compared} sequences in ${BUDGET_MS} ms`);
  });
});

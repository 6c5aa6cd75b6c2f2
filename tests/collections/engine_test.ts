/**
 * The memory model of ECMAScript promises nothing about plain loads of memory that another process changes. Shared maps
 * rely on what engines do: a plain load is not merged with one before an operation of `Atomics`. A new engine that does so
 * fails here.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import {
  DEADLINE_MS,
  leaveNothingBehind,
  ownRuntime,
  slow,
  startAgent,
  uniqueKey,
} from "../support/support.ts";

/** The word that the other process changes all the time, and one that nobody changes. */
const [CHANGING, STILL] = [16, 32];
const BATCH = 100_000;

/** Each returns whether a word was different when it was loaded again. The function is compiled, as it is called often. */
const PAIRS: Readonly<Record<string, (words: Int32Array) => boolean>> = {
  "Atomics.load": (words) => {
    const before = words[CHANGING];
    Atomics.load(words, STILL);
    return words[CHANGING] !== before;
  },
  "Atomics.store": (words) => {
    const before = words[CHANGING];
    Atomics.store(words, STILL, 1);
    return words[CHANGING] !== before;
  },
  "Atomics.add": (words) => {
    const before = words[CHANGING];
    Atomics.add(words, STILL, 0);
    return words[CHANGING] !== before;
  },
  "Atomics.exchange": (words) => {
    const before = words[CHANGING];
    Atomics.exchange(words, STILL, 1);
    return words[CHANGING] !== before;
  },
  "an Atomics.load in a loop": (words) => {
    const before = words[CHANGING];
    for (let i = 0; i < 200; i++) {
      Atomics.load(words, STILL);
      if (words[CHANGING] !== before) return true;
    }
    return false;
  },
};

describe("the engine", () => {
  leaveNothingBehind();

  test("loads a word again after each operation of Atomics", slow, async () => {
    const key = uniqueKey("engine");
    using memory = SharedMemory.open(key, { size: 4096 });
    const words = memory.view(Int32Array);
    const agent = startAgent(ownRuntime);
    await agent.run(`
      const memory = objects.memory = library.SharedMemory.open(${JSON.stringify(key)});
      const words = memory.view(Int32Array);
      setTimeout(function change() {
        for (let i = 1; i < 1e7; i++) Atomics.store(words, ${CHANGING}, i);
        setTimeout(change);
      });`);
    for (const [name, isDifferent] of Object.entries(PAIRS)) {
      for (let i = 0; i < 5 * BATCH; i++) isDifferent(words); // lets it be compiled
      const end = performance.now() + DEADLINE_MS;
      let different = 0;
      do {
        for (let i = 0; i < BATCH; i++) if (isDifferent(words)) different++;
      } while (different < 10 && performance.now() < end);
      assert.ok(different >= 10, `${name}: ${different} times`);
    }
    await agent.kill();
  });
});

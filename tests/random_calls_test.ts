import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { SharedMemory, SystemSemaphore } from "../mod.ts";
import { keyFolder, leaveNothingBehind, semaphoreValue, uniqueKey } from "./support.ts";

/** The same numbers again with `SEED=…`; the message of every assertion has it. */
const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 32);
const CALLS = 2000;

/** Mulberry32: pseudo-random numbers from 0 to below 1. */
function randomNumbers(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What a random call did: its description and, unless it returns nothing, its result. */
type Outcome = [call: string, result?: boolean];

describe("any sequence of calls", () => {
  leaveNothingBehind();

  const random = randomNumbers(seed);
  const oneOf = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;

  /** Every answer has its reason: `true` none at all, `false` a number and a text. */
  function assertExplained(object: SharedMemory | SystemSemaphore, n: number, outcome: Outcome) {
    const [call, result] = outcome;
    if (result === undefined) return;
    const text = object.errorString();
    const context = `SEED=${seed}, call ${n}: ${call} -> ${result}, ${object.error()} "${text}"`;
    assert.equal(object.error() !== 0, !result, context);
    if (result) assert.equal(text, "", context);
    else assert.match(text, /^(SharedMemory|SystemSemaphore)\.\w+ \(.+\): ./, context);
  }

  test("on segments answers true without an error or false with one", () => {
    const [one, two] = [uniqueKey(), uniqueKey()];
    const keys = [one, one, one, two, two, two, "", null, "\ud800"];
    const file = `${keyFolder}random-${process.pid}`;
    const locked = new Set<SharedMemory>();
    const setKeys = (memory: SharedMemory, native: boolean): Outcome => {
      const key = oneOf(native ? [file, file, file, `${file}/below`, "", null] : keys);
      if (native) memory.setNativeKey(key);
      else memory.setKey(key);
      if (!memory.isAttached()) locked.delete(memory);
      return [native ? "setNativeKey" : "setKey"];
    };
    const calls: ((memory: SharedMemory) => Outcome)[] = [
      (memory) => ["create", memory.create(oneOf([1, 100, 5000, 0, -1, 2 ** 52]))],
      (memory) => ["create ReadOnly", memory.create(100, 0)],
      (memory) => ["attach", memory.attach()],
      (memory) => ["attach ReadOnly", memory.attach(0)],
      (memory) => {
        locked.delete(memory);
        return ["detach", memory.detach()];
      },
      (memory) => {
        if (locked.has(memory)) return ["nothing"]; // lock() again is true, with a warning
        const result = memory.lock();
        if (result) locked.add(memory);
        return ["lock", result];
      },
      (memory) => {
        locked.delete(memory);
        return ["unlock", memory.unlock()];
      },
      (memory) => setKeys(memory, random() < 0.3),
    ];
    const memories = Array.from({ length: 4 }, () => new SharedMemory(keys[0]!));
    const seen = { true: 0, false: 0 };
    for (let n = 0; n < CALLS; n++) {
      const memory = oneOf(memories);
      const outcome = oneOf(calls)(memory);
      assertExplained(memory, n, outcome);
      if (outcome[1] !== undefined) seen[`${outcome[1]}`]++;
      assert.equal(memory.data()?.length ?? 0, memory.size(), `SEED=${seed}, call ${n}`);
      assert.equal(memory.data() !== null, memory.isAttached(), `SEED=${seed}, call ${n}`);
      assert.equal(memory.size() > 0, memory.isAttached(), `SEED=${seed}, call ${n}`);
    }
    for (const memory of memories) memory[Symbol.dispose]();
    rmSync(file, { force: true });
    assert.ok(seen.true > 20 && seen.false > 20, `SEED=${seed}: ${JSON.stringify(seen)}`);
  });

  test("on semaphores answers true without an error or false with one", () => {
    const [one, two] = [uniqueKey(), uniqueKey()];
    const keys = [one, one, one, two, two, two, "", null, "\ud800"];
    const calls: ((semaphore: SystemSemaphore) => Outcome)[] = [
      (semaphore) => {
        const key = semaphore.key();
        // What would wait for ever is left out.
        if (key?.startsWith("test") && semaphoreValue(key) < 1) return ["nothing"];
        return ["acquire", semaphore.acquire()];
      },
      (semaphore) => ["release", semaphore.release()],
      (semaphore) => ["release n", semaphore.release(oneOf([0, 2, 20_000, 32_767]))],
      (semaphore) => {
        const mode = oneOf([0, 0, 1] as const);
        semaphore.setKey(oneOf(keys), oneOf([0, 1, 32_767]), mode);
        return ["setKey"];
      },
      (semaphore) => {
        semaphore[Symbol.dispose]();
        return ["dispose"];
      },
    ];
    const semaphores = Array.from({ length: 4 }, () => new SystemSemaphore(keys[0]!, 1));
    const seen = { true: 0, false: 0 };
    for (let n = 0; n < CALLS; n++) {
      const semaphore = oneOf(semaphores);
      const outcome = oneOf(calls)(semaphore);
      assertExplained(semaphore, n, outcome);
      if (outcome[1] !== undefined) seen[`${outcome[1]}`]++;
    }
    for (const semaphore of semaphores) semaphore[Symbol.dispose]();
    assert.ok(seen.true > 20 && seen.false > 20, `SEED=${seed}: ${JSON.stringify(seen)}`);
  });
});

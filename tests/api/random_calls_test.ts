import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { SharedMemory, SystemSemaphore } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import {
  keyFolder,
  leaveNothingBehind,
  semaphoreValue,
  systemVOnly,
  uniqueKey,
} from "../support/support.ts";

/** The same numbers again with `SEED=…`; the message of every assertion has it. */
const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 32);
const CALLS = 2000;

/** What a random call did: its description and, unless it returns nothing, its result. */
type Outcome = [call: string, result?: boolean];

describe("any sequence of calls", () => {
  leaveNothingBehind();

  const random = new Random(seed);

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
    const file = systemVOnly.skip === undefined
      ? `${keyFolder}random-${process.pid}`
      : `random-${process.pid}`;
    const locked = new Set<SharedMemory>();
    const setKeys = (memory: SharedMemory, native: boolean): Outcome => {
      const key = random.oneOf(native ? [file, file, file, `${file}/below`, "", null] : keys);
      if (native) memory.setNativeKey(key);
      else memory.setKey(key);
      if (!memory.isAttached()) locked.delete(memory);
      return [native ? "setNativeKey" : "setKey"];
    };
    const calls: ((memory: SharedMemory) => Outcome)[] = [
      (memory) => ["create", memory.create(random.oneOf([1, 100, 5000, 0, -1, 2 ** 53 - 1]))],
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
      (memory) => setKeys(memory, random.chance(0.3)),
    ];
    const memories = Array.from({ length: 4 }, () => new SharedMemory(keys[0]!));
    const seen = { true: 0, false: 0 };
    for (let n = 0; n < CALLS; n++) {
      const memory = random.oneOf(memories);
      const outcome = random.oneOf(calls)(memory);
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
      (semaphore) => ["release n", semaphore.release(random.oneOf([0, 2, 20_000, 32_767]))],
      (semaphore) => {
        const mode = random.oneOf([0, 0, 1] as const);
        semaphore.setKey(random.oneOf(keys), random.oneOf([0, 1, 32_767]), mode);
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
      const semaphore = random.oneOf(semaphores);
      const outcome = random.oneOf(calls)(semaphore);
      assertExplained(semaphore, n, outcome);
      if (outcome[1] !== undefined) seen[`${outcome[1]}`]++;
    }
    for (const semaphore of semaphores) semaphore[Symbol.dispose]();
    assert.ok(seen.true > 20 && seen.false > 20, `SEED=${seed}: ${JSON.stringify(seen)}`);
  });
});

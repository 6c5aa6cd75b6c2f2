/** Mutexes of glibc that are locked and unlocked by Atomics: deaths at each moment, and other code that uses them too. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { SharedMemory } from "../../mod.ts";
import { isGlibc } from "../../backends/unix/c_variant.ts";
import { Mutex } from "../../sync/mod.ts";
import { MUTEX_WORDS, OUTER, SCRATCH } from "../support/mutex_victims.ts";
import { type Stepped, writeStepped } from "../support/stepped.ts";
import {
  DEADLINE_MS,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  systemLibrary,
} from "../support/support.ts";
import { created } from "../support/sync_places.ts";

const isSuitable = process.platform === "linux" && process.arch === "x64" &&
  isGlibc(systemLibrary());
const glibcOnly = isSuitable ? {} : { skip: "only for glibc on x64" };
const long = { timeout: 6 * DEADLINE_MS };

const victim = fileURLToPath(new URL("../fixtures/mutex_victim.ts", import.meta.url));

/** After so many turns the engines have compiled what a turn calls. */
const COMPILED = { alone: 20_000, nested: 20_000, awaited: 5000 };
type Scenario = keyof typeof COMPILED | "unrecoverable";

let folder = "";
let stepped: Stepped;

interface Ending {
  readonly how: number | string;
  readonly output: string;
}

async function end(memory: SharedMemory, scenario: Scenario, turns: number, at: number) {
  const flags = ownRuntime.name === "deno" ? ["--allow-read"] : [];
  const args = [memory.key()!, stepped.file, scenario, turns, at, stepped.numbers.beforeRelease];
  const child = spawn(ownRuntime.command, [
    ...ownRuntime.args,
    ...flags,
    victim,
    ...args.map(String),
  ], { timeout: DEADLINE_MS });
  let output = "";
  child.stdout.on("data", (data) => output += data);
  child.stderr.on("data", (data) => output += data);
  return await new Promise<Ending>((resolve) => {
    child.on("close", (code, signal) => resolve({ how: signal ?? code!, output }));
  });
}

/** Whether a process that dies after this statement holds the mutex. */
function isHeldAfter(number: number, reached: readonly number[]): boolean {
  const { locked, released } = stepped.numbers;
  const place = reached.indexOf(number);
  const end = reached.indexOf(released);
  return place >= reached.indexOf(locked) && (end === -1 || place < end);
}

/** The numbers of the statements that a process reaches which is not killed. */
async function reachedIn(memory: SharedMemory, scenario: Scenario): Promise<number[]> {
  const { how, output } = await end(memory, scenario, 0, -1);
  assert.equal(how, 0, output);
  return JSON.parse(output).reached;
}

function made(): { memory: SharedMemory; mutexes: Mutex[] } {
  const memory = created();
  const view = memory.view(Uint8Array);
  Mutex.create(view, SCRATCH);
  return { memory, mutexes: [0, ...OUTER].map((offset) => Mutex.create(view, offset)) };
}

describe("a mutex that is locked by Atomics", { ...glibcOnly }, () => {
  leaveNothingBehind();
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), "stepped-"));
    stepped = writeStepped(folder);
  });
  after(() => rmSync(folder, { recursive: true }));

  /** Has a process die after each of these statements, and looks at what it leaves. */
  async function dieAfter(
    numbers: readonly number[],
    reached: readonly number[],
    scenario: Scenario,
    turns: number,
  ) {
    const { memory, mutexes: [mutex, ...outer] } = made();
    const words = memory.view(Int32Array, MUTEX_WORDS, 10);
    for (const at of numbers) {
      const { how, output } = await end(memory, scenario, turns, at);
      assert.equal(how, "SIGKILL", output);
      assert.equal(mutex!.tryLock(), true, `stuck after ${at}`);
      assert.equal(mutex!.wasAbandoned, isHeldAfter(at, reached), `after ${at}`);
      mutex!.unlock();
      const { 0: lock, 2: owner } = words;
      assert.deepEqual([lock, owner, ...words.subarray(6)], [0, 0, 0, 0, 0, 0], `after ${at}`);
      for (const each of outer) {
        assert.equal(each.tryLock(), true, `an outer one is stuck after ${at}`);
        assert.equal(each.wasAbandoned, scenario === "nested", `after ${at}`);
        each.unlock();
      }
    }
    memory.detach();
  }

  for (const scenario of ["alone", "nested", "awaited"] as const) {
    for (const [code, turns] of [["interpreted", 0], ["compiled", COMPILED[scenario]]] as const) {
      test(`is abandoned or free after each statement: ${scenario}, ${code}`, long, async () => {
        const { memory } = made();
        const reached = await reachedIn(memory, scenario);
        memory.detach();
        assert.ok(reached.includes(stepped.numbers.begin) && reached.length > 20, String(reached));
        const lanes = [0, 1].map((lane) => reached.filter((_, i) => i % 2 === lane));
        await Promise.all(lanes.map((numbers) => dieAfter(numbers, reached, scenario, turns)));
      });
    }
  }
});

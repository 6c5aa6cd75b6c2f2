/**
 * This module helps to test programs that share memory: with keys that no other test uses, and with a hook that removes
 * what a test has left, and fails if something is still in use.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "./mod.ts";
 * import { cleanupAfter, uniqueKey } from "./testing.ts";
 *
 * const hooks: (() => void)[] = [];
 * cleanupAfter((hook) => hooks.push(hook)); // in a test file: cleanupAfter(after), with after of node:test
 *
 * const memory = SharedMemory.open(uniqueKey("cart"), { size: 64 });
 * memory.detach();
 * for (const hook of hooks) hook();
 * ```
 *
 * @module
 */
import process from "node:process";
import { cleanup } from "./inspect.ts";
import { SharedMemory } from "./shared_memory.ts";
import { UnsupportedError } from "./errors.ts";

/** The keys that are not cleaned up yet. */
const keys = new Set<string>();
let count = 0;

/**
 * Returns a key that no other call of this function returns, in no process: a test file that runs several times at once
 * shares nothing with itself.
 *
 * @param name the beginning of the key, by which you recognize it in `shared-memory list`
 */
export function uniqueKey(name = "test"): string {
  // The number of a process is used again, and is the same in other containers.
  const random = Math.floor(Math.random() * 2 ** 48).toString(36);
  const key = `${name} ${process.pid} ${random} ${count++}`;
  keys.add(key);
  return key;
}

/** Detaches from the segment of a key, if there is one, after it was told to go with its last user. */
function release(key: string): void {
  const memory = new SharedMemory(key);
  if (!memory.attach()) {
    if (memory.errorReason() !== "NotFound") throw new Error(memory.errorString());
    return;
  }
  memory.remove();
  memory.detach();
}

function isThere(key: string): boolean {
  using memory = new SharedMemory(key);
  return memory.attach();
}

/** Removes what the keys have left; returns those whose segments are in use. */
function removeAll(): string[] {
  const all = [...keys];
  keys.clear();
  const errors: unknown[] = [];
  for (const key of all) {
    try {
      release(key);
    } catch (error) {
      errors.push(error); // the other keys are cleaned up nevertheless
    }
  }
  const used = all.filter(isThere);
  try {
    if (all.length > 0) cleanup({ keys: all, persistent: true }); // semaphores too, of processes that were killed
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
  }
  if (errors.length > 0) throw errors[0];
  return used;
}

/**
 * Removes the segments and semaphores of all keys that {@linkcode uniqueKey} has returned, also those that a killed process
 * has left, and those of the lifetime `"until-removed"`: when the tests of a file have ended.
 *
 * The hook throws an `Error` if a segment is still attached, since the next test would find it: dispose of the objects that
 * a test opens, and end its processes. POSIX segments that are still attached are not found.
 *
 * @param after registers a function that is to run then: `after` of `node:test`, or `afterAll` of `bun:test`, Vitest or
 * Jest; or `afterEach`, after each test
 */
export function cleanupAfter(after: (hook: () => void) => unknown): void {
  after(() => {
    const used = removeAll();
    if (used.length === 0) return;
    const names = used.map((key) => JSON.stringify(key)).join(", ");
    throw new Error(
      `cleanupAfter: still attached by this program or another one: ${names}; dispose of what a test opens, and end its ` +
        "processes",
    );
  });
}

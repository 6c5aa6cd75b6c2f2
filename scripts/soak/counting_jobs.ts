/** Counting under the lock, which is taken in every way that there is. */
import { SharedMemory, SharedMemoryException } from "../../mod.ts";
import { increment } from "./counting.ts";
import {
  abortSoon,
  check,
  type Context,
  countRefusal,
  type Job,
  spin,
  unlessAborted,
} from "./job.ts";
import { slotWord, Word } from "./layout.ts";

const attached = new Map<string, SharedMemory>();

function attach(key: string): SharedMemory {
  let memory = attached.get(key);
  if (memory === undefined) attached.set(key, memory = new SharedMemory(key));
  if (!memory.isAttached()) check(memory, memory.attach());
  return memory;
}

export function detachCounters(): void {
  for (const memory of attached.values()) if (memory.isAttached()) check(memory, memory.detach());
}

function count(context: Context, memory: SharedMemory): void {
  const { random, slot, control } = context;
  if (random.chance(0.1)) spin(random.number());
  increment(memory.view(Int32Array), slot);
  control[slotWord(slot, Word.Increments)]! += 1;
}

function job(
  name: string,
  weight: number,
  run: (context: Context, memory: SharedMemory) => void | Promise<void>,
): Job {
  return {
    name,
    weight,
    run: (context) => run(context, attach(context.random.oneOf(context.keys.counters))),
  };
}

/** Counts and unlocks if the lock was got, which otherwise must be for lack of time. */
function countIf(context: Context, memory: SharedMemory, isLocked: boolean): void {
  if (!check(memory, isLocked, "LockError")) return countRefusal(context);
  count(context, memory);
  check(memory, memory.unlock());
}

/** Of a wait that was given up the thread may still hold what it gives back in the next turn. */
function isGivenUp(text: string): boolean {
  return text.includes("of this thread that has been given up");
}

async function withLock(context: Context, memory: SharedMemory, timeout: number): Promise<void> {
  try {
    await memory.withLockAsync(async () => {
      if (context.random.chance(0.5)) await Promise.resolve();
      count(context, memory);
    }, { timeout });
  } catch (error) {
    if (!(error instanceof SharedMemoryException) || error.code !== "LockError") throw error;
    countRefusal(context);
  }
}

export const countingJobs: readonly Job[] = [
  job("lock()", 30, (context, memory) => {
    const isLocked = memory.lock();
    if (!isLocked && !isGivenUp(memory.errorString())) check(memory, false);
    countIf(context, memory, isLocked);
  }),
  job("withLock()", 10, (context, memory) => {
    try {
      memory.withLock(() => count(context, memory));
    } catch (error) {
      if (!isGivenUp(`${error}`)) throw error;
      countRefusal(context);
    }
  }),
  job("tryLock()", 20, (context, memory) => {
    countIf(context, memory, memory.tryLock(context.random.oneOf([0, 1, 20])));
  }),
  job("lockAsync()", 15, async (context, memory) => {
    const timeout = context.random.oneOf([0, 1, 20, 10_000]);
    countIf(context, memory, await memory.lockAsync({ timeout }));
  }),
  job("lockAsync() with an abort", 10, async (context, memory) => {
    const abort = abortSoon(context.random.below(4));
    const isLocked = await unlessAborted(memory.lockAsync({ signal: abort.signal }), abort);
    if (isLocked === null) countRefusal(context);
    else countIf(context, memory, isLocked);
  }),
  job("withLockAsync()", 10, (context, memory) => withLock(context, memory, 10_000)),
  job("withLockAsync() at once", 5, async (context, memory) => {
    await Promise.all([1, 20, 10_000].map((timeout) => withLock(context, memory, timeout)));
  }),
  job("attach() and detach()", 5, (_, memory) => {
    check(memory, memory.detach());
    check(memory, memory.attach());
  }),
];

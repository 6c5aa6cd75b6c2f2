/** A pool of which only so many may have one, and producers and consumers. */
import process from "node:process";
import { SystemSemaphore, SystemSemaphoreError } from "../../mod.ts";
import { abortSoon, type Context, countRefusal, type Job, spin, unlessAborted } from "./job.ts";
import { PERMITS, slotWord, Word } from "./layout.ts";

const opened = new Map<string, SystemSemaphore>();
/** The permit held last: no two workers have the same. */
let permits = process.pid * 2 ** 24;

function open(key: string, value: number): SystemSemaphore {
  let semaphore = opened.get(key);
  if (semaphore === undefined) opened.set(key, semaphore = new SystemSemaphore(key, value));
  return semaphore;
}

/** That it succeeded; without `true` it must be for lack of time. */
function check(context: Context, semaphore: SystemSemaphore, result: boolean): boolean {
  if (result) return true;
  if (semaphore.errorReason() !== "Timeout") throw new Error(semaphore.errorString());
  countRefusal(context);
  return false;
}

/** The slots that hold a permit, and which. */
function holders(control: Float64Array): Map<number, number> {
  const result = new Map<number, number>();
  for (let slot = 0; slotWord(slot + 1, 0) <= control.length; slot++) {
    const permit = control[slotWord(slot, Word.Permit)]!;
    if (permit !== 0) result.set(slot, permit);
  }
  return result;
}

/** Holds a permit for a moment, and looks whether too many have one at the same time. */
function hold({ control, slot, random }: Context): void {
  control[slotWord(slot, Word.Permit)] = ++permits;
  const first = holders(control);
  if (random.chance(0.3)) spin(2 * random.number());
  const then = holders(control);
  // Who has the same one both times had it in between; the kernel takes back that of a killed one.
  const isHolding = ([other, permit]: [number, number]) =>
    then.get(other) === permit && control[slotWord(other, Word.IsDoomed)] === 0;
  const count = [...first].filter(isHolding).length;
  control[slotWord(slot, Word.Permit)] = 0;
  if (count > PERMITS) throw new Error(`${count} hold one of ${PERMITS} permits`);
}

function pool(
  name: string,
  acquire: (semaphore: SystemSemaphore, context: Context) => Promise<boolean | null> | boolean,
): Job {
  return {
    name,
    weight: 3,
    async run(context) {
      const semaphore = open(context.keys.pool, PERMITS);
      const isAcquired = await acquire(semaphore, context);
      if (isAcquired === null) return countRefusal(context);
      if (!check(context, semaphore, isAcquired)) return;
      hold(context);
      if (!semaphore.release()) throw new Error(semaphore.errorString());
    },
  };
}

/** The kernel takes back what a producer has given, so there is nothing to be counted. */
const items: Job = {
  name: "release() and tryAcquire()",
  weight: 5,
  async run(context) {
    const { random, keys } = context;
    const semaphore = open(keys.items, 0);
    if (random.chance(0.5)) {
      const isReleased = semaphore.release(random.below(3));
      if (!isReleased && semaphore.error() !== SystemSemaphoreError.OutOfResources) {
        throw new Error(semaphore.errorString());
      }
    } else {
      const timeout = random.oneOf([0, 1, 5]);
      check(
        context,
        semaphore,
        random.chance(0.5)
          ? semaphore.tryAcquire(timeout)
          : await semaphore.acquireAsync({ timeout }),
      );
    }
  },
};

export const semaphoreJobs: readonly Job[] = [
  pool("acquire()", (semaphore) => semaphore.acquire()),
  pool("tryAcquire()", (semaphore, { random }) => semaphore.tryAcquire(random.below(10))),
  pool(
    "acquireAsync()",
    (semaphore, { random }) => semaphore.acquireAsync({ timeout: random.oneOf([0, 5, 10_000]) }),
  ),
  pool("acquireAsync() with an abort", (semaphore, { random }) => {
    const abort = abortSoon(random.below(4));
    return unlessAborted(semaphore.acquireAsync({ signal: abort.signal }), abort);
  }),
  items,
];

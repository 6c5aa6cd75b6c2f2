import { BackendError } from "../backends/failure.ts";
import { delay, nextPause } from "../backends/timing.ts";
import type { BackgroundWait, Semaphore } from "../backends/types.ts";
import { ThreadError } from "../ffi/threads.ts";
import { registry, type SharedWait } from "../registry.ts";
import { requireStack } from "./stack.ts";
import { type Wait, Waiter } from "./waiter.ts";

interface Entry {
  readonly semaphore: Semaphore;
  readonly waiter: Waiter;
  /** Notes that the waiter has acquired the semaphore. */
  readonly onTaken: () => void;
}

class Queue implements SharedWait {
  readonly identity: string;
  readonly entries: Entry[] = [];
  /** The wait that runs on another thread, if there is one. */
  current: { readonly semaphore: Semaphore; readonly wait: BackgroundWait } | null = null;
  isServed = false;

  constructor(identity: string) {
    this.identity = identity;
  }

  get count(): number {
    return this.entries.length;
  }

  join(ms: number): boolean {
    return this.current !== null && this.current.wait.join(ms);
  }
}

/** Returns the queue of this copy of the module. The registry also has those of other copies, which serve themselves. */
function queueOf(identity: string): Queue | undefined {
  for (const wait of registry.waits) {
    if (wait instanceof Queue && wait.identity === identity) return wait;
  }
  return undefined;
}

/** Returns whether this thread waits for any semaphore, or gave up a wait that is not over yet. */
export function isWaiting(): boolean {
  return registry.waits.size > 0;
}

/** Returns whether an asynchronous call in this thread waits for the semaphore of `identity`. */
export function isAwaited(identity: string): boolean {
  if (!isWaiting()) return false; // the usual case, and each detach asks
  for (const wait of registry.waits) {
    if (wait.count > 0 && wait.identity === identity) return true;
  }
  return false;
}

/** Returns whether a wait for the semaphore of `identity` is still going on, although it may have been given up. */
export function isPending(identity: string): boolean {
  return queueOf(identity) !== undefined;
}

/** Another thread needs far less than this time, in ms, to release a unit that no call wants any more. */
const RETURN_MS = 10;
/** The limit in ms if it is unknown whether the other thread has acquired a unit. */
const RETURN_UNKNOWN_MS = 1;
/** A join of 1 ms counts as no longer than this, in ms: the process may be stopped during it. */
const JOIN_MS = 2;

/**
 * Acquires a unit of `semaphore`, and blocks this thread until it has it. It throws `Deadlock` if an asynchronous call
 * of this thread waits for the semaphore: only the event loop can hand out a unit that another thread acquires for it.
 */
export function acquireBlocking(semaphore: Semaphore): void {
  if (isAwaited(semaphore.identity)) {
    throw new BackendError(
      "Deadlock",
      "an asynchronous call waits for it in this thread, may have it first, and could never release it " +
        "while this one waits; use the asynchronous call here too",
    );
  }
  semaphore.acquire();
}

/** Acquires a unit of `semaphore`; returns `false` after `timeoutMs` (0 tries once). */
export function acquireWithin(semaphore: Semaphore, timeoutMs: number): boolean {
  return semaphore.acquire(timeoutMs) || isWaiting() && acquireReturned(semaphore);
}

/** Acquires a unit that a wait of this thread has acquired after it was given up, once that wait releases it. */
function acquireReturned(semaphore: Semaphore): boolean {
  let waited = 0;
  for (const wait of registry.waits) {
    if (wait.identity !== semaphore.identity || wait.count > 0) continue;
    for (let isUnsettled = true; isUnsettled;) {
      const isHere = semaphore.isHeldHere?.() === true;
      if (!isHere && typeof semaphore.holder?.() === "number") return false;
      const before = performance.now();
      isUnsettled = wait.join(1);
      if (semaphore.acquire(0)) return true;
      waited += Math.min(JOIN_MS, performance.now() - before);
      if (waited >= (isHere ? RETURN_MS : RETURN_UNKNOWN_MS)) return false;
    }
  }
  return false;
}

/**
 * Acquires a unit of `semaphore` when one is free, and calls `onTaken` in the same turn of the event loop. The promise
 * is `false` after the timeout. The calls of one thread are served in their order.
 */
export async function acquireAsync(
  semaphore: Semaphore,
  options: Wait,
  onTaken: () => void,
): Promise<boolean> {
  requireStack();
  const key = semaphore.identity;
  if (!isAwaited(key) && acquireWithin(semaphore, 0)) {
    onTaken();
    return true;
  }
  if (options.timeout === 0) return false;
  const waiter: Waiter = new Waiter(options, () => leave(key, entry));
  const entry: Entry = { semaphore, waiter, onTaken };
  let queue = queueOf(key);
  if (queue === undefined) registry.waits.add(queue = new Queue(key));
  enter(queue, entry);
  return await waiter.promise;
}

/** Rejects the waits for `semaphore`, which is about to be closed, with `error`. */
export function failWaits(semaphore: Semaphore, error: BackendError): void {
  const { identity } = semaphore;
  for (const entry of [...queueOf(identity)?.entries ?? []]) {
    if (entry.semaphore === semaphore && leave(identity, entry)) entry.waiter.fail(error);
  }
}

function enter(queue: Queue, entry: Entry): void {
  const { entries, current } = queue;
  entries.push(entry);
  if (entries.length > 1) return;
  if (current?.semaphore === entry.semaphore) current.wait.resume();
  else if (!queue.isServed) void serve(queue);
}

/** Removes an entry from its queue; returns `false` if it was served already. */
function leave(key: string, entry: Entry): boolean {
  const queue = queueOf(key);
  const { entries = [] } = queue ?? {};
  const at = entries.indexOf(entry);
  if (queue === undefined || at < 0) return false;
  entries.splice(at, 1);
  giveUpUnwanted(queue);
  return true;
}

/** Gives up the wait on another thread if the first entry of the queue does not want its semaphore. */
function giveUpUnwanted({ entries, current }: Queue): void {
  if (current === null || current.semaphore === entries[0]?.semaphore) return;
  current.wait.giveUp();
  if (current.wait.claim()) giveBack(current.semaphore); // the other thread has acquired it already
}

/** Waits for the semaphore until the queue is empty. */
async function serve(queue: Queue): Promise<void> {
  const { entries } = queue;
  queue.isServed = true;
  for (let pauseMs = 0; entries[0] !== undefined;) {
    const [first] = entries;
    const { semaphore } = first;
    try {
      if (semaphore.acquire(0) || await waitFor(queue, semaphore, pauseMs = nextPause(pauseMs))) {
        pauseMs = 0;
        // The call that waited may have given up. The next call gets the unit if it uses the same object.
        if (entries[0]?.semaphore === semaphore) hand(entries.shift()!);
        else giveBack(semaphore);
      }
    } catch (error) {
      if (entries[0] === first) entries.shift()!.waiter.fail(reported(error));
    }
  }
  registry.waits.delete(queue);
}

/** Waits on another thread, at most until the last timeout in the queue; returns whether it acquired a unit. */
async function waitFor(queue: Queue, semaphore: Semaphore, pauseMs: number): Promise<boolean> {
  const ends = queue.entries.filter((entry) => entry.semaphore === semaphore)
    .map(({ waiter }) => waiter.end);
  const left = Math.max(...ends) - performance.now();
  const wait = semaphore.acquireSlice(Math.max(1, left), pauseMs);
  queue.current = { semaphore, wait };
  try {
    if (!wait.hasBegun) void tryMeanwhile(queue, queue.current);
    await wait.over;
    return wait.claim();
  } finally {
    queue.current = null;
  }
}

/** Polls until the other thread has begun to wait, since a thread takes long to start. */
async function tryMeanwhile(queue: Queue, current: NonNullable<Queue["current"]>): Promise<void> {
  const { entries } = queue;
  const { semaphore, wait } = current;
  for (let ms = nextPause(0);; ms = nextPause(ms)) {
    await delay(ms);
    const isWanted = queue.current === current && entries[0]?.semaphore === semaphore;
    if (!isWanted || wait.hasBegun) return;
    try {
      if (!semaphore.acquire(0)) continue;
    } catch {
      return; // the next attempt in serve() meets the same error
    }
    hand(entries.shift()!);
    giveUpUnwanted(queue);
  }
}

function reported(error: unknown): unknown {
  if (!(error instanceof ThreadError)) return error;
  return new BackendError(error.isForbidden ? "PermissionDenied" : "OutOfResources", error.message);
}

function hand({ waiter, onTaken }: Entry): void {
  onTaken();
  waiter.succeed();
}

function giveBack(semaphore: Semaphore): void {
  try {
    semaphore.release();
  } catch (error) {
    if (!(error instanceof BackendError)) throw error; // a semaphore that was removed needs no release
  }
}

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
  /** It is the waiter's now. */
  readonly onTaken: () => void;
}

class Queue implements SharedWait {
  readonly identity: string;
  readonly entries: Entry[] = [];
  /** What is waited for on another thread. */
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

/** Who waits in this thread, by the identity of the semaphore. The registry has those of other copies too. */
const queues = new Map<string, Queue>();
const { waits } = registry;

/** Whether this thread waits for any semaphore, or has given that up a moment ago. */
export function isWaiting(): boolean {
  return waits.size > 0;
}

/** Whether somebody in this thread waits for the semaphore of `identity`. */
export function isAwaited(identity: string): boolean {
  if (!isWaiting()) return false; // as a rule, and each detach asks
  for (const wait of waits) {
    if (wait.count > 0 && wait.identity === identity) return true;
  }
  return false;
}

/** Whether a wait for the semaphore of `identity` is not over, though it may have been given up. */
export function isPending(identity: string): boolean {
  return queues.has(identity);
}

/** Another thread gives back what it took for nobody in far less; in ms. */
const RETURN_MS = 10;
/** The same if nobody can tell whether it has taken something. */
const RETURN_UNKNOWN_MS = 1;

/**
 * Takes one from `semaphore`, and blocks this thread as long as it takes, unless that would be to wait
 * for this thread itself: what another thread takes for it, only the event loop can hand out.
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

/** Takes one from `semaphore`; `false` after `timeoutMs` (0 tries once). */
export function acquireWithin(semaphore: Semaphore, timeoutMs: number): boolean {
  return semaphore.acquire(timeoutMs) || isWaiting() && acquireReturned(semaphore);
}

/** The same where a wait of this thread that was given up has it, for the moment until it is given back. */
function acquireReturned(semaphore: Semaphore): boolean {
  const start = performance.now();
  for (const wait of waits) {
    if (wait.identity !== semaphore.identity || wait.count > 0) continue;
    for (let isUnsettled = true; isUnsettled;) {
      const isHere = semaphore.isHeldHere();
      if (!isHere && semaphore.holder() !== null) return false;
      isUnsettled = wait.join(1);
      if (semaphore.acquire(0)) return true;
      if (performance.now() - start >= (isHere ? RETURN_MS : RETURN_UNKNOWN_MS)) return false;
    }
  }
  return false;
}

/**
 * Takes one from `semaphore` when it can be had, and calls `onTaken` in that same turn; `false` after
 * the timeout. Those who wait in one thread are served in their order.
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
  let queue = queues.get(key);
  if (queue === undefined) {
    queues.set(key, queue = new Queue(key));
    waits.add(queue);
  }
  enter(queue, entry);
  return await waiter.promise;
}

/** Ends the waits for `semaphore`, which is about to be closed. */
export function failWaits(semaphore: Semaphore, error: BackendError): void {
  const { identity } = semaphore;
  for (const entry of [...queues.get(identity)?.entries ?? []]) {
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

/** `false` if it had its turn already. */
function leave(key: string, entry: Entry): boolean {
  const queue = queues.get(key);
  const { entries = [] } = queue ?? {};
  const at = entries.indexOf(entry);
  if (queue === undefined || at < 0) return false;
  entries.splice(at, 1);
  giveUpUnwanted(queue);
  return true;
}

/** Gives up what is waited for on another thread, if whoever is first in the queue does not want it. */
function giveUpUnwanted({ entries, current }: Queue): void {
  if (current === null || current.semaphore === entries[0]?.semaphore) return;
  current.wait.giveUp();
  if (current.wait.claim()) giveBack(current.semaphore); // taken already
}

/** Waits for the semaphore until nobody is in the queue. */
async function serve(queue: Queue): Promise<void> {
  const { entries } = queue;
  queue.isServed = true;
  for (let pauseMs = 0; entries[0] !== undefined;) {
    const [first] = entries;
    const { semaphore } = first;
    try {
      if (semaphore.acquire(0) || await waitFor(queue, semaphore, pauseMs = nextPause(pauseMs))) {
        pauseMs = 0;
        // Whoever waited for it may have given up; who uses the same object may have it instead.
        if (entries[0]?.semaphore === semaphore) hand(entries.shift()!);
        else giveBack(semaphore);
      }
    } catch (error) {
      if (entries[0] === first) entries.shift()!.waiter.fail(reported(error));
    }
  }
  queues.delete(queue.identity);
  waits.delete(queue);
}

/** Waits on another thread, for as long as somebody in the queue has time; whether it took one. */
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

/** Tries again and again as long as the other thread has not begun, since one takes long to start. */
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
      return; // the next try of this loop's caller meets what went wrong
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
    if (!(error instanceof BackendError)) throw error; // of a removed one there is nothing to give back
  }
}

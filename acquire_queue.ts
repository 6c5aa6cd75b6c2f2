import { Failure } from "./backends/errno.ts";
import type { Semaphore } from "./backends/types.ts";
import { Waiter, type WaitOptions } from "./waiter.ts";

interface Entry {
  readonly semaphore: Semaphore;
  readonly waiter: Waiter;
  /** It is the waiter's now. */
  readonly onTaken: () => void;
}

interface Queue {
  readonly entries: Entry[];
  /** What a call on another thread waits for, for the first of them. */
  current: Semaphore;
}

/** Who waits in this thread, by the identity of the semaphore. */
const queues = new Map<string, Queue>();

/**
 * Whether this thread waits for the semaphore of `identity`; `"ending"` if all have given up, but a
 * call on another thread goes on for a moment, and what it may take is given back afterwards.
 */
export function waitState(identity: string): "waiting" | "ending" | null {
  const queue = queues.get(identity);
  if (queue === undefined) return null;
  return queue.entries.length > 0 ? "waiting" : "ending";
}

/** Whether this thread waits for any semaphore. */
export function isWaiting(): boolean {
  return queues.size > 0;
}

/** How long a wait lasts at a time while a call on another thread may be about to take it. */
const ENDING_MS = 100;

/**
 * Takes one from `semaphore`, and blocks this thread as long as it takes, unless that would be to wait
 * for this thread itself: what another thread takes for it, only the event loop can hand out.
 */
export function acquireBlocking(semaphore: Semaphore): void {
  if (!isWaiting()) {
    semaphore.acquire();
    return;
  }
  if (waitState(semaphore.identity) === "waiting") {
    throw new Failure(
      "Deadlock",
      "an asynchronous call waits for it in this thread, may have it first, and could never release it " +
        "while this one waits; use the asynchronous call here too",
    );
  }
  while (!semaphore.acquire(ENDING_MS)) {
    if (!isTakenForNobody()) continue;
    throw new Failure(
      "Deadlock",
      "a lock was just taken for an asynchronous call of this thread that has been given up, and is " +
        "free when the event loop has turned; use the asynchronous call here too",
    );
  }
}

/** Whether a call that nobody waits for any more may have taken what others wait for meanwhile. */
function isTakenForNobody(): boolean {
  for (const { entries, current } of queues.values()) {
    if (entries.length === 0 && current.mayBePending()) return true;
  }
  return false;
}

/**
 * Takes one from `semaphore` when it can be had, and calls `onTaken` in that same turn; `false` after
 * the timeout. Those who wait in one thread are served in their order.
 */
export async function acquireAsync(
  semaphore: Semaphore,
  options: WaitOptions,
  onTaken: () => void,
): Promise<boolean> {
  options.signal?.throwIfAborted();
  const key = semaphore.identity;
  const queue = queues.get(key);
  if (!queue?.entries.length && semaphore.acquire(0)) {
    onTaken();
    return true;
  }
  if (options.timeout === 0) return false;
  const waiter: Waiter = new Waiter(options, () => remove(key, entry));
  const entry: Entry = { semaphore, waiter, onTaken };
  if (queue !== undefined) {
    queue.entries.push(entry);
  } else {
    const made = { entries: [entry], current: semaphore };
    queues.set(key, made);
    void serve(key, made);
  }
  return await waiter.promise;
}

/** Ends the waits for `semaphore`, which is about to be closed. */
export function failWaits(semaphore: Semaphore, error: Failure): void {
  const { identity } = semaphore;
  for (const entry of [...queues.get(identity)?.entries ?? []]) {
    if (entry.semaphore === semaphore && remove(identity, entry)) entry.waiter.fail(error);
  }
}

/** `false` if it had its turn already. */
function remove(key: string, entry: Entry): boolean {
  const { entries = [] } = queues.get(key) ?? {};
  const at = entries.indexOf(entry);
  if (at >= 0) entries.splice(at, 1);
  return at >= 0;
}

/** Waits for the semaphore until nobody is in the queue. */
async function serve(key: string, queue: Queue): Promise<void> {
  const { entries } = queue;
  for (;;) {
    const [first] = entries;
    if (first === undefined) break;
    const { semaphore } = first;
    queue.current = semaphore;
    try {
      if (!await semaphore.acquireInBackground()) continue;
    } catch (error) {
      if (entries[0] === first) entries.shift()!.waiter.fail(error);
      continue;
    }
    // Whoever waited for it may have given up; who uses the same object may have it instead.
    if (entries[0]?.semaphore === semaphore) hand(entries.shift()!);
    else giveBack(semaphore);
  }
  queues.delete(key);
}

function hand({ waiter, onTaken }: Entry): void {
  onTaken();
  waiter.succeed();
}

function giveBack(semaphore: Semaphore): void {
  try {
    semaphore.release();
  } catch (error) {
    if (!(error instanceof Failure)) throw error; // of a removed one there is nothing to give back
  }
}

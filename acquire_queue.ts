import { Failure } from "./backends/errno.ts";
import type { Semaphore } from "./backends/types.ts";

/** How to wait for a lock or a semaphore without blocking the event loop. */
export interface WaitOptions {
  /** How long to wait at most, in ms; for ever if left out. 0 tries once. */
  readonly timeout?: number | undefined;
  /** Ends the wait: the promise rejects with its `reason`. */
  readonly signal?: AbortSignal | undefined;
}

interface Waiter {
  readonly semaphore: Semaphore;
  /** It is the waiter's now. */
  take(): void;
  fail(error: unknown): void;
}

interface Queue {
  readonly waiters: Waiter[];
  /** What a call on another thread waits for, for the first of them. */
  current: Semaphore;
}

/** Who waits in this thread, by the identity of the semaphore. */
const queues = new Map<string, Queue>();

/** A longer timer fires at once. */
const TIMER_MAX = 2 ** 31 - 1;

/** @throws {TypeError | RangeError} if `timeout` is not a number of ms */
export function checkTimeout(call: string, timeout: unknown): void {
  if (typeof timeout !== "number") {
    throw new TypeError(`${call}: the timeout must be a number of ms, not ${typeof timeout}`);
  }
  if (!(timeout >= 0)) {
    throw new RangeError(`${call}: the timeout must be 0 ms or more, not ${timeout}`);
  }
}

/**
 * Whether this thread waits for the semaphore of `identity`; `"ending"` if all have given up, but a
 * call on another thread goes on for a moment, and what it may take is given back afterwards.
 */
export function waitState(identity: string): "waiting" | "ending" | null {
  const queue = queues.get(identity);
  if (queue === undefined) return null;
  return queue.waiters.length > 0 ? "waiting" : "ending";
}

/** How long a wait lasts at a time while a call on another thread may be about to take it. */
const ENDING_MS = 100;

/**
 * Takes one from `semaphore`, and blocks this thread as long as it takes, unless that would be to wait
 * for this thread itself: what another thread takes for it, only the event loop can hand out.
 */
export function acquireBlocking(semaphore: Semaphore): void {
  const { identity } = semaphore;
  if (waitState(identity) === "waiting") {
    throw new Failure(
      "LockError",
      "an asynchronous call waits for it in this thread, may have it first, and could never release it " +
        "while this one waits; use the asynchronous call here too",
    );
  }
  if (queues.size === 0) {
    semaphore.acquire();
    return;
  }
  while (!semaphore.acquire(ENDING_MS)) {
    if (!isTakenForNobody()) continue;
    throw new Failure(
      "LockError",
      "a lock was just taken for an asynchronous call of this thread that has been given up, and is " +
        "free when the event loop has turned; use the asynchronous call here too",
    );
  }
}

/** Whether a call that nobody waits for any more may have taken what others wait for meanwhile. */
function isTakenForNobody(): boolean {
  for (const { waiters, current } of queues.values()) {
    if (waiters.length === 0 && current.mayBePending()) return true;
  }
  return false;
}

/**
 * Takes one from `semaphore` when it can be had, and calls `onTaken` in that same turn; `false` after
 * the timeout. Those who wait in one thread are served in their order.
 */
export function acquireAsync(
  semaphore: Semaphore,
  { timeout = Infinity, signal }: WaitOptions,
  onTaken: () => void,
): Promise<boolean> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const key = semaphore.identity;
    const queue = queues.get(key);
    if (!queue?.waiters.length && semaphore.acquire(0)) {
      onTaken();
      resolve(true);
      return;
    }
    if (timeout === 0) {
      resolve(false);
      return;
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    const finish = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    };
    const waiter: Waiter = {
      semaphore,
      take() {
        finish();
        onTaken();
        resolve(true);
      },
      fail(error) {
        finish();
        reject(error);
      },
    };
    const onAbort = () => {
      if (remove(key, waiter)) waiter.fail(signal?.reason);
    };
    signal?.addEventListener("abort", onAbort);
    if (timeout <= TIMER_MAX) {
      timer = setTimeout(() => {
        if (!remove(key, waiter)) return;
        finish();
        resolve(false);
      }, timeout);
    }
    if (queue !== undefined) {
      queue.waiters.push(waiter);
    } else {
      const made = { waiters: [waiter], current: semaphore };
      queues.set(key, made);
      void serve(key, made);
    }
  });
}

/** Ends the waits for `semaphore`, which is about to be closed. */
export function failWaits(semaphore: Semaphore, error: Failure): void {
  const { identity } = semaphore;
  for (const waiter of [...queues.get(identity)?.waiters ?? []]) {
    if (waiter.semaphore === semaphore && remove(identity, waiter)) waiter.fail(error);
  }
}

/** `false` if it had its turn already. */
function remove(key: string, waiter: Waiter): boolean {
  const { waiters = [] } = queues.get(key) ?? {};
  const at = waiters.indexOf(waiter);
  if (at >= 0) waiters.splice(at, 1);
  return at >= 0;
}

/** Waits for the semaphore until nobody is in the queue. */
async function serve(key: string, queue: Queue): Promise<void> {
  const { waiters } = queue;
  for (;;) {
    const [first] = waiters;
    if (first === undefined) break;
    const { semaphore } = first;
    queue.current = semaphore;
    try {
      if (!await semaphore.acquireInBackground()) continue;
    } catch (error) {
      if (waiters[0] === first) waiters.shift()!.fail(error);
      continue;
    }
    // Whoever waited for it may have given up; who uses the same object may have it instead.
    if (waiters[0]?.semaphore === semaphore) waiters.shift()!.take();
    else giveBack(semaphore);
  }
  queues.delete(key);
}

function giveBack(semaphore: Semaphore): void {
  try {
    semaphore.release();
  } catch (error) {
    if (!(error instanceof Failure)) throw error; // of a removed one there is nothing to give back
  }
}

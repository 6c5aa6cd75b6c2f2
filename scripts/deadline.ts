import { setTimeout as delay } from "node:timers/promises";

/** Returns the result of a promise; throws an error that says what has not happened within `ms`. */
export async function withDeadline<T>(promise: Promise<T>, what: string, ms: number): Promise<T> {
  const timer = new AbortController();
  const late = delay(ms, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`not within ${ms} ms: ${what}`);
  });
  late.catch(() => {}); // it is aborted
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}

import { BackendError, replacedText } from "../failure.ts";
import { SECTION_MS } from "../timing.ts";
import type { Lock } from "../types.ts";

/** How long a lock is waited for that is held by somebody who is not attached. */
const ENTER_MS = 5000;
/** A process for texts. */
function processText(pid: number | null): string {
  return pid === null ? "a process" : `process ${pid}`;
}

/**
 * Takes the lock for a section of create, attach or detach. `false` if a user of the segment holds
 * it, who may do so for as long as he likes; a lock that nobody can hold is taken over, unless it
 * `mayBeHeld`.
 */
export function enterLock(
  lock: Lock,
  isUsed: () => boolean,
  deadline?: number,
  mayBeHeld = isUsed,
): boolean {
  for (let end = deadline;;) {
    if (lock.acquire(SECTION_MS)) return true;
    if (isUsed()) return false;
    const now = performance.now();
    end ??= now + ENTER_MS - SECTION_MS; // the clock is not read by those who need not wait
    const left = end - now;
    if (left <= 0) break;
    if (lock.takeOver(() => !mayBeHeld(), left)) return true;
  }
  const holder = lock.isHeldHere() ? "this process, which" : `${processText(lock.holder())} that`;
  throw new BackendError(
    "Timeout",
    `timed out: the lock is held by ${holder} is not attached to the segment${replacedText(lock)}`,
  );
}

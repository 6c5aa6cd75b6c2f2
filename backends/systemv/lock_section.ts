import { lockTimeout } from "../failure.ts";
import { SECTION_MS } from "../timing.ts";
import type { Lock } from "../types.ts";

/** The time in ms to wait for a lock whose holder is not attached to the segment. */
const ENTER_MS = 5000;

/**
 * Acquires the lock for a section of create, attach or detach. Returns `false` if a user of the segment holds the
 * lock, which it may do for as long as it likes. A lock that no process can hold is taken over, unless it
 * `mayBeHeld`.
 *
 * @throws {BackendError} if a holder that is not attached to the segment does not release the lock in time
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
    end ??= now + ENTER_MS - SECTION_MS; // a caller that need not wait never reads the clock
    const left = end - now;
    if (left <= 0) break;
    if (lock.takeOver?.(() => !mayBeHeld(), left)) return true;
  }
  throw lockTimeout(lock);
}

/** What the documentation says about the lock. */
import { detach, failed, type Rule, type Subject, success, thrown } from "./subject.ts";
import type { Outcome } from "./steps.ts";
import type { Attachment } from "./world.ts";

/** Waits in vain are shorter, or take too much of a test's time. */
export const LONGEST_MS = 100;

export interface Wait {
  timeout?: number;
  abort?: "before" | "soon";
}

/** Why the lock cannot be had at once, or whose it would be. */
function lookAt({ world, process, memory }: Subject): Attachment | Reason {
  const { attachment } = memory;
  if (attachment === null || attachment.key === null) return "impossible";
  const holder = world.holders.get(attachment.key);
  if (holder === undefined) return attachment;
  if (holder === attachment) return "mine";
  return holder.process === process ? "our thread's" : "another's";
}

type Reason = "impossible" | "mine" | "our thread's" | "another's";

function hold({ world }: Subject, attachment: Attachment, isAsync = false): void {
  world.holders.set(attachment.key!, attachment);
  attachment.isLockedAsync = isAsync;
}

/** What a waiting call comes to that cannot have the lock; `null` if it would wait for long. */
function waitInVain(subject: Subject, reason: Reason, { timeout, abort }: Wait): Outcome | null {
  if (reason === "impossible") return failed(subject, "LockError");
  if (abort === "soon" && timeout === undefined) return thrown(subject, "given up");
  return (timeout ?? Infinity) <= LONGEST_MS ? failed(subject, "LockError") : null;
}

/** What is called with the lock held, which is released whatever happens. */
function guarded(
  subject: Subject,
  attachment: Attachment,
  isAsync: boolean,
  [kind, offset = 0, bytes = []]: [string, number?, number[]?],
): Outcome | null {
  const writes = kind === "write";
  const { segment, isWritable } = attachment;
  if (writes && (!isWritable || offset + bytes.length > segment.bytes.length)) return null;
  if (writes) segment.bytes.set(bytes, offset);
  if (kind === "throw") return thrown(subject, "from fn");
  if (kind === "promise") {
    return isAsync ? success(subject, "from fn") : thrown(subject, "TypeError");
  }
  if (kind === "detach") detach(subject);
  return success(subject, writes ? bytes.length : true);
}

export const lockRules: Readonly<Record<string, Rule>> = {
  lock(subject) {
    const found = lookAt(subject);
    if (found === "another's") return null;
    if (found === "impossible" || found === "our thread's") return failed(subject, "LockError");
    if (found !== "mine") hold(subject, found);
    // For an asynchronous call, beside which others run, it is not theirs.
    else if (subject.memory.attachment!.isLockedAsync) return failed(subject, "LockError");
    return success(subject);
  },
  tryLock(subject, _timeout: number) {
    const found = lookAt(subject);
    if (typeof found === "string") return failed(subject, "LockError");
    hold(subject, found);
    return success(subject);
  },
  lockAsync(subject, wait: Wait) {
    if (wait.abort === "before") return thrown(subject, "given up");
    const found = lookAt(subject);
    if (typeof found === "string") return waitInVain(subject, found, wait);
    hold(subject, found, true);
    return success(subject);
  },
  withLock(subject, ...what: [string]) {
    const found = lookAt(subject);
    if (found === "another's") return null;
    if (typeof found === "string") return thrown(subject, "LockError");
    return guarded(subject, found, false, what);
  },
  withLockAsync(subject, wait: Wait, ...what: [string]) {
    if (wait.abort === "before") return thrown(subject, "given up");
    const found = lookAt(subject);
    if (typeof found !== "string") return guarded(subject, found, true, what);
    const outcome = waitInVain(subject, found, wait);
    return outcome && "value" in outcome ? thrown(subject, "LockError") : outcome;
  },
  unlock(subject) {
    if (lookAt(subject) !== "mine") return failed(subject, "LockError");
    subject.world.holders.delete(subject.memory.attachment!.key!);
    return success(subject);
  },
};

import { codeOf, type ErrorCode, type ErrorReason } from "../errors.ts";

/**
 * The reason why a backend operation failed, in terms that segments and semaphores share. The message says what went
 * wrong and what to do; the class that reports it adds the operation and the key in front.
 */
export class BackendError extends Error {
  readonly reason: ErrorReason;
  readonly syscall: string | undefined;
  /** The error number of the operating system. */
  readonly errno: number | undefined;

  constructor(reason: ErrorReason, message: string, syscall?: string, errno?: number) {
    super(message);
    this.reason = reason;
    this.syscall = syscall;
    this.errno = errno;
  }

  /** The Qt name of the error. */
  get code(): ErrorCode {
    return codeOf(this.reason);
  }
}

/** The meaning of error numbers for one operation: `[reason, words and advice]`. */
export type ErrnoTable = Readonly<Record<number, readonly [ErrorReason, string]>>;

/** Returns what `act` returns, or `otherwise` if it fails with a `BackendError`. */
export function orElse<Result, Otherwise>(
  act: () => Result,
  otherwise: (error: BackendError) => Otherwise,
): Result | Otherwise {
  try {
    return act();
  } catch (error) {
    if (error instanceof BackendError) return otherwise(error);
    throw error;
  }
}

/** What error texts ask of a lock or semaphore: the members of `Semaphore` of the same names. */
interface Held {
  holder?(): number | null;
  isHeldHere?(): boolean;
  mayBeOfReplaced?(): boolean;
}

/** Creates the error for a lock that a process which is not attached, or still creates the segment, has not released. */
export function lockTimeout(lock: Held): BackendError {
  const isOwn = lock.isHeldHere?.() === true;
  const pid = isOwn ? null : lock.holder?.() ?? null;
  const holder = isOwn
    ? "this process, which"
    : `${pid === null ? "a process" : `process ${pid}`} that`;
  return new BackendError(
    "Timeout",
    `timed out: the lock is held by ${holder} is not attached to the segment, or is still creating or adopting it${
      replacedText(lock)
    }`,
  );
}

/** Returns what an error text adds if a program that ran in this process before may hold what is waited for. */
export function replacedText(semaphore: Held | null): string {
  if (semaphore?.mayBeOfReplaced?.() !== true) return "";
  return "; no object of this thread holds it: if another program in this process acquired it before this one replaced it " +
    "(`bun --watch` does so on each save, with `exec`), it is released when the process ends, so stop the process and start it anew";
}

/** The names that error texts use for kinds of objects. */
export type IpcObjectKind = "segment" | "lock" | "semaphore" | "object";

/** Returns the text of a refusal to use an object that another user could change or remove at will. */
export function othersText(
  what: IpcObjectKind,
  owner: string,
  own: "key" | "key or a TMPDIR" = "key",
): string {
  const whose = owner === "" ? "another user" : `${owner}, another user`;
  // A SystemSemaphore has no option `permissions`.
  const share = what === "semaphore"
    ? ""
    : ", or share with others on purpose (the option permissions)";
  return `permission denied: the ${what} belongs to ${whose}; use a ${own} of your own${share}`;
}

/** @throws {BackendError} `InvalidSize` if a segment of `bytes` has fewer than `minBytes`, or more than `maxBytes` */
export function checkSegmentSize(bytes: number, minBytes: number, maxBytes: number): void {
  if (bytes < minBytes) {
    throw new BackendError(
      "InvalidSize",
      `the segment has ${bytes} bytes, fewer than the ${minBytes} that were asked for; ask for the size ` +
        "that its creator asked for, or use another key",
    );
  }
  if (bytes <= maxBytes) return;
  throw new BackendError(
    "InvalidSize",
    `a segment of ${bytes} bytes is too large; this runtime can make a view of at most ${maxBytes} bytes`,
  );
}

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

/** Returns what an error text adds if a program that ran in this process before may hold what is waited for. */
export function replacedText(semaphore: { mayBeOfReplaced?(): boolean } | null): string {
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

/** Creates the error for an existing segment that is smaller than requested. */
export function tooSmall(size: number, minBytes: number): BackendError {
  return new BackendError(
    "InvalidSize",
    `the segment has ${size} bytes, fewer than the ${minBytes} that were asked for; ask for what its ` +
      "creator did, or use another key",
  );
}

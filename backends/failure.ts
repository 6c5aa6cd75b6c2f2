import { codeOf, type ErrorCode, type ErrorReason } from "../errors.ts";

/**
 * Why an operation failed, in terms both classes share. The message says what and what to do; the
 * class that reports it puts the operation and the key in front.
 */
export class BackendError extends Error {
  readonly reason: ErrorReason;
  readonly syscall: string | undefined;
  /** The system's own number. */
  readonly errno: number | undefined;

  constructor(reason: ErrorReason, message: string, syscall?: string, errno?: number) {
    super(message);
    this.reason = reason;
    this.syscall = syscall;
    this.errno = errno;
  }

  /** The name of the error in Qt. */
  get code(): ErrorCode {
    return codeOf(this.reason);
  }
}

/** What an error number means at one operation: `[reason, words and advice]`. */
export type ErrnoTable = Readonly<Record<number, readonly [ErrorReason, string]>>;

/** What a text adds where a program that ran in this process before may have what is waited for. */
export function replacedText(semaphore: { mayBeOfReplaced?(): boolean } | null): string {
  if (semaphore?.mayBeOfReplaced?.() !== true) return "";
  return "; no object of this thread has it: if another program in this process took it before this one replaced it " +
    "(`bun --watch` does so on each save, with `exec`), it is free when the process ends, so stop it and start it anew";
}

/** What texts call what they are about. */
export type IpcObjectKind = "segment" | "lock" | "semaphore" | "object";

/** The text of a refusal to use what another user could change or remove at will. */
export function othersText(
  what: IpcObjectKind,
  owner: string,
  own: "key" | "key or a TMPDIR" = "key",
): string {
  const whose = owner === "" ? "another user" : `${owner}, another user`;
  // A semaphore of its own has no such option.
  const share = what === "semaphore"
    ? ""
    : ", or share with others on purpose (the option permissions)";
  return `permission denied: the ${what} belongs to ${whose}; use a ${own} of your own${share}`;
}

/** Of a segment that is there, with less than was asked for. */
export function tooSmall(size: number, minBytes: number): BackendError {
  return new BackendError(
    "InvalidSize",
    `the segment has ${size} bytes, fewer than the ${minBytes} that were asked for; ask for what its ` +
      "creator did, or use another key",
  );
}

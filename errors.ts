/** Access modes of a segment, with Qt's numbers. */
export const AccessMode = {
  /** A store through a view of the segment kills the process with SIGSEGV, as in Qt. */
  ReadOnly: 0,
  /** The default. */
  ReadWrite: 1,
} as const;
/** One of the numbers of {@linkcode AccessMode}. */
export type AccessMode = typeof AccessMode[keyof typeof AccessMode];

/** What `SharedMemory.error()` returns, with the names and numbers of `QSharedMemory`. */
export const SharedMemoryError = {
  /** The last operation succeeded. */
  NoError: 0,
  /** The segment, its lock or its key file belongs to somebody else. */
  PermissionDenied: 1,
  /** The size is below 1 byte or beyond what the system or the runtime can map. */
  InvalidSize: 2,
  /** There is no key, or no key file can be made from it. */
  KeyError: 3,
  /** The segment exists, or this object is attached already. */
  AlreadyExists: 4,
  /** There is no such segment, or this object is not attached. */
  NotFound: 5,
  /** The lock could not be taken or released. */
  LockError: 6,
  /** A limit of the system is reached. */
  OutOfResources: 7,
  /** Anything else; the text names the system call and its errno. */
  UnknownError: 8,
} as const;
/** One of the numbers of {@linkcode SharedMemoryError}. */
export type SharedMemoryError = typeof SharedMemoryError[keyof typeof SharedMemoryError];

/** How a `SystemSemaphore` treats one that exists, with Qt's numbers. */
export const SystemSemaphoreMode = {
  /** Use the semaphore if it exists; the initial value counts only if it does not. */
  Open: 0,
  /** Set the semaphore to the initial value even if it exists, and own it. */
  Create: 1,
} as const;
/** One of the numbers of {@linkcode SystemSemaphoreMode}. */
export type SystemSemaphoreMode = typeof SystemSemaphoreMode[keyof typeof SystemSemaphoreMode];

/** What `SystemSemaphore.error()` returns, with the names and numbers of `QSystemSemaphore`. */
export const SystemSemaphoreError = {
  /** The last operation succeeded. */
  NoError: 0,
  /** The semaphore or its key file belongs to somebody else. */
  PermissionDenied: 1,
  /** There is no key, or no key file can be made from it. */
  KeyError: 2,
  /** Kept for Qt's numbering; not reported here. */
  AlreadyExists: 3,
  /** The semaphore disappeared. */
  NotFound: 4,
  /** A limit of the system is reached, the largest value of a semaphore included. */
  OutOfResources: 5,
  /** Anything else; the text names the system call and its errno. */
  UnknownError: 6,
} as const;
/** One of the numbers of {@linkcode SystemSemaphoreError}. */
export type SystemSemaphoreError = typeof SystemSemaphoreError[keyof typeof SystemSemaphoreError];

/** The name of an error: `"NotFound"`, `"LockError"`, … */
export type ErrorCode = Exclude<keyof typeof SharedMemoryError, "NoError">;

/**
 * Why something failed, in words that a program can act on. All errors of this package use them:
 * {@linkcode SharedMemoryException}, `SyncError` of `./sync`, {@linkcode UnsupportedError}, and `errorReason()`.
 */
export type ErrorReason =
  /** It took longer than the timeout: somebody else has it. A server answers "busy, try again". */
  | "Timeout"
  /** This thread would wait for itself. A mistake in the program. */
  | "Deadlock"
  /** This object holds the lock already. A mistake in the program. */
  | "AlreadyHeld"
  /** This object does not hold it. A mistake in the program. */
  | "NotOwner"
  /** The segment has no lock, since its native key is a string. */
  | "NoLock"
  /** The object or view is not attached, or has been detached meanwhile. */
  | "NotAttached"
  /** The buffer of the segment was transferred away. */
  | "Transferred"
  /** The segment was attached `ReadOnly`. */
  | "ReadOnly"
  /** There is none. */
  | "NotFound"
  /** There is one already, or this object is attached already. */
  | "AlreadyExists"
  /** It is of another kind, version or layout. */
  | "WrongKind"
  /** Somebody has overwritten it. */
  | "Damaged"
  /** There is no room for more in it. */
  | "Full"
  /** It changes all the time, or is about to become free; try again. */
  | "Busy"
  /** The key is empty, or the system can have none like it. */
  | "KeyError"
  /** The size is none, or more than the system or the segment has. */
  | "InvalidSize"
  /** It belongs to another user, or this user may not. */
  | "PermissionDenied"
  /** A limit of the system is reached, or memory is short. */
  | "OutOfResources"
  /** The runtime, operating system or processor cannot be used. */
  | "Unsupported"
  /** The program is ending, and everything is detached. */
  | "Ending"
  /** The system refused in another way; the text has the call and its `errno`. */
  | "System";

/** Qt's name for each reason, where the operation has no other. */
const CODES: Readonly<Record<ErrorReason, ErrorCode>> = {
  Timeout: "LockError",
  Deadlock: "LockError",
  AlreadyHeld: "LockError",
  NotOwner: "LockError",
  NoLock: "LockError",
  Busy: "LockError",
  NotAttached: "NotFound",
  Transferred: "NotFound",
  NotFound: "NotFound",
  AlreadyExists: "AlreadyExists",
  KeyError: "KeyError",
  InvalidSize: "InvalidSize",
  PermissionDenied: "PermissionDenied",
  OutOfResources: "OutOfResources",
  ReadOnly: "UnknownError",
  WrongKind: "UnknownError",
  Damaged: "UnknownError",
  Full: "UnknownError",
  Unsupported: "UnknownError",
  Ending: "UnknownError",
  System: "UnknownError",
};

/** @internal The error of `QSharedMemory` that a reason is. */
export function codeOf(reason: ErrorReason): ErrorCode {
  return CODES[reason];
}

/** The base class of all errors that this package throws, but for those of wrong arguments. */
export class IpcError extends Error {
  /** The class's name. */
  override readonly name: string = "IpcError";
  /** Why, in words that a program can act on. */
  readonly reason: ErrorReason;

  /**
   * Made by this module.
   *
   * @param reason why
   * @param message the operation, the key, what happened and what to do
   */
  constructor(reason: ErrorReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** The runtime, operating system or processor cannot be used; thrown on first use, never on import. */
export class UnsupportedError extends IpcError {
  /** The class's name. */
  override readonly name = "UnsupportedError";

  /** Made by this module. */
  constructor(message: string, options?: ErrorOptions) {
    super("Unsupported", message, options);
  }
}

/** Details of a {@linkcode SharedMemoryException}. */
export interface FailureDetails {
  /** The system call that failed. */
  readonly syscall?: string | undefined;
  /** Its `errno`. */
  readonly errno?: number | undefined;
  /** The key it was for. */
  readonly key?: string | null | undefined;
  /** Why, if that is more than the code says. */
  readonly reason?: ErrorReason | undefined;
  /** What led to it. */
  readonly cause?: unknown;
}

/**
 * Thrown where a method cannot say `false`.
 *
 * @example
 * ```ts
 * import { SharedMemory, SharedMemoryException } from "./mod.ts";
 *
 * try {
 *   new SharedMemory("not attached").view(Int32Array);
 * } catch (error) {
 *   if (!(error instanceof SharedMemoryException)) throw error;
 *   console.log(error.code); // "NotFound"
 * }
 * ```
 */
export class SharedMemoryException extends IpcError {
  /** The class's name. */
  override readonly name = "SharedMemoryException";
  /** The name of the error, a key of {@linkcode SharedMemoryError}. */
  readonly code: ErrorCode;
  /** Its number in {@linkcode SharedMemoryError}. */
  readonly error: SharedMemoryError;
  /** The system call that failed, if one did. */
  readonly syscall: string | undefined;
  /** Its `errno`. */
  readonly errno: number | undefined;
  /** The key it was for. */
  readonly key: string | null | undefined;

  /**
   * Made by this module.
   *
   * @param code a key of {@linkcode SharedMemoryError}
   * @param message the operation, the key, what happened and what to do
   */
  constructor(code: ErrorCode, message: string, details: FailureDetails = {}) {
    const options = details.cause === undefined ? undefined : { cause: details.cause };
    super(details.reason ?? reasonOf(code), message, options);
    this.code = code;
    this.error = SharedMemoryError[code];
    this.syscall = details.syscall;
    this.errno = details.errno;
    this.key = details.key;
  }
}

/** The reason that an error of Qt's is, where nothing more is known. */
function reasonOf(code: ErrorCode): ErrorReason {
  return code === "LockError" ? "Timeout" : code === "UnknownError" ? "System" : code;
}

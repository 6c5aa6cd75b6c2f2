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

/** The runtime, operating system or processor cannot be used; thrown on first use, never on import. */
export class UnsupportedError extends Error {
  /** The class's name. */
  override readonly name = "UnsupportedError";
}

/** Details of a {@linkcode SharedMemoryException}. */
export interface FailureDetails {
  /** The system call that failed. */
  readonly syscall?: string | undefined;
  /** Its `errno`. */
  readonly errno?: number | undefined;
  /** The key it was for. */
  readonly key?: string | null | undefined;
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
export class SharedMemoryException extends Error {
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
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.error = SharedMemoryError[code];
    this.syscall = details.syscall;
    this.errno = details.errno;
    this.key = details.key;
  }
}

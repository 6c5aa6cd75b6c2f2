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
 * Why an operation failed, in words that a program can act on. All errors of this package use them:
 * `errorReason()` of {@linkcode SharedMemory} and {@linkcode SystemSemaphore}, and the property `reason` of
 * {@linkcode IpcError}. Each word's own text names the error of Qt that goes with it; an operation on the
 * lock, such as `lock()` and `unlock()`, reports `LockError` whatever the reason is.
 *
 * `"Timeout"` and `"Busy"` mean that others are using the object: a server answers 503. `"OutOfResources"`,
 * `"PermissionDenied"`, `"Unsupported"` and `"System"` are for whoever runs the machine. `"Deadlock"`,
 * `"AlreadyHeld"`, `"NotOwner"`, `"NoLock"`, `"NotAttached"`, `"AlreadyAttached"`, `"Transferred"` and `"ReadOnly"`
 * are mistakes in the program.
 */
export type ErrorReason =
  /** Others kept the lock, the mutex or the permits for the whole timeout. `LockError`; of a `SystemSemaphore` `UnknownError`. */
  | "Timeout"
  /** Other programs changed or removed the object again and again during the call. `UnknownError`. */
  | "Busy"
  /** This thread holds the lock or waits for it already, so it would wait for itself. `LockError`. */
  | "Deadlock"
  /** This object holds the lock already, and the lock is not recursive. `LockError`. */
  | "AlreadyHeld"
  /** This object does not hold the lock or the mutex. `LockError`. */
  | "NotOwner"
  /** The segment has no lock, since its native key is a string. `LockError`. */
  | "NoLock"
  /** The object or view is not attached to a segment, or was detached during the call. `NotFound`. */
  | "NotAttached"
  /** This object is attached to a segment already. `AlreadyExists`. */
  | "AlreadyAttached"
  /** The buffer of the segment was transferred away. `NotFound`. */
  | "Transferred"
  /** The segment was attached `ReadOnly`. `UnknownError`. */
  | "ReadOnly"
  /** There is no such object. `NotFound`. */
  | "NotFound"
  /** There is such an object already. `AlreadyExists`. */
  | "AlreadyExists"
  /** The object of that name or at that place is of another kind, version or layout. `KeyError`. */
  | "WrongKind"
  /** The bytes of the object have been overwritten. `UnknownError`. */
  | "Damaged"
  /** The object has no room for more. `UnknownError`. */
  | "Full"
  /** The key is empty, or the system can have no object of that key. `KeyError`. */
  | "KeyError"
  /** The size is below 1 byte, beyond what can be mapped, or more than the segment has. `InvalidSize`. */
  | "InvalidSize"
  /** The object belongs to another user, or this user must not use or create it. `PermissionDenied`. */
  | "PermissionDenied"
  /** A limit of the system is reached. `OutOfResources`. */
  | "OutOfResources"
  /** The runtime, the operating system or the processor lacks what is needed. `UnknownError`. */
  | "Unsupported"
  /** The object was disposed during the call, or the program is ending. `UnknownError`. */
  | "Closed"
  /** The system refused for another reason; the text has the system call and its `errno`. `UnknownError`. */
  | "System";

/** The error of `QSharedMemory` for each reason. */
const CODES: Readonly<Record<ErrorReason, ErrorCode>> = {
  Timeout: "LockError",
  Busy: "UnknownError",
  Deadlock: "LockError",
  AlreadyHeld: "LockError",
  NotOwner: "LockError",
  NoLock: "LockError",
  NotAttached: "NotFound",
  AlreadyAttached: "AlreadyExists",
  Transferred: "NotFound",
  ReadOnly: "UnknownError",
  NotFound: "NotFound",
  AlreadyExists: "AlreadyExists",
  WrongKind: "KeyError",
  Damaged: "UnknownError",
  Full: "UnknownError",
  KeyError: "KeyError",
  InvalidSize: "InvalidSize",
  PermissionDenied: "PermissionDenied",
  OutOfResources: "OutOfResources",
  Unsupported: "UnknownError",
  Closed: "UnknownError",
  System: "UnknownError",
};

/** Every reason there is. */
export const REASONS = Object.keys(CODES) as readonly ErrorReason[];

/** @internal The error of `QSharedMemory` for a reason, where the operation is not one on the lock. */
export function codeOf(reason: ErrorReason): ErrorCode {
  return CODES[reason];
}

/** The number in {@linkcode SystemSemaphoreError} for an error; `QSystemSemaphore` has fewer of them. */
export function semaphoreErrorOf(code: ErrorCode | "NoError"): SystemSemaphoreError {
  return code === "InvalidSize" || code === "LockError"
    ? SystemSemaphoreError.UnknownError
    : SystemSemaphoreError[code];
}

/**
 * The base class of the errors of this package: {@linkcode SharedMemoryException}, `SyncError` of `./sync` and
 * {@linkcode UnsupportedError}. A wrong argument is a `TypeError` or a `RangeError` instead.
 *
 * @example
 * ```ts
 * import { IpcError, SharedMemory } from "./mod.ts";
 *
 * using memory = SharedMemory.open("stock", { size: 64 });
 * try {
 *   await memory.withLockAsync(() => {}, { timeout: 100 });
 * } catch (error) {
 *   if (!(error instanceof IpcError) || error.reason !== "Timeout") throw error;
 *   console.log("503: try again later");
 * }
 * ```
 */
export class IpcError extends Error {
  /** The class's name. */
  override readonly name: string = "IpcError";
  /** Why the operation failed. */
  readonly reason: ErrorReason;

  /**
   * Made by this module.
   *
   * @param reason why the operation failed
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
export interface SharedMemoryExceptionOptions {
  /** The system call that failed. */
  readonly syscall?: string | undefined;
  /** Its `errno`. */
  readonly errno?: number | undefined;
  /** The key it was for. */
  readonly key?: string | null | undefined;
  /** The name of the error in Qt, if the operation has another one than the reason. */
  readonly code?: ErrorCode | undefined;
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
   * @param reason why the operation failed
   * @param message the operation, the key, what happened and what to do
   */
  constructor(reason: ErrorReason, message: string, details: SharedMemoryExceptionOptions = {}) {
    super(reason, message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = details.code ?? codeOf(reason);
    this.error = SharedMemoryError[this.code];
    this.syscall = details.syscall;
    this.errno = details.errno;
    this.key = details.key;
  }
}

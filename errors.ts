/** An access mode says whether a program may store into a segment. The numbers are those of Qt. */
export const AccessMode = {
  /** The segment can only be read. A store through a view of it kills the process with SIGSEGV, as in Qt. */
  ReadOnly: 0,
  /** The segment can be read and written. This is the default. */
  ReadWrite: 1,
} as const;
/** This type has the numbers of {@linkcode AccessMode}. */
export type AccessMode = typeof AccessMode[keyof typeof AccessMode];

/** `SharedMemory.error()` returns one of these numbers. The names and numbers are those of `QSharedMemory`. */
export const SharedMemoryError = {
  /** The last operation succeeded. */
  NoError: 0,
  /** The segment, its lock or its key file belongs to another user. */
  PermissionDenied: 1,
  /** The size is below 1 byte or beyond what the system or the runtime can map. */
  InvalidSize: 2,
  /** There is no key, or no key file can be made from it. */
  KeyError: 3,
  /** The segment exists, or this object is attached already. */
  AlreadyExists: 4,
  /** There is no such segment, or this object is not attached. */
  NotFound: 5,
  /** The lock could not be acquired or released. */
  LockError: 6,
  /** A limit of the system is reached. */
  OutOfResources: 7,
  /** The operation failed for another reason. The text names the system call and its errno. */
  UnknownError: 8,
} as const;
/** This type has the numbers of {@linkcode SharedMemoryError}. */
export type SharedMemoryError = typeof SharedMemoryError[keyof typeof SharedMemoryError];

/** This mode says how a `SystemSemaphore` treats a semaphore that exists. The numbers are those of Qt. */
export const SystemSemaphoreMode = {
  /** The object uses the semaphore if it exists. Otherwise it creates one with the initial value. */
  Open: 0,
  /** The object sets the semaphore to the initial value even if it exists, and owns it. */
  Create: 1,
} as const;
/** This type has the numbers of {@linkcode SystemSemaphoreMode}. */
export type SystemSemaphoreMode = typeof SystemSemaphoreMode[keyof typeof SystemSemaphoreMode];

/** `SystemSemaphore.error()` returns one of these numbers. The names and numbers are those of `QSystemSemaphore`. */
export const SystemSemaphoreError = {
  /** The last operation succeeded. */
  NoError: 0,
  /** The semaphore or its key file belongs to another user. */
  PermissionDenied: 1,
  /** There is no key, or no key file can be made from it. */
  KeyError: 2,
  /** This package does not report this error. It exists for the numbering of Qt. */
  AlreadyExists: 3,
  /** The semaphore disappeared. */
  NotFound: 4,
  /** A limit of the system is reached, the largest value of a semaphore included. */
  OutOfResources: 5,
  /** The operation failed for another reason. The text names the system call and its errno. */
  UnknownError: 6,
} as const;
/** This type has the numbers of {@linkcode SystemSemaphoreError}. */
export type SystemSemaphoreError = typeof SystemSemaphoreError[keyof typeof SystemSemaphoreError];

/** An error code is the name of an error in {@linkcode SharedMemoryError}, such as `"NotFound"` or `"LockError"`. */
export type ErrorCode = Exclude<keyof typeof SharedMemoryError, "NoError">;

/**
 * An error reason is a word for why an operation failed, on which a program can act. All errors of this package use
 * these words: `errorReason()` of {@linkcode SharedMemory} and {@linkcode SystemSemaphore} returns one, and
 * {@linkcode IpcError} has one in its property `reason`. The text of each word names the corresponding error of Qt. An
 * operation on the lock, such as `lock()` and `unlock()`, reports `LockError` for every reason.
 *
 * `"Timeout"` and `"Busy"` mean that other programs are using the object: a server would answer 503.
 * `"OutOfResources"`, `"PermissionDenied"`, `"Unsupported"` and `"System"` are problems for the administrator of the
 * machine. `"Deadlock"`, `"AlreadyHeld"`, `"NotOwner"`, `"NoLock"`, `"NotAttached"`, `"AlreadyAttached"`,
 * `"Transferred"` and `"ReadOnly"` are mistakes in the program.
 */
export type ErrorReason =
  /** Other threads or processes held it for the whole timeout. `LockError`; for a `SystemSemaphore` `UnknownError`. */
  | "Timeout"
  /** Other programs changed or removed the object again and again, or one was stopped in a change. `UnknownError`. */
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
  /** The object does not exist. `NotFound`. */
  | "NotFound"
  /** The object exists already. `AlreadyExists`. */
  | "AlreadyExists"
  /** The object of that name or at that place is of another kind, version or layout. `KeyError`. */
  | "WrongKind"
  /** The bytes of the object have been overwritten. `UnknownError`. */
  | "Damaged"
  /** The object has no room for more. `UnknownError`. */
  | "Full"
  /** The key is empty, or the system cannot have an object with that key. `KeyError`. */
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
  /** The system refused for another reason; the text names the system call and its `errno`. `UnknownError`. */
  | "System";

/** This table has the error of `QSharedMemory` for each reason. */
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

/** This array has every reason. */
export const REASONS = Object.keys(CODES) as readonly ErrorReason[];

/** @internal Returns the error of `QSharedMemory` for a reason, unless the operation is one on the lock. */
export function codeOf(reason: ErrorReason): ErrorCode {
  return CODES[reason];
}

/** Returns the number in {@linkcode SystemSemaphoreError} for an error. `QSystemSemaphore` has fewer errors. */
export function semaphoreErrorOf(code: ErrorCode | "NoError"): SystemSemaphoreError {
  return code === "InvalidSize" || code === "LockError"
    ? SystemSemaphoreError.UnknownError
    : SystemSemaphoreError[code];
}

/**
 * This is the base class of the errors of this package: {@linkcode SharedMemoryException}, `SyncError` of `./sync` and
 * {@linkcode UnsupportedError}. A wrong argument causes a `TypeError` or a `RangeError` instead.
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
  /** The name of the class. */
  override readonly name: string = "IpcError";
  /** This word says why the operation failed. */
  readonly reason: ErrorReason;

  /**
   * This module creates these errors; programs only catch them.
   *
   * @param reason why the operation failed
   * @param message the operation, the key, what happened and what to do
   */
  constructor(reason: ErrorReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/**
 * This error says that the runtime, the operating system or the processor is not supported. It is thrown on the first
 * use of the package, never on import.
 */
export class UnsupportedError extends IpcError {
  /** The name of the class is `"UnsupportedError"`. */
  override readonly name = "UnsupportedError";

  /** This module creates these errors; programs only catch them. */
  constructor(message: string, options?: ErrorOptions) {
    super("Unsupported", message, options);
  }
}

/** These are the details of a {@linkcode SharedMemoryException}. */
export interface SharedMemoryExceptionOptions {
  /** The system call that failed. */
  readonly syscall?: string | undefined;
  /** The `errno` of the system call that failed. */
  readonly errno?: number | undefined;
  /** The key of the object on which the operation failed. */
  readonly key?: string | null | undefined;
  /** The name of the error in Qt, if it differs from the one that belongs to the reason. */
  readonly code?: ErrorCode | undefined;
  /** The error that caused this one. */
  readonly cause?: unknown;
}

/**
 * A method throws this error if it cannot report a failure by returning `false`.
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
  /** The name of the class is `"SharedMemoryException"`. */
  override readonly name = "SharedMemoryException";
  /** The name of the error, a key of {@linkcode SharedMemoryError}. */
  readonly code: ErrorCode;
  /** The number of the error in {@linkcode SharedMemoryError}. */
  readonly error: SharedMemoryError;
  /** The system call that failed, if one did. */
  readonly syscall: string | undefined;
  /** The `errno` of the system call that failed. */
  readonly errno: number | undefined;
  /** The key of the object on which the operation failed. */
  readonly key: string | null | undefined;

  /**
   * This module creates these errors; programs only catch them.
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

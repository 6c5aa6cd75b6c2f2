import { BackendError, type ErrnoTable } from "../failure.ts";

/** The values of `GetLastError()` from <winerror.h> that the backends distinguish. */
export const ERROR_FILE_NOT_FOUND = 2;
export const ERROR_PATH_NOT_FOUND = 3;
export const ERROR_ACCESS_DENIED = 5;
export const ERROR_INVALID_HANDLE = 6;
export const ERROR_NOT_ENOUGH_MEMORY = 8;
export const ERROR_INVALID_PARAMETER = 87;
export const ERROR_DISK_FULL = 112;
export const ERROR_INVALID_NAME = 123;
export const ERROR_BAD_PATHNAME = 161;
export const ERROR_ALREADY_EXISTS = 183;
export const ERROR_FILENAME_EXCED_RANGE = 206;
export const ERROR_TOO_MANY_POSTS = 298;
export const ERROR_NO_SYSTEM_RESOURCES = 1450;
export const ERROR_COMMITMENT_LIMIT = 1455;

const NAMES: Readonly<Record<number, string>> = {
  [ERROR_FILE_NOT_FOUND]: "ERROR_FILE_NOT_FOUND",
  [ERROR_PATH_NOT_FOUND]: "ERROR_PATH_NOT_FOUND",
  [ERROR_ACCESS_DENIED]: "ERROR_ACCESS_DENIED",
  [ERROR_INVALID_HANDLE]: "ERROR_INVALID_HANDLE",
  [ERROR_NOT_ENOUGH_MEMORY]: "ERROR_NOT_ENOUGH_MEMORY",
  [ERROR_INVALID_PARAMETER]: "ERROR_INVALID_PARAMETER",
  [ERROR_DISK_FULL]: "ERROR_DISK_FULL",
  [ERROR_INVALID_NAME]: "ERROR_INVALID_NAME",
  [ERROR_BAD_PATHNAME]: "ERROR_BAD_PATHNAME",
  [ERROR_ALREADY_EXISTS]: "ERROR_ALREADY_EXISTS",
  [ERROR_FILENAME_EXCED_RANGE]: "ERROR_FILENAME_EXCED_RANGE",
  [ERROR_TOO_MANY_POSTS]: "ERROR_TOO_MANY_POSTS",
  [ERROR_NO_SYSTEM_RESOURCES]: "ERROR_NO_SYSTEM_RESOURCES",
  [ERROR_COMMITMENT_LIMIT]: "ERROR_COMMITMENT_LIMIT",
};

const NO_NAME = "Windows does not accept this name; use another one";

const COMMON: ErrnoTable = {
  [ERROR_FILE_NOT_FOUND]: ["NotFound", "doesn't exist: some process must create() it first"],
  [ERROR_ALREADY_EXISTS]: ["AlreadyExists", "already exists: attach() to it"],
  [ERROR_ACCESS_DENIED]: [
    "PermissionDenied",
    "permission denied: it belongs to another user or to a program with more rights; use another key",
  ],
  [ERROR_INVALID_HANDLE]: [
    "WrongKind",
    "the name belongs to an object of another kind, such as an event, a mutex, a semaphore or a " +
    "file mapping; use another key",
  ],
  [ERROR_PATH_NOT_FOUND]: ["KeyError", NO_NAME],
  [ERROR_INVALID_NAME]: ["KeyError", NO_NAME],
  [ERROR_BAD_PATHNAME]: ["KeyError", NO_NAME],
  [ERROR_FILENAME_EXCED_RANGE]: ["KeyError", "the name is too long; use a shorter one"],
  [ERROR_NOT_ENOUGH_MEMORY]: ["OutOfResources", "out of memory or address space"],
  [ERROR_NO_SYSTEM_RESOURCES]: ["OutOfResources", "the system has no resources left for it"],
  [ERROR_DISK_FULL]: ["OutOfResources", "the paging file cannot grow: its disk is full"],
  [ERROR_COMMITMENT_LIMIT]: [
    "InvalidSize",
    "the paging file is too small for a segment of this size; enlarge it, or end other programs",
  ],
  [ERROR_INVALID_PARAMETER]: ["InvalidSize", "the system allows no segment of this size"],
  [ERROR_TOO_MANY_POSTS]: [
    "OutOfResources",
    "the semaphore's value would pass its maximum of 2147483647",
  ],
};

/** Whether the backends know an error number. */
export function isKnown(error: number): boolean {
  return error in NAMES;
}

/** Returns an error as texts show it: `ERROR_ACCESS_DENIED 5`. */
export function errorText(error: number): string {
  return `${NAMES[error] ?? "error"} ${error}`;
}

/** Creates the {@linkcode BackendError} of a failed call. */
export function windowsFailure(call: string, error: number, name = ""): BackendError {
  let [reason, words] = COMMON[error] ?? ["System", "unknown error"];
  if (error === ERROR_ACCESS_DENIED && name.startsWith("Global\\")) {
    words = "permission denied: creating an object for all sessions (Global\\) takes the right " +
      "SeCreateGlobalPrivilege, which administrators and services have; and one that exists may be " +
      "another user's";
  }
  const on = name === "" ? call : `${call} ${name}`;
  return new BackendError(reason, `${words} [${on}: ${errorText(error)}]`, call, error);
}

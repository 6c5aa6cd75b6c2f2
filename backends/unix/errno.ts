import process from "node:process";
import { BackendError, type ErrnoTable } from "../failure.ts";

/** The error numbers that the backends distinguish. They have Linux's values on every Unix. */
export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENOTDIR = 20;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const EFBIG = 27;
export const ENOSPC = 28;
export const EROFS = 30;
export const ERANGE = 34;
export const EDEADLK = 35;
export const ENAMETOOLONG = 36;
export const ENOSYS = 38;
export const ELOOP = 40;
export const EIDRM = 43;
export const EOVERFLOW = 75;
export const EOPNOTSUPP = 95;
export const ETIMEDOUT = 110;
export const EOWNERDEAD = 130;
export const ENOTRECOVERABLE = 131;

/** The errors that have another number on macOS: the Linux number and the macOS number, from <sys/errno.h>. */
const DARWIN: readonly (readonly [linux: number, darwin: number])[] = [
  [EAGAIN, 35],
  [ENAMETOOLONG, 63],
  [ENOSYS, 78],
  [ELOOP, 62],
  [EIDRM, 90],
  [EOVERFLOW, 84],
  [EOPNOTSUPP, 102],
  [ETIMEDOUT, 60],
];
const SWAPPED = new Map(DARWIN.flatMap(([linux, darwin]) => [[linux, darwin], [darwin, linux]]));

/**
 * Converts an error number of the system to the number that is used here, and the other way round. The two numbers of
 * an error change places, so that no two errors become one.
 */
export function swapErrno(errno: number, os: string): number {
  return os === "darwin" ? SWAPPED.get(errno) ?? errno : errno;
}

const NAMES: Readonly<Record<number, string>> = {
  [EPERM]: "EPERM",
  [ENOENT]: "ENOENT",
  [ESRCH]: "ESRCH",
  [EINTR]: "EINTR",
  [EAGAIN]: "EAGAIN",
  [ENOMEM]: "ENOMEM",
  [EACCES]: "EACCES",
  [EFAULT]: "EFAULT",
  [EBUSY]: "EBUSY",
  [EEXIST]: "EEXIST",
  [ENOTDIR]: "ENOTDIR",
  [EINVAL]: "EINVAL",
  [ENFILE]: "ENFILE",
  [EMFILE]: "EMFILE",
  [EFBIG]: "EFBIG",
  [ENOSPC]: "ENOSPC",
  [EROFS]: "EROFS",
  [ERANGE]: "ERANGE",
  [EDEADLK]: "EDEADLK",
  [ENAMETOOLONG]: "ENAMETOOLONG",
  [ENOSYS]: "ENOSYS",
  [ELOOP]: "ELOOP",
  [EIDRM]: "EIDRM",
  [EOVERFLOW]: "EOVERFLOW",
  [EOPNOTSUPP]: "EOPNOTSUPP",
  [ETIMEDOUT]: "ETIMEDOUT",
  [EOWNERDEAD]: "EOWNERDEAD",
  [ENOTRECOVERABLE]: "ENOTRECOVERABLE",
};

const COMMON: ErrnoTable = {
  [EACCES]: ["PermissionDenied", "permission denied"],
  [EPERM]: ["PermissionDenied", "permission denied"],
  [ENOENT]: ["NotFound", "doesn't exist"],
  [EEXIST]: ["AlreadyExists", "already exists"],
  [ENAMETOOLONG]: ["KeyError", "the name is too long for the file system; use a shorter key"],
  [ENOTDIR]: ["KeyError", "a part of the path is not a folder; use another path"],
  [ELOOP]: ["KeyError", "the path has a loop of symbolic links; remove it or use another path"],
  [EROFS]: ["PermissionDenied", "the file system is read-only; set TMPDIR to a writable folder"],
  [ENOMEM]: ["OutOfResources", "out of memory"],
  [ENOSPC]: ["OutOfResources", "no space left"],
  [EMFILE]: ["OutOfResources", "this process has too many open files or segments (ulimit -n)"],
  [ENFILE]: ["OutOfResources", "the system has too many open files (fs.file-max)"],
  [ENOSYS]: [
    "Unsupported",
    "this kernel, or the sandbox that the process runs in, has no such system call",
  ],
};

const OTHER_KEYS = "or use POSIX keys (NativeIpcKeyType.PosixRealtime)";

/** The meaning of the errors of System V calls where the kernel or a filter does not provide System V. */
const NO_SYSTEM_V: ErrnoTable = {
  [ENOSYS]: [
    "Unsupported",
    "this kernel has no System V IPC, or a sandbox hides it, as gVisor, Android and some seccomp filters do; run it " +
    `elsewhere, ${OTHER_KEYS}`,
  ],
};
const REFUSED_SYSTEM_V: ErrnoTable = {
  ...NO_SYSTEM_V,
  [EPERM]: [
    "PermissionDenied",
    "permission denied by a seccomp filter, as Docker, Kubernetes and systemd set them: the kernel itself never " +
    `refuses this call so; allow System V IPC there (shmget, shmat, semget, semop), ${OTHER_KEYS}`,
  ],
};

function systemVErrors(syscall: string): ErrnoTable {
  if (/^(shmget|shmat|semget|semop)$/.test(syscall)) return REFUSED_SYSTEM_V;
  return /^(shm|sem)ctl$/.test(syscall) ? NO_SYSTEM_V : {};
}

/** Returns an error number as texts show it, with the number of this system: `ENOENT 2`. */
export function errnoText(errno: number): string {
  return `${NAMES[errno] ?? "errno"} ${swapErrno(errno, process.platform)}`;
}

/**
 * Creates the {@linkcode BackendError} of a failed system call. `table` takes precedence over the general meaning of
 * the error number.
 */
export function failure(
  syscall: string,
  errno: number,
  table: ErrnoTable = {},
  on = "",
): BackendError {
  const [reason, words] = table[errno] ?? systemVErrors(syscall)[errno] ?? COMMON[errno] ??
    ["System", "unknown error"] as const;
  const call = on === "" ? syscall : `${syscall} ${on}`;
  const number = swapErrno(errno, process.platform);
  return new BackendError(reason, `${words} [${call}: ${errnoText(errno)}]`, syscall, number);
}

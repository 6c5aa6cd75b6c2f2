import type { CSignatures } from "../../ffi/types.ts";

/** The names of the C library on Linux. glibc has the first one; musl can be loaded under both. */
export const LINUX_LIBRARIES = ["libc.so.6", "libc.so"];
/** The name of the C library on macOS. */
export const DARWIN_LIBRARIES = ["/usr/lib/libSystem.B.dylib"];

/** The C functions that every system has. */
export const SIGNATURES = {
  calloc: { args: ["u64", "u64"], returns: "u64" },
  getenv: { args: ["buffer"], returns: "u64" }, // (name) -> char *
  strlen: { args: ["u64"], returns: "u64" },
  realpath: { args: ["buffer", "buffer"], returns: "u64" }, // (path, resolved[PATH_MAX]) -> char *
  sysconf: { args: ["i32"], returns: "u64" },

  getpid: { args: [], returns: "i32" },
  geteuid: { args: [], returns: "u32" },
  getpwuid: { args: ["u32"], returns: "u64" }, // (uid) -> struct passwd *
  kill: { args: ["i32", "i32"], returns: "i32" }, // (pid, signal)

  open: { args: ["buffer", "i32", "u32"], returns: "i32", fixed: 2 }, // (path, flags, mode)
  read: { args: ["i32", "buffer", "u64"], returns: "u64" }, // (fd, buf, count) -> ssize_t
  pread: { args: ["i32", "buffer", "u64", "u64"], returns: "u64" }, // (fd, buf, count, offset) -> ssize_t
  close: { args: ["i32"], returns: "i32" },
  fchmod: { args: ["i32", "u32"], returns: "i32" }, // (fd, mode)
  unlink: { args: ["buffer"], returns: "i32" },
  link: { args: ["buffer", "buffer"], returns: "i32" }, // (old path, new path)
  rename: { args: ["buffer", "buffer"], returns: "i32" }, // (old path, new path)
  symlink: { args: ["buffer", "buffer"], returns: "i32" }, // (text, path)
  readlink: { args: ["buffer", "buffer", "u64"], returns: "u64" }, // (path, buf, size) -> ssize_t
  flock: { args: ["i32", "i32"], returns: "i32" },

  mmap: { args: ["u64", "u64", "i32", "i32", "i32", "u64"], returns: "u64" }, // (addr, length, prot, flags, fd, offset)
  munmap: { args: ["u64", "u64"], returns: "i32" },

  shmget: { args: ["i32", "u64", "i32"], returns: "i32" }, // (key, size, flags)
  shmat: { args: ["i32", "u64", "i32"], returns: "u64" }, // (id, addr, flags) -> void *
  shmdt: { args: ["u64"], returns: "i32" },
  shmctl: { args: ["i32", "i32", "buffer"], returns: "i32" }, // (id, cmd, shmid_ds *)
  semget: { args: ["i32", "i32", "i32"], returns: "i32" }, // (key, count, flags)
  // (id, index, cmd, union semun)
  semctl: { args: ["i32", "i32", "i32", "u64"], returns: "i32", fixed: 3 },
  semop: { args: ["i32", "usize", "usize"], returns: "i32" }, // (id, sembuf *, count)
} as const satisfies CSignatures;

/** The C functions that the backends call only on Linux. */
export const LINUX_SIGNATURES = {
  __errno_location: { args: [], returns: "u64" },
  // glibc before 2.33 has no `fstat` and musl has no `statx`, but both have `syscall`:
  // (SYS_statx, fd, path, flags, mask, struct statx *); what it returns, as a long, fits an int
  syscall: { args: ["usize", "i32", "buffer", "i32", "u32", "buffer"], returns: "i32", fixed: 1 },
  fcntl: { args: ["i32", "i32", "buffer"], returns: "i32" }, // (fd, cmd, struct flock *)
  // (olddirfd, old path, newdirfd, new path, flags)
  linkat: { args: ["i32", "buffer", "i32", "buffer", "i32"], returns: "i32" },
  mkdir: { args: ["buffer", "u32"], returns: "i32" }, // (path, mode)
  getrlimit: { args: ["i32", "buffer"], returns: "i32" }, // (resource, struct rlimit *)
  posix_fallocate: { args: ["i32", "u64", "u64"], returns: "i32" }, // (fd, offset, length) -> errno
  opendir: { args: ["buffer"], returns: "u64" }, // (path) -> DIR *
  readdir: { args: ["u64"], returns: "u64" }, // (DIR *) -> struct dirent *
  closedir: { args: ["u64"], returns: "i32" },
  madvise: { args: ["u64", "u64", "i32"], returns: "i32" }, // (addr, length, advice)
  mincore: { args: ["u64", "u64", "buffer"], returns: "i32" }, // (addr, length, byte for each page)
  semtimedop: { args: ["i32", "usize", "usize", "usize"], returns: "i32" }, // (id, sembuf *, count, timespec *)
} as const satisfies CSignatures;

/** The C functions that the backends call only on macOS. */
export const DARWIN_SIGNATURES = {
  __error: { args: [], returns: "u64" },
  confstr: { args: ["i32", "buffer", "u64"], returns: "u64" }, // (name, buf, length)
} as const satisfies CSignatures;

/** The functions of Mach, which is the kernel beneath the Unix layer of macOS. */
export const MACH_SIGNATURES = {
  task_self_trap: { args: [], returns: "u32" }, // the function behind the macro mach_task_self()
  // (task, to *, size, mask, flags, task, from, copy, protection *, maximal protection *, inheritance)
  mach_vm_remap: {
    args: ["u32", "buffer", "u64", "u64", "i32", "u32", "u64", "i32", "buffer", "buffer", "u32"],
    returns: "i32",
  },
} as const satisfies CSignatures;

/**
 * The functions that return a `struct stat`. On Intel, the names without a suffix belong to functions for 32-bit
 * inodes.
 */
export const DARWIN_STAT_SIGNATURES = {
  fstat: { args: ["i32", "buffer"], returns: "i32" }, // (fd, struct stat *)
  lstat: { args: ["buffer", "buffer"], returns: "i32" }, // (path, struct stat *)
  stat: { args: ["buffer", "buffer"], returns: "i32" }, // (path, struct stat *)
} as const satisfies CSignatures;

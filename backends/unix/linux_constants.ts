/**
 * This module defines constants of Linux under their C names, for the architectures that share the values of
 * asm-generic. Constants that differ on macOS are in darwin_constants.ts; the others that System V needs are the same
 * there.
 */

// <fcntl.h>, <sys/file.h>
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_CLOEXEC = 0o2000000;
/** Keeps `open` from waiting for the other end if the file is a FIFO. */
export const O_NONBLOCK = 0o4000;
/** Lets `open` fail if the file is a symbolic link. */
export const O_NOFOLLOW: Record<string, number> = { x64: 0o400000, arm64: 0o100000 };
/**
 * Creates a file without a name in the folder that is opened. The value includes O_DIRECTORY, as the kernel requires.
 */
export const O_TMPFILE: Record<string, number> = { x64: 0o20200000, arm64: 0o20040000 };
/** Opens a descriptor that only refers to the file, which needs no permission for the file. */
export const O_PATH = 0o10000000;
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;
/** The commands for byte locks of an open file description, which are independent of `flock`. */
export const F_OFD_GETLK = 36;
export const F_OFD_SETLK = 37;
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
/** The layout of `struct flock` on 64-bit systems. */
export const FLOCK = { bytes: 32, type: 0, start: 8, len: 16 } as const;

// <sys/resource.h>
export const RLIMIT_FSIZE = 1;
/** The layout of `struct rlimit` on 64-bit systems. */
export const RLIMIT = { bytes: 16, current: 0 } as const;

// <sys/ipc.h>
export const IPC_CREAT = 0o1000;
export const IPC_EXCL = 0o2000;
export const IPC_NOWAIT = 0o4000;
export const IPC_RMID = 0;
export const IPC_SET = 1;
export const IPC_STAT = 2;

// <sys/shm.h>
export const SHM_RDONLY = 0o10000;
/** The flag in `shm_perm.mode` that says that the segment is removed and disappears with the last detach. */
export const SHM_DEST = 0o1000;

/** The layout of `struct shmid_ds` on 64-bit Linux, which is the same in glibc and musl and on x86-64 and arm64. */
export const SHMID_DS = {
  bytes: 112,
  uid: 4,
  gid: 8,
  cuid: 12,
  mode: 20,
  segsz: 48,
  ctime: 72,
  cpid: 80,
  nattch: 88,
  nattchBytes: 8,
} as const;

// <sys/sem.h>
export const GETPID = 11;
export const GETVAL = 12;
export const GETNCNT = 14;
export const GETZCNT = 15;
export const SETVAL = 16;
export const SEM_UNDO = 0o10000;
/** The layout of `struct semid_ds` on 64-bit Linux, whose `sem_perm` has the layout of `shm_perm`. */
export const SEMID_DS = { bytes: 104, uid: 4, gid: 8, cuid: 12, mode: 20, otime: 48 } as const;

// <sys/stat.h>
export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
/** The sticky bit, which means nothing to the kernel unless the file is a folder. */
export const S_ISVTX = 0o1000;
export const S_IXUSR = 0o100;
export const S_IXGRP = 0o010;
export const S_IXOTH = 0o001;

// <sys/mman.h>
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;
/** Makes the pages present, and fails where a first access would raise SIGBUS. Linux has it since 5.14. */
export const MADV_POPULATE_READ = 22;

// <unistd.h>
export const _SC_CLK_TCK = 2;
export const _SC_PAGESIZE = 30;

// <sys/syscall.h>
export const SYS_GETTID: Record<string, number> = { x64: 186, arm64: 178 };
export const SYS_STATX: Record<string, number> = { x64: 332, arm64: 291 };
export const SYS_FUTEX: Record<string, number> = { x64: 202, arm64: 98 };

// <linux/futex.h>
export const FUTEX_WAIT = 0;
export const FUTEX_WAKE = 1;
/**
 * The bits in the word of a robust mutex: the thread that holds it, and a flag that says that this thread has ended.
 */
export const FUTEX_TID_MASK = 0x3fff_ffff;
export const FUTEX_OWNER_DIED = 0x4000_0000;
export const FUTEX_WAITERS = 0x8000_0000;

// <time.h>
export const CLOCK_REALTIME = 0;
export const CLOCK_MONOTONIC = 1;
export const CLOCK_BOOTTIME = 7;

// <linux/stat.h>, <fcntl.h>
export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_STATX_DONT_SYNC = 0x4000;
export const AT_SYMLINK_FOLLOW = 0x400;
/** Lets a call apply to the descriptor itself instead of a path. */
export const AT_EMPTY_PATH = 0x1000;
export const STATX_BASIC_STATS = 0x7ff;
/** The layout of `struct statx`, which is the same on every processor. */
export const STATX = {
  bytes: 256,
  nlink: 16,
  uid: 20,
  mode: 28,
  ino: 32,
  size: 40,
  blocks: 48,
  ctime: 96,
  mtime: 112,
  devMinor: 140,
} as const;

// <dirent.h>: `struct dirent` of 64-bit Linux
export const DIRENT = { name: 19 } as const;

// <pwd.h>: `pw_name` is the first member of `struct passwd`

// <limits.h>
export const PATH_MAX = 4096;
export const NAME_MAX = 255;

// <linux/proc_ns.h>: the inode of the initial pid namespace, in which every process has a pid
export const PROC_PID_INIT_INO = 0xeffffffc;

/** The value `(void *) -1`, which `shmat` and `mmap` return on failure. */
export const FAILED_ADDRESS = 0xffff_ffff_ffff_ffffn;

// <pthread.h>, glibc and musl
export const PTHREAD_PROCESS_SHARED = 1;
export const PTHREAD_MUTEX_ROBUST = 1;
export const PTHREAD_MUTEX_ERRORCHECK = 2;
/**
 * The layout of `pthread_mutex_t` on 64-bit processors: its maximum size, and the offset of the pointer to which pointers
 * of the robust list point, `next`. Before it comes `prev`. The other members differ between C libraries.
 */
export const PTHREAD_MUTEX = { bytes: 48, next: 32 } as const;
/** The words of a `pthread_mutex_t` with its kind (musl: `_m_type`) and its holder. */
export const PTHREAD_MUTEX_OF = {
  glibc: { kind: 4, holder: 0, owner: 2, nusers: 3 },
  musl: { kind: 0, holder: 1 },
} as const;
/** The owner of a mutex that no thread can lock any more (nptl/pthreadP.h). */
export const PTHREAD_MUTEX_NOTRECOVERABLE = 0x7fff_fffe;
/** What glibc calls the kind of a mutex that is all this, with PTHREAD_MUTEX_PSHARED_BIT (nptl/pthreadP.h). */
export const PTHREAD_MUTEX_ROBUST_ERRORCHECK_PSHARED = 16 | 2 | 128;
/** `struct robust_list_head` as the kernel knows it: a pointer as `next` in a mutex, and the offset of the holder from there. */
export const ROBUST_LIST_HEAD = { bytes: 24, futexOffset: 8, pending: 16 } as const;

/**
 * Numbers under their C names, for Linux on the architectures that share asm-generic's values. What
 * differs on macOS is in darwin_constants.ts; the rest of what System V needs is the same there.
 */

// <fcntl.h>, <sys/file.h>
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_CLOEXEC = 0o2000000;
/** Keeps `open` from waiting for the other end where a FIFO lies under the name. */
export const O_NONBLOCK = 0o4000;
/** Fails where a symbolic link lies under the name. */
export const O_NOFOLLOW: Record<string, number> = { x64: 0o400000, arm64: 0o100000 };
/** A file without a name in the folder that is opened, with O_DIRECTORY as the kernel wants it. */
export const O_TMPFILE: Record<string, number> = { x64: 0o20200000, arm64: 0o20040000 };
/** A descriptor that only names the file, which needs no permission for it. */
export const O_PATH = 0o10000000;
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;
/** Locks of an open file description, of single bytes, which have nothing to do with `flock`. */
export const F_OFD_GETLK = 36;
export const F_OFD_SETLK = 37;
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
/** `struct flock` of 64-bit systems. */
export const FLOCK = { bytes: 32, type: 0, start: 8, len: 16 } as const;

// <sys/resource.h>
export const RLIMIT_FSIZE = 1;
/** `struct rlimit` of 64-bit systems. */
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
/** In `shm_perm.mode`: removed, and goes with the last detach. */
export const SHM_DEST = 0o1000;

/** `struct shmid_ds` of 64-bit Linux: glibc and musl, x86-64 and arm64 lay it out alike. */
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
/** `struct semid_ds` of 64-bit Linux, whose `sem_perm` is laid out as `shm_perm`. */
export const SEMID_DS = { bytes: 104, uid: 4, gid: 8, cuid: 12, mode: 20, otime: 48 } as const;

// <sys/stat.h>
export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
/** Means nothing to the kernel on what is no folder. */
export const S_ISVTX = 0o1000;
export const S_IXOTH = 0o001;

// <sys/mman.h>
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;
/** Makes the pages present, and fails where a first access would raise SIGBUS. Linux 5.14. */
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
/** In the word of a robust mutex: who holds it, and that he has ended. */
export const FUTEX_TID_MASK = 0x3fff_ffff;
export const FUTEX_OWNER_DIED = 0x4000_0000;

// <time.h>
export const CLOCK_REALTIME = 0;
export const CLOCK_MONOTONIC = 1;
export const CLOCK_BOOTTIME = 7;

// <linux/stat.h>, <fcntl.h>
export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_STATX_DONT_SYNC = 0x4000;
export const AT_SYMLINK_FOLLOW = 0x400;
/** Asks about the descriptor itself. */
export const AT_EMPTY_PATH = 0x1000;
export const STATX_BASIC_STATS = 0x7ff;
/** `struct statx`, the same on every processor. */
export const STATX = {
  bytes: 256,
  nlink: 16,
  uid: 20,
  mode: 28,
  ino: 32,
  size: 40,
  blocks: 48,
  ctime: 96,
  devMinor: 140,
} as const;

// <dirent.h>: `struct dirent` of 64-bit Linux
export const DIRENT = { name: 19 } as const;

// <pwd.h>: `pw_name` is the first member of `struct passwd`

// <limits.h>
export const PATH_MAX = 4096;
export const NAME_MAX = 255;

// linux/proc_ns.h: the inode of the namespace in which each process has a pid
export const PROC_PID_INIT_INO = 0xeffffffc;

/** `(void *) -1`, which `shmat` and `mmap` return on failure. */
export const FAILED_ADDRESS = 0xffff_ffff_ffff_ffffn;

// <pthread.h>, glibc and musl
export const PTHREAD_PROCESS_SHARED = 1;
export const PTHREAD_MUTEX_ROBUST = 1;
export const PTHREAD_MUTEX_ERRORCHECK = 2;
/**
 * `pthread_mutex_t` on 64-bit processors: at most so many bytes, and where its pointers of the robust list
 * are. The other members differ.
 */
export const PTHREAD_MUTEX = { bytes: 48, prev: 24, next: 32 } as const;
/** In it, what kind of mutex it is (musl: `_m_type`), and who holds it. */
export const PTHREAD_MUTEX_OF = {
  glibc: { kind: 16, holder: 0 },
  musl: { kind: 0, holder: 4 },
} as const;

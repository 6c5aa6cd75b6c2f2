/**
 * This module defines the constants of macOS that differ from those of Linux, under the same C names, and those that
 * only macOS has. Where linux_constants.ts distinguishes processors, Intel and Apple processors have the same value
 * here.
 */

// <sys/fcntl.h>
export const O_NONBLOCK = 0x4;
export const O_NOFOLLOW: Record<string, number> = { x64: 0x100, arm64: 0x100 };
export const O_CREAT = 0x200;
export const O_EXCL = 0x800;
export const O_CLOEXEC = 0x1000000;
/** The value is 0, because macOS has no such flag. */
export const O_PATH = 0;

// <sys/shm.h>, whose structures are `#pragma pack(4)`
/**
 * The value is 0, because macOS has no such flag: IPC_STAT fails with EINVAL for a removed segment, even while it is
 * attached.
 */
export const SHM_DEST = 0;
export const SHMID_DS = {
  bytes: 76,
  uid: 0,
  gid: 4,
  cuid: 8,
  mode: 16,
  segsz: 24,
  cpid: 36,
  ctime: 60,
  nattch: 40,
  nattchBytes: 2,
} as const;

// <sys/sem.h>
export const GETPID = 4;
export const GETVAL = 5;
export const SETVAL = 8;
export const SEMID_DS = { bytes: 72, uid: 0, gid: 4, cuid: 8, mode: 16, otime: 32 } as const;

// <sys/mman.h>
export const MAP_NORESERVE = 0x40;
export const MAP_ANONYMOUS = 0x1000;

// <mach/vm_statistics.h>, <mach/vm_inherit.h>
export const VM_FLAGS_ANYWHERE = 1;
export const VM_INHERIT_SHARE = 0;

// <unistd.h>
export const _SC_PAGESIZE = 29;
export const _CS_DARWIN_USER_TEMP_DIR = 65537;

// <sys/syslimits.h>
export const PATH_MAX = 1024;

/** The layout of `struct stat` with 64-bit inodes, <sys/stat.h>. */
export const STAT = {
  bytes: 144,
  dev: 0,
  mode: 4,
  nlink: 6,
  ino: 8,
  uid: 16,
  mtime: 48,
  ctime: 64,
  size: 96,
  blocks: 104,
} as const;

// <sys/proc_info.h>: asks for the thread with a number that is never reused
export const PROC_PIDTHREADID64INFO = 15;
/** The value of `sizeof(struct proc_threadinfo)`. */
export const PROC_THREADINFO_BYTES = 112;

// <os/os_sync_wait_on_address.h>: OS_SYNC_WAIT_ON_ADDRESS_SHARED, OS_SYNC_WAKE_BY_ADDRESS_SHARED
export const OS_SYNC_SHARED = 1;
// <os/clock.h>
export const OS_CLOCK_MACH_ABSOLUTE_TIME = 32;

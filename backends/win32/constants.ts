/** Numbers of Windows under their C names. */

// <handleapi.h>: stands for the paging file where a file is expected
export const INVALID_HANDLE_VALUE = 0xffff_ffff_ffff_ffffn;

// <winnt.h>
export const PAGE_READWRITE = 0x04;
export const SEMAPHORE_VALUE_MAX = 0x7fff_ffff; // MAXLONG
export const EVENT_MODIFY_STATE = 0x2;

/** `MEMORY_BASIC_INFORMATION` of 64-bit Windows. */
export const MEMORY_BASIC_INFORMATION = { bytes: 48, regionSize: 24 } as const;

// <memoryapi.h>
export const FILE_MAP_WRITE = 0x2;
export const FILE_MAP_READ = 0x4;

// <winbase.h>: of `WaitForMultipleObjects`, the first two may have an index added
export const WAIT_OBJECT_0 = 0;
export const WAIT_ABANDONED = 0x80;
export const WAIT_TIMEOUT = 0x102;
export const WAIT_FAILED = 0xffff_ffff;
/** Zeroed memory that does not move. */
export const LPTR = 0x40;

// <minwindef.h>: the longest name of an object, in UTF-16 units
export const MAX_PATH = 260;

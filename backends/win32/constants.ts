/** This module defines the numbers of Windows under their C names. */

// <handleapi.h>: in place of a file handle it stands for the paging file
export const INVALID_HANDLE_VALUE = 0xffff_ffff_ffff_ffffn;

// <winnt.h>
export const PAGE_READWRITE = 0x04;
export const SEMAPHORE_VALUE_MAX = 0x7fff_ffff; // MAXLONG
export const EVENT_MODIFY_STATE = 0x2;

/** The layout of `MEMORY_BASIC_INFORMATION` on 64-bit Windows. */
export const MEMORY_BASIC_INFORMATION = { bytes: 48, regionSize: 24 } as const;

// <memoryapi.h>
export const FILE_MAP_WRITE = 0x2;
export const FILE_MAP_READ = 0x4;

// <winbase.h>: the results of `WaitForMultipleObjects`, which may add an index to the first two
export const WAIT_OBJECT_0 = 0;
export const WAIT_ABANDONED = 0x80;
export const WAIT_TIMEOUT = 0x102;
export const WAIT_FAILED = 0xffff_ffff;
/** The flag for zeroed memory that does not move. */
export const LPTR = 0x40;

// <minwindef.h>: the maximum length of the name of an object, in UTF-16 units
export const MAX_PATH = 260;

/** A user of the system. */
export interface UserInfo {
  /** The number of the user. */
  readonly uid: number;
  /** The name, `null` if the system knows none. */
  readonly name: string | null;
}

/** A process that the system has noted. */
export interface ProcessInfo {
  /** The number of the process, as seen from this one. */
  readonly pid: number;
  /** Whether there is a process of this number: the one that was noted, or a later one. */
  readonly alive: boolean;
}

/** What everything that is listed has. */
export interface IpcObjectInfo {
  /** What kind of key it has: System V or POSIX, as in the text of a `NativeIpcKey`. */
  readonly type: "systemv" | "posix";
  /** What the operating system knows it by, `null` if that is not known. */
  readonly nativeKey: string | null;
  /**
   * The file that leads to it, `null` if the folder of the key files has none that does. Of POSIX it is
   * the file that it is.
   */
  readonly keyFile: string | null;
  /** Whose it is. */
  readonly owner: UserInfo;
  /** Whether it belongs to the user of this process; only such things are removed. */
  readonly isOwn: boolean;
  /** Whether it is left over: no process can be using it. */
  readonly stale: boolean;
  /** Whether it is removed only on request: no key file leads to it, or another program made it. */
  readonly orphan: boolean;
  /** Why it is stale, or why not, in words. What is not known to be stale is not. */
  readonly reason: string;
}

/** The lock of a segment. */
export interface LockInfo {
  /** The number of the semaphore set, of POSIX the inode. */
  readonly id: number;
  /** The file that leads to it. */
  readonly keyFile: string;
  /** 1 when it is free, 0 when it is taken, `null` if this user may not know. */
  readonly value: number | null;
  /** The process that took it; `null` when it is free or if that is not known. */
  readonly holder: ProcessInfo | null;
  /** How many threads wait for it, `null` if this user may not know. */
  readonly waiting: number | null;
}

/** A segment. */
export interface SegmentInfo extends IpcObjectInfo {
  /** Tells it from the other things that are listed. */
  readonly kind: "segment";
  /** The number of the segment, of POSIX the inode. */
  readonly id: number;
  /** In bytes. */
  readonly size: number;
  /** The permission bits: 0o600 if it was not shared with other users on purpose. */
  readonly mode: number;
  /** How often it is attached; a process with several objects counts several times, of POSIX once. */
  readonly attached: number;
  /** The process that made it, `null` if that is not known. */
  readonly creator: ProcessInfo | null;
  /** The process that attached or detached last, `null` if that is not known. */
  readonly last: ProcessInfo | null;
  /** Whether its creator has not made it known to others yet. */
  readonly unfinished: boolean;
  /** Its lock, `null` if there is none at the moment. */
  readonly lock: LockInfo | null;
}

/** A semaphore that is not the lock of a segment. */
export interface SemaphoreInfo extends IpcObjectInfo {
  /** Tells it from the other things that are listed. */
  readonly kind: "semaphore";
  /** The number of the semaphore set, of POSIX the inode. */
  readonly id: number;
  /** The permission bits: 0o600 if it was not shared with other users on purpose. */
  readonly mode: number;
  /** How many can be acquired now, `null` if this user may not know. */
  readonly value: number | null;
  /** How many threads wait for it, `null` if this user may not know. */
  readonly waiting: number | null;
  /** The process that changed the value last, `null` if that is not known. */
  readonly last: ProcessInfo | null;
  /**
   * The processes that have it open through this module, and of the lock of a segment the one that made it. Qt leaves
   * no trace of its own, but of POSIX.
   */
  readonly users: readonly number[];
}

/** A key file that leads to nothing. */
export interface KeyFileInfo extends IpcObjectInfo {
  /** Tells it from the other things that are listed. */
  readonly kind: "key file";
}

/** What there is. */
export interface Inventory {
  /** The folder of the key files, in which was looked. */
  readonly folder: string;
  /** The segments. */
  readonly segments: readonly SegmentInfo[];
  /** The semaphores that are not the lock of a segment. */
  readonly semaphores: readonly SemaphoreInfo[];
  /** The key files that lead to nothing. */
  readonly keyFiles: readonly KeyFileInfo[];
}

/** @internal How a backend finds out what there is, and removes what is stale. Every method throws `BackendError`. */
export interface Inspection {
  /** @param allUsers whether other users' objects are wanted too */
  inventory(allUsers: boolean): Inventory;
  /** Removes something stale of this user's. Returns why not if it turns out that it is in use. */
  remove(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null;
}

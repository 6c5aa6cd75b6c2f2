/** A user of the system. */
export interface UserInfo {
  /** The number (uid) of the user. */
  readonly uid: number;
  /** The name of the user, `null` if the system does not know it. */
  readonly name: string | null;
}

/** @internal Returns a function that describes users, and looks each of them up only once. */
export function userLookup(nameOf: (uid: number) => string | null): (uid: number) => UserInfo {
  const users = new Map<number, UserInfo>();
  return (uid) => {
    const user = users.get(uid) ?? { uid, name: nameOf(uid) };
    users.set(uid, user);
    return user;
  };
}

/** A process that the system has recorded. */
export interface ProcessInfo {
  /** The number of the process (pid), as seen from this process. */
  readonly pid: number;
  /** Whether a process with this number exists: the recorded process, or a later one with the same number. */
  readonly alive: boolean;
}

/** The properties that all listed objects share. */
export interface IpcObjectInfo {
  /** The type of the object's key: System V or POSIX, as in the text of a `NativeIpcKey`. */
  readonly type: "systemv" | "posix";
  /** The name or number under which the operating system knows the object, `null` if that is not known. */
  readonly nativeKey: string | null;
  /**
   * The key file that leads to the object, `null` if the folder of the key files contains none that does. A POSIX
   * object is a file itself, and this is its path.
   */
  readonly keyFile: string | null;
  /** The owner of the object. */
  readonly owner: UserInfo;
  /** Whether the object belongs to the user of this process. Only such objects are removed. */
  readonly isOwn: boolean;
  /** Whether the object is left over: no process can be using it. */
  readonly stale: boolean;
  /** Whether the object is removed only on request: no key file leads to it, or another program created it. */
  readonly orphan: boolean;
  /** Why the object is stale or not, in words. An object counts as stale only if that is certain. */
  readonly reason: string;
}

/** The lock of a segment. */
export interface LockInfo {
  /** The number of the semaphore set; for POSIX, the inode. */
  readonly id: number;
  /** The key file that leads to the lock; for POSIX, the file that the lock is. */
  readonly keyFile: string;
  /** The value is 1 when the lock is free and 0 when it is held. It is `null` if this user may not read it. */
  readonly value: number | null;
  /** The process that holds the lock, `null` if the lock is free or its holder is not known. */
  readonly holder: ProcessInfo | null;
  /** How many threads are waiting for the lock, `null` if this user may not read that. */
  readonly waiting: number | null;
}

/** A shared memory segment. */
export interface SegmentInfo extends IpcObjectInfo {
  /** Distinguishes segments from other listed objects. */
  readonly kind: "segment";
  /** The number of the segment; for POSIX, the inode. */
  readonly id: number;
  /** The size in bytes. */
  readonly size: number;
  /** The permission bits: 0o600 unless the segment was deliberately shared with other users. */
  readonly mode: number;
  /**
   * How often the segment is attached. A System V segment counts a process once for each of its objects, a POSIX
   * segment counts each process once.
   */
  readonly attached: number;
  /** The process that created the segment, `null` if that is not known. */
  readonly creator: ProcessInfo | null;
  /** The process that attached or detached last, `null` if that is not known. */
  readonly last: ProcessInfo | null;
  /**
   * Whether the segment stays without a user until it is removed on purpose, since it was opened with the lifetime
   * `"until-removed"`. It is not stale then.
   */
  readonly persistent: boolean;
  /** Whether the creator of the segment has not yet published it to other processes. */
  readonly unfinished: boolean;
  /** The lock of the segment, `null` if it has none at the moment. */
  readonly lock: LockInfo | null;
}

/** @internal What is needed of a segment to read its bytes. */
export type PeekedSegment = Pick<
  SegmentInfo,
  "type" | "keyFile" | "id" | "size" | "isOwn" | "mode" | "lock" | "unfinished"
>;

/** @internal What is known of a segment without asking each process of the system. */
export interface SegmentGlance extends
  Pick<
    SegmentInfo,
    | "type"
    | "nativeKey"
    | "keyFile"
    | "id"
    | "size"
    | "isOwn"
    | "mode"
    | "persistent"
    | "unfinished"
    | "lock"
  > {
  /** As in {@linkcode SegmentInfo}; for POSIX without the processes of other programs than this module's. */
  readonly attached: number;
  /** Whether a program that looks often may look at the bytes of the segment: see glance.ts of the backend. */
  readonly isLookedInto: boolean;
}

/** A semaphore that is not the lock of a segment. */
export interface SemaphoreInfo extends IpcObjectInfo {
  /** Distinguishes semaphores from other listed objects. */
  readonly kind: "semaphore";
  /** The number of the semaphore set; for POSIX, the inode. */
  readonly id: number;
  /** The permission bits: 0o600 unless the semaphore was deliberately shared with other users. */
  readonly mode: number;
  /** How many times the semaphore can be acquired now, `null` if this user may not read that. */
  readonly value: number | null;
  /** How many threads are waiting for the semaphore, `null` if this user may not read that. */
  readonly waiting: number | null;
  /** The process that changed the value last, `null` if that is not known. */
  readonly last: ProcessInfo | null;
  /**
   * The processes that have the semaphore open through this module; for the lock of a segment, also the process that
   * created it. Qt programs are listed for POSIX only: for System V they leave no trace.
   */
  readonly users: readonly number[];
}

/** A key file that leads to no object. */
export interface KeyFileInfo extends IpcObjectInfo {
  /** Distinguishes key files from other listed objects. */
  readonly kind: "key file";
}

/** The objects that exist on this system. */
export interface Inventory {
  /** The folder that was searched for key files. */
  readonly folder: string;
  /** The segments. */
  readonly segments: readonly SegmentInfo[];
  /** The semaphores that are not the lock of a segment. */
  readonly semaphores: readonly SemaphoreInfo[];
  /** The key files that lead to no object. */
  readonly keyFiles: readonly KeyFileInfo[];
}

/** @internal The reason why a persistent segment without a user is kept. */
export const PERSISTENT = "no process uses it, and it is kept until it is removed";

/**
 * @internal The part of a backend that lists objects and removes stale ones. Every method throws `BackendError` if it
 * fails.
 */
export interface Inspection {
  /** @param allUsers whether to list objects of other users too */
  inventory(allUsers: boolean): Inventory;
  /** Removes a stale object of this user. If the object turns out to be in use, returns why it was not removed. */
  remove(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null;
}

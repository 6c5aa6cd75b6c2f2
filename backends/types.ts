import type { AccessMode, SystemSemaphoreMode } from "../errors.ts";
import type { BackgroundCall } from "../ffi/types.ts";
import type { Capabilities } from "./capabilities.ts";
import type { NativeIpcKeyPlace, NativeIpcKeyType } from "./native_key.ts";

/** An open, named counting semaphore of the operating system. Every method throws `BackendError` if it fails. */
export interface Semaphore {
  /** The name or number under which the operating system knows the semaphore. */
  readonly nativeKey: string;
  /** The identity of the semaphore: two objects have the same one exactly if they use the same semaphore. */
  readonly identity: string;
  /**
   * Acquires the semaphore once. Without a timeout the call blocks; after `timeoutMs` it returns `false` (0 tries
   * once).
   */
  acquire(timeoutMs?: number): boolean;
  /**
   * Begins a wait to acquire the semaphore once, without blocking this thread. The wait ends after at most `timeoutMs`,
   * and always soon, so the caller begins the next one. Where waits are polled, the wait is a pause of `pauseMs` before
   * the next attempt.
   */
  acquireSlice(timeoutMs: number, pauseMs: number): BackgroundWait;
  /** Releases the semaphore `count` times without waiting. */
  release(count?: number): void;
  /** Closes this object. The semaphore stays as it is for other processes. */
  close(): void;
  /**
   * The process that acquired the semaphore last, if its value is 0 and the process is known. The method is absent
   * where the system never tells.
   */
  holder?(): number | null;
  /** Whether this process acquired the semaphore last and its value is 0; absent where the system never tells. */
  isHeldHere?(): boolean;
  /**
   * Whether this process acquired the semaphore last, no object of this thread holds it, and the acquirer may have been
   * the program that ran in this process before `exec` replaced it. The method is absent where that cannot be known.
   */
  mayBeOfReplaced?(): boolean;
}

/**
 * A wait that does not block its thread. A wait that was given up holds up no other process or thread: what it acquires
 * after that is released on the thread that acquired it, whatever the event loop does.
 */
export interface BackgroundWait {
  /** Resolves when the wait is over; rejects if the wait is impossible. */
  readonly over: Promise<void>;
  /** Whether the wait has begun: a thread takes 20 to 200 ms to start. */
  readonly hasBegun: boolean;
  /** Whether the wait has acquired the semaphore. The caller then owns it; only the first call returns `true`. */
  claim(): boolean;
  /** Tells the wait that the caller no longer waits for it. */
  giveUp(): void;
  /** Takes `giveUp()` back: the caller waits again. Returns `false` if it is too late for that. */
  resume(): boolean;
  /**
   * Blocks this thread until the state of the wait changes, for at most `ms`. Returns whether the wait may still
   * acquire or release something.
   */
  join(ms: number): boolean;
}

/** Creates a wait that acquires nothing, so giving it up releases nothing. */
export function pauseOf(over: Promise<void>): BackgroundWait {
  return {
    over,
    hasBegun: true,
    claim: () => false,
    giveUp() {},
    resume: () => true,
    join: () => false,
  };
}

/** Creates a wait from a call on another thread, with its own `over` and `claim`. */
export function waitOf(
  call: Omit<BackgroundCall, "unref">,
  over: Promise<void>,
  claim: () => boolean,
): BackgroundWait {
  return {
    over,
    get hasBegun() {
      return call.hasBegun;
    },
    claim,
    giveUp: () => call.giveUp(),
    resume: () => call.resume(),
    join: (ms) => call.join(ms),
  };
}

/**
 * The semaphore of value 1 with which Qt guards a segment. The optional members concern locks that outlive their
 * processes and whose creator removes them: those of System V, and `remove` also those of POSIX on macOS.
 */
export interface Lock extends Semaphore {
  isHeldHere(): boolean;
  /** Whether this object created the lock. */
  readonly isOwner?: boolean;
  /**
   * Takes over a lock that no living process can hold: waits for it for a bounded time, at most `timeoutMs`, then takes
   * it over if `stale()` is still true.
   */
  takeOver?(stale: () => boolean, timeoutMs: number): boolean;
  /**
   * Tells whether the segment of this lock is in use. A lock that has to be created asks this: if the segment is in
   * use, only the key file was deleted, and the users of the segment may still hold the old lock.
   */
  isSegmentUsed?: (() => boolean) | null;
  /** Stops relying on the key file of the lock, on which the object that created the lock relies until then. */
  letGo?(): void;
  /**
   * Removes the lock for all processes. A process that needs it later creates it again.
   *
   * @param isSole whether no other process relies on the key files, so that they may be deleted
   */
  remove?(isSole?: boolean): void;
  /**
   * Leaves the lock to the remaining processes, and releases it if it is `held`. The object that created the lock
   * removes it if no process holds it, as Qt does: the next process that needs it creates it again and owns it.
   * Otherwise the lock would stay for ever if the last process to leave is a Qt program, which removes only what it
   * created.
   *
   * @param isSole as for `remove`
   */
  handOver?(held: boolean, isSole?: boolean): void;
}

/** An attached segment. */
export interface Segment {
  readonly address: bigint;
  /** The size in bytes. */
  readonly size: number;
  /**
   * Detaches the segment. Private zero-filled memory takes its place at the address, so that a stray access through the
   * old address (by an unfinished native call or a transferred buffer) is harmless. Returns `false` if the system has
   * no memory for that; the segment is then still attached. Windows cannot replace the memory and leaves the segment
   * there.
   */
  unmap(): boolean;
  /** Frees the address range, whether it is attached or not. No code may use the address after that. */
  free(): void;
  /** Releases and closes the segment and its lock after `unmap`. Removes both if no process is attached. */
  release(options: ReleaseOptions): void;
  /**
   * Makes the segment persistent, or takes that back. As long as it is persistent, the `release` of an object that has
   * made it so does not remove it, and `cleanup()` does so only on request. The method is absent where the system
   * removes segments by rules of its own.
   */
  setPersistent?(isPersistent: boolean): void;
  /** Has `release` leave the segment in place as long as it is persistent, whichever object has made it so. */
  respectPersistence?(): void;
  /** Throws what `setPersistent(true)` would throw, and changes nothing. */
  requirePersistable?(): void;
}

/** The options of `Segment.release`. */
export interface ReleaseOptions {
  /** Whether the caller holds the lock; the call then releases the lock too. */
  readonly lockHeld: boolean;
  /**
   * Whether to wait for the lock for as long as it takes. Otherwise the wait lasts as long as a create, attach or
   * detach of another process does, and after it the segment is left to the holder of the lock.
   */
  readonly wait: boolean;
  /** Whether the program is ending. A lock that this process holds then counts as held by the caller. */
  readonly exiting?: boolean;
}

/** The parameters of `SegmentBackend.open`. */
export interface OpenRequest {
  /** The size of a new segment and the minimum size of an existing one, in bytes. */
  readonly size: number;
  readonly mode: AccessMode;
  /** Whether a segment that is in use is an error or is attached to. */
  readonly existing: "refuse" | "attach";
  /** Whether a segment that a crash left behind, with no process attached, is replaced or kept. */
  readonly stale: "replace" | "keep";
  /** How long to wait for a process that is creating the segment, in ms. */
  readonly timeoutMs: number;
  /** Whether a new segment is persistent, from before other processes can find it. */
  readonly isPersistent?: boolean;
  /**
   * Fills a new segment before other processes can find it. If it throws, it has already released the segment together
   * with the lock.
   */
  readonly initialize: ((segment: Segment) => void) | null;
  /**
   * Gets a segment that exists and to which no other process is attached, before another process can attach. If it
   * throws, it has already released the segment together with the lock.
   */
  readonly adopt?: ((segment: Segment) => void) | undefined;
  /** Ends the use of a segment that was initialized, when another program has taken its name meanwhile. */
  readonly discard?: () => void;
}

/**
 * The operations on named segments. Without a lock (the native key is a plain string) nothing guards creation and
 * removal, as in Qt. If the lock has the same native key as the segment, the user has chosen that key.
 */
export interface SegmentBackend {
  /** Creates and attaches a segment of `size` bytes. */
  create(nativeKey: string, size: number, mode: AccessMode, lock: Lock | null): Segment;
  attach(
    nativeKey: string,
    mode: AccessMode,
    lock: Lock | null,
    permissions?: number,
    minBytes?: number,
  ): Segment;
  /**
   * Throws `Unsupported` if the segments of the key cannot be persistent. The method is absent where none can: see
   * `Segment.setPersistent`.
   */
  requirePersistable?(nativeKey: string, lock: Lock | null): void;
  /** Creates the segment or attaches to it. If several processes do so at once, one of them creates it. */
  open(nativeKey: string, request: OpenRequest, lock: Lock, permissions?: number): Segment;
}

export interface SemaphoreBackend {
  /**
   * Opens the semaphore, or creates it with `initialValue`. In mode Create, an existing semaphore is set to
   * `initialValue`. `isExplicit` says that the user has chosen the native key and answers for what exists there.
   */
  open(
    nativeKey: string,
    initialValue: number,
    mode: SystemSemaphoreMode,
    isExplicit?: boolean,
  ): Semaphore;
  /**
   * Returns the lock of a segment. The lock makes no system call before its first use. `isExplicit` says that the lock
   * has the native key of the segment.
   */
  lock(nativeKey: string, permissions?: number, isExplicit?: boolean): Lock;
}

/** The implementation of one type of keys on one operating system. */
export interface Backend {
  /** Wraps foreign memory in an `ArrayBuffer`, in the way of this runtime. */
  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer;
  readonly segments: SegmentBackend;
  readonly semaphores: SemaphoreBackend;
  /**
   * The folder of the key files, `""` if keys of this type are not paths. Throws `BackendError` if there is no such
   * folder.
   */
  folder(): string;
  /**
   * The folder of the key files of `platformSafeKey()`, which not all versions of Qt use. It is `""` if keys of this
   * type are not paths.
   */
  runtimeFolder(): string;
  /** The users of the system, or `null` where the owner of an object does not matter. */
  readonly users: Users | null;
}

/** All that this module knows of a type of keys on the systems that have it. Each backend exports one such record. */
export interface KeyType {
  readonly capabilities: Capabilities;
  /** Returns the text before the colon for a type; `""` if the type is not one of this record. */
  schemeOf(type: NativeIpcKeyType): string;
  /** Returns the type for the text before the colon; 0 if it is not one of this record. */
  typeOf(scheme: string): NativeIpcKeyType;
  /** Whether a system has such objects. */
  supports(os: string): boolean;
  /** Returns the native key in which `key` is readable, as `platformSafeKey()` of Qt 6.6 makes it. */
  safeKey(key: string, place: NativeIpcKeyPlace): string;
  /** Returns the native key that every version of Qt makes of a key with this platform-safe name. */
  legacyKey(name: string, folder: string): string;
  /** Returns the native key of the lock of a segment whose native key the user has chosen; by default the same key. */
  lockKey?(nativeKey: string): string;
  /** Loads the backend for this process. */
  load(type: NativeIpcKeyType): Backend;
}

/** Returns the scheme members of a record with only one type. */
export function onlyType(
  type: NativeIpcKeyType,
  scheme: string,
): Pick<KeyType, "schemeOf" | "typeOf"> {
  return {
    schemeOf: (other) => other === type ? scheme : "",
    typeOf: (other) => other === scheme ? type : 0,
  };
}

/** The members of a backend whose native keys are not paths. */
export const NO_FOLDERS: Pick<Backend, "folder" | "runtimeFolder"> = {
  folder: () => "",
  runtimeFolder: () => "",
};

/** The users as which this process acts. */
export interface Users {
  /** The effective user of this process when it was last looked up. */
  readonly lastUid: number;
  /** Looks up the effective user of this process now. */
  currentUid(): number;
}

/** The permissions of everything that Qt creates: only its owner may use it. */
export const PRIVATE = 0o600;

/** Whether `permissions` allow users other than the owner. */
export function isShared(permissions: number): boolean {
  return (permissions & 0o077) !== 0;
}

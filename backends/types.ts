import type { AccessMode, SystemSemaphoreMode } from "../errors.ts";
import type { BackgroundCall } from "../ffi/types.ts";

/** A named counting semaphore of the operating system, open. Every method throws `BackendError`. */
export interface Semaphore {
  /** What the system knows it by. */
  readonly nativeKey: string;
  /** Objects of the same semaphore have the same, and those of others another one. */
  readonly identity: string;
  /** Takes one; blocks without a timeout. `false` after `timeoutMs` (0 tries once). */
  acquire(timeoutMs?: number): boolean;
  /**
   * Begins to wait for one without blocking this thread, for at most `timeoutMs` and never for long; to be called again.
   * Where waits are polled it is a pause of `pauseMs` before the next try.
   */
  acquireSlice(timeoutMs: number, pauseMs: number): BackgroundWait;
  /** Gives `count` back at once. */
  release(count?: number): void;
  /** Removes it for everybody: whoever waits makes a new one. */
  remove(): void;
  /** Lets go of it without touching it for others. */
  close(): void;
  /** The process that took the last one, if there is none left and it is known. */
  holder(): number | null;
  /** Whether that is this process. */
  isHeldHere(): boolean;
  /**
   * Whether this process took the last one, no object of this thread has it, and it may have been the program that ran
   * in this process before `exec` replaced it. Not there where nobody can tell.
   */
  mayBeOfReplaced?(): boolean;
}

/**
 * A wait that does not block its thread. As soon as it is given up it holds up nobody: what it takes then is given back
 * where it is taken, whatever the event loop does.
 */
export interface BackgroundWait {
  /** Resolves when the wait is over; rejects if it cannot be done. */
  readonly over: Promise<void>;
  /** Whether it has begun: a thread takes 20 to 200 ms to start. */
  readonly hasBegun: boolean;
  /** Whether it has taken one, which is the caller's then; he is told so only once. */
  claim(): boolean;
  /** Nobody waits any more. */
  giveUp(): void;
  /** Somebody waits again; `false` if it is too late for that. */
  resume(): boolean;
  /** Blocks this thread until the wait has come further, for at most `ms`; whether it may still take or give back something. */
  join(ms: number): boolean;
}

/** A wait that takes nothing, so that there is nothing to be given back. */
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

/** A wait by a call on another thread, with an `over` and a `claim` of its own. */
export function waitOf(
  call: BackgroundCall,
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

/** The semaphore of value 1 that Qt guards a segment with. */
export interface Lock extends Semaphore {
  /** Whether this object made it. */
  readonly isOwner: boolean;
  /**
   * Takes a lock that nobody alive can hold: waits for it for a bounded time, at most `timeoutMs`,
   * then takes it over if `stale()` is still true.
   */
  takeOver(stale: () => boolean, timeoutMs: number): boolean;
  /**
   * Asked by a lock that has to be made, though its segment may be in use: then those who use it may have the
   * lock still, and only its key file was deleted.
   */
  isSegmentUsed?: (() => boolean) | null;
  /** Relies on its key file no more, as its maker does otherwise. */
  letGo?(): void;
  /**
   * Removes the lock for everybody, who make it again if they need it.
   *
   * @param isSole whether no other process relies on the key files, so that they may be deleted
   */
  remove(isSole?: boolean): void;
  /**
   * Leaves it to those who stay, unlocked if it is `held`. Its maker removes it if nobody holds it, as
   * Qt does: whoever needs it next makes it again and owns it. Otherwise it would stay for ever if the
   * last one out is Qt, which removes only what it made.
   *
   * @param isSole as for `remove`
   */
  handOver(held: boolean, isSole?: boolean): void;
}

/** An attached segment. */
export interface Segment {
  readonly address: bigint;
  /** In bytes. */
  readonly size: number;
  /**
   * Detaches, leaving private zero-filled memory at the address, so that a stray access by somebody
   * who still has the address (an unfinished native call, a transferred buffer) harms nobody. `false`
   * if the system has no memory for that, and the segment is attached still. Windows cannot do that,
   * and leaves the segment there.
   */
  unmap(): boolean;
  /** Gives the address range back, attached or not; nobody may know it any more. */
  free(): void;
  /** After `unmap`: removes the segment and its lock if nobody is attached, and closes and releases both. */
  release(options: ReleaseOptions): void;
}

/** How a segment is released. */
export interface ReleaseOptions {
  /** Whether the caller holds the lock, which is released then too. */
  readonly lockHeld: boolean;
  /**
   * Whether to wait for the lock for as long as it takes. Otherwise the wait is as long as a create, attach or detach of
   * another process, and after it the segment is left to the holder of the lock.
   */
  readonly wait: boolean;
  /** Whether the program ends, so that a lock that this process holds is nobody else's. */
  readonly exiting?: boolean;
}

/** What `SegmentBackend.open` is to do. */
export interface OpenRequest {
  /** In bytes: of a new segment, and at least of one that exists. */
  readonly size: number;
  readonly mode: AccessMode;
  /** One that is in use: is it an error, or to be attached to? */
  readonly existing: "refuse" | "attach";
  /** One that nobody is attached to, left from a crash. */
  readonly stale: "replace" | "keep";
  /** How long to wait for somebody who is making the segment, in ms. */
  readonly timeoutMs: number;
  /**
   * Fills a new segment before others can find it. If it throws it has left the segment, with the lock
   * held.
   */
  readonly initialize: ((segment: Segment) => void) | null;
  /** Ends the use of a segment that was initialized, but whose name another program has taken meanwhile. */
  readonly discard?: () => void;
}

/**
 * Named segments. Without a lock (native keys that are strings) nothing guards their creation and
 * removal, as in Qt. A lock of the same native key is one that the user has chosen.
 */
export interface SegmentBackend {
  /** Makes and attaches a segment of `size` bytes. */
  create(nativeKey: string, size: number, mode: AccessMode, lock: Lock | null): Segment;
  attach(
    nativeKey: string,
    mode: AccessMode,
    lock: Lock | null,
    permissions?: number,
    minBytes?: number,
  ): Segment;
  /** Makes the segment or attaches to it: of several at once, one makes it. */
  open(nativeKey: string, request: OpenRequest, lock: Lock, permissions?: number): Segment;
}

export interface SemaphoreBackend {
  /**
   * Opens, or makes with `initialValue`. In mode Create one that exists is set to `initialValue`.
   * `isChosen` says that the user has chosen the native key, and answers for what is there.
   */
  open(
    nativeKey: string,
    initialValue: number,
    mode: SystemSemaphoreMode,
    isChosen?: boolean,
  ): Semaphore;
  /** The lock of a segment; the system is not asked before its first use. `isChosen`: it has the segment's name. */
  lock(nativeKey: string, permissions?: number, isChosen?: boolean): Lock;
}

/** What an operating system offers for a kind of key. */
export interface Backend {
  /** A view of foreign memory, as this runtime makes it. */
  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer;
  readonly segments: SegmentBackend;
  readonly semaphores: SemaphoreBackend;
  /** The folder of the keys that are paths, `""` where they are not; throws `BackendError` if there is none. */
  folder(): string;
  /** The folder of such keys that are not made for all versions of Qt. */
  runtimeFolder(): string;
  /** The users of the system, `null` where the owner of an object does not matter. */
  readonly users: Users | null;
}

/** As whom a process acts. */
export interface Users {
  /** The user that this process was seen to act as last. */
  readonly lastUid: number;
  /** The user that it acts as now. */
  currentUid(): number;
}

/** What only its user may use: the permissions of everything that Qt makes. */
export const PRIVATE = 0o600;

/** Whether others than the owner may use what has these permissions. */
export function isShared(permissions: number): boolean {
  return (permissions & 0o077) !== 0;
}

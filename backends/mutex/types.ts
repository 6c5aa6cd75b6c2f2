import type { HeldNode } from "./held_list.ts";

/** The implementation that created a mutex in a segment, which decides the layout of its bytes. */
export const MutexAbi = { glibc: 1, musl: 2, windows: 3, macos: 4 } as const;

/**
 * The outcome of locking a mutex. The mutex is locked if the outcome is `taken`, or `abandoned`: then its last holder
 * ended without unlocking it. Otherwise another thread (`held`) or this one (`own`) holds it, no thread will ever be
 * able to lock it again (`unrecoverable`), its bytes are no longer those of a mutex (`damaged`), or the C library
 * refused, for the reason given. `own` is also the outcome if the bytes say so and no object of this thread has locked the
 * mutex, as after a timeout of `node:vm` or a debugger has stopped the code that did.
 */
export type LockOutcome =
  | "taken"
  | "abandoned"
  | "held"
  | "own"
  | "unrecoverable"
  | "damaged"
  | { readonly refused: string };

/** The implementation of mutexes in segments on one system. `Joined` is a mutex as one thread uses it. */
export interface MutexBackend<Joined extends HeldNode = HeldNode> {
  /** The {@linkcode MutexAbi} of the mutexes. */
  readonly abi: number;
  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer;
  /**
   * Returns the number of the scope in which a mutex of this process can be used, such as a container or a session.
   * Other scopes have other numbers.
   */
  scope(): number;
  /** The name of the kind of scope, for texts. */
  readonly scopeName: string;
  /** Initializes a mutex in 48 bytes that no thread uses yet, or any more. */
  init(address: bigint): void;
  /** Whether an initialized mutex, which no living thread uses, was held by the last thread that used it. */
  wasHeld(address: bigint): boolean;
  /**
   * Joins an initialized mutex.
   *
   * @param segment the segment with which the mutex is used, until `close`
   */
  join(address: bigint, segment: object): Joined;
  /** The mutexes that this thread holds, the newest one first. */
  readonly held: Iterable<HeldNode>;
  /** Whether the bytes are still those of the mutex. */
  isMutex(mutex: Joined): boolean;
  /** Locks a mutex; returns `held` if another thread does not unlock it within `ms`. */
  lock(mutex: Joined, ms: number): LockOutcome;
  /**
   * Returns the number of the process that holds a mutex, or on Linux that of the thread, for texts; `null` if no thread
   * holds it, and where that cannot be known.
   */
  holder(mutex: Joined): number | null;
  /**
   * Returns the holder of a mutex, for texts, if the holder no longer exists and so never unlocks it; otherwise `null`.
   */
  vanishedOwner(mutex: Joined): number | null;
  /**
   * Unlocks a mutex that this thread holds; returns `false` if its bytes were overwritten, so that other threads may
   * hold it too.
   */
  unlock(mutex: Joined): boolean;
  /** Closes the mutexes that were joined with `segment`. They must not be held or used any more. */
  close?(segment: object): void;
}

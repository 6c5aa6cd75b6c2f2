import type { HeldNode } from "./held_list.ts";

/** Who made a mutex in a segment: what lies there differs. */
export const MutexAbi = { glibc: 1, musl: 2, windows: 3, macos: 4 } as const;

/**
 * What came of locking a mutex. It is locked if the outcome is `taken`, or `abandoned`: then its last holder ended
 * without unlocking it. Otherwise another thread (`held`) or this one (`own`) holds it, no thread ever will again
 * (`unrecoverable`), its bytes are no longer those of a mutex (`damaged`), or the C library refused, for the reason given.
 */
export type LockOutcome =
  | "taken"
  | "abandoned"
  | "held"
  | "own"
  | "unrecoverable"
  | "damaged"
  | { readonly refused: string };

/** What a system has for mutexes in segments; `Joined` is one, as one thread uses it. */
export interface MutexBackend<Joined extends HeldNode = HeldNode> {
  /** One of {@linkcode MutexAbi}. */
  readonly abi: number;
  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer;
  /** Where a mutex of this process can be used: in a container, a session. Others have another number. */
  scope(): number;
  /** What `scope` is a number of, for texts. */
  readonly scopeName: string;
  /** Makes one of 48 bytes that nobody uses. */
  init(address: bigint): void;
  /**
   * Joins one.
   *
   * @param segment what it is used with, until `close`
   */
  join(address: bigint, segment: object): Joined;
  /** What this thread holds, the last one taken first. */
  readonly held: Iterable<HeldNode>;
  /** Whether the bytes are still of that mutex. */
  isMutex(mutex: Joined): boolean;
  /** Takes one; `held` if somebody else does not give it back within `ms`. */
  lock(mutex: Joined, ms: number): LockOutcome;
  /** Who holds one, for texts, if that does not exist and so never gives it back; otherwise `null`. */
  vanishedOwner(mutex: Joined): number | null;
  /** Gives back one that this thread holds; `false` if its bytes were overwritten, so that others may hold it too. */
  unlock(mutex: Joined): boolean;
  /** The mutexes that were joined with `segment` are used no more, nor held. */
  close?(segment: object): void;
}

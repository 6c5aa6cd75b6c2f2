import type { AccessMode, SystemSemaphoreMode } from "../errors.ts";

/** A named counting semaphore of the operating system, open. Every method throws `Failure`. */
export interface Semaphore {
  /** Takes one; blocks without a timeout. `false` after `timeoutMs` (0 tries once). */
  acquire(timeoutMs?: number): boolean;
  /** Gives `count` back at once. */
  release(count?: number): void;
  /** Removes it for everybody: whoever waits makes a new one. */
  remove(): void;
  /** Lets go of it without touching it for others. */
  close(): void;
}

/** The semaphore of value 1 that Qt guards a segment with. */
export interface Lock extends Semaphore {
  /**
   * Takes a lock that nobody alive can hold: waits for it for a bounded time, then takes it over.
   * `false` as soon as `stale()` is no longer true.
   */
  recover(stale: () => boolean): boolean;
  /**
   * Leaves it to those who stay, unlocked if it is `held`. Its maker removes it if nobody holds it, as
   * Qt does: whoever needs it next makes it again and owns it. Otherwise it would stay for ever if the
   * last one out is Qt, which removes only what it made.
   */
  bequeath(held: boolean): void;
}

/** An attached segment. */
export interface Segment {
  readonly address: bigint;
  /** In bytes. */
  readonly size: number;
  /**
   * Detaches, leaving private zero-filled memory at the address, so that a stray access by somebody
   * who still has the address (an unfinished native call, a transferred buffer) harms nobody. `false`
   * if the system has no memory for that, and the segment is attached still.
   */
  unmap(): boolean;
  /** Gives the address range back, attached or not; nobody may know it any more. */
  free(): void;
  /**
   * After `unmap`: removes the segment and its lock if nobody is attached. With `wait` false it gives
   * up when somebody holds the lock. Returns with the lock released if `held` says it was taken.
   */
  leave(held: boolean, wait: boolean): void;
}

/** Named segments. Without a lock (native keys) nothing guards their creation and removal, as in Qt. */
export interface SegmentBackend {
  /** Makes and attaches a segment of `size` bytes. */
  create(nativeKey: string, size: number, mode: AccessMode, lock: Lock | null): Segment;
  attach(nativeKey: string, mode: AccessMode, lock: Lock | null): Segment;
}

export interface SemaphoreBackend {
  /** Opens, or makes with `initialValue`. In mode Create one that exists is set to `initialValue`. */
  open(nativeKey: string, initialValue: number, mode: SystemSemaphoreMode): Semaphore;
  /** The lock of a segment; the system is not asked before its first use. */
  lock(nativeKey: string): Lock;
}

/** What an operating system offers for a kind of key. */
export interface Backend {
  /** A view of foreign memory, as this runtime makes it. */
  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer;
  readonly segments: SegmentBackend;
  readonly semaphores: SemaphoreBackend;
  /** The native key of a platform-safe name, for the system's legacy kind of key. */
  nativeKey(name: string): string;
}

import {
  acquireAsync,
  acquireBlocking,
  acquireWithin,
  failWaits,
  isAwaited,
  isWaiting,
} from "./acquire_queue.ts";
import { type Collected, collection } from "./collection.ts";
import { ExposedBuffer, notTransferred } from "./exposed_buffer.ts";
import { forgetAtExit, isClosed, rememberAtExit } from "./exit_hook.ts";
import { BackendError, replacedText } from "../backends/failure.ts";
import type { Backend, Lock, Segment, SegmentBackend } from "../backends/types.ts";
import { registry, type Resource, type SharedAttachment } from "../registry.ts";
import { requireStack, requireStackToUndo } from "./stack.ts";
import type { Wait } from "./waiter.ts";

/**
 * Returns the error for a call that needs the lock of a segment whose native key is a plain string. As in Qt before
 * 6.6, such a segment has no lock.
 */
export function noLock(): BackendError {
  return new BackendError(
    "NoLock",
    "a native key that is a string has no lock; use setKey() or a NativeIpcKey to have one",
  );
}

/** @throws {BackendError} if `initialize` of the segment runs in this thread, which would wait for itself */
export function refuseNested(lock: Lock): void {
  for (const { isInitializing, lockIdentity } of registry.attachments) {
    if (!isInitializing || lockIdentity !== lock.identity) continue;
    throw new BackendError(
      "Deadlock",
      "initialize or adopt of the same segment is running in this thread",
    );
  }
}

/** @throws {BackendError} `Unsupported` if the segments of the key cannot stay without a user */
export function requirePersistable(
  segments: SegmentBackend,
  nativeKey: string,
  lock: Lock | null,
): void {
  if (segments.requirePersistable !== undefined) {
    return segments.requirePersistable(nativeKey, lock);
  }
  throw new BackendError(
    "Unsupported",
    'keys of this type cannot have the lifetime "until-removed": the system removes their segments by rules of its own',
  );
}

/**
 * An attachment slot connects a `SharedMemory` object with the segment that it is attached to. An object uses one slot
 * for all its life, since registering a slot for garbage collection costs microseconds.
 */
export class AttachmentSlot {
  /**
   * The attachment that began last. The property does not exist before the first attachment: so it is assigned once,
   * unless the object attaches again, and engines treat it as a constant, like the `declare` fields of sync/slot.ts.
   */
  declare attachment: Attachment | undefined;
  /** The buffer that {@linkcode Attachment.expose} has created. */
  buffer: ArrayBuffer | null = null;
  /** This reference to the last attachment outlives the slot. */
  #last: LastAttachment | null = null;

  begin(attachment: Attachment): void {
    this.attachment = attachment;
    this.buffer = null;
    if (this.#last !== null) {
      this.#last.attachment = attachment;
    } else {
      collection().register(this, this.#last = new LastAttachment(attachment));
    }
  }
}

/** The last attachment of a slot, which ends when the slot has been collected. */
class LastAttachment implements Collected {
  attachment: Attachment;

  constructor(attachment: Attachment) {
    this.attachment = attachment;
  }

  collected(): void {
    this.attachment.accessCollected();
  }
}

/**
 * An attachment lasts from one attach of a segment to the detach. It outlives its `SharedMemory` object: it ends when
 * the object detaches, when no view is left that could be used, or when the program ends.
 */
export class Attachment implements Resource, SharedAttachment {
  // Fields that each lock() and unlock() reads have `declare` and no `#`: sync/slot.ts says why.

  readonly size: number;
  /** Whether a store into the buffer is allowed. */
  readonly isWritable: boolean;
  readonly #segment: Segment;
  /** The lock of the segment, if it has one. */
  declare private readonly segmentLock: Lock | null;
  readonly #exposed: ExposedBuffer;
  private hasEnded = false;
  private hasLock = false;
  #isLockedAsync = false;
  isInitializing = false;
  private holds = 0;
  private held: AttachmentSlot | null = null;
  #endings: Set<() => void> | null = null;

  constructor(
    backend: Backend,
    segment: Segment,
    lock: Lock | null,
    access: AttachmentSlot,
    isWritable: boolean,
  ) {
    this.size = segment.size;
    this.isWritable = isWritable;
    this.#segment = segment;
    this.#exposed = new ExposedBuffer(backend, segment, this);
    this.segmentLock = lock;
    access.begin(this);
    registry.attachments.add(this);
    rememberAtExit(this);
  }

  /**
   * Returns the buffer of the segment, which the first call creates.
   *
   * @throws {BackendError} `InvalidSize` if the runtime cannot create it, `Transferred` if it was transferred away
   */
  expose(access: AttachmentSlot): ArrayBuffer {
    if (access.buffer !== null) return notTransferred(access.buffer);
    const buffer = this.#exposed.create();
    registry.byBuffer.set(buffer, this);
    return access.buffer = buffer;
  }

  /** Returns the attachment of a buffer, which may have ended; `undefined` if the buffer is not that of a segment. */
  static of(buffer: ArrayBufferLike): SharedAttachment | undefined {
    return registry.byBuffer.get(buffer);
  }

  /** The address of the segment. Once the attachment has ended, it may be unmapped. */
  get address(): bigint {
    return this.#segment.address;
  }

  /** Calls `release`, which must not throw, before the segment is unmapped. It keeps `release` alive until then. */
  beforeEnd(release: () => void): void {
    (this.#endings ??= new Set()).add(release);
  }

  /** Removes a function that {@linkcode Attachment.beforeEnd} has added. */
  notBeforeEnd(release: () => void): void {
    this.#endings?.delete(release);
  }

  get isEnded(): boolean {
    return this.hasEnded;
  }

  get lockIdentity(): string | null {
    return this.segmentLock?.identity ?? null;
  }

  get isLocked(): boolean {
    return this.hasLock;
  }

  /** Acquires the lock, and keeps its slot `access` alive until the release. Returns `false` after `timeoutMs`. */
  lock(access: AttachmentSlot, timeoutMs?: number): boolean {
    requireStack();
    const lock = this.segmentLock ?? this.#existingLock();
    if (timeoutMs === undefined) {
      if (registry.locksHeld > 0) this.#refuseDeadlock();
      if (isWaiting()) acquireBlocking(lock); // which checks that too; but engines inline only to a certain depth
      else lock.acquire();
    } else if (!acquireWithin(lock, timeoutMs)) {
      return false;
    }
    this.hold(access);
    return true;
  }

  /**
   * Acquires the lock without blocking the thread. `onTaken` gets the number that {@linkcode Attachment.endHold} takes.
   */
  lockAsync(
    access: AttachmentSlot,
    options: Wait,
    onTaken: (hold: number) => void,
  ): Promise<boolean> {
    return acquireAsync(this.#existingLock(), options, () => {
      onTaken(this.hold(access));
      this.#isLockedAsync = true;
    });
  }

  /** Whether an asynchronous call holds the lock. Other code of the thread runs meanwhile. */
  get isLockedAsync(): boolean {
    return this.hasLock && this.#isLockedAsync;
  }

  /** Returns the pid of the process that holds the lock, or `null` if it is unknown. */
  holder(): number | null {
    return this.segmentLock?.holder?.() ?? null;
  }

  /** Returns the text that an error adds after the holder. */
  holderText(): string {
    return replacedText(this.segmentLock);
  }

  #existingLock(): Lock {
    if (this.segmentLock !== null) return this.segmentLock;
    throw noLock();
  }

  /** Notes that the lock has been acquired; returns the number of this hold. */
  private hold(access: AttachmentSlot): number {
    this.hasLock = true;
    this.#isLockedAsync = false;
    this.held = access;
    registry.locksHeld++;
    return ++this.holds;
  }

  /** How often the lock has been acquired. The number tells one hold from another. */
  get lastHold(): number {
    return this.holds;
  }

  /** Returns whether the lock is still held since `hold`. */
  isHeld(hold: number): boolean {
    return this.hasLock && this.holds === hold;
  }

  /** Unlocks if the lock is still held since `hold`: it may have been unlocked, and perhaps locked again. */
  endHold(hold: number): void {
    if (this.isHeld(hold)) this.unlock();
  }

  /** Fills a new segment while the code that creates it holds the lock. If `fill` throws, the attachment ends. */
  initialize(access: AttachmentSlot, fill: () => void): void {
    this.hold(access);
    this.isInitializing = true;
    try {
      fill();
      this.isInitializing = false;
      this.forgetLock();
    } catch (error) {
      this.end();
      throw error;
    }
  }

  /** Has the end of this attachment leave the segment in place as long as it is persistent. */
  respectPersistence(): void {
    this.#segment.respectPersistence?.();
  }

  /** Makes the segment persistent, or takes that back: `Segment.setPersistent`. */
  setPersistent(isPersistent: boolean): void {
    this.#segment.setPersistent?.(isPersistent);
  }

  unlock(): void {
    requireStackToUndo();
    this.forgetLock();
    this.segmentLock?.release();
  }

  /** Notes that the lock is no longer held; returns whether it was held. */
  private forgetLock(): boolean {
    if (!this.hasLock) return false;
    this.hasLock = false;
    this.held = null;
    registry.locksHeld--;
    return true;
  }

  #refuseDeadlock(): void {
    const identity = this.lockIdentity;
    for (const other of registry.attachments) {
      if (!other.isLocked || other.lockIdentity !== identity) continue;
      throw new BackendError(
        "Deadlock",
        "another object of this thread holds the lock, and could never release it while this one " +
          "waits; unlock() that one first",
      );
    }
  }

  /** Detaches every view, unmaps the segment, and removes it if no process uses it. */
  end(atExit = false): void {
    if (this.hasEnded) return;
    for (const release of this.#endings ?? []) release();
    this.#endings = null;
    this.hasEnded = true;
    registry.attachments.delete(this);
    try {
      this.#exposed.unmap();
    } finally {
      const lock = this.segmentLock;
      if (lock !== null && isAwaited(lock.identity)) {
        failWaits(lock, new BackendError("NotAttached", "detached while it waited"));
      }
      forgetAtExit(this);
      this.#segment.release({
        lockHeld: this.forgetLock(),
        wait: !atExit,
        exiting: isClosed(),
      });
    }
  }

  closeAtExit(): void {
    try {
      this.end(true);
    } catch {
      // No code is left to report the error to. The kernel detaches and unlocks in any case.
    }
  }

  /** Ends the attachment when its object has been collected, unless a buffer exists that a program may still use. */
  accessCollected(): void {
    if (!this.#exposed.isCreated && !this.hasEnded) this.closeAtExit();
  }
}

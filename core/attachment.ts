import {
  acquireAsync,
  acquireBlocking,
  acquireWithin,
  failWaits,
  isAwaited,
  isWaiting,
} from "./acquire_queue.ts";
import { forgetAtExit, isClosed, rememberAtExit } from "./exit_hook.ts";
import { BackendError, replacedText } from "../backends/failure.ts";
import type { Backend, Lock, Segment } from "../backends/types.ts";
import { registry, type Resource, type SharedAttachment } from "../registry.ts";
import { requireStack, requireStackToUndo } from "./stack.ts";
import { bytesOf } from "./view_extent.ts";
import type { Wait } from "./waiter.ts";

/** Of the lock that a segment does not have. */
export function noLock(): BackendError {
  return new BackendError(
    "NoLock",
    "a native key that is a string has no lock; use setKey() or a NativeIpcKey to have one",
  );
}

/** The error of a buffer that was given to another thread or object, from where it does not come back. */
function transferred(): BackendError {
  return new BackendError(
    "Transferred",
    "the buffer of the segment was transferred away, by postMessage(), structuredClone() or transfer(), and all views " +
      "with it; detach() and attach() again, and leave it out of the transfer list",
  );
}

/** @throws {BackendError} if this thread is in `initialize` of the segment, and would wait for itself */
export function refuseNested(lock: Lock): void {
  for (const { isInitializing, lockIdentity } of attachments) {
    if (!isInitializing || lockIdentity !== lock.identity) continue;
    throw new BackendError("Deadlock", "initialize of the same segment is running in this thread");
  }
}

const { attachments, byBuffer } = registry;

/**
 * What an object has of the segment that it is attached to. It has one for all its life, since to be told of a
 * collection costs microseconds.
 */
export class AttachmentSlot {
  /**
   * The last one that began. It is not there before the first: so it is assigned once, unless the object attaches again,
   * and a constant to engines, as are the fields with `declare` of sync/slot.ts.
   */
  declare attachment: Attachment | undefined;
  /** Made by {@linkcode Attachment.expose}. */
  buffer: ArrayBuffer | null = null;
  /** What outlives the object. */
  #last: { attachment: Attachment } | null = null;

  begin(attachment: Attachment): void {
    this.attachment = attachment;
    this.buffer = null;
    if (this.#last !== null) {
      this.#last.attachment = attachment;
    } else {
      this.#last = { attachment };
      accesses.register(this, this.#last);
    }
  }
}

/** The buffer's own method, whatever a user has done to it. */
const { transfer } = ArrayBuffer.prototype;

/**
 * One attach of a segment, from attach to detach. It outlives its `SharedMemory` object: it ends when
 * the object detaches, when no view is left that could be used, or when the program ends.
 *
 * It must not keep the buffer alive, since the buffer's collection is what ends it.
 */
export class Attachment implements Resource, SharedAttachment {
  // `declare` and no `#` for what each lock and unlock reads: see sync/slot.ts.

  readonly size: number;
  /** Whether a store into the buffer is allowed. */
  readonly isWritable: boolean;
  readonly #backend: Backend;
  readonly #segment: Segment;
  /** The lock of the segment, if it has one. */
  declare private readonly segmentLock: Lock | null;
  /** `null` as long as nobody knows where the segment is mapped. */
  #buffer: WeakRef<ArrayBuffer> | null = null;
  private hasEnded = false;
  #isFreeable = false;
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
    this.#backend = backend;
    this.#segment = segment;
    this.segmentLock = lock;
    access.begin(this);
    attachments.add(this);
    rememberAtExit(this);
  }

  /**
   * The buffer of the segment, made when it is first asked for.
   *
   * @throws {BackendError} `InvalidSize` if the runtime cannot make it, `Transferred` once it was transferred away
   */
  expose(access: AttachmentSlot): ArrayBuffer {
    if (access.buffer !== null) {
      if (bytesOf(access.buffer) === 0) throw transferred();
      return access.buffer;
    }
    let buffer: ArrayBuffer;
    try {
      buffer = this.#backend.arrayBuffer(this.#segment.address, this.size);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const text = `this runtime cannot make a view of ${this.size} bytes: ${error.message}`;
      throw new BackendError("InvalidSize", text);
    }
    this.#buffer = new WeakRef(buffer);
    buffers.register(buffer, this);
    byBuffer.set(buffer, this);
    return access.buffer = buffer;
  }

  /** The attachment that a buffer was made for, which may have ended; `undefined` of any other buffer. */
  static of(buffer: ArrayBufferLike): SharedAttachment | undefined {
    return byBuffer.get(buffer);
  }

  /** Where the segment is. Nothing may be there any more once the attachment has ended. */
  get address(): bigint {
    return this.#segment.address;
  }

  /** Calls `release`, which must not throw, before the segment goes. Keeps alive what it refers to. */
  beforeEnd(release: () => void): void {
    (this.#endings ??= new Set()).add(release);
  }

  /** The opposite of {@linkcode Attachment.beforeEnd}. */
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

  /** Takes the lock, and keeps `access`, its own, alive until it is released. `false` after `timeoutMs`. */
  lock(access: AttachmentSlot, timeoutMs?: number): boolean {
    requireStack();
    const lock = this.segmentLock ?? this.#existingLock();
    if (timeoutMs === undefined) {
      if (registry.locksHeld > 0) this.#refuseDeadlock();
      if (isWaiting()) acquireBlocking(lock); // which asks too; but engines inline only calls that are not too deep
      else lock.acquire();
    } else if (!acquireWithin(lock, timeoutMs)) {
      return false;
    }
    this.hold(access);
    return true;
  }

  /** The same without blocking the thread. `onTaken` gets what {@linkcode Attachment.endHold} takes. */
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

  /** Whether it holds the lock for an asynchronous call, beside which others run. */
  get isLockedAsync(): boolean {
    return this.hasLock && this.#isLockedAsync;
  }

  /** The process that holds the lock, if that is known. */
  holder(): number | null {
    return this.segmentLock?.holder() ?? null;
  }

  /** What a text adds to that. */
  holderText(): string {
    return replacedText(this.segmentLock);
  }

  #existingLock(): Lock {
    if (this.segmentLock !== null) return this.segmentLock;
    throw noLock();
  }

  /** The lock is taken, by whatever way. */
  private hold(access: AttachmentSlot): number {
    this.hasLock = true;
    this.#isLockedAsync = false;
    this.held = access;
    registry.locksHeld++;
    return ++this.holds;
  }

  /** How often the lock was taken: tells one time from another. */
  get lastHold(): number {
    return this.holds;
  }

  /** Whether it is locked still since that time. */
  isHeld(hold: number): boolean {
    return this.hasLock && this.holds === hold;
  }

  /** Unlocks, unless that has been done since, and perhaps the lock taken again. */
  endHold(hold: number): void {
    if (this.isHeld(hold)) this.unlock();
  }

  /** Fills a new segment, with the lock held by the section that makes it; if that fails, it ends. */
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

  unlock(): void {
    requireStackToUndo();
    this.forgetLock();
    this.segmentLock?.release();
  }

  /** Returns whether it was locked. */
  private forgetLock(): boolean {
    if (!this.hasLock) return false;
    this.hasLock = false;
    this.held = null;
    registry.locksHeld--;
    return true;
  }

  #refuseDeadlock(): void {
    const identity = this.lockIdentity;
    for (const other of attachments) {
      if (!other.isLocked || other.lockIdentity !== identity) continue;
      throw new BackendError(
        "Deadlock",
        "another object of this thread holds the lock, and could never release it while this one " +
          "waits; unlock() that one first",
      );
    }
  }

  /** Detaches every view, then the mapping, then removes the segment if nobody uses it. */
  end(atExit = false): void {
    if (this.hasEnded) return;
    for (const release of this.#endings ?? []) release();
    this.#endings = null;
    this.hasEnded = true;
    attachments.delete(this);
    try {
      this.#unmap();
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

  #unmap(): void {
    if (this.#buffer === null) return this.#segment.free();
    const isUnmapped = this.#segment.unmap(); // first: JavaScriptCore copies what it cannot detach
    const buffer = this.#buffer.deref();
    // Whoever transferred the buffer has another one on the same memory, which we cannot find; of a
    // collected buffer we do not know. Then the address range must stay what it has become.
    if (buffer === undefined || bytesOf(buffer) === 0) return;
    transfer.call(buffer, 0);
    const isDetached = bytesOf(buffer) === 0;
    if (isDetached && !isUnmapped) this.#segment.free();
    this.#isFreeable = isDetached && isUnmapped;
  }

  closeAtExit(): void {
    try {
      this.end(true);
    } catch {
      // Nobody is left to tell. The kernel detaches and unlocks in any case.
    }
  }

  /** The object is collected, and never had a buffer that somebody could still use. */
  accessCollected(): void {
    if (this.#buffer === null && !this.hasEnded) this.closeAtExit();
  }

  bufferCollected(): void {
    // The detached buffer was the last way to the address range, unless a native call that is not
    // over has it; but such a call keeps the buffer alive.
    if (this.#isFreeable) this.#segment.free();
    else this.closeAtExit();
  }
}

const accesses = new FinalizationRegistry<{ attachment: Attachment }>(
  ({ attachment }) => attachment.accessCollected(),
);
const buffers = new FinalizationRegistry<Attachment>((attachment) => attachment.bufferCollected());

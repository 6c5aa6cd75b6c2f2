import { forgetAtExit, rememberAtExit, type Resource } from "./at_exit.ts";
import { Failure } from "./backends/errno.ts";
import type { Lock, Segment } from "./backends/types.ts";

/** The attachments of this thread, and how many of them hold their lock. */
const attachments = new Set<Attachment>();
let locksHeld = 0;

/** The buffer's own methods, whatever a user has done to it. */
const { transfer } = ArrayBuffer.prototype;
const { get: byteLength } = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, "byteLength")!;

/**
 * One attach of a segment, from attach to detach. It outlives its `SharedMemory` object: it ends when
 * the object detaches, when no view is left that could be used, or when the program ends.
 *
 * It must not keep the buffer alive, since the buffer's collection is what ends it.
 */
export class Attachment implements Resource {
  readonly size: number;
  readonly #segment: Segment;
  readonly #lock: Lock | null;
  readonly #nativeKey: string;
  readonly #buffer: WeakRef<ArrayBuffer>;
  #isEnded = false;
  #isFreeable = false;
  #isLocked = false;
  #held: ArrayBuffer | undefined;

  constructor(segment: Segment, lock: Lock | null, nativeKey: string, buffer: ArrayBuffer) {
    this.size = segment.size;
    this.#segment = segment;
    this.#lock = lock;
    this.#nativeKey = nativeKey;
    this.#buffer = new WeakRef(buffer);
    buffers.register(buffer, this);
    attachments.add(this);
    rememberAtExit(this);
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  get isLocked(): boolean {
    return this.#isLocked;
  }

  /** Takes the lock, and keeps `buffer`, its own, alive until it is released. */
  lock(buffer: ArrayBuffer): void {
    if (this.#lock === null) {
      throw new Failure("LockError", "a native key has no lock; use setKey() to have one");
    }
    if (locksHeld > 0) this.#refuseDeadlock();
    this.#lock.acquire();
    this.#isLocked = true;
    this.#held = buffer;
    locksHeld++;
  }

  unlock(): void {
    this.#forgetLock();
    this.#lock?.release();
  }

  /** Returns whether it was locked. */
  #forgetLock(): boolean {
    if (!this.#isLocked) return false;
    this.#isLocked = false;
    this.#held = undefined;
    locksHeld--;
    return true;
  }

  #refuseDeadlock(): void {
    for (const other of attachments) {
      if (!other.#isLocked || other.#nativeKey !== this.#nativeKey) continue;
      throw new Failure(
        "LockError",
        "another object of this thread holds the lock, and could never release it while this one " +
          "waits; unlock() that one first",
      );
    }
  }

  /** Detaches every view, then the mapping, then removes the segment if nobody uses it. */
  end(wait: boolean): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    attachments.delete(this);
    forgetAtExit(this);
    try {
      this.#unmap();
    } finally {
      this.#segment.leave(this.#forgetLock(), wait);
    }
  }

  #unmap(): void {
    const isUnmapped = this.#segment.unmap(); // first: JavaScriptCore copies what it cannot detach
    const buffer = this.#buffer.deref();
    // Whoever transferred the buffer has another one on the same memory, which we cannot find; of a
    // collected buffer we do not know. Then the address range must stay what it has become.
    if (buffer === undefined || byteLength!.call(buffer) === 0) return;
    transfer.call(buffer, 0);
    const isDetached = byteLength!.call(buffer) === 0;
    if (isDetached && !isUnmapped) this.#segment.free();
    this.#isFreeable = isDetached && isUnmapped;
  }

  closeAtExit(): void {
    try {
      this.end(false);
    } catch {
      // Nobody is left to tell. The kernel detaches and unlocks in any case.
    }
  }

  bufferCollected(): void {
    // The detached buffer was the last way to the address range, unless a native call that is not
    // over has it; but such a call keeps the buffer alive.
    if (this.#isFreeable) this.#segment.free();
    else this.closeAtExit();
  }
}

const buffers = new FinalizationRegistry<Attachment>((attachment) => attachment.bufferCollected());

import { forgetAtExit, rememberAtExit, type Resource } from "./at_exit.ts";
import { Failure } from "./backends/errno.ts";
import type { Lock, Segment } from "./backends/types.ts";

/** The attachments of this thread that hold their lock. */
const lockHolders = new Set<Attachment>();

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
  #ended = false;
  #freeable = false;

  constructor(segment: Segment, lock: Lock | null, nativeKey: string, buffer: ArrayBuffer) {
    this.size = segment.size;
    this.#segment = segment;
    this.#lock = lock;
    this.#nativeKey = nativeKey;
    this.#buffer = new WeakRef(buffer);
    buffers.register(buffer, this);
    rememberAtExit(this);
  }

  get isLocked(): boolean {
    return lockHolders.has(this);
  }

  lock(): void {
    if (this.#lock === null) throw new Failure("LockError", "a native key has no lock");
    if (lockHolders.size > 0) this.#refuseDeadlock();
    this.#lock.acquire();
    lockHolders.add(this);
  }

  unlock(): void {
    lockHolders.delete(this);
    this.#lock?.release();
  }

  #refuseDeadlock(): void {
    for (const holder of lockHolders) {
      if (holder.#nativeKey !== this.#nativeKey) continue;
      throw new Failure(
        "LockError",
        "another object of this thread holds the lock, and so could never release it",
      );
    }
  }

  /** Detaches every view, then the mapping, then removes the segment if nobody uses it. */
  end(wait: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    forgetAtExit(this);
    const buffer = this.#buffer.deref();
    // Whoever transferred the buffer has another one on the same memory, which we cannot find; of a
    // collected buffer we do not know. Then the address range must stay what it becomes: ours.
    const known = buffer !== undefined && buffer.byteLength > 0;
    if (known) buffer.transfer(0);
    this.#freeable = known && buffer.byteLength === 0; // JavaScriptCore copies a pinned buffer
    this.#segment.unmap(!this.#freeable);
    this.#segment.leave(lockHolders.delete(this), wait);
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
    if (this.#freeable) this.#segment.free();
    else this.closeAtExit();
  }
}

const buffers = new FinalizationRegistry<Attachment>((attachment) => attachment.bufferCollected());

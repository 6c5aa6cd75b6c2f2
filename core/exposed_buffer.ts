import { BackendError } from "../backends/failure.ts";
import type { Backend, Segment } from "../backends/types.ts";
import type { Resource } from "../registry.ts";
import { type Collected, collection } from "./collection.ts";
import { bytesOf } from "./view_extent.ts";

/** The original method of the engine, even if a program replaces it later. */
const { transfer } = ArrayBuffer.prototype;

/**
 * The `ArrayBuffer` of an attached segment. It is created when a program first asks for it, and from then on decides
 * when the address range of the segment may be freed.
 *
 * Nothing here keeps the buffer alive, since the collection of the buffer ends the attachment.
 */
export class ExposedBuffer implements Collected {
  readonly #backend: Backend;
  readonly #segment: Segment;
  readonly #attachment: Resource;
  /** The buffer, or `null` as long as no code outside `core/` can know where the segment is mapped. */
  #buffer: WeakRef<ArrayBuffer> | null = null;
  #isFreeable = false;

  /** @param attachment is closed when the buffer has been collected, if the segment is still attached then */
  constructor(backend: Backend, segment: Segment, attachment: Resource) {
    this.#backend = backend;
    this.#segment = segment;
    this.#attachment = attachment;
  }

  get isCreated(): boolean {
    return this.#buffer !== null;
  }

  /** @throws {BackendError} `InvalidSize` if the runtime cannot create the buffer */
  create(): ArrayBuffer {
    const { address, size } = this.#segment;
    let buffer: ArrayBuffer;
    try {
      buffer = this.#backend.arrayBuffer(address, size);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const text = `this runtime cannot make a view of ${size} bytes: ${error.message}`;
      throw new BackendError("InvalidSize", text);
    }
    this.#buffer = new WeakRef(buffer);
    collection().register(buffer, this);
    return buffer;
  }

  /** Unmaps the segment, and frees its address range if no code can use it any more. */
  unmap(): void {
    if (this.#buffer === null) return this.#segment.free();
    const isUnmapped = this.#segment.unmap(); // before transfer(): JavaScriptCore copies what it cannot detach
    const buffer = this.#buffer.deref();
    // If the buffer was transferred, another buffer on the same memory exists, which we cannot find. If it was
    // collected, we do not know. In both cases the address range must stay as it is.
    if (buffer === undefined || bytesOf(buffer) === 0) return;
    transfer.call(buffer, 0);
    const isDetached = bytesOf(buffer) === 0;
    if (isDetached && !isUnmapped) this.#segment.free();
    this.#isFreeable = isDetached && isUnmapped;
  }

  /** Is called when the buffer has been collected. */
  collected(): void {
    // Only the detached buffer still referred to the address range. A native call that uses the range would have kept
    // the buffer alive.
    if (this.#isFreeable) this.#segment.free();
    else this.#attachment.closeAtExit();
  }
}

/**
 * Returns a buffer that {@linkcode ExposedBuffer.create} created, unless it was transferred away.
 *
 * @throws {BackendError} `Transferred` if it was transferred to another thread or object, which cannot be undone
 */
export function notTransferred(buffer: ArrayBuffer): ArrayBuffer {
  if (bytesOf(buffer) !== 0) return buffer;
  throw new BackendError(
    "Transferred",
    "the buffer of the segment was transferred away, by postMessage(), structuredClone() or transfer(), and all views " +
      "with it; detach() and attach() again, and leave it out of the transfer list",
  );
}

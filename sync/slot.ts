import { Attachment } from "../core/attachment.ts";
import type { SharedAttachment } from "../registry.ts";
import { requireStack } from "../core/stack.ts";
import { bufferOf, bytesOf, extentOf } from "../core/view_extent.ts";
import { SyncError } from "./errors.ts";

/** The size of the header of a primitive: it has the two words below, and two more for each kind to use. */
export const HEADER_BYTES = 16;
/** The first word of a finished primitive, which is stored last. A memory dump shows it as "syn1". */
export const MAGIC = 0x316e_7973;
/** The first word of a primitive while it is being created. */
export const MAKING = 0x3f6e_7973;
export const VERSION = 1;
const [MAGIC_WORD, KIND_WORD] = [0, 1];

/** The kind is the lowest byte of the second word. Above it are a byte with the version and two for the kind to use. */
export const PrimitiveKind = {
  Mutex: 1,
  Event: 2,
  Counter: 3,
  Gauge: 4,
  CounterBlock: 5,
  Snapshot: 6,
  SharedMap: 7,
  Layout: 8,
  RateLimiter: 9,
  SharedTopic: 10,
  SharedQueue: 11,
  SharedValue: 12,
} as const;
export type PrimitiveKind = typeof PrimitiveKind[keyof typeof PrimitiveKind];

/** @internal Returns the `KIND` of a layout member: the kind of a primitive, its parameters and the version. */
export function kindText(
  kind: keyof typeof PrimitiveKind | "RecordSnapshot",
  parameters = "",
): string {
  return `${kind}${parameters} v${VERSION}`;
}

/** Returns the name of the class of a kind. */
export function kindName(kind: number): string {
  return Object.entries(PrimitiveKind).find(([, number]) => number === kind)?.[0] ??
    `unknown (${kind})`;
}

/**
 * A slot is the place of a primitive in a writable view of an attached segment.
 *
 * In this class and in the others that every use of a primitive goes through, fields without an initial value have
 * `declare`. Otherwise they would be `undefined` first, engines would regard them as variable, and would load them
 * again each time. `declare` is not possible for fields with `#`, and a method with `#` needs a check of the object; so
 * `private` is used. Together this saves a third of the time of a mutex.
 */
export class Slot {
  declare readonly attachment: SharedAttachment;
  /** The name of the primitive in error texts. */
  declare readonly name: string;
  /** The words of the header. */
  declare readonly words: Int32Array;
  readonly #buffer: ArrayBuffer;
  /** The second word of the header as it was when the primitive was created or joined. */
  #made = 0;
  /** The offset in the buffer, in bytes, at which the primitive begins. */
  readonly #begin: number;
  readonly #end: number;

  /**
   * @param call the text with which the errors begin
   * @param view any view of the segment
   * @param byteOffset where the primitive begins in the view, in bytes
   */
  constructor(call: string, view: ArrayBufferView, byteOffset: number, alignment: number) {
    requireStack(); // an overflow would leave a half-created primitive behind
    if (!ArrayBuffer.isView(view)) {
      throw new TypeError(`${call}: the view must be a view of a segment, not ${typeof view}`);
    }
    if (typeof byteOffset !== "number") {
      throw new TypeError(
        `${call}: the offset must be a number of bytes, not ${typeof byteOffset}`,
      );
    }
    const buffer = bufferOf(view);
    const attachment = Attachment.of(buffer);
    if (attachment === undefined || attachment.isEnded) {
      throw new SyncError(
        "NotAttached",
        `${call}: the view is not of an attached segment; use data() or view() of a SharedMemory`,
      );
    }
    if (!attachment.isWritable) {
      throw new SyncError("ReadOnly", `${call}: the segment was attached ReadOnly; use ReadWrite`);
    }
    this.#buffer = buffer as ArrayBuffer;
    if (bytesOf(this.#buffer) === 0) throw transferred(call);
    const [begin, end] = extentOf(view);
    this.name = call.replace(/\..*/, "");
    this.attachment = attachment;
    this.#begin = begin + byteOffset;
    this.#end = Math.min(end, attachment.size);
    if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || this.#begin % alignment !== 0) {
      throw new RangeError(
        `${call}: it must begin at a multiple of ${alignment} bytes in the segment, not at byte ` +
          `${this.#begin}`,
      );
    }
    this.require(call, HEADER_BYTES);
    this.words = new Int32Array(this.#buffer, this.#begin, HEADER_BYTES / 4);
  }

  /** Whether the view has `bytes` from the beginning of the primitive on. */
  has(bytes: number): boolean {
    return bytes <= this.#end - this.#begin;
  }

  /** @throws {RangeError} if the view ends before `bytes` of the primitive do */
  require(call: string, bytes: number): void {
    if (this.has(bytes)) return;
    const left = this.#end - this.#begin;
    throw new RangeError(
      `${call}: it takes ${bytes} bytes, and the view has ${Math.max(0, left)} from there on`,
    );
  }

  /**
   * Returns the address of byte `byteOffset` of the primitive in this process. It is valid while the segment is
   * attached.
   */
  address(byteOffset: number): bigint {
    return this.attachment.address + BigInt(this.#begin + byteOffset);
  }

  view<View>(
    Type: new (buffer: ArrayBuffer, byteOffset: number, length: number) => View,
    byteOffset: number,
    length: number,
  ): View {
    return new Type(this.#buffer, this.#begin + byteOffset, length);
  }

  /**
   * Creates the primitive. `fill` writes the bytes that are not zero; other threads find the primitive only afterwards.
   *
   * @param detail 16 bits that the kind of primitive may use
   */
  make(
    call: string,
    kind: PrimitiveKind,
    bytes: number,
    fill: () => void = () => {},
    detail = 0,
  ): void {
    this.require(call, bytes);
    const found = Atomics.compareExchange(this.words, MAGIC_WORD, 0, MAKING);
    if (found !== 0) {
      throw new SyncError(
        "AlreadyExists",
        `${call}: ${described(found, this.words[KIND_WORD]!)}; use at() to join it, or fill its ` +
          "bytes with zeros if no process uses it any more",
      );
    }
    this.view(Uint8Array, 4, bytes - 4).fill(0);
    this.words[KIND_WORD] = kindWord(kind, detail);
    fill();
    Atomics.store(this.words, MAGIC_WORD, MAGIC);
    this.#made = kindWord(kind, detail);
  }

  /** Changes the detail of the primitive that was joined. */
  setDetail(kind: PrimitiveKind, detail: number): void {
    this.words[KIND_WORD] = this.#made = kindWord(kind, detail);
  }

  /** Checks that a primitive of this kind lies here, and returns its detail. */
  join(call: string, kind: PrimitiveKind, bytes: number): number {
    this.require(call, bytes);
    const magic = Atomics.load(this.words, MAGIC_WORD);
    const word = this.words[KIND_WORD]!;
    if (magic === MAGIC && (word & 0xffff) === kindWord(kind, 0)) {
      this.#made = word;
      return word >>> 16;
    }
    const isOther = magic === MAGIC;
    throw new SyncError(
      isOther ? "WrongKind" : "NotFound",
      `${call}: ${described(magic, word)}` +
        (isOther ? "; use another place, or another key" : "; call create() first"),
    );
  }

  /** Whether the primitive that was created or joined is still here and can be used. */
  get isIntact(): boolean {
    const { words } = this;
    return words[MAGIC_WORD] === MAGIC && words[KIND_WORD] === this.#made &&
      !this.attachment.isEnded;
  }

  /** Whether the primitive can still be used: the segment is attached and its buffer was not transferred. */
  get isUsable(): boolean {
    return this.words.length !== 0 && !this.attachment.isEnded;
  }

  /** @throws {SyncError} `NotAttached` if the segment has been detached, `Transferred` if its buffer was transferred */
  requireUsable(method: string): void {
    if (!this.isUsable) throw this.detached(method);
  }

  /** Returns the error for a segment that has been detached or whose buffer was transferred. */
  detached(method: string): SyncError {
    const isTransferred = this.words.length === 0 && !this.attachment.isEnded;
    if (isTransferred) return transferred(`${this.name}.${method}`);
    return new SyncError(
      "NotAttached",
      `${this.name}.${method}: its segment has been detached; open it again, or attach() and join it with at()`,
    );
  }
}

function transferred(call: string): SyncError {
  return new SyncError(
    "Transferred",
    `${call}: the buffer of its segment was transferred away, by postMessage(), structuredClone() or transfer(); ` +
      "detach() and attach() again, and leave it out of the transfer list",
  );
}

function kindWord(kind: PrimitiveKind, detail: number): number {
  return kind | VERSION << 8 | detail << 16;
}

function described(magic: number, word: number): string {
  if (magic === 0) return "nothing has been created here";
  if (magic === MAKING) {
    return "a process is creating something here, or was killed while it did";
  }
  if (magic !== MAGIC) return "there are bytes here that this module has not written";
  return `there is a ${kindName(word & 0xff)} of version ${word >>> 8 & 0xff} here`;
}

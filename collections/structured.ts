import { StructuredReader } from "./structured_reader.ts";
import { StructuredWriter } from "./structured_writer.ts";

/** A writer that has more bytes than that is not used again. */
const KEPT_BYTES = 2 ** 20;

/** The writer that no call uses. A getter of a value may need another one. */
let spare: StructuredWriter | null = null;

/** The type of {@linkcode structured}, which fits collections of any type of values. */
export interface StructuredCodec {
  /** It is `"structured"`. */
  readonly name: string;
  /**
   * Returns the bytes of a value.
   *
   * @throws {DOMException} `DataCloneError` if it cannot be cloned
   * @throws {SyncError} `InvalidSize` if more than 500 objects lie in each other
   */
  encode(value: unknown): Uint8Array;
  /** Returns the value of some bytes. Its type is not checked. @throws {SyncError} `Damaged` if they are not those of one */
  decode<Value>(bytes: Uint8Array): Value;
}

/**
 * This codec stores what `structuredClone()` can clone: objects, arrays, `Map`, `Set`, `Date`, `RegExp`, errors, typed
 * arrays, `bigint`, `undefined`, with cycles. Its bytes are the same in all runtimes.
 *
 * It differs from `structuredClone()` in these points: a view of a buffer brings only its own bytes, and two views of a
 * buffer become two buffers; objects of the platform, such as a `Blob`, are refused, and so are objects that name a class
 * by `Symbol.toStringTag`; and at most 500 objects may lie in each other.
 *
 * @example
 * ```ts
 * import { structured } from "./mod.ts";
 *
 * const bytes = structured.encode({ when: new Date(0), tags: new Set(["a"]) });
 * console.log(structured.decode(bytes)); // { when: 1970-01-01T00:00:00.000Z, tags: Set(1) { "a" } }
 * ```
 */
export const structured: StructuredCodec = {
  name: "structured",
  encode(value: unknown): Uint8Array {
    const writer = spare ?? new StructuredWriter();
    spare = null;
    const bytes = writer.write(value).slice(); // the caller may keep them
    if (writer.size <= KEPT_BYTES) spare = writer;
    return bytes;
  },
  decode: <Value>(bytes: Uint8Array): Value => new StructuredReader(bytes).read() as Value,
};

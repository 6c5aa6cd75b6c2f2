import { lengthOf } from "../core/view_extent.ts";
import { SyncError } from "../sync/errors.ts";
import { halfSipHash } from "./half_sip_hash.ts";
import { requireBytes } from "./encoded.ts";

/** The largest number of bytes of a key. */
export const KEY_BYTES_MAX = 65536;

/**
 * What the bytes of a key are: those of a `Uint8Array`, UTF-8, or, for a string with lone surrogates, which UTF-8 cannot
 * have, its 16-bit units. Keys of different kinds are different keys.
 */
const [BYTES, TEXT, UNITS] = [0, 1, 2];
const KIND_SHIFT = 17;
/** The bits of {@linkcode MapKey.meta}. */
export const KEY_META = (1 << KIND_SHIFT + 2) - 1;
const LENGTH_META = (1 << KIND_SHIFT) - 1;

/** Up to this length a loop in JavaScript is faster than `encodeInto`. */
const SHORT = 32;
const FIRST_WORDS = 256;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The bytes of the key of the current operation on a map, in words that are padded with zeros, and their hash. */
export class MapKey {
  // For `declare`, see Slot.
  declare words: Int32Array;
  declare bytes: Uint8Array;
  declare private readonly key0: number;
  declare private readonly key1: number;
  /** The name of the class in error texts. */
  declare private readonly name: string;
  /** The hash under the random key of the map. */
  hash = 0;
  /** The number of bytes, and above it the kind: what a record says of its key. */
  meta = 0;
  /** The number of words. */
  count = 0;

  constructor(key0: number, key1: number, name = "SharedMap") {
    this.key0 = key0 | 0;
    this.key1 = key1 | 0;
    this.name = name;
    this.grow(FIRST_WORDS);
  }

  private grow(words: number): void {
    this.words = new Int32Array(words);
    this.bytes = new Uint8Array(this.words.buffer);
  }

  /** Takes over a key. @throws {TypeError} if it is neither a string nor bytes; {SyncError} `InvalidSize` if too long */
  set(method: string, key: string | Uint8Array): void {
    if (typeof key !== "string" || key.length > SHORT) return this.setLong(method, key);
    const { words } = this;
    const { length } = key;
    let or = 0, i = 0, count = 0;
    for (; i + 3 < length; i += 4) {
      const a = key.charCodeAt(i), b = key.charCodeAt(i + 1);
      const c = key.charCodeAt(i + 2), d = key.charCodeAt(i + 3);
      or |= a | b | c | d;
      words[count++] = a | b << 8 | c << 16 | d << 24;
    }
    if (i < length) {
      let word = 0;
      for (let shift = 0; i < length; i++, shift += 8) {
        const code = key.charCodeAt(i);
        or |= code;
        word |= code << shift;
      }
      words[count++] = word;
    }
    if (or > 127) return this.setLong(method, key);
    this.finish(length, TEXT, count);
  }

  private setLong(method: string, key: string | Uint8Array): void {
    if (typeof key === "string") return this.setText(method, key);
    if (!(key instanceof Uint8Array)) {
      throw new TypeError(
        `${this.name}.${method}: a key must be a string or a Uint8Array, not ${typeof key}`,
      );
    }
    const length = lengthOf(key); // no code of a subclass is called: it might use the map
    requireBytes(this.name, method, "key", key);
    this.reserve(method, length);
    this.bytes.set(key);
    this.finishBytes(length, BYTES);
  }

  private setText(method: string, key: string): void {
    if (key.length > KEY_BYTES_MAX) throw this.tooLong(method, encoder.encode(key).length);
    if (!key.isWellFormed()) return this.setUnits(method, key);
    this.reserve(method, Math.min(3 * key.length, KEY_BYTES_MAX));
    const { read, written } = encoder.encodeInto(key, this.bytes);
    if (read < key.length || written > KEY_BYTES_MAX) {
      throw this.tooLong(method, encoder.encode(key).length);
    }
    this.finishBytes(written, TEXT);
  }

  private setUnits(method: string, key: string): void {
    this.reserve(method, 2 * key.length);
    const units = new Uint16Array(this.words.buffer);
    for (let i = 0; i < key.length; i++) units[i] = key.charCodeAt(i);
    this.finishBytes(2 * key.length, UNITS);
  }

  /** Makes room for `length` bytes. */
  private reserve(method: string, length: number): void {
    if (length > KEY_BYTES_MAX) throw this.tooLong(method, length);
    if (length + 4 > this.bytes.length) this.grow(KEY_BYTES_MAX / 4 + 1);
  }

  private finishBytes(length: number, kind: number): void {
    this.bytes.fill(0, length, length + 3 & ~3);
    this.finish(length, kind, length + 3 >> 2);
  }

  private finish(length: number, kind: number, count: number): void {
    this.count = count;
    this.meta = length | kind << KIND_SHIFT;
    this.hash = halfSipHash(this.key0, this.key1, this.words, count, this.meta);
  }

  private tooLong(method: string, length: number): SyncError {
    return new SyncError(
      "InvalidSize",
      `${this.name}.${method}: the key has ${length} bytes, and a key must not have more than ${KEY_BYTES_MAX}`,
    );
  }
}

/** Returns the number of bytes of the key of a record. */
export function keyBytes(meta: number): number {
  return meta & LENGTH_META;
}

/** Returns the key whose bytes are `bytes`. */
export function keyOf(meta: number, bytes: Uint8Array): string | Uint8Array {
  const kind = (meta & KEY_META) >>> KIND_SHIFT;
  if (kind === TEXT) return decoder.decode(bytes);
  if (kind === BYTES) return bytes;
  let text = "";
  for (let i = 0; i + 1 < bytes.length; i += 2) {
    text += String.fromCharCode(bytes[i]! | bytes[i + 1]! << 8);
  }
  return text;
}

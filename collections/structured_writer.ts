import { types } from "node:util";
import { SyncError } from "../sync/errors.ts";
import { DEPTH_MAX, ERRORS, Tag, VIEWS } from "./structured_tags.ts";

const FIRST_BYTES = 1024;
/** In UTF-8 a unit of UTF-16 has at most this number of bytes. */
const UTF8_MAX = 3;
const encoder = new TextEncoder();

/** Writes values as bytes: a tag each, and what the tag says. */
export class StructuredWriter {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #end = 0;
  /** The number of objects that contain the present one, itself included. */
  #depth = 0;
  /** The objects so far, each with its number. */
  readonly #seen = new Map<object, number>();

  /** Returns the bytes of a value. They are those of this writer, until the next call. */
  write(value: unknown): Uint8Array {
    this.#end = 0;
    this.#depth = 0;
    this.#seen.clear();
    try {
      this.#value(value);
      return this.#bytes.subarray(0, this.#end);
    } finally {
      this.#seen.clear();
    }
  }

  /** The number of bytes that this writer keeps. */
  get size(): number {
    return this.#bytes.length;
  }

  #reserve(count: number): void {
    const least = this.#end + count;
    if (least <= this.#bytes.length) return;
    const bytes = new Uint8Array(Math.max(least, 2 * this.#bytes.length));
    bytes.set(this.#bytes.subarray(0, this.#end));
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  #byte(byte: number): void {
    this.#reserve(1);
    this.#bytes[this.#end++] = byte;
  }

  /** A number from 0, in as many bytes as it needs: 7 bits each, the lowest ones first, and a bit that says "go on". */
  #count(count: number): void {
    this.#reserve(8);
    while (count >= 0x80) {
      this.#bytes[this.#end++] = count % 0x80 | 0x80;
      count = Math.floor(count / 0x80);
    }
    this.#bytes[this.#end++] = count;
  }

  #double(number: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.#end, number, true);
    this.#end += 8;
  }

  #raw(bytes: Uint8Array): void {
    this.#count(bytes.length);
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  #string(text: string): void {
    if (!text.isWellFormed()) return this.#units(text);
    this.#byte(Tag.Text);
    if (text.length * UTF8_MAX < 0x80) { // the length takes one byte, and is known afterwards
      this.#reserve(1 + text.length * UTF8_MAX);
      const { written } = encoder.encodeInto(text, this.#bytes.subarray(this.#end + 1));
      this.#bytes[this.#end] = written;
      this.#end += 1 + written;
    } else {
      this.#raw(encoder.encode(text));
    }
  }

  #units(text: string): void {
    this.#byte(Tag.Units);
    this.#count(text.length);
    this.#reserve(2 * text.length);
    for (let i = 0; i < text.length; i++, this.#end += 2) {
      this.#view.setUint16(this.#end, text.charCodeAt(i), true);
    }
  }

  #value(value: unknown): void {
    switch (typeof value) {
      case "undefined":
        return this.#byte(Tag.Undefined);
      case "boolean":
        return this.#byte(value ? Tag.True : Tag.False);
      case "number":
        return this.#number(value);
      case "string":
        return this.#string(value);
      case "bigint":
        this.#byte(Tag.BigInt);
        return this.#string(value.toString(16));
      case "object":
        return value === null ? this.#byte(Tag.Null) : this.#object(value);
      default:
        throw notCloneable(value);
    }
  }

  #number(number: number): void {
    if ((number | 0) !== number || Object.is(number, -0)) {
      this.#byte(Tag.Double);
      this.#double(number);
    } else {
      this.#byte(Tag.Integer);
      this.#count(number < 0 ? -2 * number - 1 : 2 * number);
    }
  }

  #object(object: object): void {
    const number = this.#seen.get(object);
    if (number !== undefined) {
      this.#byte(Tag.Same);
      return this.#count(number);
    }
    this.#seen.set(object, this.#seen.size);
    if (++this.#depth > DEPTH_MAX) throw tooDeep();
    if (types.isProxy(object)) throw notCloneable(object);
    if (Array.isArray(object)) this.#array(object);
    else if (types.isMap(object)) this.#map(object);
    else if (types.isSet(object)) this.#set(object);
    else if (types.isDate(object)) {
      this.#byte(Tag.Date);
      this.#double(Date.prototype.getTime.call(object));
    } else if (types.isRegExp(object)) {
      this.#byte(Tag.RegExp);
      this.#string(object.source);
      this.#string(object.flags);
    } else if (object instanceof DOMException) {
      this.#byte(Tag.DOMException);
      this.#string(object.message);
      this.#string(object.name);
    } else if (types.isNativeError(object)) this.#error(object);
    else if (types.isAnyArrayBuffer(object)) {
      this.#byte(Tag.ArrayBuffer);
      this.#raw(bytesOf(object, 0, object.byteLength));
    } else if (ArrayBuffer.isView(object)) this.#arrayView(object);
    else if (types.isBoxedPrimitive(object)) this.#boxed(object);
    else if (isPlain(object)) {
      this.#byte(Tag.Object);
      this.#properties(object, Object.keys(object));
    } else throw notCloneable(object);
    this.#depth--;
  }

  #properties(object: object, keys: readonly string[]): void {
    this.#count(keys.length);
    for (const key of keys) {
      this.#string(key);
      this.#value((object as Record<string, unknown>)[key]);
    }
  }

  #array(array: readonly unknown[]): void {
    const keys = Object.keys(array);
    const { length } = array;
    const isDense = keys.length === length &&
      (length === 0 || keys[length - 1] === String(length - 1));
    this.#byte(isDense ? Tag.Array : Tag.Sparse);
    this.#count(length);
    if (!isDense) return this.#properties(array, keys);
    for (let i = 0; i < length; i++) this.#value(array[i]);
  }

  #map(map: ReadonlyMap<unknown, unknown>): void {
    const entries = [...Map.prototype.entries.call(map)] as [unknown, unknown][];
    this.#byte(Tag.Map);
    this.#count(entries.length);
    for (const [key, value] of entries) {
      this.#value(key);
      this.#value(value);
    }
  }

  #set(set: ReadonlySet<unknown>): void {
    const values = [...Set.prototype.values.call(set)] as unknown[];
    this.#byte(Tag.Set);
    this.#count(values.length);
    for (const value of values) this.#value(value);
  }

  /** An error has a name, and if they are there a message, a stack and a cause. */
  #error(error: Error): void {
    const name = String(error.name);
    this.#byte(Tag.Error);
    this.#byte(Math.max(0, ERRORS.indexOf(name)));
    const { message, stack } = error;
    this.#value(typeof message === "string" ? message : undefined);
    this.#value(typeof stack === "string" ? stack : undefined);
    const hasCause = Object.hasOwn(error, "cause");
    this.#byte(hasCause ? 1 : 0);
    if (hasCause) this.#value(error.cause);
  }

  /** A view has its own bytes only, not all of those of its buffer. */
  #arrayView(view: ArrayBufferView): void {
    const name = types.isTypedArray(view) ? view[Symbol.toStringTag] : "DataView";
    const kind = (VIEWS as readonly string[]).indexOf(name);
    if (kind === -1) throw notCloneable(view);
    this.#byte(Tag.View);
    this.#byte(kind);
    this.#raw(bytesOf(view.buffer, view.byteOffset, view.byteLength));
  }

  #boxed(object: object): void {
    const value = object.valueOf();
    if (typeof value === "object" || typeof value === "symbol") throw notCloneable(object);
    this.#byte(Tag.Boxed);
    this.#value(value);
  }
}

/** Returns bytes of a buffer. That of other threads, or one that was transferred away, cannot be cloned. */
function bytesOf(buffer: ArrayBufferLike, from: number, length: number): Uint8Array {
  if (types.isSharedArrayBuffer(buffer)) throw notCloneable(buffer);
  if ((buffer as { readonly detached?: boolean }).detached === true) throw notCloneable(buffer);
  return new Uint8Array(buffer, from, length);
}

/** Whether an object has nothing but its properties. Objects of the platform have a tag. */
function isPlain(object: object): boolean {
  const text = Object.prototype.toString.call(object);
  return text === "[object Object]" || text === "[object Arguments]";
}

function tooDeep(): SyncError {
  return new SyncError(
    "InvalidSize",
    `codec "structured": objects are nested deeper than ${DEPTH_MAX}, such as in a long linked list; store them in an array`,
  );
}

/** Returns the error of `structuredClone()` for what it cannot clone. */
function notCloneable(value: unknown): DOMException {
  const what = typeof value === "object"
    ? Object.prototype.toString.call(value)
    : typeof value === "symbol"
    ? String(value)
    : `a ${typeof value}`;
  return new DOMException(`${what} could not be cloned`, "DataCloneError");
}

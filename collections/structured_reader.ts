import { SyncError } from "../sync/errors.ts";
import { DEPTH_MAX, ERRORS, Tag, VIEWS } from "./structured_tags.ts";

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
/** The longest number that `count` reads, in bytes. */
const COUNT_BYTES = 8;
/** An engine may reserve memory for an array of that length before it has elements. */
const RESERVED_MAX = 16;

type ViewType = new (buffer: ArrayBuffer) => ArrayBufferView;

/**
 * Reads what a `StructuredWriter` has written. Whatever the bytes are, it ends, the stack suffices, and the memory that the
 * value takes is proportional to the number of bytes: most for empty objects, some hundred bytes for each.
 */
export class StructuredReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  /** The number of objects that contain the present one, itself included. */
  #depth = 0;
  /** The objects so far. */
  readonly #seen: unknown[] = [];

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Returns the value of all bytes. @throws {SyncError} `Damaged` if they are not those of a value */
  read(): unknown {
    const value = this.#value();
    if (this.#at !== this.#bytes.length) throw damaged();
    return value;
  }

  /** Returns where the next `count` bytes begin, and goes on after them. */
  #take(count: number): number {
    const from = this.#at;
    if (count > this.#bytes.length - from) throw damaged();
    this.#at = from + count;
    return from;
  }

  #byte(): number {
    return this.#bytes[this.#take(1)]!;
  }

  #count(): number {
    let count = 0;
    let unit = 1;
    for (let i = 0; i < COUNT_BYTES; i++, unit *= 0x80) {
      const byte = this.#byte();
      count += (byte & 0x7f) * unit;
      if (byte < 0x80) return count;
    }
    throw damaged();
  }

  /** Returns the number of values that follow, each of which takes a byte at least. */
  #values(): number {
    const count = this.#count();
    if (count > this.#bytes.length - this.#at) throw damaged();
    return count;
  }

  #double(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  #raw(): Uint8Array<ArrayBuffer> {
    const length = this.#count();
    const from = this.#take(length);
    return new Uint8Array(this.#bytes.subarray(from, from + length)); // slice() of a Buffer does not copy
  }

  #text(): string {
    const length = this.#count();
    const from = this.#take(length);
    return decoder.decode(this.#bytes.subarray(from, from + length));
  }

  #units(): string {
    const length = this.#count();
    const from = this.#take(2 * length);
    const units = Array.from({ length }, (_, i) => this.#view.getUint16(from + 2 * i, true));
    let text = "";
    for (let i = 0; i < length; i += 1024) {
      text += String.fromCharCode(...units.slice(i, i + 1024));
    }
    return text;
  }

  #string(): string {
    const tag = this.#byte();
    if (tag === Tag.Text) return this.#text();
    if (tag === Tag.Units) return this.#units();
    throw damaged();
  }

  #value(): unknown {
    const tag = this.#byte();
    switch (tag) {
      case Tag.Undefined:
        return undefined;
      case Tag.Null:
        return null;
      case Tag.False:
        return false;
      case Tag.True:
        return true;
      case Tag.Integer:
        return this.#integer();
      case Tag.Double:
        return this.#double();
      case Tag.Text:
        return this.#text();
      case Tag.Units:
        return this.#units();
      case Tag.BigInt:
        return this.#bigint();
      case Tag.Same:
        return this.#same();
      default: {
        if (++this.#depth > DEPTH_MAX) throw damaged(`objects are nested deeper than ${DEPTH_MAX}`);
        const object = this.#object(tag);
        this.#depth--;
        return object;
      }
    }
  }

  #integer(): number {
    const count = this.#count();
    return count % 2 === 0 ? count / 2 : -(count + 1) / 2;
  }

  #bigint(): bigint {
    const text = this.#string();
    if (!/^-?[0-9a-f]+$/.test(text)) throw damaged();
    try {
      return text.startsWith("-") ? -BigInt(`0x${text.slice(1)}`) : BigInt(`0x${text}`);
    } catch {
      throw damaged("a bigint is larger than this runtime can have");
    }
  }

  #same(): unknown {
    const number = this.#count();
    if (number >= this.#seen.length) throw damaged();
    return this.#seen[number];
  }

  /** Notes an object before its contents are read, which may lead to it. */
  #noted<Value extends object>(object: Value): Value {
    this.#seen.push(object);
    return object;
  }

  #object(tag: number): unknown {
    switch (tag) {
      case Tag.Object:
        return this.#properties(this.#noted({}));
      case Tag.Array:
        return this.#array();
      case Tag.Sparse:
        return this.#sparse();
      case Tag.Map:
        return this.#map();
      case Tag.Set:
        return this.#set();
      case Tag.Date:
        return this.#noted(new Date(this.#double()));
      case Tag.RegExp:
        return this.#regExp();
      case Tag.Error:
        return this.#error();
      case Tag.DOMException:
        return this.#noted(new DOMException(this.#string(), this.#string()));
      case Tag.ArrayBuffer:
        return this.#noted(this.#raw().buffer);
      case Tag.View:
        return this.#arrayView();
      case Tag.Boxed:
        return this.#boxed();
      default:
        throw damaged();
    }
  }

  #properties(object: object): object {
    const count = this.#values();
    for (let i = 0; i < count; i++) {
      const key = this.#string();
      if (key === "length" && Array.isArray(object)) throw damaged();
      const value = this.#value();
      if (startsWithDigit(key) && Number(key) > RESERVED_MAX + 4 * i) {
        define(object, key, value, false); // with attributes of its own: see storeElementsOneByOne
        define(object, key, value);
      } else if (key === "__proto__") define(object, key, value);
      else (object as Record<string, unknown>)[key] = value;
    }
    return object;
  }

  #array(): unknown[] {
    const length = this.#values();
    const array: unknown[] = this.#noted([]);
    for (let i = 0; i < length; i++) array.push(this.#value());
    return array;
  }

  #sparse(): unknown[] {
    const array: unknown[] = this.#noted([]);
    const length = this.#count();
    if (length >= 2 ** 32) throw damaged();
    if (length > RESERVED_MAX) storeElementsOneByOne(array);
    array.length = length;
    this.#properties(array);
    if (array.length !== length) throw damaged();
    return array;
  }

  #map(): Map<unknown, unknown> {
    const map = this.#noted(new Map<unknown, unknown>());
    for (let left = this.#values(); left > 0; left--) {
      const key = this.#value();
      map.set(key, this.#value());
    }
    return map;
  }

  #set(): Set<unknown> {
    const set = this.#noted(new Set<unknown>());
    for (let left = this.#values(); left > 0; left--) set.add(this.#value());
    return set;
  }

  #regExp(): RegExp {
    const [source, flags] = [this.#string(), this.#string()];
    try {
      return this.#noted(new RegExp(source, flags));
    } catch {
      throw damaged();
    }
  }

  #error(): Error {
    const name = ERRORS[this.#byte()];
    if (name === undefined) throw damaged();
    const Type = (globalThis as unknown as Record<string, ErrorConstructor>)[name]!;
    const error = this.#noted(new Type());
    const [message, stack] = [this.#value(), this.#value()];
    if (typeof message === "string" && message !== "") define(error, "message", message, false);
    if (typeof stack === "string") define(error, "stack", stack, false);
    if (this.#byte() === 1) define(error, "cause", this.#value(), false);
    return error;
  }

  #arrayView(): ArrayBufferView {
    const name = VIEWS[this.#byte()];
    const { buffer } = this.#raw();
    const Type = name && (globalThis as unknown as Record<string, ViewType>)[name];
    if (!Type) throw damaged();
    try {
      return this.#noted(new Type(buffer));
    } catch {
      throw damaged(); // the length is not that of elements
    }
  }

  #boxed(): object {
    const number = this.#seen.length;
    this.#seen.push(null); // the value is not an object, so nothing leads to it meanwhile
    const value = this.#value();
    if (value === null || typeof value === "object" || value === undefined) throw damaged();
    return this.#seen[number] = Object(value);
  }
}

function define(object: object, key: string, value: unknown, enumerable = true): void {
  Object.defineProperty(object, key, { value, enumerable, writable: true, configurable: true });
}

function startsWithDigit(text: string): boolean {
  const unit = text.charCodeAt(0); // NaN if it is empty
  return unit >= 48 && unit <= 57;
}

/** Lets the engine store the elements of an empty array like properties, instead of reserving memory for its length. */
function storeElementsOneByOne(array: unknown[]): void {
  define(array, "0", undefined, false); // an element with attributes of its own
  delete array[0];
}

function damaged(why = "these are not bytes that this codec has made"): SyncError {
  return new SyncError(
    "Damaged",
    `codec "structured": ${why}; all processes must use the same codec`,
  );
}

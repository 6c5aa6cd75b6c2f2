import { hashOf } from "./fnv1a.ts";

/**
 * The type of a field: an integer or a float with its number of bits, `bool`, or text with its maximal number of bytes
 * of UTF-8.
 */
export type FieldType =
  | "i8"
  | "u8"
  | "i16"
  | "u16"
  | "i32"
  | "u32"
  | "i64"
  | "u64"
  | "f32"
  | "f64"
  | "bool"
  | `text:${number}`;

/** A layout has the names and types of the fields of a record, in their order in memory. */
export type RecordLayout = Readonly<Record<string, FieldType>>;

/** The JavaScript type of a field of type `Type`. */
export type FieldValue<Type extends FieldType> = Type extends "i64" | "u64" ? bigint
  : Type extends "bool" ? boolean
  : Type extends `text:${number}` ? string
  : number;

/** A record is a plain object with the fields of the layout. */
export type RecordOf<Layout extends RecordLayout> = {
  -readonly [Name in keyof Layout]: FieldValue<Layout[Name]>;
};

interface Codec {
  readonly bytes: number;
  /** The offset of the field is a multiple of this number of bytes. */
  readonly alignment: number;
  /** @throws {TypeError | RangeError} if `value` does not fit the type; the text begins with `what` */
  check(value: unknown, what: string): void;
  write(view: DataView, offset: number, value: never): void;
  /** Returns a function that reads the field. Each field has its own function, which the engine can inline. */
  reader(view: DataView, offset: number): () => unknown;
}

function typeError(what: string, expected: string, value: unknown): TypeError {
  return new TypeError(`${what} must be ${expected}, not ${typeof value}`);
}

function integer(bits: 8 | 16 | 32, isSigned: boolean): Codec {
  const min = isSigned ? -(2 ** (bits - 1)) : 0;
  const max = min + 2 ** bits - 1;
  const name = `${isSigned ? "Int" : "Uint"}${bits}` as keyof typeof INTEGER_READERS;
  return {
    bytes: bits / 8,
    alignment: bits / 8,
    check(value, what) {
      if (typeof value !== "number") throw typeError(what, "a number", value);
      if (Number.isInteger(value) && value >= min && value <= max) return;
      throw new RangeError(`${what} must be an integer from ${min} to ${max}, not ${value}`);
    },
    write: (view, offset, value: number) => (view as Writer)[`set${name}`](offset, value, true),
    reader: INTEGER_READERS[name],
  };
}

/** A `DataView` whose `setInt8()` may be called with a byte order, like its other methods. */
type Writer = DataView & { setInt8(offset: number, value: number, littleEndian?: boolean): void };

const INTEGER_READERS = {
  Int8: (view: DataView, offset: number) => () => view.getInt8(offset),
  Uint8: (view: DataView, offset: number) => () => view.getUint8(offset),
  Int16: (view: DataView, offset: number) => () => view.getInt16(offset, true),
  Uint16: (view: DataView, offset: number) => () => view.getUint16(offset, true),
  Int32: (view: DataView, offset: number) => () => view.getInt32(offset, true),
  Uint32: (view: DataView, offset: number) => () => view.getUint32(offset, true),
};

function bigInteger(isSigned: boolean): Codec {
  const min = isSigned ? -(2n ** 63n) : 0n;
  const max = min + 2n ** 64n - 1n;
  return {
    bytes: 8,
    alignment: 8,
    check(value, what) {
      if (typeof value !== "bigint") throw typeError(what, "a bigint", value);
      if (value >= min && value <= max) return;
      throw new RangeError(`${what} must be from ${min} to ${max}, not ${value}`);
    },
    write: (view, offset, value: bigint) => view.setBigInt64(offset, value, true),
    reader: (view, offset) =>
      isSigned ? () => view.getBigInt64(offset, true) : () => view.getBigUint64(offset, true),
  };
}

function float(bits: 32 | 64): Codec {
  return {
    bytes: bits / 8,
    alignment: bits / 8,
    check(value, what) {
      if (typeof value !== "number") throw typeError(what, "a number", value);
    },
    write: (view, offset, value: number) =>
      bits === 32 ? view.setFloat32(offset, value, true) : view.setFloat64(offset, value, true),
    reader: (view, offset) =>
      bits === 32 ? () => view.getFloat32(offset, true) : () => view.getFloat64(offset, true),
  };
}

const BOOL: Codec = {
  bytes: 1,
  alignment: 1,
  check(value, what) {
    if (typeof value !== "boolean") throw typeError(what, "a boolean", value);
  },
  write: (view, offset, value: boolean) => view.setUint8(offset, value ? 1 : 0),
  reader: (view, offset) => () => view.getUint8(offset) !== 0,
};

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Returns the codec of a text: its bytes are UTF-8, and zeros fill the rest of the field. */
function text(bytes: number): Codec {
  return {
    bytes,
    alignment: 1,
    check(value, what) {
      if (typeof value !== "string") throw typeError(what, "a string", value);
      const length = encoder.encode(value).length;
      if (length <= bytes && !value.includes("\0") && value.isWellFormed()) return;
      throw new RangeError(
        `${what} must be well-formed text of at most ${bytes} bytes of UTF-8 without NUL, unlike ` +
          JSON.stringify(value),
      );
    },
    write(view, offset, value: string) {
      const field = new Uint8Array(view.buffer, view.byteOffset + offset, bytes);
      field.fill(0);
      encoder.encodeInto(value, field);
    },
    reader(view, offset) {
      const field = new Uint8Array(view.buffer, view.byteOffset + offset, bytes);
      return () => {
        const end = field.indexOf(0);
        return decoder.decode(field.subarray(0, end < 0 ? bytes : end));
      };
    },
  };
}

const CODECS: Readonly<Record<string, Codec>> = {
  i8: integer(8, true),
  u8: integer(8, false),
  i16: integer(16, true),
  u16: integer(16, false),
  i32: integer(32, true),
  u32: integer(32, false),
  i64: bigInteger(true),
  u64: bigInteger(false),
  f32: float(32),
  f64: float(64),
  bool: BOOL,
};

function codecOf(call: string, name: string, type: unknown): Codec {
  if (typeof type === "string") {
    const length = /^text:([1-9]\d{0,6})$/.exec(type)?.[1];
    if (length !== undefined) return text(Number(length));
    if (Object.hasOwn(CODECS, type)) return CODECS[type]!;
  }
  throw new TypeError(
    `${call}: the field ${JSON.stringify(name)} has no type ${JSON.stringify(type)}; there are ` +
      `${Object.keys(CODECS).join(", ")} and "text:" with a number of bytes`,
  );
}

interface FieldReader {
  readonly name: string;
  readonly read: () => unknown;
}

interface Field {
  readonly name: string;
  readonly codec: Codec;
  readonly offset: number;
}

/**
 * A record codec converts plain objects to bytes and back. The bytes are laid out like a C `struct` with the same
 * fields on a little-endian processor of 64 bits: a number begins at a multiple of its own size.
 * @internal
 */
export class RecordCodec {
  /** The size of a record in bytes. */
  readonly bytes: number;
  /** The hash of the layout. Layouts with the same names, types and order have the same hash. */
  readonly hash: bigint;
  readonly #fields: readonly Field[];

  /** @throws {TypeError} if `layout` is not a layout */
  constructor(call: string, layout: RecordLayout) {
    if (typeof layout !== "object" || layout === null || Object.keys(layout).length === 0) {
      throw new TypeError(`${call}: the layout must be an object of names and types`);
    }
    let end = 0;
    let largest = 1;
    this.#fields = Object.entries(layout).map(([name, type]) => {
      const codec = codecOf(call, name, type);
      const offset = aligned(end, codec.alignment);
      end = offset + codec.bytes;
      largest = Math.max(largest, codec.alignment);
      return { name, codec, offset };
    });
    this.bytes = aligned(end, largest);
    this.hash = hashOf(encoder.encode(JSON.stringify(Object.entries(layout))));
  }

  /** Writes all fields of a record. If one of them does not fit, it throws before it writes anything. */
  encode(call: string, record: Readonly<Record<string, unknown>>, bytes: Uint8Array): void {
    if (typeof record !== "object" || record === null) {
      throw new TypeError(`${call}: the record must be an object, not ${typeof record}`);
    }
    const values = this.#fields.map(({ name, codec }) => {
      const value = record[name];
      codec.check(value, `${call}: ${name}`);
      return value as never;
    });
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#fields.forEach(({ codec, offset }, i) => codec.write(view, offset, values[i]!));
  }

  /**
   * Returns a function that decodes the current `bytes` into a new object each time it is called.
   *
   * @param bytes {@linkcode RecordCodec.buffer}
   */
  decoder(bytes: Uint8Array): () => Record<string, unknown> {
    return decoderOf(this.#readers(bytes));
  }

  /** Returns a buffer for a record. */
  buffer(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.bytes);
  }

  /** Returns an object whose fields are decoded from the current `bytes` whenever they are read. */
  overlay(bytes: Uint8Array): Record<string, unknown> {
    const record = {};
    for (const { name, read } of this.#readers(bytes)) {
      Object.defineProperty(record, name, { enumerable: true, get: read });
    }
    return Object.preventExtensions(record);
  }

  #readers(bytes: Uint8Array): FieldReader[] {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return this.#fields.map(({ name, codec, offset }) => ({
      name,
      read: codec.reader(view, offset),
    }));
  }
}

/**
 * Returns a function that creates an object of all fields. It is compiled from text, as V8 takes 25 ns to store a field
 * under a name that is not a constant, and 2 ns for a field of an object literal. A program that forbids to compile text
 * (`--disallow-code-generation-from-strings`) gets a loop.
 */
function decoderOf(fields: readonly FieldReader[]): () => Record<string, unknown> {
  // As a constant name, "__proto__" would be the prototype.
  const keys = fields.map(({ name }) =>
    name === "__proto__" ? `["${name}"]` : JSON.stringify(name)
  );
  const source = `const [${fields.map((_, i) => `read${i}`)}] = readers;
    return () => ({ ${keys.map((key, i) => `${key}: read${i}()`)} });`;
  try {
    return new Function("readers", source)(fields.map(({ read }) => read));
  } catch (error) {
    if (!(error instanceof EvalError)) throw error;
    return () => Object.fromEntries(fields.map(({ name, read }) => [name, read()]));
  }
}

function aligned(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

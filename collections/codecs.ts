/** @internal The longest name of a codec, in bytes of UTF-8. */
export const CODEC_NAME_BYTES = 32;

/**
 * A codec turns values into bytes, and bytes into values. All processes that use a collection must use the same one. If it
 * has a name, a `SharedMap` and a `SharedTopic` note that when they are created, and refuse a codec of another name.
 *
 * @example
 * ```ts
 * import { deserialize, serialize } from "node:v8"; // dates, maps, sets; each runtime reads only its own bytes
 * import type { Codec } from "./codecs.ts";
 *
 * const structured: Codec<unknown> = { name: "v8", encode: serialize, decode: deserialize };
 * console.log(structured.decode(structured.encode(new Date(0))));
 * ```
 */
export interface Codec<Value> {
  /**
   * The name tells this codec from others: at most 32 bytes of UTF-8, without control characters. Give another one to a
   * codec whose bytes have changed. A codec without a name is not told from any other.
   */
  readonly name?: string | undefined;
  /** Returns the bytes of a value. They are copied into the segment before this function is called again. */
  encode(value: Value): Uint8Array;
  /** Returns the value of some bytes, which are a copy that nobody else uses. */
  decode(bytes: Uint8Array): Value;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** This codec leaves bytes as they are. It is used if there is no other one. */
export const bytes: Codec<Uint8Array> = {
  name: "bytes",
  encode(value: Uint8Array): Uint8Array {
    if (value instanceof Uint8Array) return value;
    throw new TypeError(
      `codec "bytes": a value must be a Uint8Array, not ${typeof value}; ` +
        "use utf8, json or a codec of your own for other values",
    );
  },
  decode: (bytes: Uint8Array): Uint8Array => bytes,
};

/** This codec stores strings as UTF-8. A lone surrogate becomes U+FFFD. */
export const utf8: Codec<string> = {
  name: "utf8",
  encode(value: string): Uint8Array {
    if (typeof value === "string") return encoder.encode(value);
    throw new TypeError(`codec "utf8": a value must be a string, not ${typeof value}`);
  },
  decode: (bytes: Uint8Array): string => decoder.decode(bytes),
};

/** The type of {@linkcode json}, which fits maps of any type of values. */
export interface JsonCodec {
  /** It is `"json"`. */
  readonly name: string;
  /** Returns the JSON of a value as UTF-8. */
  encode(value: unknown): Uint8Array;
  /** Parses JSON. The type of the value is not checked. */
  decode<Value>(bytes: Uint8Array): Value;
}

/** This codec stores what `JSON.stringify` makes of a value, as UTF-8. */
export const json: JsonCodec = {
  name: "json",
  encode(value: unknown): Uint8Array {
    const text = JSON.stringify(value) as string | undefined;
    if (text !== undefined) return encoder.encode(text);
    throw new TypeError(`codec "json": JSON has no ${typeof value}`);
  },
  decode: <Value>(bytes: Uint8Array): Value => JSON.parse(decoder.decode(bytes)),
};

/**
 * @internal Returns the name of a codec, `""` if it has none.
 *
 * @throws {TypeError} if it cannot be the name of one
 */
export function codecName(call: string, { name }: { readonly name?: string | undefined }): string {
  if (name === undefined) return "";
  const isName = typeof name === "string" && name !== "" && name.isWellFormed() &&
    !/\p{Cc}/u.test(name) && encoder.encode(name).length <= CODEC_NAME_BYTES;
  if (isName) return name;
  throw new TypeError(
    `${call}: the name of a codec must be a string of 1 to ${CODEC_NAME_BYTES} bytes in UTF-8 without control ` +
      `characters, not ${typeof name === "string" ? JSON.stringify(name) : typeof name}`,
  );
}

/** @internal Returns the name that is stored in `CODEC_NAME_BYTES` bytes, `""` if there is none. */
export function codecNameIn(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decoder.decode(end === -1 ? bytes : bytes.subarray(0, end));
}

/** @internal Returns how a layout names a codec. */
export function codecText(name: string): string {
  return name === "" ? "codec without a name" : JSON.stringify(name);
}

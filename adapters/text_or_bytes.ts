import type { Codec } from "../collections/codecs.ts";

/** What the stores of this folder keep: text as text, and bytes as bytes. */
export type TextOrBytes = string | Uint8Array;

/** The first byte of a stored value. */
const TEXT = 0;
const BYTES = 1;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function marked(kind: number, bytes: Uint8Array): Uint8Array {
  const all = new Uint8Array(1 + bytes.length);
  all[0] = kind;
  all.set(bytes, 1);
  return all;
}

/** @internal A codec that gives back text as text, and bytes as bytes. A lone surrogate becomes U+FFFD. */
export const textOrBytes: Codec<TextOrBytes> = {
  name: "text or bytes",
  encode(value: TextOrBytes): Uint8Array {
    if (typeof value === "string") return marked(TEXT, encoder.encode(value));
    if (value instanceof Uint8Array) return marked(BYTES, value);
    throw new TypeError(`a value must be a string or a Uint8Array, not ${typeof value}`);
  },
  decode(bytes: Uint8Array): TextOrBytes {
    // A copy, as what comes after the first byte is aligned for no other array.
    return bytes[0] === TEXT ? decoder.decode(bytes.subarray(1)) : bytes.slice(1);
  },
};

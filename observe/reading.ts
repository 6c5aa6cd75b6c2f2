import type { Place } from "./types.ts";

/** The size of a word in bytes. */
const WORD = 4;

/** Returns a copy of bytes of a place; they are zeros where the place or the segment ends. */
export function bytesOf({ peek, begin, end }: Place, offset: number, length: number) {
  const bytes = new Uint8Array(length);
  const room = Math.max(0, Math.min(length, end - begin - offset));
  if (room > 0) bytes.set(peek.read(begin + offset, room));
  return bytes;
}

/** Returns a copy of words of a place, as {@linkcode bytesOf} does. */
export function wordsOf(place: Place, offset: number, count: number): Int32Array<ArrayBuffer> {
  return new Int32Array(bytesOf(place, offset, count * WORD).buffer);
}

/** The number of bytes of a place. */
export function roomOf({ begin, end }: Place): number {
  return end - begin;
}

/**
 * A `Uint8Array` on an `ArrayBuffer`, as the APIs ask for that do not take a `SharedArrayBuffer`. TypeScript
 * before 5.7 has no such type, and this one is a `Uint8Array` there.
 */
export type Bytes = ReturnType<Uint8ArrayConstructor["of"]>;

/** A `Uint8Array` without the methods that change it. */
export interface ReadonlyUint8Array
  extends
    Omit<Uint8Array, "buffer" | "copyWithin" | "fill" | "reverse" | "set" | "sort" | "subarray"> {
  /** A part of the bytes, from `begin` to before `end`; negative numbers count from the end. */
  subarray(begin?: number, end?: number): ReadonlyUint8Array;
  /** A byte. */
  readonly [index: number]: number;
}

/** The constructor of a typed array or of `DataView`. */
export interface ViewConstructor<View> {
  /** The size of an element in bytes; a `DataView` has none. */
  readonly BYTES_PER_ELEMENT?: number;
  /** Makes a view of a part of `buffer`. */
  new (buffer: ArrayBuffer, byteOffset?: number, length?: number): View;
}

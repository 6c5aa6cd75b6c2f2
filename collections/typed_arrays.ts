/** The typed arrays that a layout can have as members. */
import type { Bytes, ViewConstructor } from "../core/view_types.ts";
import { bufferOf, extentOf } from "../core/view_extent.ts";
import type { LayoutMember } from "../sync/layout_member.ts";

function arrayOf<View>(
  name: string,
  Type: ViewConstructor<View> & { readonly BYTES_PER_ELEMENT: number },
  length: number,
): LayoutMember<View> {
  if (typeof length !== "number") {
    throw new TypeError(`${name}: the length must be a number, not ${typeof length}`);
  }
  const BYTES = length * Type.BYTES_PER_ELEMENT;
  if (!Number.isInteger(length) || length < 1 || !Number.isSafeInteger(BYTES)) {
    throw new RangeError(`${name}: the length must be an integer from 1 on, not ${length}`);
  }
  const at = (view: ArrayBufferView, byteOffset = 0): View => {
    const [begin, end] = extentOf(view);
    if (byteOffset + BYTES <= end - begin) {
      return new Type(bufferOf(view) as ArrayBuffer, begin + byteOffset, length);
    }
    throw new RangeError(
      `${name}: it takes ${BYTES} bytes, and the view has ${
        end - begin - byteOffset
      } from there on`,
    );
  };
  const ALIGNMENT = Type.BYTES_PER_ELEMENT;
  return { KIND: `${name}[${length}]`, BYTES, ALIGNMENT, create: at, at };
}

/** Returns a member of a layout: an array of `length` signed integers of 8 bits. */
export function i8(length: number): LayoutMember<Int8Array> {
  return arrayOf("i8", Int8Array, length);
}

/** Returns a member of a layout: an array of `length` unsigned integers of 8 bits. */
export function u8(length: number): LayoutMember<Bytes> {
  return arrayOf("u8", Uint8Array, length);
}

/** Returns a member of a layout: an array of `length` signed integers of 16 bits. */
export function i16(length: number): LayoutMember<Int16Array> {
  return arrayOf("i16", Int16Array, length);
}

/** Returns a member of a layout: an array of `length` unsigned integers of 16 bits. */
export function u16(length: number): LayoutMember<Uint16Array> {
  return arrayOf("u16", Uint16Array, length);
}

/** Returns a member of a layout: an array of `length` signed integers of 32 bits. */
export function i32(length: number): LayoutMember<Int32Array> {
  return arrayOf("i32", Int32Array, length);
}

/** Returns a member of a layout: an array of `length` unsigned integers of 32 bits. */
export function u32(length: number): LayoutMember<Uint32Array> {
  return arrayOf("u32", Uint32Array, length);
}

/** Returns a member of a layout: an array of `length` signed integers of 64 bits, which are bigints. */
export function i64(length: number): LayoutMember<BigInt64Array> {
  return arrayOf("i64", BigInt64Array, length);
}

/** Returns a member of a layout: an array of `length` unsigned integers of 64 bits, which are bigints. */
export function u64(length: number): LayoutMember<BigUint64Array> {
  return arrayOf("u64", BigUint64Array, length);
}

/** Returns a member of a layout: an array of `length` floats of 32 bits. */
export function f32(length: number): LayoutMember<Float32Array> {
  return arrayOf("f32", Float32Array, length);
}

/** Returns a member of a layout: an array of `length` floats of 64 bits. */
export function f64(length: number): LayoutMember<Float64Array> {
  return arrayOf("f64", Float64Array, length);
}

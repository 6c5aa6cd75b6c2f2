/**
 * These functions return what the engine itself knows of a view or a buffer. Its properties may say something else: a
 * subclass or an own property can have any getter. Addresses are computed from the results, so they must be true.
 */

type Getter<Value> = (this: unknown) => Value;

function getterOf<Value>(prototype: object, name: string): Getter<Value> {
  return Object.getOwnPropertyDescriptor(prototype, name)!.get as Getter<Value>;
}

function gettersOf(prototype: object) {
  return {
    buffer: getterOf<ArrayBufferLike>(prototype, "buffer"),
    byteOffset: getterOf<number>(prototype, "byteOffset"),
    byteLength: getterOf<number>(prototype, "byteLength"),
  };
}

const ofTypedArrays = gettersOf(Object.getPrototypeOf(Uint8Array.prototype));
const ofDataViews = gettersOf(DataView.prototype);
const NOTHING = new Uint8Array(0);
const { set: copy } = Uint8Array.prototype;
const bufferBytes = getterOf<number>(ArrayBuffer.prototype, "byteLength");

function getters(view: ArrayBufferView) {
  try {
    ofTypedArrays.buffer.call(view);
    return ofTypedArrays;
  } catch {
    return ofDataViews; // its getters refuse a typed array, as those above refuse a DataView
  }
}

/** Returns the buffer of a view. It throws a `TypeError` if `view` is not a view. */
export function bufferOf(view: ArrayBufferView): ArrayBufferLike {
  return getters(view).buffer.call(view);
}

/** Returns the buffer of a typed array. */
export function bufferOfArray(array: Uint8Array): ArrayBufferLike {
  return ofTypedArrays.buffer.call(array);
}

/** Returns where in its buffer a view begins and where it ends, in bytes. The buffer must not be empty. */
export function extentOf(view: ArrayBufferView): readonly [begin: number, end: number] {
  const { byteOffset, byteLength } = getters(view);
  const begin = byteOffset.call(view);
  return [begin, begin + byteLength.call(view)];
}

/** Returns the number of bytes of a typed array, which may be empty or detached. */
export function lengthOf(array: Uint8Array): number {
  return ofTypedArrays.byteLength.call(array);
}

/**
 * Whether an array has no elements because its buffer was transferred away, or because the buffer has become too small
 * for it.
 */
export function isDetached(array: Uint8Array): boolean {
  if (lengthOf(array) > 0) return false;
  try {
    copy.call(NOTHING, array);
    return false;
  } catch {
    return true;
  }
}

/** Returns the size in bytes of a buffer that is not a `SharedArrayBuffer`. It is 0 for a detached buffer. */
export function bytesOf(buffer: ArrayBuffer): number {
  return bufferBytes.call(buffer);
}

/**
 * What the engine itself knows of a view and of a buffer. Their properties may say something else: a subclass or an
 * own property can have any getter, and addresses are computed from what is found here.
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
const bufferBytes = getterOf<number>(ArrayBuffer.prototype, "byteLength");

function getters(view: ArrayBufferView) {
  try {
    ofTypedArrays.buffer.call(view);
    return ofTypedArrays;
  } catch {
    return ofDataViews; // whose getters refuse a typed array, as those refuse it
  }
}

/** The buffer that a view is of; what is no view is a `TypeError`. */
export function bufferOf(view: ArrayBufferView): ArrayBufferLike {
  return getters(view).buffer.call(view);
}

/** Where in its buffer a view begins, and where it ends, in bytes. The buffer must not be empty. */
export function extentOf(view: ArrayBufferView): readonly [begin: number, end: number] {
  const { byteOffset, byteLength } = getters(view);
  const begin = byteOffset.call(view);
  return [begin, begin + byteLength.call(view)];
}

/** The size of a buffer that is not shared, in bytes: 0 once it has been emptied or transferred. */
export function bytesOf(buffer: ArrayBuffer): number {
  return bufferBytes.call(buffer);
}

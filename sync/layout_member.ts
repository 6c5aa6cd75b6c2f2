/**
 * A layout member is what `layout()` of `./collections` can place in a segment: the classes {@linkcode Counter},
 * {@linkcode Gauge}, {@linkcode Mutex} and {@linkcode Event} themselves, what `of()` of the other primitives returns,
 * and any object with these properties.
 */
export interface LayoutMember<Value> {
  /**
   * This text says what lies in the bytes: a name, all parameters on which the bytes depend, and a version. Programs
   * share a member only if their texts are equal. It has no control characters.
   */
  readonly KIND: string;
  /** The member takes this number of bytes. */
  readonly BYTES: number;
  /** The member must begin at a multiple of this number of bytes in the segment: a power of two up to 4096. */
  readonly ALIGNMENT: number;
  /**
   * Creates the member in bytes that are zeros, and returns the object to use it with.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the member begins in the view, in bytes
   */
  create(view: ArrayBufferView, byteOffset: number): Value;
  /**
   * Returns the object for a member that exists. It must throw if the bytes hold something else.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the member begins in the view, in bytes
   */
  at(view: ArrayBufferView, byteOffset: number): Value;
  /**
   * Makes anew what belonged to processes that have all ended, such as a mutex; the data stays. A layout of the lifetime
   * `"until-removed"` calls it in `adopt`, before {@linkcode LayoutMember.at}. It must throw if the bytes hold something
   * else.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the member begins in the view, in bytes
   */
  renew?(view: ArrayBufferView, byteOffset: number): void;
}

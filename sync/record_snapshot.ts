import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { SyncError } from "./errors.ts";
import type { LayoutMember } from "./layout_member.ts";
import { RecordCodec, type RecordLayout, type RecordOf } from "./record_layout.ts";
import { kindText } from "./slot.ts";
import { Snapshot, withLayout } from "./snapshot.ts";

/**
 * A record snapshot is a {@linkcode Snapshot} of a plain object whose fields a layout declares. In memory the record is
 * laid out like a C `struct` with the same fields.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "../mod.ts";
 * import { RecordSnapshot } from "./mod.ts";
 *
 * const layout = { state: "text:16", users: "u32", load: "f64", isOpen: "bool" } as const;
 * using memory = SharedMemory.open("status", {
 *   size: RecordSnapshot.bytesFor(layout),
 *   initialize: (bytes) => void RecordSnapshot.create(bytes, 0, layout),
 * });
 * const status = RecordSnapshot.at(memory.view(Uint8Array), 0, layout);
 * status.publish({ state: "running", users: 3, load: 0.5, isOpen: true });
 * console.log(status.read()?.state); // "running"
 * ```
 */
export class RecordSnapshot<const Layout extends RecordLayout> {
  /** A snapshot must begin at a multiple of this number of bytes in the segment. */
  static readonly ALIGNMENT = 8;
  readonly #snapshot: Snapshot;
  readonly #codec: RecordCodec;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #decode: () => Record<string, unknown>;
  /** The bytes of the object that `refresh` returns. The object itself is created by the first successful call. */
  readonly #shownBytes: Uint8Array<ArrayBuffer>;
  #shown: Readonly<RecordOf<Layout>> | null = null;

  private constructor(snapshot: Snapshot, codec: RecordCodec) {
    this.#snapshot = snapshot;
    this.#codec = codec;
    this.#bytes = codec.buffer();
    this.#decode = codec.decoder(this.#bytes);
    this.#shownBytes = codec.buffer();
  }

  /**
   * Returns the number of bytes that a snapshot with this layout takes.
   *
   * @param layout the names and types of the fields
   * @throws {TypeError} if `layout` is not a layout
   */
  static bytesFor(layout: RecordLayout): number {
    return Snapshot.bytesFor(new RecordCodec("RecordSnapshot.bytesFor", layout).bytes);
  }

  /**
   * Returns a snapshot with this layout as a member of a `layout()` of several members.
   *
   * @param layout the names and types of the fields
   * @throws {TypeError} if `layout` is not a layout
   */
  static of<const Layout extends RecordLayout>(
    layout: Layout,
  ): LayoutMember<RecordSnapshot<Layout>> {
    return {
      BYTES: RecordSnapshot.bytesFor(layout),
      ALIGNMENT: RecordSnapshot.ALIGNMENT,
      KIND: kindText("RecordSnapshot", ` ${JSON.stringify(layout)}`),
      create: (view, byteOffset) => RecordSnapshot.create(view, byteOffset, layout),
      at: (view, byteOffset) => RecordSnapshot.at(view, byteOffset, layout),
    };
  }

  /**
   * Creates a snapshot in a segment. No record has been published in it.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the snapshot begins in the view, in bytes
   * @param layout the names and types of the fields
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room,
   * or `layout` is not a layout
   */
  static create<const Layout extends RecordLayout>(
    view: ArrayBufferView,
    byteOffset: number,
    layout: Layout,
  ): RecordSnapshot<Layout> {
    const call = "RecordSnapshot.create";
    const codec = new RecordCodec(call, layout);
    const snapshot = withLayout.create(call, view, byteOffset, codec.bytes, codec.hash);
    return new RecordSnapshot(snapshot, codec);
  }

  /**
   * Returns an object for a snapshot that exists in a segment. It must have been created with the same layout: the same
   * names and types in the same order.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the snapshot begins in the view, in bytes
   * @param layout the names and types of the fields
   * @throws {SyncError} `NotFound` if there is no snapshot, `WrongKind` if the place holds something else or a snapshot
   * with another layout, `Damaged` if the record size in the segment is wrong, `NotAttached` if the segment is not
   * attached, `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room,
   * or `layout` is not a layout
   */
  static at<const Layout extends RecordLayout>(
    view: ArrayBufferView,
    byteOffset: number,
    layout: Layout,
  ): RecordSnapshot<Layout> {
    const call = "RecordSnapshot.at";
    const codec = new RecordCodec(call, layout);
    const snapshot = withLayout.at(call, view, byteOffset, codec.hash);
    if (snapshot.recordBytes === codec.bytes) return new RecordSnapshot(snapshot, codec);
    throw new SyncError("Damaged", `${call}: its records have ${snapshot.recordBytes} bytes`);
  }

  /**
   * Publishes a record: every read from now on returns it. A record that does not fit the layout changes nothing.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached, `Busy` as {@linkcode Snapshot.publish}
   * @throws {TypeError | RangeError} if a field is missing or does not fit its type
   */
  publish(record: Readonly<RecordOf<Layout>>): void {
    this.#codec.encode("RecordSnapshot.publish", record, this.#bytes);
    this.#snapshot.publish(this.#bytes);
  }

  /**
   * Returns the record that was published last as a new object, or `null` before the first one. The record is never a
   * mixture.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached, `Busy` as {@linkcode Snapshot.read}
   */
  read(): RecordOf<Layout> | null {
    if (!withLayout.read(this.#snapshot, this.#bytes)) return null;
    return this.#decode() as RecordOf<Layout>;
  }

  /**
   * Returns the record that was published last, or `null` before the first one. Every call returns the same object,
   * which then shows the new record. A field is decoded when the program reads it, so a call costs little more than
   * copying the bytes, however many fields there are. To keep a record, copy it: `{ ...record }`.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached; `Busy` as {@linkcode Snapshot.read}. After an
   * error all bytes of the object are zeros
   */
  refresh(): Readonly<RecordOf<Layout>> | null {
    try {
      if (!withLayout.read(this.#snapshot, this.#shownBytes)) return null;
    } catch (error) {
      this.#shownBytes.fill(0); // otherwise the object might show a mixture of two records
      throw error;
    }
    return this.#shown ??= this.#codec.overlay(this.#shownBytes) as Readonly<RecordOf<Layout>>;
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: withLayout.isUsable(this.#snapshot),
      recordBytes: this.#codec.bytes,
    }));
  }
}

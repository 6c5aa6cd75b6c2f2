import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { SyncError } from "./errors.ts";
import { RecordCodec, type RecordLayout, type RecordOf } from "./record_layout.ts";
import { Snapshot, withLayout } from "./snapshot.ts";

/**
 * A {@linkcode Snapshot} of a plain object, whose fields a layout declares. In memory it is what C makes of a
 * `struct` with the same fields.
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
  /** What its place in the segment must be a multiple of, in bytes. */
  static readonly ALIGNMENT = 8;
  readonly #snapshot: Snapshot;
  readonly #codec: RecordCodec;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #decode: () => Record<string, unknown>;
  /** The bytes of what `refresh` returns, and that itself once it is needed. */
  readonly #shownBytes: Uint8Array<ArrayBuffer>;
  #shown: Readonly<RecordOf<Layout>> | null = null;

  private constructor(snapshot: Snapshot, codec: RecordCodec) {
    this.#snapshot = snapshot;
    this.#codec = codec;
    this.#bytes = new Uint8Array(codec.bytes);
    this.#decode = codec.decoder(this.#bytes);
    this.#shownBytes = new Uint8Array(codec.bytes);
  }

  /**
   * The bytes that it takes.
   *
   * @param layout the names and types of the fields
   * @throws {TypeError} if `layout` is not one
   */
  static bytesFor(layout: RecordLayout): number {
    return Snapshot.bytesFor(new RecordCodec("RecordSnapshot.bytesFor", layout).bytes);
  }

  /**
   * Makes one, in which nothing has been published.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @param layout the names and types of the fields
   * @throws {SyncError} `AlreadyExists` if there is something already, `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one, or `layout` is not one
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
   * Joins one that has been made with the same layout: the same names and types in the same order.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @param layout the names and types of the fields
   * @throws {SyncError} `NotFound` if there is none, `WrongKind` if there is something else or the
   * layout is another one, `Damaged`, `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one, or `layout` is not one
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
   * Publishes a record: whoever reads from now on gets it. A record that does not fit changes nothing.
   *
   * @throws {SyncError} `NotAttached` after detach, `Busy` as {@linkcode Snapshot.publish}
   * @throws {TypeError | RangeError} if a field is missing or does not fit its type
   */
  publish(record: Readonly<RecordOf<Layout>>): void {
    this.#codec.encode("RecordSnapshot.publish", record, this.#bytes);
    this.#snapshot.publish(this.#bytes);
  }

  /**
   * The last record that was published, whole, as a new object, or `null` before the first one.
   *
   * @throws {SyncError} `NotAttached` after detach, `Busy` as {@linkcode Snapshot.read}
   */
  read(): RecordOf<Layout> | null {
    if (!withLayout.read(this.#snapshot, this.#bytes)) return null;
    return this.#decode() as RecordOf<Layout>;
  }

  /**
   * The same without a new object: that of the last call, which now shows this record. Its fields are decoded
   * as they are looked at, so that it costs little more than to copy the bytes, however many fields there are.
   * Copy what has to stay: `{ ...record }`.
   *
   * @throws {SyncError} `NotAttached` after detach; `Busy` as {@linkcode Snapshot.read}, after which all bytes
   * of the object are zeros
   */
  refresh(): Readonly<RecordOf<Layout>> | null {
    try {
      if (!withLayout.read(this.#snapshot, this.#shownBytes)) return null;
    } catch (error) {
      this.#shownBytes.fill(0); // rather than two records mixed
      throw error;
    }
    return this.#shown ??= this.#codec.overlay(this.#shownBytes) as Readonly<RecordOf<Layout>>;
  }

  /** @internal What `console.log` shows of it. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: withLayout.isUsable(this.#snapshot),
      recordBytes: this.#codec.bytes,
    }));
  }
}

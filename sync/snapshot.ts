import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import type { Bytes } from "../core/view_types.ts";
import { SyncError } from "./errors.ts";
import type { LayoutMember } from "./layout_member.ts";
import { kindText, PrimitiveKind, Slot } from "./slot.ts";

/**
 * The header precedes the number of the record that each half has or receives, the layout's hash, and the two halves.
 */
const [SIZE_WORD, LATEST_WORD] = [2, 3];
const FILLING = 16;
const LAYOUT_HASH = 24;
const HALVES = 32;

const RECORD_BYTES_MAX = 2 ** 30;
/**
 * A read fails after this time, in ms, and this number of attempts, if writers overwrite the record again and again: a
 * process that stands still for so long in the middle of one attempt has not made many.
 */
const OVERTAKEN_MS = 100;
const ATTEMPTS = 10;

/** These functions handle snapshots whose records have a layout. Joining one requires the same layout. */
interface WithLayout {
  create(
    call: string,
    view: ArrayBufferView,
    byteOffset: number,
    recordBytes: number,
    layoutHash: bigint,
  ): Snapshot;
  at(call: string, view: ArrayBufferView, byteOffset: number, layoutHash: bigint): Snapshot;
  /** Reads into `into`, which must have the size of a record; returns `false` if nothing has been published. */
  read(snapshot: Snapshot, into: Uint8Array): boolean;
  isUsable(snapshot: Snapshot): boolean;
}

/** @internal */
export let withLayout: WithLayout;

/**
 * A snapshot holds a record of fixed size that one writer at a time publishes. Any number of readers read it whole,
 * without waiting for another process. If the writer is killed while it publishes, the readers go on reading the last
 * whole record.
 *
 * Several writers must take turns, for example with a {@linkcode Mutex}.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "../mod.ts";
 * import { Snapshot } from "./mod.ts";
 *
 * using memory = SharedMemory.open("settings bytes", {
 *   size: Snapshot.bytesFor(4),
 *   initialize: (bytes) => void Snapshot.create(bytes, 0, 4),
 * });
 * const settings = Snapshot.at(memory.view(Uint8Array));
 * settings.publish(Uint8Array.of(1, 2, 3, 4));
 * console.log(settings.read()); // those four bytes
 * ```
 */
export class Snapshot {
  /*
   * No reader gets torn bytes, even on processors that reorder. A record n goes into half n & 1. Its writer
   *   W1  exchanges FILLING of that half for n,   W2  stores the bytes,   W3  exchanges LATEST for n,
   * and a reader
   *   R1  loads LATEST, n,   R2  copies the bytes,   R3  adds 0 to FILLING of the half, and needs n.
   * W2 and R2 are not atomic. The other operations are sequentially consistent and order them:
   * - R1 has read what W3 wrote, so R2 sees all of W2 (W3 releases, R1 acquires). This remains true: if an R1 of the
   *   same reader has loaded this n before, a plain load is enough, which takes engines 6 ns less. The plain load comes
   *   after R3 of the previous read and after all that the caller has loaded by Atomics; but, on arm64, not after the
   *   caller's plain loads and its writes. (After 2^32 records n repeats.)
   * - The next writer of this half, of record n + 2, stores its bytes in W2' only after W1'. R3 writes too, so R3 and
   *   W1' have an order in which the later one reads what the earlier one wrote. If W1' comes first, R3 gets n + 2,
   *   and the copy is discarded. If R3 comes first, W1' acquires what R3 released, R2 included: W2' comes after R2. If
   *   R3 were a plain load, a processor might perform R2 after it.
   * A writer that is killed before W3 has only changed a half that no reader of LATEST looks at.
   */

  /** A snapshot must begin at a multiple of this number of bytes in the segment. */
  static readonly ALIGNMENT = 8;
  /** A record has this number of bytes. */
  readonly recordBytes: number;
  readonly #slot: Slot;
  readonly #filling: Int32Array;
  readonly #halves: readonly [Uint8Array, Uint8Array];
  /** The number of the record that the last read found. */
  #seen = 0;

  private constructor(slot: Slot, recordBytes: number) {
    this.#slot = slot;
    this.recordBytes = recordBytes;
    this.#filling = slot.view(Int32Array, FILLING, 2);
    this.#halves = [
      slot.view(Uint8Array, HALVES, recordBytes),
      slot.view(Uint8Array, HALVES + padded(recordBytes), recordBytes),
    ];
  }

  /**
   * Returns the number of bytes that a snapshot takes.
   *
   * @param recordBytes the size of a record in bytes, from 1 to 1 GiB
   * @throws {TypeError | RangeError} if `recordBytes` is not an integer in this range
   */
  static bytesFor(recordBytes: number): number {
    checkRecordBytes("Snapshot.bytesFor", recordBytes);
    return HALVES + 2 * padded(recordBytes);
  }

  /**
   * Returns a snapshot with records of this size as a member of a layout.
   *
   * @param recordBytes the size of a record in bytes, from 1 to 1 GiB
   * @throws {TypeError | RangeError} if `recordBytes` is not an integer in this range
   */
  static of(recordBytes: number): LayoutMember<Snapshot> {
    return {
      BYTES: Snapshot.bytesFor(recordBytes),
      ALIGNMENT: Snapshot.ALIGNMENT,
      KIND: kindText("Snapshot", `(${recordBytes})`),
      create: (view, byteOffset) => Snapshot.create(view, byteOffset, recordBytes),
      at: (view, byteOffset) => {
        const snapshot = Snapshot.at(view, byteOffset);
        if (snapshot.recordBytes === recordBytes) return snapshot;
        throw new SyncError(
          "Damaged",
          `Snapshot.at: it says that a record has ${snapshot.recordBytes} bytes, not ${recordBytes}`,
        );
      },
    };
  }

  /**
   * Creates a snapshot in a segment. No record has been published in it.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the snapshot begins in the view, in bytes
   * @param recordBytes the size of a record in bytes, from 1 to 1 GiB
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room,
   * or `recordBytes` is not an integer in this range
   */
  static create(view: ArrayBufferView, byteOffset: number, recordBytes: number): Snapshot {
    return Snapshot.#create("Snapshot.create", view, byteOffset, recordBytes, 0n);
  }

  /**
   * Returns an object for a snapshot with records of any size that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the snapshot begins in the view, in bytes
   * @throws {SyncError} `NotFound` if there is no snapshot, `WrongKind` if the place holds something else, `Damaged` if
   * the record size in the segment is impossible, `NotAttached` if the segment is not attached, `ReadOnly` if it is
   * attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   */
  static at(view: ArrayBufferView, byteOffset = 0): Snapshot {
    return Snapshot.#at("Snapshot.at", view, byteOffset);
  }

  static {
    withLayout = {
      create: (call, view, byteOffset, recordBytes, layoutHash) =>
        Snapshot.#create(call, view, byteOffset, recordBytes, layoutHash),
      at: (call, view, byteOffset, layoutHash) => Snapshot.#at(call, view, byteOffset, layoutHash),
      read: (snapshot, into) => snapshot.#read(into),
      isUsable: (snapshot) => snapshot.#slot.isUsable,
    };
  }

  static #create(
    call: string,
    view: ArrayBufferView,
    byteOffset: number,
    recordBytes: number,
    layoutHash: bigint,
  ): Snapshot {
    checkRecordBytes(call, recordBytes);
    const slot = new Slot(call, view, byteOffset, Snapshot.ALIGNMENT);
    slot.make(call, PrimitiveKind.Snapshot, Snapshot.bytesFor(recordBytes), () => {
      slot.words[SIZE_WORD] = recordBytes;
      slot.view(BigUint64Array, LAYOUT_HASH, 1)[0] = layoutHash;
    });
    return new Snapshot(slot, recordBytes);
  }

  static #at(
    call: string,
    view: ArrayBufferView,
    byteOffset: number,
    layoutHash: bigint | null = null,
  ): Snapshot {
    const slot = new Slot(call, view, byteOffset, Snapshot.ALIGNMENT);
    slot.join(call, PrimitiveKind.Snapshot, HALVES);
    const recordBytes = slot.words[SIZE_WORD]!;
    if (!(recordBytes >= 1 && recordBytes <= RECORD_BYTES_MAX)) {
      throw new SyncError("Damaged", `${call}: it says that a record has ${recordBytes} bytes`);
    }
    if (layoutHash !== null && slot.view(BigUint64Array, LAYOUT_HASH, 1)[0] !== layoutHash) {
      throw new SyncError("WrongKind", `${call}: the records there have another layout`);
    }
    slot.require(call, Snapshot.bytesFor(recordBytes));
    return new Snapshot(slot, recordBytes);
  }

  /**
   * Publishes a record: every read from now on returns it.
   *
   * @param record an array with the size of a record
   * @throws {SyncError} `NotAttached` if the segment has been detached; `Busy` if another writer published at the same
   * time: its record may be lost, or readers may fail to read until the next one is published
   * @throws {TypeError | RangeError} if `record` is not a `Uint8Array` of that length
   */
  publish(record: Uint8Array): void {
    this.#slot.requireUsable("publish");
    this.#check("publish", record);
    const { words } = this.#slot;
    const before = Atomics.load(words, LATEST_WORD);
    const number = (before + 1 | 0) || 2; // 0 means that nothing has been published
    const half = number & 1;
    Atomics.exchange(this.#filling, half, number); // W1
    this.#halves[half]!.set(record); // W2
    const found = Atomics.compareExchange(words, LATEST_WORD, before, number); // W3
    if (found === before) return;
    throw new SyncError(
      "Busy",
      "Snapshot.publish: another writer published meanwhile; let one writer at a time do it, with a " +
        "Mutex if there are several",
    );
  }

  /**
   * Returns the record that was published last, or `null` before the first one. The record is never a mixture.
   *
   * @param into the array that receives the bytes; if it is left out, a new array is created
   * @returns `into` or the new array; `null` before the first record
   * @throws {SyncError} `NotAttached` if the segment has been detached; `Busy` if writers overwrote the record again
   * and again for 100 ms and ten attempts while it was read, or at once if two writers or a stray store have left a record that is not
   * whole
   * @throws {TypeError | RangeError} if `into` is not a `Uint8Array` of a record's length
   */
  read<Into extends Uint8Array = Bytes>(into?: Into): Into | null {
    const bytes: Uint8Array = into ?? new Uint8Array(this.recordBytes);
    if (into !== undefined) this.#check("read", into);
    return this.#read(bytes) ? bytes as Into : null;
  }

  /** Reads the record; returns `false` before the first one. It has no loop, so that engines inline it. */
  #read(into: Uint8Array): boolean {
    this.#slot.requireUsable("read");
    return this.#tryToRead(into) ?? this.#readAgain(into);
  }

  /** Tries to read the record; returns `false` before the first one, `null` if a writer overwrote it meanwhile. */
  #tryToRead(into: Uint8Array): boolean | null {
    const { words } = this.#slot;
    let number = words[LATEST_WORD]!;
    // 0 is loaded atomically too: in a loop without an atomic operation, engines may load the word only once.
    if (number === 0 || number !== this.#seen) {
      number = this.#seen = Atomics.load(words, LATEST_WORD); // R1
      if (number === 0) return false;
    }
    const half = number & 1;
    into.set(this.#halves[half]!); // R2
    return Atomics.add(this.#filling, half, 0) === number ? true : null; // R3
  }

  /**
   * Repeats a read that was overtaken. A writer overwrites a half only after a record was published in the other half.
   * If no newer record has been published, no orderly writer has caused this, and the read fails at once.
   */
  #readAgain(into: Uint8Array): boolean {
    const { words } = this.#slot;
    const deadline = performance.now() + OVERTAKEN_MS;
    for (let attempt = 2; attempt <= ATTEMPTS || performance.now() < deadline; attempt++) {
      const before = this.#seen;
      if (Atomics.load(words, LATEST_WORD) === before) throw this.#torn();
      const isRead = this.#tryToRead(into);
      if (isRead !== null) return isRead;
    }
    throw new SyncError(
      "Busy",
      `Snapshot.read: the record was overwritten again and again for at least ${OVERTAKEN_MS} ms while it was read; ` +
        "publish less often",
    );
  }

  #torn(): SyncError {
    return new SyncError(
      "Busy",
      "Snapshot.read: the record was overwritten by two writers at once, or by a store that is not this module's; " +
        "publish again, with one writer at a time",
    );
  }

  #check(method: string, bytes: unknown): void {
    if (!(bytes instanceof Uint8Array)) {
      throw new TypeError(`Snapshot.${method}: a record must be a Uint8Array, not ${typeof bytes}`);
    }
    if (bytes.length === this.recordBytes) return;
    throw new RangeError(
      `Snapshot.${method}: a record has ${this.recordBytes} bytes, not ${bytes.length}`,
    );
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      attached: this.#slot.isUsable,
      recordBytes: this.recordBytes,
    }));
  }
}

function padded(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

function checkRecordBytes(call: string, bytes: unknown): void {
  if (typeof bytes !== "number") {
    throw new TypeError(`${call}: the size of a record must be a number, not ${typeof bytes}`);
  }
  if (Number.isInteger(bytes) && bytes >= 1 && bytes <= RECORD_BYTES_MAX) return;
  throw new RangeError(
    `${call}: a record must have from 1 to ${RECORD_BYTES_MAX} bytes, not ${bytes}`,
  );
}

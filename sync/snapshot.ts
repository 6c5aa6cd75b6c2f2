import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import type { Bytes } from "../shared_memory.ts";
import { SyncError } from "./errors.ts";
import { PrimitiveKind, Slot } from "./slot.ts";

/** The header; then which record each half has or is getting, what the bytes mean, and the two halves. */
const [SIZE_WORD, LATEST_WORD] = [2, 3];
const FILLING = 16;
const MEANING = 24;
const HALVES = 32;

const RECORD_BYTES_MAX = 2 ** 30;
/** A reader that is overtaken for so long, in ms, does not get its record. */
const OVERTAKEN_MS = 100;

/** Snapshots whose records have a meaning, which those who join have to know. */
interface WithLayout {
  create(
    call: string,
    view: ArrayBufferView,
    byteOffset: number,
    recordBytes: number,
    meaning: bigint,
  ): Snapshot;
  at(call: string, view: ArrayBufferView, byteOffset: number, meaning: bigint): Snapshot;
  /** `read` into bytes that are as many as a record has. */
  read(snapshot: Snapshot, into: Uint8Array): boolean;
  isUsable(snapshot: Snapshot): boolean;
}

/** @internal */
export let withLayout: WithLayout;

/**
 * A record of fixed size that one writer at a time publishes, and that any number of readers read whole, without
 * waiting for anybody. If the writer is killed in the middle, they go on reading the last whole record.
 *
 * Two writers at a time need a {@linkcode Mutex}, or take turns in another way.
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
   * Why no reader gets torn bytes, on processors that reorder too. A record n goes into half n & 1. Its writer
   *   W1  exchanges FILLING of that half for n,   W2  stores the bytes,   W3  exchanges LATEST for n,
   * and a reader
   *   R1  loads LATEST, n,   R2  copies the bytes,   R3  adds 0 to FILLING of the half, and needs n.
   * W2 and R2 are not atomic. What orders them are the others, which are sequentially consistent:
   * - R1 has read what W3 wrote, so it sees all of W2 (W3 releases, R1 acquires). That stays so: for the n that
   *   an R1 of the same reader has loaded before, a mere load is enough, which takes engines 6 ns less. It comes
   *   after R3 of the read before, and after whatever the caller has read before; but not, on arm64, after what he
   *   has written. (After 2^32 records n comes again.)
   * - The next writer of this half, of record n + 2, writes in W2' only after W1'. R3 writes too, so R3 and
   *   W1' have an order in which the later one reads what the earlier one wrote. If W1' comes first, R3
   *   gets n + 2, and the copy is dropped. If R3 does, W1' acquires what R3 released, R2 included: W2' comes
   *   after R2. With a mere load as R3, a processor might perform R2 after it.
   * A writer that dies before W3 has changed nothing but a half that no reader of LATEST looks at.
   */

  /** What its place in the segment must be a multiple of, in bytes. */
  static readonly ALIGNMENT = 8;
  /** The size of a record in bytes. */
  readonly recordBytes: number;
  readonly #slot: Slot;
  readonly #filling: Int32Array;
  readonly #halves: readonly [Uint8Array, Uint8Array];
  /** The record that was looked for last. */
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
   * The bytes that a snapshot takes.
   *
   * @param recordBytes the size of a record in bytes, from 1 to 1 GiB
   * @throws {TypeError | RangeError} if `recordBytes` is no such number
   */
  static bytesFor(recordBytes: number): number {
    checkRecordBytes("Snapshot.bytesFor", recordBytes);
    return HALVES + 2 * padded(recordBytes);
  }

  /**
   * Makes one, in which nothing has been published.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @param recordBytes the size of a record in bytes, from 1 to 1 GiB
   * @throws {SyncError} `AlreadyExists` if there is something already, `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one, or `recordBytes` is no such number
   */
  static create(view: ArrayBufferView, byteOffset: number, recordBytes: number): Snapshot {
    return Snapshot.#create("Snapshot.create", view, byteOffset, recordBytes, 0n);
  }

  /**
   * Joins one that has been made, whatever the size of its records.
   *
   * @param view a view of an attached segment
   * @param byteOffset where in the view
   * @throws {SyncError} `NotFound` if there is none, `WrongKind` if there is something else, `Damaged`,
   * `NotAttached`, `ReadOnly`
   * @throws {TypeError | RangeError} if the place is not one
   */
  static at(view: ArrayBufferView, byteOffset = 0): Snapshot {
    return Snapshot.#at("Snapshot.at", view, byteOffset);
  }

  static {
    withLayout = {
      create: (call, view, byteOffset, recordBytes, meaning) =>
        Snapshot.#create(call, view, byteOffset, recordBytes, meaning),
      at: (call, view, byteOffset, meaning) => Snapshot.#at(call, view, byteOffset, meaning),
      read: (snapshot, into) => snapshot.#read(into),
      isUsable: (snapshot) => snapshot.#slot.isUsable,
    };
  }

  static #create(
    call: string,
    view: ArrayBufferView,
    byteOffset: number,
    recordBytes: number,
    meaning: bigint,
  ): Snapshot {
    checkRecordBytes(call, recordBytes);
    const slot = new Slot(call, view, byteOffset, Snapshot.ALIGNMENT);
    slot.make(call, PrimitiveKind.Snapshot, Snapshot.bytesFor(recordBytes), () => {
      slot.words[SIZE_WORD] = recordBytes;
      slot.view(BigUint64Array, MEANING, 1)[0] = meaning;
    });
    return new Snapshot(slot, recordBytes);
  }

  static #at(
    call: string,
    view: ArrayBufferView,
    byteOffset: number,
    meaning: bigint | null = null,
  ): Snapshot {
    const slot = new Slot(call, view, byteOffset, Snapshot.ALIGNMENT);
    slot.join(call, PrimitiveKind.Snapshot, HALVES);
    const recordBytes = slot.words[SIZE_WORD]!;
    if (!(recordBytes >= 1 && recordBytes <= RECORD_BYTES_MAX)) {
      throw new SyncError("Damaged", `${call}: it says that a record has ${recordBytes} bytes`);
    }
    if (meaning !== null && slot.view(BigUint64Array, MEANING, 1)[0] !== meaning) {
      throw new SyncError("WrongKind", `${call}: the records there have another layout`);
    }
    slot.require(call, Snapshot.bytesFor(recordBytes));
    return new Snapshot(slot, recordBytes);
  }

  /**
   * Publishes a record: whoever reads from now on gets it.
   *
   * @param record as many bytes as a record has
   * @throws {SyncError} `NotAttached` after detach; `Busy` if somebody else published meanwhile, whose
   * record may be lost or kept from the readers until the next one
   * @throws {TypeError | RangeError} if `record` is not a `Uint8Array` of that length
   */
  publish(record: Uint8Array): void {
    this.#slot.requireUsable("publish");
    this.#check("publish", record);
    const { words } = this.#slot;
    const before = Atomics.load(words, LATEST_WORD);
    const number = (before + 1 | 0) || 2; // 0 says that there is none yet
    const half = number & 1;
    Atomics.exchange(this.#filling, half, number); // W1
    this.#halves[half]!.set(record); // W2
    const found = Atomics.compareExchange(words, LATEST_WORD, before, number); // W3
    if (found === before) return;
    throw new SyncError(
      "Busy",
      "Snapshot.publish: somebody else published meanwhile; let one writer at a time do it, with a " +
        "Mutex if there are several",
    );
  }

  /**
   * The last record that was published, whole, or `null` before the first one.
   *
   * @param into gets the bytes; a new array if it is left out
   * @returns `into`
   * @throws {SyncError} `NotAttached` after detach; `Busy` if it was overwritten again and again for 100 ms while
   * it was read; at once if two writers, or a stray store, have left a record that is no whole one
   * @throws {TypeError | RangeError} if `into` is not a `Uint8Array` of a record's length
   */
  read<Into extends Uint8Array = Bytes>(into?: Into): Into | null {
    const bytes: Uint8Array = into ?? new Uint8Array(this.recordBytes);
    if (into !== undefined) this.#check("read", into);
    return this.#read(bytes) ? bytes as Into : null;
  }

  /** `false` before the first one. Without a loop, so that engines take it for a part of its callers. */
  #read(into: Uint8Array): boolean {
    this.#slot.requireUsable("read");
    return this.#tryToRead(into) ?? this.#readAgain(into);
  }

  /** `null` if a writer was faster. */
  #tryToRead(into: Uint8Array): boolean | null {
    const { words } = this.#slot;
    let number = words[LATEST_WORD]!;
    // Of 0 too: in a loop without any atomic operation, engines look once and for all.
    if (number === 0 || number !== this.#seen) {
      number = this.#seen = Atomics.load(words, LATEST_WORD); // R1
      if (number === 0) return false;
    }
    const half = number & 1;
    into.set(this.#halves[half]!); // R2
    return Atomics.add(this.#filling, half, 0) === number ? true : null; // R3
  }

  /** A half is overwritten only once a record has been published in the other one. If there is none, nobody writes. */
  #readAgain(into: Uint8Array): boolean {
    const { words } = this.#slot;
    const deadline = performance.now() + OVERTAKEN_MS;
    do {
      const before = this.#seen;
      if (Atomics.load(words, LATEST_WORD) === before) throw this.#torn();
      const isRead = this.#tryToRead(into);
      if (isRead !== null) return isRead;
    } while (performance.now() < deadline);
    throw new SyncError(
      "Busy",
      `Snapshot.read: the record was overwritten again and again for ${OVERTAKEN_MS} ms while it was read; ` +
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

  /** @internal What `console.log` shows of it. */
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

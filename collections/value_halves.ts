import type { Bytes } from "../core/view_types.ts";
import { SyncError } from "../sync/errors.ts";
import type { Slot } from "../sync/slot.ts";
import { halfByte } from "./value_header.ts";

/**
 * The words of the second cache line: the low 32 bits of the version that was set last, those of the version that each
 * half has or receives, and the number of bytes in each half. There are also two floats, the versions of the halves, and
 * the words that any section has.
 */
export const LATEST = 16;
export const LENGTHS = 24;
const FILLING = 17;
export const VERSIONS_BYTE = 80;
export const WORDS = 32;

/** Versions below this number can be counted to. After damage they begin at the time, which is beyond each that was. */
const VERSION_MAX = 2 ** 52;
/** A larger version was not counted up to: it was overwritten, and the next one begins anew. */
const COUNTED_MAX = VERSION_MAX - 2 ** 32;
const VERSIONS_PER_MS = 1024;

/** A read fails after this time in ms, and this number of attempts, if writers are faster again and again. */
const OVERTAKEN_MS = 1000;
const ATTEMPTS = 10;

/** A value as it is stored. */
export interface Stored {
  readonly version: number;
  /** A copy that nobody else uses; `null` if nothing has been set. */
  readonly bytes: Bytes | null;
}

/**
 * The two halves of a shared value, and the word that says which of them has the value. Readers wait for nobody.
 *
 * The version n goes into half n & 1. The order of loads and stores is that of {@linkcode Snapshot}, whose comment says
 * why it is right: the writer exchanges `FILLING` of the half, stores the bytes, and then exchanges `LATEST`; a reader loads
 * `LATEST`, copies, and then finds `FILLING` unchanged. A writer that is killed before the last step has changed a half that
 * no reader looks at.
 *
 * A reader decodes a copy of its own. It must not decode the bytes in place: engines first count how long the text of some
 * UTF-8 will be, and then write it, so Node and Deno crash if another process changes the bytes in between.
 */
export class ValueHalves {
  // For `declare`, see Slot.
  declare readonly slot: Slot;
  declare readonly words: Int32Array;
  declare readonly maxBytes: number;
  declare private readonly versions: Float64Array;
  declare private readonly halves: readonly [Uint8Array, Uint8Array];
  /** Whether the processor performs loads in their order: see {@linkcode RingLog.isWhole}. */
  declare private readonly isOrdered: boolean;

  constructor(slot: Slot, maxBytes: number, isOrdered: boolean) {
    this.slot = slot;
    this.maxBytes = maxBytes;
    this.isOrdered = isOrdered;
    this.words = slot.view(Int32Array, 0, WORDS);
    this.versions = slot.view(Float64Array, VERSIONS_BYTE, 2);
    this.halves = [
      slot.view(Uint8Array, halfByte(maxBytes, 0), maxBytes),
      slot.view(Uint8Array, halfByte(maxBytes, 1), maxBytes),
    ];
  }

  /** Whether `version`, which was the latest one, still is. */
  isLatest(version: number): boolean {
    const latest = Atomics.load(this.words, LATEST);
    return latest === (version | 0) && this.versions[latest & 1] === version;
  }

  /** Returns the version that was set last, 0 if there is none. */
  version(method: string): number {
    let deadline = Infinity;
    for (let attempt = 0;; attempt++) {
      const latest = Atomics.load(this.words, LATEST);
      const version = this.versions[latest & 1]!;
      if (isVersion(version, latest)) return version;
      deadline = this.overtaken(method, latest, attempt, deadline);
    }
  }

  /** Returns a copy of the value. */
  read(method: string): Stored {
    let deadline = Infinity;
    for (let attempt = 0;; attempt++) {
      const latest = Atomics.load(this.words, LATEST);
      const version = this.versions[latest & 1]!;
      if (isVersion(version, latest)) {
        if (version === 0) return { version, bytes: null };
        const bytes = this.copy(latest & 1);
        if (bytes !== null && this.isWhole(latest)) return { version, bytes };
      }
      deadline = this.overtaken(method, latest, attempt, deadline);
    }
  }

  /** What seems to be the version: for `console.log`, which must not throw. */
  get shownVersion(): number {
    return this.versions[Atomics.load(this.words, LATEST) & 1]!;
  }

  /** The number of bytes of the value. */
  get length(): number {
    const length = this.words[LENGTHS + (Atomics.load(this.words, LATEST) & 1)]!;
    return Math.max(0, Math.min(length, this.maxBytes));
  }

  private copy(half: number): Bytes | null {
    const length = this.words[LENGTHS + half]!;
    if (length < 0 || length > this.maxBytes) return null;
    const bytes = new Uint8Array(length);
    bytes.set(this.halves[half]!.subarray(0, length));
    return bytes;
  }

  /** Whether the half of a version was not changed until now. */
  private isWhole(latest: number): boolean {
    return this.loadAfter(FILLING + (latest & 1)) === latest;
  }

  /** Loads a word that the processor must not load before the bytes that were read before. */
  private loadAfter(word: number): number {
    const { words } = this;
    return this.isOrdered ? Atomics.load(words, word) : Atomics.add(words, word, 0);
  }

  /**
   * Notes that an attempt to read has failed; returns when the reader gives up. A writer changes a half only after it has
   * set a version in the other one. So if `LATEST` has not changed, no orderly writer has caused this.
   */
  private overtaken(method: string, latest: number, attempt: number, deadline: number): number {
    if (this.loadAfter(LATEST) === latest) {
      throw new SyncError(
        "Damaged",
        `SharedValue.${method}: the bytes of the value have been overwritten; set() it again`,
      );
    }
    const now = performance.now();
    if (deadline === Infinity) return now + OVERTAKEN_MS;
    if (attempt < ATTEMPTS || now <= deadline) return deadline;
    throw new SyncError(
      "Busy",
      `SharedValue.${method}: the value was set again and again for ${OVERTAKEN_MS} ms while it was read; set it less ` +
        "often",
    );
  }

  // For the writer, which has the lock.

  /**
   * Sets the value.
   *
   * @param ifVersion nothing is set if the version is another one
   * @returns the version of the value; -1 if nothing was set
   */
  write(bytes: Uint8Array, length: number, ifVersion: number | undefined): number {
    const { words } = this;
    const latest = words[LATEST]!;
    const found = this.versions[latest & 1]!;
    const isCounted = isVersion(found, latest) && found < COUNTED_MAX;
    const before = isCounted ? found : this.versionAfterDamage();
    if (ifVersion !== undefined && ifVersion !== before) return -1;
    const version = before + 1;
    const half = version & 1;
    Atomics.exchange(words, FILLING + half, version | 0);
    this.versions[half] = version;
    words[LENGTHS + half] = length;
    this.halves[half]!.set(bytes);
    Atomics.exchange(words, LATEST, version | 0);
    return version;
  }

  /** Returns a version that none of the value had before, since the version that it had is not known. */
  private versionAfterDamage(): number {
    const known = this.versions.filter((version) =>
      isVersion(version, version | 0) && version < COUNTED_MAX
    );
    return Math.max(Date.now() * VERSIONS_PER_MS, ...known);
  }
}

/** Whether a half with this version is that of the latest one. */
function isVersion(version: number, latest: number): boolean {
  return Number.isInteger(version) && version >= 0 && version < VERSION_MAX &&
    (version | 0) === latest;
}

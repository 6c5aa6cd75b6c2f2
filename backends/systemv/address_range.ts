import { machRemap } from "../unix/darwin.ts";
import type { Libc } from "../unix/libc.ts";
import type { Mappings } from "../unix/mappings.ts";

/** The address range of an attached segment. */
export interface Range {
  readonly address: bigint;
  /** Implements `Segment.unmap`. */
  replaceWithZeros(): boolean;
  /** Implements `Segment.free`. */
  free(): void;
}

/** The range on systems where mapping other memory over a segment detaches the segment. */
class LinuxRange implements Range {
  readonly address: bigint;
  readonly #libc: Libc;
  readonly #mappings: Mappings;
  readonly #size: number;
  #isBuried = false;

  constructor(libc: Libc, mappings: Mappings, address: bigint, size: number) {
    this.#libc = libc;
    this.#mappings = mappings;
    this.address = address;
    this.#size = size;
  }

  replaceWithZeros(): boolean {
    return this.#isBuried = this.#mappings.replaceWithZeros(this.address, this.#size);
  }

  free(): void {
    if (this.#isBuried) this.#mappings.free(this.address, this.#size);
    else this.#libc.c.shmdt(this.address);
  }
}

/**
 * The range on macOS, where only `shmdt` detaches a segment, and also removes any memory that is mapped over it. For
 * a moment nothing would be mapped there, and native code at work on another thread would crash. So all code uses a
 * second mapping of the same memory, over which private memory can be mapped.
 */
class DarwinRange implements Range {
  readonly address: bigint;
  readonly #libc: Libc;
  readonly #mappings: Mappings;
  readonly #attachedAt: bigint;
  readonly #size: number;
  #state: "attached" | "buried" | "foreign" = "attached";

  constructor(libc: Libc, mappings: Mappings, attachedAt: bigint, size: number) {
    this.#libc = libc;
    this.#mappings = mappings;
    this.#attachedAt = attachedAt;
    this.#size = size;
    this.address = machRemap(libc.ffi)(attachedAt, mappings.bytesOf(size)) ?? attachedAt;
  }

  get #isMappedTwice(): boolean {
    return this.address !== this.#attachedAt;
  }

  replaceWithZeros(): boolean {
    const [address, size] = [this.address, this.#size];
    if (this.#isMappedTwice && !this.#mappings.replaceWithZeros(address, size)) return false;
    this.#libc.c.shmdt(this.#attachedAt);
    const isBuried = this.#isMappedTwice || this.#mappings.reserve(address, size);
    this.#state = isBuried ? "buried" : "foreign";
    return true;
  }

  free(): void {
    const isAttached = this.#state === "attached";
    if (isAttached) this.#libc.c.shmdt(this.#attachedAt);
    if (isAttached ? this.#isMappedTwice : this.#state === "buried") {
      this.#mappings.free(this.address, this.#size);
    }
  }
}

/** Returns the range of a segment that `shmat` has attached at `address`. */
export function rangeOf(libc: Libc, mappings: Mappings, address: bigint, size: number): Range {
  const Class = libc.os === "darwin" ? DarwinRange : LinuxRange;
  return new Class(libc, mappings, address, size);
}

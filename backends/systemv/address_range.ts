import type { Libc } from "../unix/libc.ts";
import type { Mappings } from "../unix/mappings.ts";

/** The address range of an attached segment. */
export interface Range {
  readonly address: bigint;
  /** As `Segment.unmap`. */
  replaceWithZeros(): boolean;
  /** As `Segment.free`. */
  free(): void;
}

/** Where what is mapped over a segment detaches it. */
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
 * On macOS only `shmdt` detaches, and takes away whatever is mapped where the segment was attached. For a
 * moment nothing would be there, and native code that is at work on another thread would crash. So what
 * everybody uses is a second mapping of the same memory, over which private memory can be mapped.
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
    this.address = libc.mapAgain(attachedAt, mappings.bytesOf(size)) ?? attachedAt;
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

/** The range of a segment that `shmat` has attached at `address`. */
export function rangeOf(libc: Libc, mappings: Mappings, address: bigint, size: number): Range {
  const Class = libc.os === "darwin" ? DarwinRange : LinuxRange;
  return new Class(libc, mappings, address, size);
}

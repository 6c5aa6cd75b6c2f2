import {
  FAILED_ADDRESS,
  MAP_FIXED,
  MAP_PRIVATE,
  PROT_READ,
  PROT_WRITE,
} from "./linux_constants.ts";
import type { Libc } from "./libc.ts";

/** Replaces, reserves and frees the address ranges of mappings. */
export class Mappings {
  readonly #libc: Libc;
  readonly #pageBytes: number;

  constructor(libc: Libc, pageBytes: number) {
    this.#libc = libc;
    this.#pageBytes = pageBytes;
  }

  /**
   * Replaces a mapping by private zero-filled memory, which ends the mapping. Returns `false` if there is no memory.
   */
  replaceWithZeros(address: bigint, size: number): boolean {
    return this.#zeros(address, size, MAP_FIXED) === address;
  }

  /**
   * Maps private zero-filled memory where no mapping is left. Returns `false` if the range has been used again since.
   */
  reserve(address: bigint, size: number): boolean {
    const found = this.#zeros(address, size, 0);
    if (found !== address && found !== FAILED_ADDRESS) this.free(found, size);
    return found === address;
  }

  #zeros(address: bigint, size: number, flag: number): bigint {
    const { MAP_ANONYMOUS, MAP_NORESERVE } = this.#libc.constants;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flag;
    return this.#libc.c.mmap(address, this.bytesOf(size), PROT_READ | PROT_WRITE, flags, -1, 0n);
  }

  /** Frees the address range. */
  free(address: bigint, size: number): void {
    this.#libc.c.munmap(address, this.bytesOf(size));
  }

  /** Returns `size` rounded up to whole pages. */
  bytesOf(size: number): bigint {
    return BigInt(Math.ceil(size / this.#pageBytes) * this.#pageBytes);
  }
}

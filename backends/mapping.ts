import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  PROT_READ,
  PROT_WRITE,
} from "./constants.ts";
import type { Libc } from "./libc.ts";

/** What becomes of the address range of a mapping that ends. */
export class Mappings {
  readonly #libc: Libc;
  readonly #pageBytes: number;

  constructor(libc: Libc, pageBytes: number) {
    this.#libc = libc;
    this.#pageBytes = pageBytes;
  }

  /** Puts private zero-filled memory over a mapping, which ends it; `false` if there is no memory. */
  bury(address: bigint, size: number): boolean {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    const { mmap } = this.#libc.c;
    return mmap(address, this.bytesOf(size), PROT_READ | PROT_WRITE, flags, -1, 0n) === address;
  }

  /** Gives the address range back. */
  free(address: bigint, size: number): void {
    this.#libc.c.munmap(address, this.bytesOf(size));
  }

  /** `size` in whole pages. */
  bytesOf(size: number): bigint {
    return BigInt(Math.ceil(size / this.#pageBytes) * this.#pageBytes);
  }
}

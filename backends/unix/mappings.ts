import {
  FAILED_ADDRESS,
  MAP_FIXED,
  MAP_PRIVATE,
  PROT_READ,
  PROT_WRITE,
} from "./linux_constants.ts";
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
  replaceWithZeros(address: bigint, size: number): boolean {
    return this.#zeros(address, size, MAP_FIXED) === address;
  }

  /** Puts such memory where nothing is mapped any more; `false` if somebody else has the range by now. */
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

  /** Gives the address range back. */
  free(address: bigint, size: number): void {
    this.#libc.c.munmap(address, this.bytesOf(size));
  }

  /** `size` in whole pages. */
  bytesOf(size: number): bigint {
    return BigInt(Math.ceil(size / this.#pageBytes) * this.#pageBytes);
  }
}

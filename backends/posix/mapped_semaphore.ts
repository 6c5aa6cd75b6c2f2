import {
  FAILED_ADDRESS,
  MAP_SHARED,
  O_RDWR,
  PROT_READ,
  PROT_WRITE,
} from "../unix/linux_constants.ts";
import { BackendError, type ErrnoTable } from "../failure.ts";
import { EAGAIN, EINTR, EOVERFLOW, ETIMEDOUT, failure } from "../unix/errno.ts";
import { PosixFile, type PosixName } from "./object_file.ts";
import type { PosixLibrary } from "./library.ts";

/** `sizeof(sem_t)` of glibc and musl on 64-bit processors. */
export const SEM_BYTES = 32;

/**
 * The value that its first word, a signed one, stands for. The highest bit says that somebody waits, and
 * in musl before 1.2.4 the whole word does: it is -1.
 */
export function valueOf(word: number): number {
  return word === -1 ? 0 : word & 0x7fff_ffff;
}

/** A race with somebody who removes and makes the semaphore is lost only so often in a row. */
const OPEN_ATTEMPTS = 1000;

const ERRORS: ErrnoTable = {
  [EOVERFLOW]: ["OutOfResources", "the semaphore's value would pass its maximum of 2147483647"],
};

/** A `sem_t` in a file of its own, mapped: what `sem_open` gives a C program. */
export class MappedSemaphore {
  readonly address: bigint;
  /** Its memory. */
  readonly buffer: ArrayBuffer;
  readonly #library: PosixLibrary;
  readonly #file: PosixFile;
  #isClosed = false;
  /** Calls on other threads that use the memory. */
  #users = 0;
  readonly #value: Int32Array;

  private constructor(library: PosixLibrary, address: bigint, file: PosixFile) {
    this.#library = library;
    this.address = address;
    this.#file = file;
    this.buffer = library.libc.ffi.arrayBuffer(address, SEM_BYTES);
    this.#value = new Int32Array(this.buffer, 0, 1);
  }

  /** Opens it, or makes it with `value`. */
  static open(library: PosixLibrary, name: PosixName, value: number): MappedSemaphore {
    for (let attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
      const file = PosixFile.open(library.libc, name, O_RDWR);
      const opened = file === null
        ? MappedSemaphore.#make(library, name, value)
        : MappedSemaphore.#map(library, name, file);
      if (opened !== null) return opened;
    }
    throw new BackendError("Busy", "the semaphore is removed again and again");
  }

  /** `null` if somebody has made one meanwhile. */
  static #make(library: PosixLibrary, name: PosixName, value: number): MappedSemaphore | null {
    const made = MappedSemaphore.#map(
      library,
      name,
      PosixFile.make(library.libc, name, SEM_BYTES),
      value,
    );
    let isPublished = false;
    try {
      isPublished = made.#file.publish();
    } finally {
      if (!isPublished) made.close();
    }
    return isPublished ? made : null;
  }

  static #map(
    library: PosixLibrary,
    name: PosixName,
    file: PosixFile,
    value?: number,
  ): MappedSemaphore {
    const { libc } = library;
    let isMapped = false;
    try {
      if (file.size < SEM_BYTES) {
        throw new BackendError(
          "WrongKind",
          `${name.path} is no semaphore: it is too small; remove it`,
        );
      }
      if (!file.isReserved) file.reserve();
      const access = PROT_READ | PROT_WRITE;
      const bytes = BigInt(SEM_BYTES);
      const address = libc.c.mmap(0n, bytes, access, MAP_SHARED, file.fd, 0n);
      if (address === FAILED_ADDRESS) throw failure("mmap", libc.errno());
      if (value !== undefined) library.c.sem_init(address, 1, value);
      isMapped = true;
      return new MappedSemaphore(library, address, file);
    } finally {
      if (!isMapped) file.close();
    }
  }

  /** Whether it has a name still, so that newcomers use the same. */
  isLinked(): boolean {
    return this.#file.isLinked();
  }

  /** How many there are to take. */
  get value(): number {
    return valueOf(Atomics.load(this.#value, 0));
  }

  /** Takes all that there are, in one step: a stray store may have made them 2^31. */
  takeAll(): void {
    for (;;) {
      const word = Atomics.load(this.#value, 0);
      if (valueOf(word) === 0) return;
      const none = word & ~0x7fff_ffff; // but for the bit that says that somebody waits
      if (Atomics.compareExchange(this.#value, 0, word, none) === word) return;
    }
  }

  /** Takes one; `false` after `ms`. */
  take(ms: number): boolean {
    const { c, libc } = this.#library;
    for (;;) {
      if (c.sem_trywait(this.address) === 0) return true;
      const errno = libc.errno();
      if (errno === EAGAIN) break;
      if (errno !== EINTR) throw failure("sem_trywait", errno, ERRORS);
    }
    if (ms <= 0) return false;
    if (this.#library.wait(this.address, ms) === 0) return true;
    const errno = libc.errno();
    if (errno === ETIMEDOUT || errno === EINTR) return false;
    throw failure("sem_wait", errno, ERRORS);
  }

  /**
   * Keeps the memory, even if it is closed meanwhile, as long as a call on another thread uses it, and then until
   * `settle` is done.
   */
  async keep(over: Promise<void>, settle: () => void): Promise<void> {
    this.#users++;
    try {
      await over;
    } finally {
      settle();
      this.#users--;
      if (this.#isClosed && this.#users === 0) this.#unmap();
    }
  }

  give(): void {
    const { c, libc } = this.#library;
    if (c.sem_post(this.address) !== 0) throw failure("sem_post", libc.errno(), ERRORS);
  }

  /**
   * Removes it if nobody else uses it and it is this module's. Nobody may use it here any more, but for a
   * call on another thread: the memory stays until that is over, which the program may not live to see.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#file.leave();
    if (this.#users === 0) this.#unmap();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  #unmap(): void {
    this.buffer.transfer(0); // no view of it works any more
    this.#library.libc.c.munmap(this.address, BigInt(SEM_BYTES));
  }
}

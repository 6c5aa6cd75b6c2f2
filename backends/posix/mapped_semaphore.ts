import {
  FAILED_ADDRESS,
  MAP_SHARED,
  O_RDWR,
  PROT_READ,
  PROT_WRITE,
} from "../unix/linux_constants.ts";
import { BackendError, type ErrnoTable } from "../failure.ts";
import { EAGAIN, EINTR, EOVERFLOW, ETIMEDOUT, failure } from "../unix/errno.ts";
import { InFlight } from "../in_flight.ts";
import { PosixFile, type PosixName } from "./object_file.ts";
import type { PosixLibrary } from "./library.ts";

/** The value of `sizeof(sem_t)` in glibc and musl on 64-bit processors. */
export const SEM_BYTES = 32;

/**
 * Returns the semaphore value that the first word of a `sem_t`, a signed number, stands for. The highest bit says that
 * a thread waits; in musl before 1.2.4 the whole word is -1 then.
 */
export function valueOf(word: number): number {
  return word === -1 ? 0 : word & 0x7fff_ffff;
}

/** The maximum number of attempts to open a semaphore while other processes keep removing and creating it. */
const OPEN_ATTEMPTS = 1000;

const ERRORS: ErrnoTable = {
  [EOVERFLOW]: ["OutOfResources", "the semaphore's value would pass its maximum of 2147483647"],
};

/** A `sem_t` in its own mapped file, which is what `sem_open` returns to a C program. */
export class MappedSemaphore {
  readonly address: bigint;
  /** The memory of the `sem_t`. */
  readonly buffer: ArrayBuffer;
  readonly #library: PosixLibrary;
  readonly #file: PosixFile;
  readonly #calls = new InFlight(() => this.#unmap());
  readonly #value: Int32Array;

  private constructor(library: PosixLibrary, address: bigint, file: PosixFile) {
    this.#library = library;
    this.address = address;
    this.#file = file;
    this.buffer = library.libc.ffi.arrayBuffer(address, SEM_BYTES);
    this.#value = new Int32Array(this.buffer, 0, 1);
  }

  /** Opens the semaphore, or creates it with `value`. */
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

  /** Creates the semaphore. Returns `null` if another process has created it meanwhile. */
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
      return new MappedSemaphore(library, address, file);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Whether the semaphore still has its name, so that other processes open the same one. */
  isLinked(): boolean {
    return this.#file.isLinked();
  }

  /** The current value of the semaphore. */
  get value(): number {
    return valueOf(Atomics.load(this.#value, 0));
  }

  /**
   * Sets the value to 0 in one step. Decrementing could take too long, because a stray store may have set the value to
   * 2^31.
   */
  takeAll(): void {
    for (;;) {
      const word = Atomics.load(this.#value, 0);
      if (valueOf(word) === 0) return;
      const none = word & ~0x7fff_ffff; // keeps the bit that says that a thread waits
      if (Atomics.compareExchange(this.#value, 0, word, none) === word) return;
    }
  }

  /** Takes the semaphore once; returns `false` after `ms`. */
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
   * Keeps the memory mapped until a call on another thread is over. If the semaphore was closed meanwhile, `release`
   * releases what the call has acquired.
   */
  keep(over: Promise<void>, release: () => void): Promise<void> {
    return this.#calls.keep(over, release);
  }

  give(): void {
    const { c, libc } = this.#library;
    if (c.sem_post(this.address) !== 0) throw failure("sem_post", libc.errno(), ERRORS);
  }

  /**
   * Closes the semaphore, and removes it if this module created it and no other object uses it. After that only a call
   * on another thread may still use it here: the memory stays mapped until that call is over, or until the program
   * ends.
   */
  close(): void {
    if (this.isClosed) return;
    this.#file.leave();
    this.#calls.close();
  }

  get isClosed(): boolean {
    return this.#calls.isClosed;
  }

  #unmap(): void {
    this.buffer.transfer(0); // invalidates all views
    this.#library.libc.c.munmap(this.address, BigInt(SEM_BYTES));
  }
}

import { SystemSemaphoreMode } from "../../errors.ts";
import type { ThreadCode } from "../../ffi/types.ts";
import { deadline } from "../unix/deadline.ts";
import { BackendError, type IpcObjectKind } from "../failure.ts";
import { type PosixName, posixName } from "./object_file.ts";
import { type PosixLibrary, TAKE_UNTIL } from "./library.ts";
import { PosixLock } from "./lock.ts";
import { MappedSemaphore } from "./mapped_semaphore.ts";
import {
  type BackgroundWait,
  type Lock,
  PRIVATE,
  type Semaphore,
  type SemaphoreBackend,
  waitOf,
} from "../types.ts";
import { BACKGROUND_SLICE_MS, SLICE_MS } from "../timing.ts";

const SEM_VALUE_MAX = 2 ** 31 - 1;

const BACKGROUND: ThreadCode = {
  take: `(c, _memory, semaphore, until) => (${TAKE_UNTIL})(c, semaphore, until)`,
  giveBack: "({ sem_post }, _memory, semaphore) => sem_post(semaphore)",
};

/**
 * A counting semaphore. When a process ends, its operations are not undone: POSIX does not record which process took
 * the semaphore.
 */
class PosixSemaphore implements Semaphore {
  readonly nativeKey: string;
  readonly identity: string;
  readonly #library: PosixLibrary;
  readonly #semaphore: MappedSemaphore;

  constructor(library: PosixLibrary, name: PosixName, value: number, mode: SystemSemaphoreMode) {
    this.nativeKey = name.nativeKey;
    this.identity = name.path;
    this.#library = library;
    this.#semaphore = MappedSemaphore.open(library, name, value);
    if (mode === SystemSemaphoreMode.Create) this.#set(value);
  }

  /**
   * Sets the value of the existing semaphore, which other processes keep using. Qt creates another semaphore with the
   * same name instead.
   */
  #set(value: number): void {
    this.#semaphore.takeAll();
    this.release(value);
  }

  acquire(timeoutMs = Infinity): boolean {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const left = deadline - performance.now();
      if (this.#semaphore.take(Math.min(left, SLICE_MS))) return true;
      if (performance.now() >= deadline) return false;
    }
  }

  acquireSlice(timeoutMs: number): BackgroundWait {
    const semaphore = this.#semaphore;
    const until = deadline(this.#library.libc, Math.min(timeoutMs, BACKGROUND_SLICE_MS));
    const call = this.#library.background(BACKGROUND)(semaphore.address, until);
    const giveBack = () => {
      if (call.claim()) semaphore.give();
    };
    return waitOf(call, semaphore.keep(call.over, giveBack), () => call.claim());
  }

  release(count = 1): void {
    if (this.#semaphore.value > SEM_VALUE_MAX - count) {
      throw new BackendError(
        "OutOfResources",
        `the semaphore's value would pass its maximum of ${SEM_VALUE_MAX}`,
        "sem_post",
      );
    }
    for (let given = 0; given < count; given++) this.#semaphore.give();
  }

  /** Closes the semaphore. The last object that is closed removes it. */
  close(): void {
    this.#semaphore.close();
  }
}

/** The named POSIX semaphores of Linux. */
export class PosixSemaphores implements SemaphoreBackend {
  readonly #library: PosixLibrary;

  constructor(library: PosixLibrary) {
    this.#library = library;
  }

  open(nativeKey: string, initialValue: number, mode: SystemSemaphoreMode): Semaphore {
    const name = this.#name("semaphore", nativeKey, PRIVATE);
    return new PosixSemaphore(this.#library, name, initialValue, mode);
  }

  lock(nativeKey: string, permissions = PRIVATE, isExplicit = false): Lock {
    // Where semaphores have the same names as segments, a lock cannot have the name of its segment.
    const isTaken = isExplicit && this.#library.semaphorePrefix === "";
    const name = isTaken ? `${nativeKey}_sem` : nativeKey;
    return new PosixLock(this.#library, this.#name("lock", name, permissions), nativeKey);
  }

  #name(what: IpcObjectKind, nativeKey: string, permissions: number): PosixName {
    return posixName(what, nativeKey, this.#library.semaphorePrefix, permissions);
  }
}

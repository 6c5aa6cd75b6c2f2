import { SystemSemaphoreMode } from "../../errors.ts";
import { FAILED_ADDRESS } from "../unix/linux_constants.ts";
import { BackendError, type IpcObjectKind, othersText } from "../failure.ts";
import { EACCES, EAGAIN, EEXIST, EINTR, ENOENT, failure } from "../unix/errno.ts";
import { delay, nextPause, sleepSync } from "../timing.ts";
import { darwinName, type DarwinPosixLibrary } from "./library.ts";
import {
  type BackgroundWait,
  type Lock,
  pauseOf,
  PRIVATE,
  type Semaphore,
  type SemaphoreBackend,
} from "../types.ts";

/** The value of `SEM_FAILED`, which is -1 on macOS. */
const SEM_FAILED = FAILED_ADDRESS;
/** The maximum number of attempts to open a semaphore while other processes keep removing and creating it. */
const OPEN_ATTEMPTS = 1000;

/** A named `sem_t`. macOS does not tell its value or which process took it, and has no wait with a timeout. */
class NamedSemaphore {
  /** Whether this object created the semaphore. */
  readonly isMade: boolean;
  readonly #library: DarwinPosixLibrary;
  readonly #name: Uint8Array;
  readonly #address: bigint;

  constructor(
    library: DarwinPosixLibrary,
    kind: IpcObjectKind,
    name: Uint8Array,
    value: number,
    permissions: number,
  ) {
    this.#library = library;
    this.#name = name;
    [this.#address, this.isMade] = this.#open(kind, value, permissions);
  }

  #open(
    kind: IpcObjectKind,
    value: number,
    permissions: number,
  ): [address: bigint, isMade: boolean] {
    const { c, libc } = this.#library;
    const { O_CREAT, O_EXCL } = libc.constants;
    for (let attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
      const made = c.sem_open(this.#name, O_CREAT | O_EXCL, permissions, value);
      if (made !== SEM_FAILED) return [made, true];
      let errno = libc.errno();
      if (errno === EEXIST) {
        const found = c.sem_open(this.#name, 0, 0, 0);
        if (found !== SEM_FAILED) return [found, false];
        errno = libc.errno();
        if (errno === ENOENT) continue; // removed meanwhile
      }
      throw failure("sem_open", errno, { [EACCES]: ["PermissionDenied", othersText(kind, "")] });
    }
    throw new BackendError("Busy", "the semaphore is removed again and again");
  }

  /** Takes the semaphore once; returns `false` after `timeoutMs`. */
  take(timeoutMs: number): boolean {
    const { sem_trywait, sem_wait } = this.#library.c;
    const deadline = performance.now() + timeoutMs;
    for (let ms = nextPause(0);; ms = nextPause(ms)) {
      if (this.#isTaken(sem_trywait)) return true;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      if (left === Infinity) {
        while (!this.#isTaken(sem_wait)); // a signal interrupted the wait
        return true;
      }
      sleepSync(Math.min(ms, left));
    }
  }

  #isTaken(call: (address: bigint) => number): boolean {
    if (call(this.#address) === 0) return true;
    const errno = this.#library.libc.errno();
    if (errno === EAGAIN || errno === EINTR) return false;
    throw failure("sem_wait", errno);
  }

  give(): void {
    const { c, libc } = this.#library;
    if (c.sem_post(this.#address) !== 0) throw failure("sem_post", libc.errno());
  }

  close(): void {
    this.#library.c.sem_close(this.#address);
  }
}

/** A counting semaphore. When a process ends, its operations are not undone. */
class DarwinPosixSemaphore implements Semaphore {
  readonly nativeKey: string;
  readonly identity: string;
  readonly #library: DarwinPosixLibrary;
  readonly #name: Uint8Array;
  readonly #semaphore: NamedSemaphore;
  readonly #isOwner: boolean;

  constructor(
    library: DarwinPosixLibrary,
    nativeKey: string,
    value: number,
    mode: SystemSemaphoreMode,
  ) {
    this.nativeKey = this.identity = nativeKey;
    this.#library = library;
    this.#name = darwinName(nativeKey);
    this.#semaphore = new NamedSemaphore(library, "semaphore", this.#name, value, PRIVATE);
    const { isMade } = this.#semaphore;
    const isSet = mode === SystemSemaphoreMode.Create;
    this.#isOwner = isMade || isSet;
    if (isSet && !isMade) this.#set(value);
  }

  /**
   * Sets the value of the existing semaphore, which other processes keep using. Qt creates another semaphore with the
   * same name instead.
   */
  #set(value: number): void {
    while (this.#semaphore.take(0));
    this.release(value);
  }

  acquire(timeoutMs = Infinity): boolean {
    return this.#semaphore.take(timeoutMs);
  }

  acquireSlice(timeoutMs: number, pauseMs: number): BackgroundWait {
    return pauseOf(delay(Math.min(timeoutMs, pauseMs)));
  }

  release(count = 1): void {
    for (let given = 0; given < count; given++) this.#semaphore.give();
  }

  /** Closes the semaphore, and removes it if this object created it, as in Qt. Other processes keep using theirs. */
  close(): void {
    this.#semaphore.close();
    if (this.#isOwner) this.#library.c.sem_unlink(this.#name);
  }
}

/**
 * The lock of a POSIX segment is Qt's semaphore of value 1. If a process is killed while it holds the lock, the lock
 * stays held.
 */
class DarwinPosixLock implements Lock {
  readonly nativeKey: string;
  readonly identity: string;
  readonly #library: DarwinPosixLibrary;
  readonly #name: Uint8Array;
  readonly #permissions: number;
  #semaphore: NamedSemaphore | null = null;
  #isHeld = false;

  constructor(library: DarwinPosixLibrary, nativeKey: string, permissions: number) {
    this.nativeKey = this.identity = nativeKey;
    this.#library = library;
    this.#name = darwinName(nativeKey);
    this.#permissions = permissions;
  }

  #opened(): NamedSemaphore {
    return this.#semaphore ??= new NamedSemaphore(
      this.#library,
      "lock",
      this.#name,
      1,
      this.#permissions,
    );
  }

  acquire(timeoutMs = Infinity): boolean {
    const isTaken = this.#opened().take(timeoutMs);
    this.#isHeld ||= isTaken;
    return isTaken;
  }

  acquireSlice(timeoutMs: number, pauseMs: number): BackgroundWait {
    return pauseOf(delay(Math.min(timeoutMs, pauseMs)));
  }

  /** Releases the lock if this object holds it. Otherwise the value would exceed 1 and let two holders in. */
  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#semaphore?.give();
  }

  remove(): void {
    this.release();
    this.close();
    this.#library.c.sem_unlink(this.#name);
  }

  close(): void {
    this.#semaphore?.close();
    this.#semaphore = null;
    this.#isHeld = false;
  }

  isHeldHere(): boolean {
    return this.#isHeld;
  }
}

/** The named POSIX semaphores of macOS. */
export class DarwinPosixSemaphores implements SemaphoreBackend {
  readonly #library: DarwinPosixLibrary;

  constructor(library: DarwinPosixLibrary) {
    this.#library = library;
  }

  open(nativeKey: string, initialValue: number, mode: SystemSemaphoreMode): Semaphore {
    return new DarwinPosixSemaphore(this.#library, nativeKey, initialValue, mode);
  }

  lock(nativeKey: string, permissions = PRIVATE): Lock {
    return new DarwinPosixLock(this.#library, nativeKey, permissions);
  }
}

import { SystemSemaphoreMode } from "../../errors.ts";
import { FAILED_ADDRESS } from "../unix/linux_constants.ts";
import { BackendError, type IpcObjectKind, othersText } from "../failure.ts";
import {
  EACCES,
  EAGAIN,
  EEXIST,
  EINTR,
  ENOENT,
  errnoFailure,
  errnoText,
  failure,
} from "../unix/errno.ts";
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

/** `SEM_FAILED` is -1 there. */
const SEM_FAILED = FAILED_ADDRESS;
/** A race with somebody who removes and makes the semaphore is lost only so often in a row. */
const OPEN_ATTEMPTS = 1000;

/** A `sem_t` of a name: macOS tells nobody its value, nor who took it, nor waits for a time only. */
class NamedSemaphore {
  /** Whether this object made it. */
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
        if (errno === ENOENT) continue; // removed since
      }
      if (errno !== EACCES) throw failure("sem_open", errno);
      const text = `${othersText(kind, "")} [sem_open: ${errnoText(errno)}]`;
      throw errnoFailure("PermissionDenied", text, "sem_open", errno);
    }
    throw new BackendError("Busy", "the semaphore is removed again and again");
  }

  /** Takes one; `false` after `timeoutMs`. */
  take(timeoutMs: number): boolean {
    const { sem_trywait, sem_wait } = this.#library.c;
    const deadline = performance.now() + timeoutMs;
    for (let ms = nextPause(0);; ms = nextPause(ms)) {
      if (this.#isTaken(sem_trywait)) return true;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      if (left === Infinity) {
        while (!this.#isTaken(sem_wait)); // a signal has come in between
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

/** A counting semaphore. Nothing is undone when a process ends. */
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

  /** It stays the semaphore that others use, where Qt makes another one of the same name. */
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

  /** As in Qt, whoever made it removes it; others go on with theirs. */
  close(): void {
    this.#semaphore.close();
    if (this.#isOwner) this.#library.c.sem_unlink(this.#name);
  }

  remove(): void {
    this.close();
  }

  holder(): number | null {
    return null;
  }

  isHeldHere(): boolean {
    return false;
  }
}

/** The lock of a POSIX segment, Qt's semaphore of value 1. Nobody gets what a killed process held. */
class DarwinPosixLock implements Lock {
  readonly nativeKey: string;
  readonly identity: string;
  readonly isOwner = false;
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

  /** Not if it is not held: its value would go beyond 1, and let two in. */
  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#semaphore?.give();
  }

  takeOver(_stale: () => boolean, timeoutMs: number): boolean {
    return this.acquire(timeoutMs);
  }

  handOver(held: boolean): void {
    if (held) this.release();
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

  holder(): number | null {
    return null;
  }

  isHeldHere(): boolean {
    return this.#isHeld;
  }
}

/** POSIX semaphores of macOS. */
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

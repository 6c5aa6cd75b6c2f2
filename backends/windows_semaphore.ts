import type { SystemSemaphoreMode } from "../errors.ts";
import { isTaken, type Kernel32, slice } from "./kernel32.ts";
import type { Lock, Semaphore, SemaphoreBackend } from "./types.ts";
import { ERROR_TOO_MANY_POSTS, windowsFailure } from "./windows_errors.ts";
import { type Holders, WindowsLock } from "./windows_lock.ts";
import { bareName, wideName } from "./windows_names.ts";
import { BACKGROUND_SLICE_MS, SLICE_MS } from "./pause.ts";

/** A semaphore of the kernel's, which removes it with its last handle. Nothing that a process did is undone. */
class WindowsSemaphore implements Semaphore {
  readonly nativeKey: string;
  readonly #kernel: Kernel32;
  readonly #handle: bigint;
  #inFlight = 0;
  #isClosed = false;

  constructor(kernel: Kernel32, name: string, initialValue: number) {
    this.#kernel = kernel;
    this.nativeKey = name;
    this.#handle = kernel.openSemaphore(name, wideName(name), initialValue);
  }

  get identity(): string {
    return bareName(this.nativeKey);
  }

  acquire(timeoutMs = Infinity): boolean {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const left = deadline - performance.now();
      if (this.#kernel.wait(this.#handle, slice(left, SLICE_MS)) === "taken") return true;
      if (performance.now() >= deadline) return false; // Windows may wait a little less than it is told
    }
  }

  async acquireInBackground(): Promise<boolean> {
    if (this.acquire(0)) return true;
    const { WaitForSingleObject } = this.#kernel.background;
    this.#inFlight++;
    let taken = false;
    try {
      taken = isTaken(await WaitForSingleObject(this.#handle, BACKGROUND_SLICE_MS));
    } finally {
      this.#inFlight--;
      // Closed meanwhile: what was taken is given back.
      if (this.#isClosed && taken) this.#kernel.releaseSemaphore(this.#handle, 1);
      this.#closeUnused();
    }
    return taken && !this.#isClosed;
  }

  release(count = 1): void {
    if (this.#isClosed || this.#kernel.releaseSemaphore(this.#handle, count) !== null) return;
    throw windowsFailure("ReleaseSemaphore", ERROR_TOO_MANY_POSTS, this.nativeKey);
  }

  /** The kernel does that. */
  remove(): void {
    this.close();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closeUnused();
  }

  /** A handle that another thread is about to wait for must not become another object's. */
  #closeUnused(): void {
    if (this.#isClosed && this.#inFlight === 0) this.#kernel.c.CloseHandle(this.#handle);
  }

  /** The kernel does not tell. */
  holder(): null {
    return null;
  }

  isHeldHere(): boolean {
    return false;
  }

  mayBePending(): boolean {
    return this.#inFlight > 0;
  }
}

/** Qt's semaphores on Windows; mode Create means nothing there. */
export class WindowsSemaphores implements SemaphoreBackend {
  readonly #kernel: Kernel32;
  readonly #holders: Holders = new Set();

  constructor(kernel: Kernel32) {
    this.#kernel = kernel;
  }

  open(name: string, initialValue: number, _mode: SystemSemaphoreMode): Semaphore {
    return new WindowsSemaphore(this.#kernel, name, initialValue);
  }

  lock(name: string): Lock {
    return new WindowsLock(this.#kernel, name, this.#holders);
  }
}

import type { SystemSemaphoreMode } from "../../errors.ts";
import type { BackgroundCall, ThreadCode } from "../../ffi/types.ts";
import { IS_TAKEN, type Kernel32, slice } from "../win32/kernel32.ts";
import {
  type BackgroundWait,
  type Lock,
  type Semaphore,
  type SemaphoreBackend,
  waitOf,
} from "../types.ts";
import { ERROR_TOO_MANY_POSTS, windowsFailure } from "../win32/errors.ts";
import { type Holders, WindowsLock } from "./lock.ts";
import { bareName, wideName } from "../win32/names.ts";
import { BACKGROUND_SLICE_MS, SLICE_MS } from "../timing.ts";

const BACKGROUND: ThreadCode = {
  take: `({ WaitForSingleObject }, _memory, handle, ms) =>
    (${IS_TAKEN})(WaitForSingleObject(handle, ms))`,
  giveBack:
    "({ ReleaseSemaphore }, _memory, handle) => ReleaseSemaphore(handle, 1, new Uint8Array(4))",
};

/**
 * A kernel semaphore, which the kernel removes with its last handle. When a process ends, its operations are not
 * undone.
 */
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
      if (performance.now() >= deadline) return false; // Windows may wait a little less than requested
    }
  }

  acquireSlice(timeoutMs: number): BackgroundWait {
    const ms = slice(timeoutMs, BACKGROUND_SLICE_MS);
    const call = this.#kernel.background(BACKGROUND)(this.#handle, ms);
    return waitOf(call, this.#keep(call), () => call.claim());
  }

  /** Keeps the handle open while a call on another thread uses it. */
  async #keep(call: BackgroundCall): Promise<void> {
    this.#inFlight++;
    try {
      await call.over;
    } finally {
      this.#inFlight--;
      // The semaphore was closed meanwhile, so what the call acquired is released.
      if (this.#isClosed && call.claim()) this.#kernel.releaseSemaphore(this.#handle, 1);
      this.#closeUnused();
    }
  }

  release(count = 1): void {
    if (this.#isClosed || this.#kernel.releaseSemaphore(this.#handle, count) !== null) return;
    throw windowsFailure("ReleaseSemaphore", ERROR_TOO_MANY_POSTS, this.nativeKey);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closeUnused();
  }

  /**
   * Closes the handle if no call uses it. Otherwise a handle for which another thread is about to wait could become
   * another object's.
   */
  #closeUnused(): void {
    if (this.#isClosed && this.#inFlight === 0) this.#kernel.c.CloseHandle(this.#handle);
  }
}

/** The semaphores of Windows, as Qt uses them. Mode Create has no effect there. */
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

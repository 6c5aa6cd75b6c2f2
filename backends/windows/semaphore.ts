import type { SystemSemaphoreMode } from "../../errors.ts";
import type { ThreadCode } from "../../ffi/types.ts";
import { InFlight } from "../in_flight.ts";
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
  readonly #calls = new InFlight(() => this.#kernel.c.CloseHandle(this.#handle));

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
    const giveBack = () => {
      if (call.claim()) this.#kernel.releaseSemaphore(this.#handle, 1);
    };
    return waitOf(call, this.#calls.keep(call.over, giveBack), () => call.claim());
  }

  release(count = 1): void {
    if (this.#calls.isClosed || this.#kernel.releaseSemaphore(this.#handle, count) !== null) return;
    throw windowsFailure("ReleaseSemaphore", ERROR_TOO_MANY_POSTS, this.nativeKey);
  }

  close(): void {
    this.#calls.close();
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

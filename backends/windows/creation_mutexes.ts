import { BackendError } from "../failure.ts";
import { type Kernel32, slice } from "../win32/kernel32.ts";
import { bareName, nameBeside } from "../win32/names.ts";
import { SLICE_MS } from "../timing.ts";

/** How long to wait for a process that looks for the segment. Looking takes far less time. */
const LOOK_MS = 5000;
/** The interval between checks whether a segment is complete or removed. */
const AGAIN_MS = 10;

/**
 * The two mutexes that guard the creation of a segment. `<name>_creating` belongs to the thread that creates the
 * segment, from before the segment exists until it is filled. When its owner dies, the next owner learns that from the
 * kernel, and waits until the kernel has removed what the dead process left: no other process can have opened that.
 * `<name>_looking` belongs to a thread that looks for the segment. It ensures that only a thread that creates the
 * segment can keep `<name>_creating` from another.
 */
export class Creation {
  readonly #kernel: Kernel32;
  /** The segments that this thread is filling. The thread's own mutexes do not block it. */
  readonly #filling = new Set<string>();

  constructor(kernel: Kernel32) {
    this.#kernel = kernel;
  }

  /** Whether this thread is in `fill` for the segment. */
  isFilling(name: string): boolean {
    return this.#filling.has(bareName(name));
  }

  /** Calls `fill`, which may call any function of this module. */
  filling(name: string, fill: () => void): void {
    const bare = bareName(name);
    this.#filling.add(bare);
    try {
      fill();
    } finally {
      this.#filling.delete(bare);
    }
  }

  /**
   * Calls `act` while no other thread creates or looks for the segment. After `act` has called `make`, other threads
   * may look, and see that the segment is being created. `exists` tells whether the segment exists.
   *
   * @param deadline until when to wait for a thread that is creating the segment, by `performance.now()`
   * @returns `null` if a thread is still creating the segment and there is no deadline
   * @throws {BackendError} `LockError` after the deadline
   */
  exclusively<Result>(
    name: string,
    deadline: number | null,
    exists: () => boolean,
    act: (make: () => void) => Result,
  ): Result | null {
    const { c } = this.#kernel;
    const looking = this.#kernel.openMutex(name, nameBeside(name, "_looking"));
    let creating = 0n;
    try {
      creating = this.#kernel.openMutex(name, nameBeside(name, "_creating"));
      const state = this.#enter(looking, creating, deadline);
      if (state === "timeout") return null;
      let isLooking = true;
      const stopLooking = () => {
        if (isLooking) c.ReleaseMutex(looking);
        isLooking = false;
      };
      try {
        if (state === "abandoned") this.#awaitRemoval(exists);
        return act(stopLooking);
      } finally {
        c.ReleaseMutex(creating);
        stopLooking();
      }
    } finally {
      c.CloseHandle(looking);
      if (creating !== 0n) c.CloseHandle(creating);
    }
  }

  /** Acquires both mutexes, or none. Returns whether the last thread that created the segment died. */
  #enter(looking: bigint, creating: bigint, deadline: number | null) {
    for (;;) {
      this.#own(looking);
      const result = this.#kernel.wait(creating, 0);
      if (result !== "timeout") return result;
      this.#kernel.c.ReleaseMutex(looking);
      if (deadline === null) return result;
      const left = deadline - performance.now();
      if (left <= 0) {
        throw new BackendError(
          "Timeout",
          "timed out: the lock is held by a process or thread that is creating the segment",
        );
      }
      this.#kernel.c.Sleep(slice(left, AGAIN_MS));
    }
  }

  /** Acquires `looking`. It does not matter whether its last owner died. */
  #own(looking: bigint): void {
    const deadline = performance.now() + LOOK_MS;
    for (;;) {
      const left = deadline - performance.now();
      if (this.#kernel.wait(looking, slice(left, SLICE_MS)) !== "timeout") return;
      if (performance.now() < deadline) continue;
      throw new BackendError(
        "Timeout",
        "timed out: other processes look for the segment all the time",
      );
    }
  }

  /**
   * Waits until the segment is removed: the kernel closes the handles of a dead process shortly after it has released
   * the mutexes of the process.
   */
  #awaitRemoval(exists: () => boolean): void {
    const deadline = performance.now() + LOOK_MS;
    while (exists()) {
      if (performance.now() >= deadline) {
        throw new BackendError(
          "Timeout",
          "timed out: a process was killed while it was creating the segment or looking for it, so whether the " +
            "segment is complete is not known; the next call takes it as it is",
        );
      }
      this.#kernel.c.Sleep(AGAIN_MS);
    }
  }
}

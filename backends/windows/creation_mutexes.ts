import { BackendError } from "../failure.ts";
import { type Kernel32, slice } from "../win32/kernel32.ts";
import { bareName, nameBeside } from "../win32/names.ts";
import { SLICE_MS } from "../timing.ts";

/** How long somebody is waited for who looks for the segment, which takes far less. */
const LOOK_MS = 5000;
/** How often one looks again whether a segment is complete, or gone. */
const AGAIN_MS = 10;

/**
 * Two mutexes. `<name>_creating` belongs to whoever makes the segment, from before it is there until it
 * is filled; when its owner dies, the next one is told so, and waits until the kernel has removed what
 * the dead one has left: nobody else can have opened that. `<name>_looking` belongs to whoever looks for
 * the segment, so that only who makes it keeps the first one from him.
 */
export class Creation {
  readonly #kernel: Kernel32;
  /** What this thread, to which its own mutexes are open, is filling. */
  readonly #filling = new Set<string>();

  constructor(kernel: Kernel32) {
    this.#kernel = kernel;
  }

  /** Whether this thread is in `fill` for the segment. */
  isFilling(name: string): boolean {
    return this.#filling.has(bareName(name));
  }

  /** Calls `fill`, which may call anything. */
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
   * Calls `act` while nobody else makes or looks for the segment; when `act` has called `make` others
   * may look, and see that it is being made. `exists` tells whether the segment is there.
   *
   * @param deadline how long somebody is waited for who is making it, by `performance.now()`
   * @returns `null` if somebody is making it still and there is no deadline
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

  /** Takes both mutexes, or none; tells whether the last one who made the segment died. */
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
          "timed out: the lock is held by a process or thread that is making the segment",
        );
      }
      this.#kernel.c.Sleep(slice(left, AGAIN_MS));
    }
  }

  /** It makes no difference whether somebody has died who was looking. */
  #own(looking: bigint): void {
    const deadline = performance.now() + LOOK_MS;
    for (;;) {
      const left = deadline - performance.now();
      if (this.#kernel.wait(looking, slice(left, SLICE_MS)) !== "timeout") return;
      if (performance.now() < deadline) continue;
      throw new BackendError(
        "Timeout",
        "timed out: somebody is looking for the segment all the time",
      );
    }
  }

  /** The kernel closes the handles of a process a little after it has given up its mutexes. */
  #awaitRemoval(exists: () => boolean): void {
    const deadline = performance.now() + LOOK_MS;
    while (exists()) {
      if (performance.now() >= deadline) {
        throw new BackendError(
          "Timeout",
          "timed out: somebody was killed who was making the segment or looking for it, and it is not " +
            "known whether it is complete; the next call takes it as it is",
        );
      }
      this.#kernel.c.Sleep(AGAIN_MS);
    }
  }
}

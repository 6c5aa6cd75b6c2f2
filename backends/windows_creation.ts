import { Failure } from "./errno.ts";
import { type Kernel32, slice } from "./kernel32.ts";
import { bareName, nameBeside } from "./windows_names.ts";

/** How long a call into the kernel waits at most, so that a worker can be ended. */
const SLICE_MS = 1000;
const LOOK_AGAIN_MS = 1;

/**
 * The mutex `<name>_creating`. Whoever makes the segment of a name owns it from before the segment is
 * there until it is filled, and whoever looks for the segment owns it meanwhile, so nobody finds one
 * that is unfinished. When its owner dies, the next one is told so, and waits until the kernel has
 * removed what the dead one has left: nobody else can have opened that.
 */
export class Creation {
  readonly #kernel: Kernel32;
  /** What this thread, to which a mutex would not be closed, is filling. */
  readonly #filling = new Set<string>();

  constructor(kernel: Kernel32) {
    this.#kernel = kernel;
  }

  /** Whether this thread is in `fill` for the segment. */
  isFilling(name: string): boolean {
    return this.#filling.has(bareName(name));
  }

  /** Calls `fill`, which may call anything, within {@linkcode Creation.exclusively}. */
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
   * Calls `act` while nobody else makes or looks for the segment. `exists` tells whether it is there.
   *
   * @throws {Failure} `LockError` after `deadline`
   */
  exclusively<Result>(
    name: string,
    deadline: number,
    exists: () => boolean,
    act: () => Result,
  ): Result {
    const { c } = this.#kernel;
    const mutex = this.#kernel.openMutex(name, nameBeside(name, "_creating"));
    try {
      const ownerDied = this.#own(mutex, deadline);
      try {
        if (ownerDied) this.#awaitRemoval(exists, deadline);
        return act();
      } finally {
        c.ReleaseMutex(mutex);
      }
    } finally {
      c.CloseHandle(mutex);
    }
  }

  /** Returns whether its last owner died. */
  #own(mutex: bigint, deadline: number): boolean {
    for (;;) {
      const left = deadline - performance.now();
      const result = this.#kernel.wait(mutex, slice(left, SLICE_MS));
      if (result !== "timeout") return result === "abandoned";
      if (performance.now() >= deadline) {
        throw new Failure(
          "LockError",
          "timed out: another process or thread is making the segment",
        );
      }
    }
  }

  /** The kernel closes the handles of a process a little after it has given up its mutexes. */
  #awaitRemoval(exists: () => boolean, deadline: number): void {
    while (exists()) {
      if (performance.now() > deadline) {
        throw new Failure(
          "LockError",
          "timed out: somebody was killed who was making the segment or looking for it, and it is not " +
            "known whether it is complete; the next call takes it as it is",
        );
      }
      this.#kernel.c.Sleep(LOOK_AGAIN_MS);
    }
  }
}

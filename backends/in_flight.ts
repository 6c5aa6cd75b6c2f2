/**
 * Keeps something that calls on other threads use until it is closed and the last of these calls is over. Memory or a
 * handle that is freed earlier could belong to another object when such a call uses it.
 */
export class InFlight {
  readonly #free: () => void;
  #calls = 0;
  #isClosed = false;

  /** @param free is called once, after `close`, when no call uses the thing any more */
  constructor(free: () => void) {
    this.#free = free;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Waits until a call is over. If the thing was closed meanwhile, `release` releases what the call has acquired. */
  async keep(over: Promise<void>, release: () => void): Promise<void> {
    this.#calls++;
    try {
      await over;
    } finally {
      if (this.#isClosed) release();
      this.#calls--;
      this.#freeIfUnused();
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#freeIfUnused();
  }

  #freeIfUnused(): void {
    if (this.#isClosed && this.#calls === 0) this.#free();
  }
}

/** The keys of a soak, and what is where in its segments. */

/** Of keys that nobody else uses, by what is done with them. */
export class Keys {
  readonly #base: string;

  constructor(base: string) {
    this.#base = base;
  }

  /** How the workers tell what they do; its key file stays, and nobody else's create() is let near. */
  get control(): string {
    return `${this.#base} control`;
  }

  /** Whose counts are judged. */
  get counters(): readonly string[] {
    return [0, 1].map((n) => `${this.#base} counter ${n}`);
  }

  /** Made and removed all the time. */
  get churned(): readonly string[] {
    return [0, 1].map((n) => `${this.#base} churn ${n}`);
  }

  /** Made with `initialize`. */
  get filled(): readonly string[] {
    return [0, 1].map((n) => `${this.#base} fill ${n}`);
  }

  /** Whose key files are deleted. */
  get deleted(): string {
    return `${this.#base} files`;
  }

  /** Whose lock Qt resets. */
  get reset(): string {
    return `${this.#base} qt`;
  }

  get pool(): string {
    return `${this.#base} pool`;
  }

  get items(): string {
    return `${this.#base} items`;
  }

  get segments(): readonly string[] {
    return [
      ...[this.control, ...this.counters, ...this.churned, ...this.filled],
      ...[this.deleted, this.reset],
    ];
  }

  get semaphores(): readonly string[] {
    return [this.pool, this.items];
  }
}

/** How many may have one of the pool at a time. */
export const PERMITS = 2;
export const CHURNED_BYTES = 4096;
export const FILLED_BYTES = 20_000;

/** The control segment, in 64-bit floating-point words. */
export const STOPPING = 0;
const SLOT_WORDS = 16;

/** A worker's part of it, which it alone writes but for the last word. */
export const Word = {
  Pid: 0,
  Operations: 1,
  /** Of the judged counters. */
  Increments: 2,
  /** The index of the job that it does, and since when (ms of the epoch). */
  Job: 3,
  Since: 4,
  /** Calls that ended because what they waited for was not to be had in time. */
  Refused: 5,
  /** Which of its permits it holds, 0 for none. */
  Permit: 6,
  /** Set before it is killed. */
  IsDoomed: 7,
} as const;

export function slotWord(slot: number, word: number): number {
  return SLOT_WORDS * (slot + 1) + word;
}

export function controlBytes(slots: number): number {
  return slotWord(slots, 0) * Float64Array.BYTES_PER_ELEMENT;
}

/** A counter's segment, in 32-bit words: a total, and its redo log. */
export const Count = {
  Total: 0,
  /** The process that has begun an increment and not ended it, or 0. */
  Dirty: 1,
  NextTotal: 2,
  Slot: 3,
  NextOwn: 4,
  /** How many increments were ended by another worker, and of which processes the last ones were. */
  Recoveries: 5,
  Recovered: 16,
} as const;

export const RECOVERED_MAX = 1024;
const OWN = Count.Recovered + RECOVERED_MAX;

/** What the workers of a slot have counted. */
export function ownWord(slot: number): number {
  return OWN + slot;
}

export function counterBytes(slots: number): number {
  return ownWord(slots) * Int32Array.BYTES_PER_ELEMENT;
}

import { WRITER } from "../collections/ring_log.ts";
import { describeMutex, holderOf, SCOPE_WORD } from "./holders.ts";
import type { Description, Holder } from "./types.ts";

/** Collects who holds the locks of the sections of a collection, and whether threads wait for them. */
export class Sections {
  readonly #holders = new Map<number, Holder>();
  #hasWaiters = false;
  #left = 0;
  #damaged = 0;

  /**
   * @param mutex the words of the lock, with those of its header
   * @param words the words of the section, which say whether a process is changing it
   */
  add(mutex: Int32Array, words: Int32Array): void {
    const { holders, waiting, problem, facts } = describeMutex(mutex);
    for (const holder of holders) this.#holders.set(holder.pid, holder);
    if (waiting === null) this.#hasWaiters = true;
    if (problem !== "") this.#damaged++;
    const writer = words[WRITER]!;
    // A writer that is alive may have set the word and unlocked between the two looks.
    const isLeft = holders.length === 0 && writer !== 0 && facts["state"] === "free" &&
      (facts["abandoned"] !== undefined || holderOf(writer, mutex[SCOPE_WORD]!).state === "dead");
    if (isLeft) this.#left++;
  }

  get description(): Pick<Description, "holders" | "waiting" | "problem"> {
    const problems = [
      ...this.#left > 0
        ? [
          `a process was killed while it changed ${this.#left} of its parts; the next one repairs that`,
        ]
        : [],
      ...this.#damaged > 0
        ? [`the bytes of ${this.#damaged} of its locks have been overwritten`]
        : [],
    ];
    return {
      holders: [...this.#holders.values()],
      waiting: this.#hasWaiters ? null : 0,
      ...problems.length > 0 ? { problem: problems.join("; ") } : {},
    };
  }
}

import { SyncError } from "../sync/errors.ts";
import type { SectionMutex } from "./section_lock.ts";

/** A thread that has no slot. Nobody can know whether it lives. */
export const NO_SLOT = -1;

/**
 * The members of a collection are the threads that others must be able to tell dead from living, since they compute a
 * value or hold a job. There is a fixed number of slots, each with a mutex and a generation. A thread takes a slot when it
 * becomes a member: it holds the mutex until it is no member any more, and the kernel releases the mutex when the thread
 * ends in any way. A thread that is busy or stopped goes on holding it.
 *
 * What a member leaves in the segment says its slot and its generation. The member lives if the slot has that generation,
 * and a thread holds its mutex.
 */
export class Members {
  readonly #generations: Int32Array;
  readonly #joinMutex: (slot: number) => SectionMutex;
  readonly #mutexes: (SectionMutex | undefined)[] = [];
  /** What this object needs its slot for: the number of calls of `enter()` without one of `leave()`. */
  #uses = 0;
  #slot = NO_SLOT;
  #generation = 0;
  /** The slot at which the search for a free one begins: the one that was free last. */
  #first = 0;
  /** The number of mutexes that the last search has found overwritten. */
  #overwritten = 0;

  /**
   * @param generations a word for each slot
   * @param joinMutex joins the mutex of a slot
   */
  constructor(generations: Int32Array, joinMutex: (slot: number) => SectionMutex) {
    this.#generations = generations;
    this.#joinMutex = joinMutex;
  }

  /** The number of slots. */
  get count(): number {
    return this.#generations.length;
  }

  /** The slot of this member, `NO_SLOT` if all were taken. It is valid between `enter()` and `leave()`. */
  get slot(): number {
    return this.#slot;
  }

  /** The generation of this member. */
  get generation(): number {
    return this.#generation;
  }

  /** Whether this object has entered and not left. */
  get isMember(): boolean {
    return this.#uses > 0;
  }

  /** Whether `enter()` has found no slot because the mutexes of all of them were overwritten. */
  get areOverwritten(): boolean {
    return this.#overwritten === this.count;
  }

  /** Becomes a member, or notes one more use of the slot; returns whether there is a slot. */
  enter(): boolean {
    this.#uses++;
    if (this.#slot === NO_SLOT) this.#takeSlot();
    return this.#slot !== NO_SLOT;
  }

  /** Takes back one call of `enter()`; the last one releases the slot. */
  leave(): void {
    if (--this.#uses > 0 || this.#slot === NO_SLOT) return;
    const mutex = this.#mutexes[this.#slot]!;
    this.#slot = NO_SLOT;
    try {
      if (mutex.isHeld) mutex.unlock();
    } catch (error) {
      if (!(error instanceof SyncError)) throw error; // its bytes were overwritten: nobody takes this slot any more
    }
  }

  /** Whether the member with a slot and a generation lives. */
  isLiving(slot: number, generation: number): boolean {
    if (slot < 0 || slot >= this.count) return false;
    if (Atomics.load(this.#generations, slot) !== generation) return false;
    try {
      const mutex = this.#mutex(slot);
      if (!mutex.tryLock()) return true;
      mutex.unlock();
      return false;
    } catch {
      return true; // the mutex was overwritten, so it cannot be known
    }
  }

  #takeSlot(): void {
    const { count } = this;
    this.#overwritten = 0;
    for (let i = 0; i < count; i++) {
      const slot = (this.#first + i) % count;
      // It is held, and not the slot, if code was stopped just after it was locked: by a timeout of node:vm.
      if (this.#mutexes[slot]?.isHeld !== true && !this.#tryLock(slot)) continue;
      this.#slot = this.#first = slot;
      this.#generation = Atomics.add(this.#generations, slot, 1) + 1 | 0;
      return;
    }
  }

  #tryLock(slot: number): boolean {
    try {
      return this.#mutex(slot).tryLock();
    } catch (error) {
      if (error instanceof SyncError) this.#overwritten++; // and not at the end of the stack
      return false;
    }
  }

  #mutex(slot: number): SectionMutex {
    return this.#mutexes[slot] ??= this.#joinMutex(slot);
  }
}

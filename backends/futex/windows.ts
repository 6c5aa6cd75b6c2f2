import type { ThreadCode, Usize } from "../../ffi/types.ts";
import { type Kernel32, slice } from "../win32/kernel32.ts";
import { delay, nextPause, SLICE_MS } from "../timing.ts";
import { EVENT_MODIFY_STATE } from "../win32/constants.ts";
import { wideName } from "../win32/names.ts";
import type { Futex } from "./types.ts";

const BACKGROUND: ThreadCode = {
  take: `({ WaitForSingleObject }, _memory, event, ms) => {
    WaitForSingleObject(event, ms);
    return false;
  }`,
};

/** The length of a sleep if there is no event. */
const PAUSE_MS = nextPause(Infinity);

/**
 * A futex for Windows, built on kernel events. Each value of the word has its own event, which exists as long as a
 * thread sleeps for that value. The thread that changes the value sets the event of the old value, which stays set and
 * wakes all sleepers at once. So a killed thread cannot have consumed a wake-up or left a state behind.
 *
 * - A thread that sleeps first opens the event and then looks at the word. So either it sees the change, or the thread
 *   that changes the word finds the event.
 * - Two words with the same id wake each other's sleepers, which then look at their word and pause.
 */
export class WindowsFutex implements Futex {
  readonly #kernel: Kernel32;
  readonly #id: number;
  readonly #read: () => number | undefined;

  /**
   * Creates the futex of one word.
   *
   * @param id a number that distinguishes the word from others
   * @param read returns the current value of the word
   */
  constructor(kernel: Kernel32, id: number, read: () => number | undefined) {
    this.#kernel = kernel;
    this.#id = id;
    this.#read = read;
  }

  #wideName(value: number): Uint8Array {
    return wideName(`Local\\shared-memory-event-${this.#id.toString(16)}-${value.toString(16)}`);
  }

  /** Opens the event of a value. Returns 0 if the word has already changed or the event cannot be opened. */
  #open(value: number): bigint {
    const { CreateEventW, CloseHandle } = this.#kernel.c;
    const name = this.#wideName(value);
    const event = this.#kernel.attempt(() => CreateEventW(0n, 1, 0, name));
    if (event === 0n || this.#read() === value) return event;
    CloseHandle(event);
    return 0n;
  }

  address(address: bigint): Usize {
    return this.#kernel.ffi.usize(address);
  }

  wait(_word: Usize, value: number, ms: number): void {
    const { c } = this.#kernel;
    const event = this.#open(value);
    try {
      const isWoken = event !== 0n && this.#kernel.wait(event, slice(ms, SLICE_MS)) === "taken";
      if (event !== 0n && !isWoken) return;
      if (this.#read() === value) c.Sleep(slice(ms, PAUSE_MS));
    } finally {
      if (event !== 0n) c.CloseHandle(event);
    }
  }

  async waitInBackground(
    _word: Usize,
    value: number,
    ms: number,
    keepsAlive: boolean,
  ): Promise<void> {
    const { c } = this.#kernel;
    const event = this.#open(value);
    try {
      const started = performance.now();
      if (event !== 0n) {
        const call = this.#kernel.background(BACKGROUND)(event, slice(ms, SLICE_MS));
        if (!keepsAlive) call.unref();
        await call.over;
      }
      const left = ms - (performance.now() - started);
      if (this.#read() === value) {
        await delay(Math.max(0, Math.min(left, PAUSE_MS)), keepsAlive);
      }
    } finally {
      if (event !== 0n) c.CloseHandle(event);
    }
  }

  /** Wakes all sleepers, because the kernel does not say how many there are. An extra wake-up is never needed. */
  wake(_word: Usize, _count?: number, before?: number): void {
    if (before === undefined) return;
    const { OpenEventW, SetEvent, CloseHandle } = this.#kernel.c;
    const event = OpenEventW(EVENT_MODIFY_STATE, 0, this.#wideName(before));
    if (event === 0n) return; // no thread sleeps
    SetEvent(event);
    CloseHandle(event);
  }
}

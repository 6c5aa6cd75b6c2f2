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

/** How long one sleeps if there is no event. */
const PAUSE_MS = nextPause(Infinity);

/**
 * Sleeps at an event of the kernel's which there is for each number that the word ever is, as long as somebody
 * sleeps at that number: who changes the number sets the old one's event, which wakes all of them at once and
 * for ever. So there is nothing that a killed one could have taken or left.
 *
 * - Who sleeps opens the event first and looks at the word then, so he sees the change, or it finds the event.
 * - Two words with the same id wake each other's sleepers, who look and pause.
 */
export class WindowsFutex implements Futex {
  readonly #kernel: Kernel32;
  readonly #id: number;
  readonly #read: () => number | undefined;

  /**
   * @param id what tells the word from others
   * @param read what the word is now
   */
  constructor(kernel: Kernel32, id: number, read: () => number | undefined) {
    this.#kernel = kernel;
    this.#id = id;
    this.#read = read;
  }

  #wideName(value: number): Uint8Array {
    return wideName(`Local\\shared-memory-event-${this.#id.toString(16)}-${value.toString(16)}`);
  }

  /** Opens the event of a number; 0 if there is nothing to wait for any more, or nothing to wait at. */
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

  async waitInBackground(_word: Usize, value: number, ms: number): Promise<void> {
    const { c } = this.#kernel;
    const event = this.#open(value);
    try {
      const started = performance.now();
      if (event !== 0n) {
        await this.#kernel.background(BACKGROUND)(event, slice(ms, SLICE_MS)).over;
      }
      const left = ms - (performance.now() - started);
      if (this.#read() === value) await delay(Math.max(0, Math.min(left, PAUSE_MS)));
    } finally {
      if (event !== 0n) c.CloseHandle(event);
    }
  }

  /** All of them: the kernel does not say how many there are. None needs to be woken for another. */
  wake(_word: Usize, _count?: number, before?: number): void {
    if (before === undefined) return;
    const { OpenEventW, SetEvent, CloseHandle } = this.#kernel.c;
    const event = OpenEventW(EVENT_MODIFY_STATE, 0, this.#wideName(before));
    if (event === 0n) return; // nobody sleeps
    SetEvent(event);
    CloseHandle(event);
  }
}

import type { Peek } from "../backends/peek_types.ts";
import type { SharedMemory } from "../shared_memory.ts";

/**
 * Reads the bytes of a segment to which this process is attached. It is for Windows, where a segment ends with its last
 * handle by itself: nobody leaves anything to a process that looks.
 */
export class AttachedPeek implements Peek {
  readonly size: number;
  readonly #memory: SharedMemory;

  constructor(memory: SharedMemory) {
    this.#memory = memory;
    this.size = memory.size();
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#memory.constData()?.subarray(offset, offset + length) ?? []);
  }

  isTouched(): boolean {
    return true;
  }

  rest(): void {
    // The handle is that of the caller.
  }
}

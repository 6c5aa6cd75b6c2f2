/**
 * Reads the bytes of a segment from outside: for a tool that shows what is there. It is never a user of the segment. It
 * creates and changes nothing, and other processes treat the segment as if it had not looked.
 */
export interface Peek {
  /** The size of the segment in bytes. */
  readonly size: number;
  /**
   * Returns a copy of some bytes, fewer where the segment ends.
   *
   * @throws {BackendError} if the segment does not exist any more, or this user may not read it
   */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
  /** Whether there can be anything but zeros. Bytes that no process has touched are not read, as that would take memory. */
  isTouched(offset: number, length: number): boolean;
  /** Lets go of the segment until the next call of another method. To be called before other code runs. */
  rest(): void;
}

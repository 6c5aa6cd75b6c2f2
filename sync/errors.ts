import { type ErrorReason, IpcError } from "../errors.ts";

/**
 * The primitives of this module throw this error.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "../mod.ts";
 * import { Counter, SyncError } from "./mod.ts";
 *
 * using memory = SharedMemory.open("nothing in it", { size: 64 });
 * try {
 *   Counter.at(memory.view(Uint8Array));
 * } catch (error) {
 *   if (!(error instanceof SyncError)) throw error;
 *   console.log(error.code); // "NotFound"
 * }
 * ```
 */
export class SyncError extends IpcError {
  /** The name of the class is `"SyncError"`. */
  override readonly name = "SyncError";
  /** This word says why the operation failed. It equals `reason`. */
  readonly code: ErrorReason;

  /**
   * This module creates these errors; programs only catch them.
   *
   * @param code why the operation failed
   * @param message the operation, what happened and what to do
   */
  constructor(code: ErrorReason, message: string) {
    super(code, message);
    this.code = code;
  }
}

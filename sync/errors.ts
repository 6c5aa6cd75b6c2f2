import { type ErrorReason, IpcError } from "../errors.ts";

/**
 * Thrown by the primitives of this module.
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
  /** The class's name. */
  override readonly name = "SyncError";
  /** What happened: the same as `reason`. */
  readonly code: ErrorReason;

  /**
   * Made by this module.
   *
   * @param code what happened
   * @param message the operation, what happened and what to do
   */
  constructor(code: ErrorReason, message: string) {
    super(code, message);
    this.code = code;
  }
}

import { type ErrorReason, IpcError } from "../errors.ts";

/** Why a primitive inside a segment could not be used: some of the words of {@linkcode ErrorReason}. */
export type SyncErrorCode = Extract<
  ErrorReason,
  /** The view is not of an attached segment, or its segment has been detached. */
  | "NotAttached"
  /** The segment was attached `ReadOnly`. */
  | "ReadOnly"
  /** Nothing has been made there. */
  | "NotFound"
  /** Something has been made there already. */
  | "AlreadyExists"
  /** What is there is of another kind, version or layout, or was made in a way that cannot be shared with. */
  | "WrongKind"
  /** Somebody has overwritten it. */
  | "Damaged"
  /** A mutex: this object does not hold it. */
  | "NotOwner"
  /** A mutex: this thread holds it already, and would wait for itself. */
  | "Deadlock"
  /** It took longer than the timeout. */
  | "Timeout"
  /** A block of counters has no room for another name. */
  | "Full"
  /** A snapshot was overwritten again and again, or by two writers at once. */
  | "Busy"
  /** The system refused; the text has the call and its `errno`. */
  | "System"
>;

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
  readonly code: SyncErrorCode;

  /**
   * Made by this module.
   *
   * @param code what happened
   * @param message the operation, what happened and what to do
   */
  constructor(code: SyncErrorCode, message: string) {
    super(code, message);
    this.code = code;
  }
}

import { IpcError } from "../errors.ts";

/**
 * A layout throws this error if the bytes hold the members of another declaration. No byte has been changed then, nor the
 * lifetime of the segment. But a segment that nobody else uses is removed, unless it was opened with the lifetime
 * `"until-removed"` before and now. The message names the members that differ, and says what this program declares and
 * what is there. The reason is `"WrongKind"`.
 *
 * @example
 * ```ts
 * import { f64, layout, WrongLayout } from "./mod.ts";
 *
 * using _old = layout({ table: f64(10) }).open("wrong layout example");
 * try {
 *   layout({ table: f64(20) }).open("wrong layout example");
 * } catch (error) {
 *   if (!(error instanceof WrongLayout)) throw error;
 *   console.log(error.members); // ["table"]
 * }
 * ```
 */
export class WrongLayout extends IpcError {
  /** The name of the class is `"WrongLayout"`. */
  override readonly name = "WrongLayout";
  /** The names of the members that differ. */
  readonly members: readonly string[];
  /** The declaration of this program, one member a line. */
  readonly declared: string;
  /** The declaration of the program that created what is there. */
  readonly found: string;

  /** This module creates these errors; programs only catch them. */
  constructor(message: string, members: readonly string[], declared: string, found: string) {
    super("WrongKind", message);
    this.members = members;
    this.declared = declared;
    this.found = found;
  }
}

import * as linux from "./linux_constants.ts";
import * as darwin from "./darwin_constants.ts";

type Widened<T> = T extends number ? number : { readonly [Key in keyof T]: Widened<T[Key]> };

/** The constants that Linux and macOS have under the same C name, but with different values. */
export type SystemConstants = {
  readonly [Name in keyof typeof linux & keyof typeof darwin]: Widened<typeof linux[Name]>;
};

/** Returns the constants of a System V operating system, named as in `process.platform`. */
export function constantsOf(os: string): SystemConstants {
  return os === "darwin" ? darwin : linux;
}

import * as linux from "./linux_constants.ts";
import * as darwin from "./darwin_constants.ts";

type Widened<T> = T extends number ? number : { readonly [Key in keyof T]: Widened<T[Key]> };

/** What the systems have under the same C name and with other numbers. */
export type SystemConstants = {
  readonly [Name in keyof typeof linux & keyof typeof darwin]: Widened<typeof linux[Name]>;
};

/** The numbers of an operating system that has System V, as `process.platform` names it. */
export function constantsOf(os: string): SystemConstants {
  return os === "darwin" ? darwin : linux;
}

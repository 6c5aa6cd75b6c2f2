import { BackendError } from "../failure.ts";
import { sha1 } from "../sha1.ts";
import { MAX_PATH } from "./constants.ts";

/**
 * The names of kernel objects are case-sensitive and have no folder. They belong to the namespace of the session
 * (`Local\`, which is the default) or of all sessions (`Global\`).
 */

/**
 * Converts a name to a C string: UTF-16 with a NUL.
 *
 * @throws {BackendError} `KeyError` if the name is not valid
 */
export function wideName(name: string): Uint8Array {
  const refuse = (text: string) => new BackendError("KeyError", `${text}; use another native key`);
  if (name.includes("\0")) throw refuse("the name contains a NUL");
  if (!/^(?:(?:Local|Global)\\)?[^\\]+$/.test(name)) {
    throw refuse(
      "a name has a backslash only after Local or Global, written so, and something must follow it",
    );
  }
  if (name.length > MAX_PATH) {
    throw refuse(`the name has ${name.length} UTF-16 units; Windows allows ${MAX_PATH}`);
  }
  return wideString(name);
}

/** Converts a text to a C string. */
function wideString(text: string): Uint8Array {
  const units = Uint16Array.from({ length: text.length + 1 }, (_, i) => text.charCodeAt(i) || 0);
  return new Uint8Array(units.buffer);
}

/** Removes the prefix `Local\`, which means nothing: equal bare names are the same object. */
export function bareName(name: string): string {
  return name.replace(/^Local\\/, "");
}

/** Returns the name of an auxiliary object of this module for the object `name`, in the same namespace. */
export function nameBeside(name: string, suffix: string): Uint8Array {
  const bare = bareName(name);
  if (bare.length + suffix.length <= MAX_PATH) return wideString(bare + suffix);
  const [namespace] = /^(?:Global\\)?/.exec(bare)!;
  const hash = sha1(bare, "utf16le");
  return wideString(`${namespace}qipc_${hash}${suffix}`);
}

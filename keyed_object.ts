import { Failure } from "./backends/errno.ts";
import type { Backend } from "./backends/types.ts";
import { type ErrorCode, SharedMemoryException } from "./errors.ts";
import { platformSafeName } from "./native_ipc_key.ts";

/** What `SharedMemory` and `SystemSemaphore` have in common: keys, and Qt's way to report errors. */

/** Why nothing is opened any more once the exit hook has run. */
export const ENDING = "the program is ending, and everything is detached; do it before that";

/** @throws {TypeError} if `key` is not what a key may be */
export function checkKey(call: string, key: unknown): asserts key is string | null {
  if (key === null || typeof key === "string") return;
  throw new TypeError(`${call}: the key must be a string or null, not ${typeof key}`);
}

/** Qt's native key of a key, `null` if there is no key. */
export function nativeKeyOf(key: string | null, prefix: string, backend: Backend): string | null {
  if (key === null || key === "") return null;
  if (!key.isWellFormed()) {
    throw new Failure(
      "KeyError",
      "the key contains a lone surrogate, half of a character, which Qt's versions encode " +
        "differently; use well-formed text (String.prototype.toWellFormed)",
    );
  }
  return backend.nativeKey(platformSafeName(key, prefix));
}

/** The error of an object's last operation. */
export class ErrorState {
  code: ErrorCode | "NoError" = "NoError";
  text = "";
  #failure: Failure | null = null;
  readonly #className: string;

  constructor(className: string) {
    this.#className = className;
  }

  /** The last operation succeeded; returns `true` for it to return. */
  clear(): true {
    this.code = "NoError";
    this.text = "";
    this.#failure = null;
    return true;
  }

  /**
   * The last operation failed; returns `false` for it to return. What is not a {@linkcode Failure}
   * (a missing permission, an unsupported system) is thrown as it is.
   */
  fail(operation: string, key: string | null, error: unknown, code?: ErrorCode): false {
    if (!(error instanceof Failure)) throw error;
    this.code = code ?? error.code;
    this.text = this.#describe(operation, key, error);
    this.#failure = error;
    return false;
  }

  /** What the last {@linkcode ErrorState.fail} reported, to be thrown. */
  lastException(key: string | null): SharedMemoryException {
    const { syscall, errno } = this.#failure ?? {};
    const code = this.code === "NoError" ? "UnknownError" : this.code;
    return new SharedMemoryException(code, this.text, { syscall, errno, key });
  }

  /** The same as an exception, for operations that cannot return `false`. */
  exception(operation: string, key: string | null, error: unknown, code?: ErrorCode): unknown {
    if (!(error instanceof Failure)) return error;
    return new SharedMemoryException(code ?? error.code, this.#describe(operation, key, error), {
      syscall: error.syscall,
      errno: error.errno,
      key,
    });
  }

  #describe(operation: string, key: string | null, error: Failure): string {
    const shown = key === null ? "no key" : JSON.stringify(key);
    return `${this.#className}.${operation} (${shown}): ${error.message}`;
  }
}

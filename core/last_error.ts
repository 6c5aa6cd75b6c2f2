import { BackendError } from "../backends/failure.ts";
import type { Backend, Users } from "../backends/types.ts";
import { type ErrorCode, type ErrorReason, SharedMemoryException } from "../errors.ts";

/** This text says why nothing can be opened after the exit hook has run. */
export const ENDING = "the program is ending, and everything is detached; do it before that";

/** This class holds the error of the last operation of an object. */
export class ErrorState {
  code: ErrorCode | "NoError" = "NoError";
  text = "";
  #failure: BackendError | null = null;
  readonly #className: string;
  readonly #key: () => string | null;
  #users: Users | null = null;
  #uid = -1;

  /** @param key returns the key of the object, as error texts show it */
  constructor(className: string, key: () => string | null) {
    this.#className = className;
    this.#key = key;
  }

  /**
   * Notes which user has opened the object, so that an error can say if the process acts as another user now; `null` if
   * the object is closed.
   */
  noteUser(backend: Backend | null): void {
    this.#users = backend?.users ?? null;
    this.#uid = this.#users?.lastUid ?? -1;
  }

  get reason(): ErrorReason | null {
    return this.#failure?.reason ?? null;
  }

  /** Notes that the last operation succeeded. It returns `true`, which the operation returns. */
  clear(): true {
    if (this.code !== "NoError") this.#forget();
    return true;
  }

  #forget(): void {
    this.code = "NoError";
    this.text = "";
    this.#failure = null;
  }

  /**
   * Notes that the last operation failed. It returns `false`, which the operation returns. An error that is not a
   * {@linkcode BackendError} (a missing permission, an unsupported system) is thrown as it is.
   */
  fail(operation: string, error: unknown, code?: ErrorCode): false {
    if (!(error instanceof BackendError)) throw error; // without more calls: it may be a stack overflow
    this.code = code ?? error.code;
    this.text = this.#describe(operation, error);
    this.#failure = error;
    return false;
  }

  /** Returns an exception with what the last {@linkcode ErrorState.fail} noted. */
  lastException(): SharedMemoryException {
    const { reason = "System", syscall, errno } = this.#failure ?? {};
    const code = this.code === "NoError" ? undefined : this.code;
    return new SharedMemoryException(reason, this.text, { code, syscall, errno, key: this.#key() });
  }

  /** Returns the exception that an operation throws if it cannot return `false`. */
  exception(operation: string, error: unknown, code?: ErrorCode): unknown {
    if (!(error instanceof BackendError)) return error;
    const { reason, syscall, errno } = error;
    const text = this.#describe(operation, error);
    return new SharedMemoryException(reason, text, { code, syscall, errno, key: this.#key() });
  }

  /** Returns the text of an error; it says so if the user of the process has changed since the object was opened. */
  #describe(operation: string, error: BackendError): string {
    const key = this.#key();
    const shown = key === null ? "no key" : JSON.stringify(key);
    return `${this.#className}.${operation} (${shown}): ${error.message}${
      this.#changedUser(error)
    }`;
  }

  #changedUser({ reason }: BackendError): string {
    const uid = reason === "PermissionDenied" ? this.#users?.currentUid() : undefined;
    if (uid === undefined || uid === this.#uid) return "";
    return `; the user of this process has changed since it opened the object, from uid ${this.#uid} to ` +
      `uid ${uid}: change the user first and open it then, or close it before; what stays behind, ` +
      `uid ${this.#uid} can remove`;
  }
}

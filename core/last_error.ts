import { BackendError } from "../backends/failure.ts";
import type { Backend, Users } from "../backends/types.ts";
import { type ErrorCode, type ErrorReason, SharedMemoryException } from "../errors.ts";

/** Why nothing is opened any more once the exit hook has run. */
export const ENDING = "the program is ending, and everything is detached; do it before that";

/** Which user an object was opened by, so that a refusal can tell that the process acts as another one now. */
export class Opener {
  #users: Users | null = null;
  #uid = -1;

  /** The object has been opened. */
  note({ users }: Backend): void {
    this.#users = users;
    if (users !== null) this.#uid = users.lastUid;
  }

  /** Returns an error, of which it says if the reason is a change of the user. */
  explain(error: unknown): unknown {
    if (!(error instanceof BackendError) || error.reason !== "PermissionDenied") return error;
    const uid = this.#users?.currentUid();
    if (uid === undefined || uid === this.#uid) return error;
    error.message +=
      `; the user of this process has changed since it opened the object, from uid ${this.#uid} to ` +
      `uid ${uid}: change the user first and open it then, or close it before; what stays behind, ` +
      `uid ${this.#uid} can remove`;
    return error;
  }
}

/** The error of an object's last operation. */
export class ErrorState {
  code: ErrorCode | "NoError" = "NoError";
  text = "";
  #failure: BackendError | null = null;
  readonly #className: string;

  constructor(className: string) {
    this.#className = className;
  }

  get reason(): ErrorReason | null {
    return this.#failure?.reason ?? null;
  }

  /** The last operation succeeded; returns `true` for it to return. */
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
   * The last operation failed; returns `false` for it to return. What is not a {@linkcode BackendError}
   * (a missing permission, an unsupported system) is thrown as it is.
   */
  fail(operation: string, key: string | null, error: unknown, code?: ErrorCode): false {
    if (!(error instanceof BackendError)) throw error;
    this.code = code ?? error.code;
    this.text = this.#describe(operation, key, error);
    this.#failure = error;
    return false;
  }

  /** What the last {@linkcode ErrorState.fail} reported, to be thrown. */
  lastException(key: string | null): SharedMemoryException {
    const { reason = "System", syscall, errno } = this.#failure ?? {};
    const code = this.code === "NoError" ? undefined : this.code;
    return new SharedMemoryException(reason, this.text, { code, syscall, errno, key });
  }

  /** The same as an exception, for operations that cannot return `false`. */
  exception(operation: string, key: string | null, error: unknown, code?: ErrorCode): unknown {
    if (!(error instanceof BackendError)) return error;
    const { reason, syscall, errno } = error;
    const text = this.#describe(operation, key, error);
    return new SharedMemoryException(reason, text, { code, syscall, errno, key });
  }

  #describe(operation: string, key: string | null, error: BackendError): string {
    const shown = key === null ? "no key" : JSON.stringify(key);
    return `${this.#className}.${operation} (${shown}): ${error.message}`;
  }
}

import process from "node:process";
import { Failure } from "../backends/unix/errno.ts";
import { backendOf } from "../backends/mod.ts";
import type { Backend, Users } from "../backends/types.ts";
import { type ErrorCode, type ErrorReason, SharedMemoryException } from "../errors.ts";
import {
  isSupported,
  legacyNativeKey,
  NativeIpcKey,
  type NativeIpcKeyPlace,
  NativeIpcKeyType,
} from "../native_ipc_key.ts";

/** What `SharedMemory` and `SystemSemaphore` have in common: keys, and Qt's way to report errors. */

/** Why nothing is opened any more once the exit hook has run. */
export const ENDING = "the program is ending, and everything is detached; do it before that";

/** @throws {TypeError} if `key` is not what a key may be */
export function checkKey(call: string, key: unknown): asserts key is string | NativeIpcKey | null {
  if (key === null || typeof key === "string" || key instanceof NativeIpcKey) return;
  throw new TypeError(
    `${call}: the key must be a string, a NativeIpcKey or null, not ${typeof key}`,
  );
}

/** What the operating system knows a segment or a semaphore by. */
export interface NativeName {
  readonly type: NativeIpcKeyType;
  readonly nativeKey: string;
  /** The key it was made from, `""` if it was not. */
  readonly legacyKey: string;
  /** Whether the user has chosen it; otherwise it is what every Qt makes of `legacyKey`. */
  readonly isChosen: boolean;
}

/** What knows an object by its name. */
export type ObjectKind = NativeIpcKeyPlace["object"];

/** The type of keys that are mere strings. */
export function legacyType(): NativeIpcKeyType {
  return NativeIpcKey.legacyDefaultTypeForOs(process.platform);
}

/** Where the native keys of a type are to be used. */
export function placeOf(type: NativeIpcKeyType, object: ObjectKind): NativeIpcKeyPlace {
  const { platform: os } = process;
  return { os, object, folder: isSupported(type, os) ? backendOf(type).folder() : "" };
}

/** The same for `platformSafeKey()`, which uses another folder. */
export function safePlaceOf(type: NativeIpcKeyType, object: ObjectKind): NativeIpcKeyPlace {
  const { platform: os } = process;
  return {
    os,
    object,
    /** Created when it is needed, which it is not for an absolute path. */
    get folder() {
      return isSupported(type, os) ? backendOf(type).runtimeFolder() : "";
    },
  };
}

/** What `make` returns; of what the system refuses meanwhile, as the folder of key files, an exception. */
export function madeFrom(
  key: string,
  call: `${ObjectKind}.${string}`,
  make: () => NativeIpcKey,
): NativeIpcKey {
  try {
    return make();
  } catch (error) {
    const [className, operation] = call.split(".") as [string, string];
    throw new ErrorState(className).exception(operation, key, error);
  }
}

/** The name that Qt makes of a key, `null` if there is no key. */
export function nameOf(
  key: string | null,
  object: ObjectKind,
  type: NativeIpcKeyType = legacyType(),
): NativeName | null {
  if (key === null || key === "") return null;
  if (!key.isWellFormed()) {
    throw new Failure(
      "KeyError",
      "the key contains a lone surrogate, half of a character, which Qt's versions encode " +
        "differently; use well-formed text (String.prototype.toWellFormed)",
    );
  }
  const { nativeKey } = legacyNativeKey(key, type, placeOf(type, object));
  return { type, nativeKey, legacyKey: key, isChosen: false };
}

/** The name that a native key is, `null` if it is empty. A string has the type of keys that are strings. */
export function chosenName(key: NativeIpcKey | string, object: ObjectKind): NativeName | null {
  const type = typeof key === "string" ? legacyType() : key.type;
  const legacyKey = typeof key === "string" ? "" : key.legacyKey;
  const nativeKey = typeof key === "string" ? key : key.nativeKey;
  if (nativeKey === "") return null;
  const made = nameOf(legacyKey, object, type);
  return made?.nativeKey === nativeKey ? made : { type, nativeKey, legacyKey, isChosen: true };
}

/** The name of the lock of a segment, as Qt 6.6 makes it. */
export function lockNameOf({ type, nativeKey, legacyKey }: NativeName): NativeName {
  const made = nameOf(legacyKey, "SystemSemaphore", type);
  if (made !== null) return made;
  const isWindows = type === NativeIpcKeyType.Windows;
  const name = isWindows ? nativeKey.slice(0, WINDOWS_LOCK_LENGTH) + "_sem" : nativeKey;
  return { type, nativeKey: name, legacyKey, isChosen: true };
}

/** Where Qt cuts the native key of a segment for that of its lock, in UTF-16 units. */
const WINDOWS_LOCK_LENGTH = 255;

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
    if (!(error instanceof Failure) || error.reason !== "PermissionDenied") return error;
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
  #failure: Failure | null = null;
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
    const { reason = "System", syscall, errno } = this.#failure ?? {};
    const code = this.code === "NoError" ? undefined : this.code;
    return new SharedMemoryException(reason, this.text, { code, syscall, errno, key });
  }

  /** The same as an exception, for operations that cannot return `false`. */
  exception(operation: string, key: string | null, error: unknown, code?: ErrorCode): unknown {
    if (!(error instanceof Failure)) return error;
    const { reason, syscall, errno } = error;
    const text = this.#describe(operation, key, error);
    return new SharedMemoryException(reason, text, { code, syscall, errno, key });
  }

  #describe(operation: string, key: string | null, error: Failure): string {
    const shown = key === null ? "no key" : JSON.stringify(key);
    return `${this.#className}.${operation} (${shown}): ${error.message}`;
  }
}

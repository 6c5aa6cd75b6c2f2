import { keyTypeOf } from "../backends/mod.ts";
import { thisPlatform } from "../backends/platform.ts";
import {
  legacyNativeKey,
  NativeIpcKey,
  type NativeIpcKeyType,
  platformSafeKey,
} from "../native_ipc_key.ts";
import {
  explicitName,
  legacyType,
  nameOf,
  type NativeName,
  type ObjectKind,
  placeOf,
  safePlaceOf,
} from "./key_name.ts";
import { ErrorState } from "./last_error.ts";

/** @throws {TypeError} if `key` is neither a string nor a `NativeIpcKey` nor `null` */
export function checkKey(call: string, key: unknown): asserts key is string | NativeIpcKey | null {
  if (key === null || typeof key === "string" || key instanceof NativeIpcKey) return;
  throw new TypeError(
    `${call}: the key must be a string, a NativeIpcKey or null, not ${typeof key}`,
  );
}

/** This class holds the key of a `SharedMemory` or `SystemSemaphore` object and the error of its last operation. */
export class Keyed {
  readonly errors: ErrorState;
  /** The key as text, or the legacy key of a native key; `null` if there is none. */
  key: string | null = null;
  /** The native key that the user has set; `null` if the user has set a plain key or none. */
  explicit: NativeIpcKey | string | null = null;
  readonly #kind: ObjectKind;

  constructor(kind: ObjectKind) {
    this.#kind = kind;
    this.errors = new ErrorState(kind, () => this.shown);
  }

  /** Returns whether the object has this key already: a text, or a native key with its legacy key. */
  has(key: string | null, explicit: NativeIpcKey | string | null): boolean {
    if (explicit instanceof NativeIpcKey && this.explicit instanceof NativeIpcKey) {
      return explicit.equals(this.explicit);
    }
    return explicit === this.explicit && key === this.key;
  }

  set(key: string | null, explicit: NativeIpcKey | string | null): void {
    this.key = key;
    this.explicit = explicit;
    this.errors.clear();
  }

  /** Whether there is a key that is not empty. */
  get isSet(): boolean {
    return (this.#explicitText ?? this.key ?? "") !== "";
  }

  /** The key as error texts show it. */
  get shown(): string | null {
    return this.key ?? (this.explicit === null ? null : String(this.explicit));
  }

  /**
   * Returns the name by which the operating system knows the object, or `null` if there is no key.
   *
   * @throws {BackendError} if no native key can be made from the key
   */
  name(): NativeName | null {
    return this.explicit === null
      ? nameOf(this.key, this.#kind)
      : explicitName(this.explicit, this.#kind);
  }

  get #explicitText(): string | null {
    return this.explicit instanceof NativeIpcKey ? this.explicit.nativeKey : this.explicit;
  }

  /**
   * Returns what the public method `nativeKey()` returns.
   *
   * @param find returns the name of the object, or a name that the caller has found before
   */
  nativeKey(find: () => NativeName | null = () => this.name()): string | null {
    if (this.explicit !== null) return this.#explicitText;
    try {
      return find()?.nativeKey ?? null;
    } catch (error) {
      throw this.errors.exception("nativeKey", error);
    }
  }

  /** Returns what the public method `nativeIpcKey()` returns. `find` is as in {@linkcode Keyed.nativeKey}. */
  nativeIpcKey(find?: () => NativeName | null): NativeIpcKey | null {
    if (this.explicit instanceof NativeIpcKey) return this.explicit;
    const nativeKey = this.nativeKey(find);
    return nativeKey === null ? null : new NativeIpcKey(nativeKey, legacyType(), this.key ?? "");
  }
}

/** Returns whether this system has objects of a key type. */
export function isKeyTypeSupported(type: NativeIpcKeyType): boolean {
  return keyTypeOf(type) !== null;
}

/** Returns the type that `platformSafeKey()` uses if the caller gives none. */
export function safeType(): NativeIpcKeyType {
  return NativeIpcKey.defaultTypeForOs(thisPlatform().os);
}

/** Returns what the public method `platformSafeKey()` of the class `kind` returns. */
export function safeKeyOf(kind: ObjectKind, key: string, type: NativeIpcKeyType): NativeIpcKey {
  return madeFrom(kind, "platformSafeKey", key, () => {
    return platformSafeKey(key, type, safePlaceOf(type, kind));
  });
}

/** Returns what the public method `legacyNativeKey()` of the class `kind` returns. */
export function legacyKeyOf(kind: ObjectKind, key: string, type: NativeIpcKeyType): NativeIpcKey {
  return madeFrom(
    kind,
    "legacyNativeKey",
    key,
    () => legacyNativeKey(key, type, placeOf(type, kind)),
  );
}

/**
 * Returns what `make` returns. If the system refuses something, such as the folder of key files, it throws an
 * exception.
 */
function madeFrom(
  kind: ObjectKind,
  operation: string,
  key: string,
  make: () => NativeIpcKey,
): NativeIpcKey {
  try {
    return make();
  } catch (error) {
    throw new ErrorState(kind, () => key).exception(operation, error);
  }
}

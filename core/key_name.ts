import { BackendError } from "../backends/failure.ts";
import type { NativeIpcKeyPlace, NativeIpcKeyType } from "../backends/native_key.ts";
import { backendOf, keyTypeOf } from "../backends/mod.ts";
import { thisPlatform } from "../backends/platform.ts";
import { legacyNativeKey, NativeIpcKey } from "../native_ipc_key.ts";

/** A native name identifies a segment or a semaphore to the operating system. */
export interface NativeName {
  readonly type: NativeIpcKeyType;
  readonly nativeKey: string;
  /** The key from which the name was made, or `""` if there was none. */
  readonly legacyKey: string;
  /** Whether the user has chosen the native key. Otherwise every version of Qt makes it from `legacyKey`. */
  readonly isExplicit: boolean;
}

/** The kind of object that a name identifies. */
export type ObjectKind = NativeIpcKeyPlace["object"];

/** Returns the type of keys that are plain strings. */
export function legacyType(): NativeIpcKeyType {
  return NativeIpcKey.legacyDefaultTypeForOs(thisPlatform().os);
}

/** Returns the place where native keys of a type are used. */
export function placeOf(type: NativeIpcKeyType, object: ObjectKind): NativeIpcKeyPlace {
  const { os } = thisPlatform();
  return { os, object, folder: keyTypeOf(type, os) ? backendOf(type).folder() : "" };
}

/** Returns the place of the keys of `platformSafeKey()`, which uses another folder than {@linkcode placeOf}. */
export function safePlaceOf(type: NativeIpcKeyType, object: ObjectKind): NativeIpcKeyPlace {
  const { os } = thisPlatform();
  return {
    os,
    object,
    /** The folder is created when it is read. An absolute path needs no folder. */
    get folder() {
      return keyTypeOf(type, os) ? backendOf(type).runtimeFolder() : "";
    },
  };
}

/** Returns the name that Qt makes from a key, or `null` if there is no key. */
export function nameOf(
  key: string | null,
  object: ObjectKind,
  type: NativeIpcKeyType = legacyType(),
): NativeName | null {
  if (key === null || key === "") return null;
  if (!key.isWellFormed()) {
    throw new BackendError(
      "KeyError",
      "the key contains a lone surrogate, half of a character, which Qt's versions encode " +
        "differently; use well-formed text (String.prototype.toWellFormed)",
    );
  }
  const { nativeKey } = legacyNativeKey(key, type, placeOf(type, object));
  return { type, nativeKey, legacyKey: key, isExplicit: false };
}

/**
 * Returns the name for a native key, or `null` if it is empty. A plain string has the type of {@linkcode legacyType}.
 */
export function explicitName(key: NativeIpcKey | string, object: ObjectKind): NativeName | null {
  const type = typeof key === "string" ? legacyType() : key.type;
  const legacyKey = typeof key === "string" ? "" : key.legacyKey;
  const nativeKey = typeof key === "string" ? key : key.nativeKey;
  if (nativeKey === "") return null;
  const made = nameOf(legacyKey, object, type);
  return made?.nativeKey === nativeKey ? made : { type, nativeKey, legacyKey, isExplicit: true };
}

/** Returns the name of the lock of a segment, as Qt 6.6 makes it. */
export function lockNameOf({ type, nativeKey, legacyKey }: NativeName): NativeName {
  const made = nameOf(legacyKey, "SystemSemaphore", type);
  if (made !== null) return made;
  const lockKey = keyTypeOf(type)?.lockKey?.(nativeKey) ?? nativeKey;
  return { type, nativeKey: lockKey, legacyKey, isExplicit: true };
}

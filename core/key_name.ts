import { BackendError } from "../backends/failure.ts";
import { backendOf } from "../backends/mod.ts";
import { thisPlatform } from "../backends/platform.ts";
import {
  isSupported,
  legacyNativeKey,
  NativeIpcKey,
  type NativeIpcKeyPlace,
  NativeIpcKeyType,
} from "../native_ipc_key.ts";

/** What the operating system knows a segment or a semaphore by. */
export interface NativeName {
  readonly type: NativeIpcKeyType;
  readonly nativeKey: string;
  /** The key it was made from, `""` if it was not. */
  readonly legacyKey: string;
  /** Whether the user has chosen it; otherwise it is what every Qt makes of `legacyKey`. */
  readonly isExplicit: boolean;
}

/** What knows an object by its name. */
export type ObjectKind = NativeIpcKeyPlace["object"];

/** The type of keys that are mere strings. */
export function legacyType(): NativeIpcKeyType {
  return NativeIpcKey.legacyDefaultTypeForOs(thisPlatform().os);
}

/** Where the native keys of a type are to be used. */
export function placeOf(type: NativeIpcKeyType, object: ObjectKind): NativeIpcKeyPlace {
  const { os } = thisPlatform();
  return { os, object, folder: isSupported(type, os) ? backendOf(type).folder() : "" };
}

/** The same for `platformSafeKey()`, which uses another folder. */
export function safePlaceOf(type: NativeIpcKeyType, object: ObjectKind): NativeIpcKeyPlace {
  const { os } = thisPlatform();
  return {
    os,
    object,
    /** Created when it is needed, which it is not for an absolute path. */
    get folder() {
      return isSupported(type, os) ? backendOf(type).runtimeFolder() : "";
    },
  };
}

/** The name that Qt makes of a key, `null` if there is no key. */
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

/** The name that a native key is, `null` if it is empty. A string has the type of keys that are strings. */
export function explicitName(key: NativeIpcKey | string, object: ObjectKind): NativeName | null {
  const type = typeof key === "string" ? legacyType() : key.type;
  const legacyKey = typeof key === "string" ? "" : key.legacyKey;
  const nativeKey = typeof key === "string" ? key : key.nativeKey;
  if (nativeKey === "") return null;
  const made = nameOf(legacyKey, object, type);
  return made?.nativeKey === nativeKey ? made : { type, nativeKey, legacyKey, isExplicit: true };
}

/** The name of the lock of a segment, as Qt 6.6 makes it. */
export function lockNameOf({ type, nativeKey, legacyKey }: NativeName): NativeName {
  const made = nameOf(legacyKey, "SystemSemaphore", type);
  if (made !== null) return made;
  const isWindows = type === NativeIpcKeyType.Windows;
  const name = isWindows ? nativeKey.slice(0, WINDOWS_LOCK_LENGTH) + "_sem" : nativeKey;
  return { type, nativeKey: name, legacyKey, isExplicit: true };
}

/** Where Qt cuts the native key of a segment for that of its lock, in UTF-16 units. */
const WINDOWS_LOCK_LENGTH = 255;

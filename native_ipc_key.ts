import {
  type NativeIpcKeyPlace,
  NativeIpcKeyType,
  platformSafeName,
  SHARED_MEMORY_PREFIX,
  SYSTEM_SEMAPHORE_PREFIX,
} from "./backends/native_key.ts";
import { keyTypeOf, schemeOf, typeOf } from "./backends/mod.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "./custom_inspect.ts";

/** QUrl percent-encodes these characters with `DecodeReserved`: control characters and delimiters. */
const ENCODED_IN_PATH = /[^ -"$&->@-~\u0080-\uffff]/g; // # % ?
const ENCODED_IN_QUERY = /[^ -"$'-<>-~\u0080-\uffff]/g; // # % & =

export { NativeIpcKeyType };

/**
 * A native key identifies a segment or a semaphore to the operating system and says which kind of object it is. It
 * corresponds to `QNativeIpcKey` of Qt 6.6. A program can send the text of the key, such as `systemv:/tmp/…`, to
 * another process that uses this package or Qt.
 *
 * A native key is a frozen value, while Qt's has setters: another native key or type is another object. The class only
 * handles text. Whether the operating system has such objects and allows the key is checked when the key is used.
 *
 * Lone surrogates, halves of characters, are refused, since the versions of Qt encode them differently.
 *
 * @example
 * ```ts
 * import { NativeIpcKey, NativeIpcKeyType } from "./native_ipc_key.ts";
 *
 * const key = new NativeIpcKey("/what? a name", NativeIpcKeyType.PosixRealtime);
 * console.log(`${key}`); // posix:/what%3F a name
 * console.log(NativeIpcKey.fromString(`${key}`)?.equals(key)); // true
 * ```
 */
export class NativeIpcKey {
  /** The kind of object that the key names. */
  readonly type: NativeIpcKeyType;
  /** The text by which the operating system knows the object; `""` if there is no key. */
  readonly nativeKey: string;
  /** The key from which `nativeKey` was made, as by `SharedMemory.legacyNativeKey()`; otherwise `""`. */
  readonly legacyKey: string;

  /**
   * Creates a key from its parts.
   *
   * @param nativeKey the text by which the operating system knows the object
   * @param type the kind of object; 0 makes an invalid key
   * @param legacyKey the key from which `nativeKey` was made, if the native key is to carry it
   * @throws {TypeError} if a key is not a string or contains a lone surrogate, or `type` is neither 0
   * nor a {@linkcode NativeIpcKeyType}
   */
  constructor(nativeKey: string, type: NativeIpcKeyType, legacyKey = "") {
    for (const key of [nativeKey, legacyKey]) {
      if (typeof key !== "string") {
        throw new TypeError(`NativeIpcKey: a key must be a string, not ${typeof key}`);
      }
      if (!key.isWellFormed()) {
        throw new TypeError(
          "NativeIpcKey: the key contains a lone surrogate, half of a character, which Qt's versions " +
            "encode differently; use well-formed text (String.prototype.toWellFormed)",
        );
      }
    }
    if (type !== 0 && schemeOf(type) === "") {
      throw new TypeError(`NativeIpcKey: type must be a NativeIpcKeyType, not ${String(type)}`);
    }
    this.type = type;
    this.nativeKey = nativeKey;
    this.legacyKey = legacyKey;
    Object.freeze(this);
  }

  /** This property is `true` if the key has a type. It says nothing about the native key. */
  get isValid(): boolean {
    return this.type !== 0;
  }

  /** This property is `true` if the native key is `""`. */
  get isEmpty(): boolean {
    return this.nativeKey === "";
  }

  /**
   * Returns whether the type, native key and legacy key of both are equal. For a lookup in a map, use the text of a
   * key.
   */
  equals(other: NativeIpcKey): boolean {
    return this.type === other.type && this.nativeKey === other.nativeKey &&
      this.legacyKey === other.legacyKey;
  }

  /**
   * Returns the key as text, for {@linkcode NativeIpcKey.fromString} and `QNativeIpcKey::fromString()`:
   * `systemv:/path`, `systemv-84:/path` (with project id 84), `posix:/name` or `windows:name`, and
   * `?legacyKey=…` if there is a legacy key. As in Qt, only these characters are percent-encoded: ASCII control
   * characters, `%`, `#` and `?`; in the legacy key `&` and `=` instead of `?`; and the second slash of a leading `//`.
   *
   * @returns the text; for an invalid key `""`, where Qt returns a null string
   */
  toString(): string {
    if (!this.isValid) return "";
    const path = this.nativeKey.replace(ENCODED_IN_PATH, encodeURIComponent);
    const text = `${schemeOf(this.type)}:${path.replace(/^\/\//, "/%2F")}`;
    if (this.legacyKey === "") return text;
    return `${text}?legacyKey=${this.legacyKey.replace(ENCODED_IN_QUERY, encodeURIComponent)}`;
  }

  /**
   * Returns the key for a text from {@linkcode NativeIpcKey.toString} or `QNativeIpcKey::toString()`. As in Qt, the
   * text is read as a URL: `%41` is `A`, and the codes are UTF-8. If any percent sign of the same part does not start
   * such a code, no code of the part is decoded. An empty authority (`posix:///name`) and a `#fragment` are ignored.
   *
   * @returns the key; `null` where Qt returns an invalid key: for an unknown type, an authority, or a query that is not
   * `legacyKey`. It also returns `null` for lone surrogates and for codes that are not UTF-8, where Qt returns a key
   * with replacement characters
   * @throws {TypeError} if `text` is not a string
   */
  static fromString(text: string): NativeIpcKey | null {
    if (typeof text !== "string") {
      throw new TypeError(`NativeIpcKey.fromString: the text must be a string, not ${typeof text}`);
    }
    const parts = /^([^:]*):(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?/.exec(text);
    if (parts === null || !text.isWellFormed()) return null;
    const [, scheme = "", authority = "", path = "", query = ""] = parts;
    const type = typeOf(scheme.toLowerCase());
    // As in Qt, the user and the port may be empty.
    if (type === 0 || !/^@?:?$/.test(authority)) return null;

    const nativeKey = decode(repaired(path));
    let legacyKey: string | null = "";
    const items = query === "" ? [] : repaired(query).replace(/&$/, "").split("&");
    for (const item of items) { // As in Qt, the last one counts.
      const [name = ""] = item.split("=", 1);
      if (decode(name) !== "legacyKey") return null;
      legacyKey = decode(item.slice(name.length + 1));
    }
    if (nativeKey === null || legacyKey === null) return null;
    return new NativeIpcKey(nativeKey, type, legacyKey);
  }

  /**
   * Returns the default type of native keys on a system, `QNativeIpcKey::DefaultTypeForOs`.
   *
   * @param os the operating system, in the words of `process.platform`
   */
  static defaultTypeForOs(os: string): NativeIpcKeyType {
    return os === "win32" ? NativeIpcKeyType.Windows : NativeIpcKeyType.PosixRealtime;
  }

  /**
   * Returns the type that Qt before 6.6 uses on a system, and that every version uses for keys without a type.
   *
   * @param os the operating system, in the words of `process.platform`
   */
  static legacyDefaultTypeForOs(os: string): NativeIpcKeyType {
    return os === "win32" ? NativeIpcKeyType.Windows : NativeIpcKeyType.SystemV;
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => {
      const { type, nativeKey, legacyKey } = this;
      const parts = { type: schemeOf(type) || "invalid", nativeKey };
      return legacyKey === "" ? parts : { ...parts, legacyKey };
    });
  }
}

/**
 * Returns a native key in which `key` is readable, like `platformSafeKey()` of Qt 6.6: `/key` for POSIX, `shm_key` or
 * `sem_key` for Windows (after `Local\` or `Global\`, if the key starts so), and for System V `folder/key`, or the key
 * itself if it is an absolute path. The result is cut to 260 UTF-16 units on Windows and to 30 on macOS. `setKey()`
 * does not use this function but {@linkcode legacyNativeKey}.
 *
 * @param key any text
 * @param type the kind of object
 * @param place where the key is used; the folder is Qt's `RuntimeLocation`, `XDG_RUNTIME_DIR`
 * @returns the native key; an empty one if `key` is empty, or the operating system has no objects of this type
 * @throws {TypeError} as the constructor does; also if a character would be cut in halves
 * @internal
 */
export function platformSafeKey(
  key: string,
  type: NativeIpcKeyType,
  place: NativeIpcKeyPlace,
): NativeIpcKey {
  const keyType = key === "" ? null : keyTypeOf(type, place.os);
  return new NativeIpcKey(keyType?.safeKey(key, place) ?? "", type);
}

/**
 * Returns the native key that every version of Qt makes from a key given to `setKey()`, with that key as its legacy
 * key. It contains the platform-safe name of the key: in `folder` for System V, after a slash for POSIX, and alone for
 * Windows. On macOS the POSIX name has 29 digits of the hash; the names that Qt uses in a sandbox are not supported.
 *
 * @param key any text
 * @param type the kind of object
 * @param place where the key is used; the folder is the one of temporary files
 * @returns the native key; an empty one if `key` is empty, or the operating system has no objects of this type
 * @throws {TypeError} as the constructor does
 * @internal
 */
export function legacyNativeKey(
  key: string,
  type: NativeIpcKeyType,
  place: NativeIpcKeyPlace,
): NativeIpcKey {
  const { os, object, folder } = place;
  const keyType = key === "" ? null : keyTypeOf(type, os);
  if (keyType === null) return new NativeIpcKey("", type);
  const prefix = object === "SharedMemory" ? SHARED_MEMORY_PREFIX : SYSTEM_SEMAPHORE_PREFIX;
  return new NativeIpcKey(keyType.legacyKey(platformSafeName(key, prefix), folder), type, key);
}

/** Does what QUrl does in `TolerantMode`: if any percent sign does not start a code, it takes all of them literally. */
function repaired(text: string): string {
  return /%(?![0-9A-Fa-f]{2})/.test(text) ? text.replaceAll("%", "%25") : text;
}

/** Decodes percent codes; returns `null` if they are not UTF-8. */
function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

import { createHash } from "node:crypto";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "./custom_inspect.ts";

/** @internal Qt's prefix of the key files of segments, and of the names of kernel objects. */
export const SHARED_MEMORY_PREFIX = "qipc_sharedmemory_";
/** @internal The same of semaphores. */
export const SYSTEM_SEMAPHORE_PREFIX = "qipc_systemsem_";

/**
 * Qt's platform-safe name of a key: the prefix, the key's ASCII letters, and the SHA-1 of the whole key
 * in hex. `""` when there is no key.
 * @internal
 */
export function platformSafeName(key: string | null, prefix: string): string {
  if (key === null || key === "") return "";
  const letters = key.replace(/[^A-Za-z]/g, "");
  return prefix + letters + createHash("sha1").update(key, "utf8").digest("hex");
}

/** What kind of object of the operating system a {@linkcode NativeIpcKey} is of, with Qt's numbers. */
export const NativeIpcKeyType = {
  /** System V: the key is the path of the key file, and `"Q"` the project id for `ftok()`. */
  SystemV: 0x51,
  /** POSIX: the key is the name of the object, with a leading slash. */
  PosixRealtime: 0x100,
  /** Windows: the key is the name of the object. */
  Windows: 0x101,
} as const;
/**
 * One of the numbers of {@linkcode NativeIpcKeyType}, or from 1 to 255 System V with that project id for
 * `ftok()`. 0 is invalid.
 */
export type NativeIpcKeyType = number;

/** @internal Where a native key is to be used: what Qt knows from how it was built, and the environment. */
export interface NativeIpcKeyPlace {
  /** The operating system, as `process.platform` has it. */
  readonly os: string;
  /** Whose key it is. */
  readonly object: "SharedMemory" | "SystemSemaphore";
  /** The absolute path of the folder of System V key files, without a trailing slash. */
  readonly folder: string;
}

/** What QUrl percent-encodes with `DecodeReserved`: control characters and delimiters. */
const ENCODED_IN_PATH = /[^ -"$&->@-~\u0080-\uffff]/g; // # % ?
const ENCODED_IN_QUERY = /[^ -"$'-<>-~\u0080-\uffff]/g; // # % & =

/** Where Qt cuts names off, in UTF-16 units: at `MAX_PATH` and `SHM_NAME_MAX`. */
const WINDOWS_NAME_LENGTH = 260;
const MACOS_NAME_LENGTH = 30;

/**
 * What the operating system knows a segment or a semaphore by, and as which kind of object; the peer of
 * `QNativeIpcKey` of Qt 6.6. Its text, `systemv:/tmp/…`, is how to tell another process the key, be it
 * Qt's or ours.
 *
 * It is a frozen value, where Qt's has setters: another native key or type is another object. It only
 * handles text; whether the operating system has such objects, and allows the key, its use will show.
 *
 * Lone surrogates, halves of characters, are refused: Qt's versions encode them differently.
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
  /** The kind of object. */
  readonly type: NativeIpcKeyType;
  /** What the operating system knows it by; `""` if there is no key. */
  readonly nativeKey: string;
  /** The key that `nativeKey` was made from, as {@linkcode NativeIpcKey.legacyNativeKey} does; else `""`. */
  readonly legacyKey: string;

  /**
   * A key of these parts.
   *
   * @param nativeKey what the operating system knows the object by
   * @param type the kind of object; 0 makes an invalid key
   * @param legacyKey the key that `nativeKey` was made from, if one is to be told with it
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

  /** Whether it has a type. It says nothing about the key. */
  get isValid(): boolean {
    return this.type !== 0;
  }

  /** Whether the native key is `""`. */
  get isEmpty(): boolean {
    return this.nativeKey === "";
  }

  /** Whether type, native key and legacy key are the same. To look keys up, use their texts. */
  equals(other: NativeIpcKey): boolean {
    return this.type === other.type && this.nativeKey === other.nativeKey &&
      this.legacyKey === other.legacyKey;
  }

  /**
   * The key as text, for {@linkcode NativeIpcKey.fromString} and `QNativeIpcKey::fromString()`:
   * `systemv:/path`, `systemv-84:/path` (with project id 84), `posix:/name` or `windows:name`, and
   * `?legacyKey=…` if there is one. As in Qt, percent-encoded are only ASCII control characters and
   * `%`, `#` and `?`, in the legacy key `&` and `=` instead of `?`, and the second slash of a leading `//`.
   *
   * @returns `""` of an invalid key, for which Qt has a null string
   */
  toString(): string {
    if (!this.isValid) return "";
    const path = this.nativeKey.replace(ENCODED_IN_PATH, encodeURIComponent);
    const text = `${schemeOf(this.type)}:${path.replace(/^\/\//, "/%2F")}`;
    if (this.legacyKey === "") return text;
    return `${text}?legacyKey=${this.legacyKey.replace(ENCODED_IN_QUERY, encodeURIComponent)}`;
  }

  /**
   * The key of a text of {@linkcode NativeIpcKey.toString} or `QNativeIpcKey::toString()`. As in Qt
   * it is read as a URL: `%41` is `A`, in UTF-8, unless a percent sign before or after it in the same
   * part starts no such code; an empty authority (`posix:///name`) and a `#fragment` are ignored.
   *
   * @returns `null` where Qt returns an invalid key: for an unknown type, an authority, or a query that
   * is not `legacyKey`. Also for lone surrogates and codes that are not UTF-8, where Qt returns a key
   * with replacement characters.
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
    // Qt: user and port may be empty.
    if (type === 0 || !/^@?:?$/.test(authority)) return null;

    const nativeKey = decode(repaired(path));
    let legacyKey: string | null = "";
    const items = query === "" ? [] : repaired(query).replace(/&$/, "").split("&");
    for (const item of items) { // Qt: the last one counts.
      const [name = ""] = item.split("=", 1);
      if (decode(name) !== "legacyKey") return null;
      legacyKey = decode(item.slice(name.length + 1));
    }
    if (nativeKey === null || legacyKey === null) return null;
    return new NativeIpcKey(nativeKey, type, legacyKey);
  }

  /**
   * The type that Qt gives keys where none is said, `QNativeIpcKey::DefaultTypeForOs`.
   *
   * @param os as `process.platform` has it
   */
  static defaultTypeForOs(os: string): NativeIpcKeyType {
    return os === "win32" ? NativeIpcKeyType.Windows : NativeIpcKeyType.PosixRealtime;
  }

  /**
   * The type of what Qt before 6.6 uses, and every version for keys without a type.
   *
   * @param os as `process.platform` has it
   */
  static legacyDefaultTypeForOs(os: string): NativeIpcKeyType {
    return os === "win32" ? NativeIpcKeyType.Windows : NativeIpcKeyType.SystemV;
  }

  /** @internal What `console.log` shows of it. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => {
      const { type, nativeKey, legacyKey } = this;
      const parts = { type: schemeOf(type) || "invalid", nativeKey };
      return legacyKey === "" ? parts : { ...parts, legacyKey };
    });
  }
}

/**
 * A native key that shows `key`, as `platformSafeKey()` of Qt 6.6 makes it: `/key` for POSIX, `shm_key` or
 * `sem_key` for Windows (after `Local\` or `Global\`, if it starts so), and for System V `folder/key`,
 * or the key itself if it is an absolute path. Windows gets at most 260, macOS 30 UTF-16 units of it.
 * It is not what `setKey()` uses, which is {@linkcode legacyNativeKey}.
 *
 * @param key any text
 * @param type the kind of object
 * @param place where it is to be used; the folder is Qt's `RuntimeLocation`, `XDG_RUNTIME_DIR`
 * @returns an empty one if `key` is empty, or the operating system has no objects of this type
 * @throws {TypeError} as the constructor does; also if a character would be cut in halves
 * @internal
 */
export function platformSafeKey(
  key: string,
  type: NativeIpcKeyType,
  place: NativeIpcKeyPlace,
): NativeIpcKey {
  const { os, object } = place;
  const empty = new NativeIpcKey("", type);
  if (key === "" || !isSupported(type, os)) return empty;
  if (type === NativeIpcKeyType.PosixRealtime) {
    return new NativeIpcKey(`/${os === "darwin" ? shortened(key) : key}`, type);
  }
  if (type === NativeIpcKeyType.Windows) {
    const [namespace] = /^(?:Local\\|Global\\)?/.exec(key)!;
    const kind = object === "SharedMemory" ? "shm_" : "sem_";
    const name = namespace + kind + key.slice(namespace.length);
    return new NativeIpcKey(name.slice(0, WINDOWS_NAME_LENGTH), type);
  }
  return new NativeIpcKey(key.startsWith("/") ? key : `${place.folder}/${key}`, type);
}

/**
 * The native key that every version of Qt makes of a key given to `setKey()`, with that key as its legacy
 * key: its platform-safe name in `folder` for System V, after a slash for POSIX (on macOS 29 digits of
 * its hash; what Qt has in a sandbox is not supported), and as it is for Windows.
 *
 * @param key any text
 * @param type the kind of object
 * @param place where it is to be used; the folder is the one of temporary files
 * @returns an empty one if `key` is empty, or the operating system has no objects of this type
 * @throws {TypeError} as the constructor does
 * @internal
 */
export function legacyNativeKey(
  key: string,
  type: NativeIpcKeyType,
  place: NativeIpcKeyPlace,
): NativeIpcKey {
  const { os, object, folder } = place;
  const empty = new NativeIpcKey("", type);
  if (key === "" || !isSupported(type, os)) return empty;
  const prefix = object === "SharedMemory" ? SHARED_MEMORY_PREFIX : SYSTEM_SEMAPHORE_PREFIX;
  const name = platformSafeName(key, prefix);
  let nativeKey = `${folder}/${name}`;
  if (type === NativeIpcKeyType.Windows) nativeKey = name;
  if (type === NativeIpcKeyType.PosixRealtime) {
    const hash = name.slice(-40); // all there is room for on macOS
    nativeKey = `/${os === "darwin" ? shortened(hash) : name}`;
  }
  return new NativeIpcKey(nativeKey, type, key);
}

/** @internal What stands before the colon; `""` of no type. */
export function schemeOf(type: NativeIpcKeyType): string {
  if (type === NativeIpcKeyType.PosixRealtime) return "posix";
  if (type === NativeIpcKeyType.Windows) return "windows";
  if (type === NativeIpcKeyType.SystemV) return "systemv";
  return Number.isInteger(type) && type >= 1 && type <= 0xff ? `systemv-${type}` : "";
}

/** The type of what stands before the colon; 0 if there is none. */
function typeOf(scheme: string): NativeIpcKeyType {
  if (scheme === "posix") return NativeIpcKeyType.PosixRealtime;
  if (scheme === "windows") return NativeIpcKeyType.Windows;
  if (scheme === "systemv") return NativeIpcKeyType.SystemV;
  const id = Number(/^systemv-([0-9]+)$/.exec(scheme)?.[1]);
  return id >= 1 && id <= 0xff ? id : 0;
}

/** @internal Whether an operating system has such objects: Windows its own kind only, and nobody else has those. */
export function isSupported(type: NativeIpcKeyType, os: string): boolean {
  return schemeOf(type) !== "" && (type === NativeIpcKeyType.Windows) === (os === "win32");
}

/** The rest of a name after its slash, as long as macOS allows it. */
function shortened(name: string): string {
  return name.slice(0, MACOS_NAME_LENGTH - 1);
}

/** QUrl's `TolerantMode`: unless every percent sign starts a code, none does. */
function repaired(text: string): string {
  return /%(?![0-9A-Fa-f]{2})/.test(text) ? text.replaceAll("%", "%25") : text;
}

/** Decodes percent codes; `null` if they are not UTF-8. */
function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

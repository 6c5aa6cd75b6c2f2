import { createHash } from "node:crypto";
import type { Capabilities } from "./capabilities.ts";
import type { Backend } from "./types.ts";

/**
 * The type of a {@linkcode NativeIpcKey} says which kind of object of the operating system it names. The numbers are
 * Qt's.
 */
export const NativeIpcKeyType = {
  /** System V: the key is the path of the key file, and `"Q"` the project id for `ftok()`. */
  SystemV: 0x51,
  /** POSIX: the key is the name of the object, with a leading slash. */
  PosixRealtime: 0x100,
  /** Windows: the key is the name of the object. */
  Windows: 0x101,
} as const;
/**
 * This type has the numbers of {@linkcode NativeIpcKeyType}. A number from 1 to 255 means System V with that project id
 * for `ftok()`. 0 is invalid.
 */
export type NativeIpcKeyType = number;

/** A place says where a native key is used. Qt knows this from its build and from the environment. */
export interface NativeIpcKeyPlace {
  /** The operating system, in the words of `process.platform`. */
  readonly os: string;
  /** The class to which the key belongs. */
  readonly object: "SharedMemory" | "SystemSemaphore";
  /** The absolute path of the folder of System V key files, without a trailing slash. */
  readonly folder: string;
}

/** All that this module knows of a type of keys on the systems that have it. Each backend exports one such record. */
export interface KeyType {
  readonly capabilities: Capabilities;
  /** Returns the text before the colon for a type; `""` if the type is not one of this record. */
  schemeOf(type: NativeIpcKeyType): string;
  /** Returns the type for the text before the colon; 0 if it is not one of this record. */
  typeOf(scheme: string): NativeIpcKeyType;
  /** Whether a system has such objects. */
  supports(os: string): boolean;
  /** Returns the native key in which `key` is readable, as `platformSafeKey()` of Qt 6.6 makes it. */
  safeKey(key: string, place: NativeIpcKeyPlace): string;
  /** Returns the native key that every version of Qt makes of a key with this platform-safe name. */
  legacyKey(name: string, folder: string): string;
  /** Returns the native key of the lock of a segment whose native key the user has chosen; by default the same key. */
  lockKey?(nativeKey: string): string;
  /** Loads the backend for this process. */
  load(type: NativeIpcKeyType): Backend;
}

/** Returns the scheme members of a record with only one type. */
export function onlyType(
  type: NativeIpcKeyType,
  scheme: string,
): Pick<KeyType, "schemeOf" | "typeOf"> {
  return {
    schemeOf: (other) => other === type ? scheme : "",
    typeOf: (other) => other === scheme ? type : 0,
  };
}

/** Qt puts this prefix before the names of the key files and kernel objects of segments. */
export const SHARED_MEMORY_PREFIX = "qipc_sharedmemory_";
/** Qt puts this prefix before the names of the key files and kernel objects of semaphores. */
export const SYSTEM_SEMAPHORE_PREFIX = "qipc_systemsem_";

/**
 * Returns Qt's platform-safe name of a key: the prefix, the ASCII letters of the key, and the SHA-1 of the whole key in
 * hex. It returns `""` if there is no key.
 */
export function platformSafeName(key: string | null, prefix: string): string {
  if (key === null || key === "") return "";
  const letters = key.replace(/[^A-Za-z]/g, "");
  return prefix + letters + createHash("sha1").update(key, "utf8").digest("hex");
}

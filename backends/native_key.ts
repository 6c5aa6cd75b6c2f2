import { sha1 } from "./sha1.ts";

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
  return prefix + letters + sha1(key, "utf8");
}

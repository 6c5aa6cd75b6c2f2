import { createHash } from "node:crypto";

/** Qt's prefixes of key files and of the names of kernel objects. */
export const SHARED_MEMORY_PREFIX = "qipc_sharedmemory_";
export const SYSTEM_SEMAPHORE_PREFIX = "qipc_systemsem_";

/**
 * Qt's platform-safe name of a key: the prefix, the key's ASCII letters, and the SHA-1 of the whole key
 * in hex. `""` when there is no key.
 */
export function platformSafeName(key: string | null, prefix: string): string {
  if (key === null || key === "") return "";
  const letters = key.replace(/[^A-Za-z]/g, "");
  return prefix + letters + createHash("sha1").update(key, "utf8").digest("hex");
}

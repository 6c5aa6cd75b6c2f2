import { mayAdopt, type OpenOptions } from "../core/open_options.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import { SharedMemory } from "../shared_memory.ts";
import { SyncError } from "../sync/errors.ts";

/** How a collection lies in a segment of its own: what a class of collections has as static methods. */
export interface Placing<Collection> {
  /** The number of bytes that it takes. */
  readonly bytes: number;
  create(this: void, view: ArrayBufferView): void;
  at(this: void, view: ArrayBufferView): Collection;
  renew(this: void, view: ArrayBufferView): void;
}

/** Returns what the messages of a call that opens a key begin with. */
export function openCall(call: string, key: string | NativeIpcKey): string {
  const name = typeof key === "string" ? key : key.legacyKey || key.nativeKey;
  return `${call} (${JSON.stringify(name)})`;
}

/**
 * Opens a collection in the segment of a key, and creates it if it does not exist.
 *
 * @param call what the messages of errors begin with, such as `"SharedMap.open"`
 * @param options those of `SharedMemory.open()` that the collection leaves to the program
 * @returns the collection, and its segment, which is detached by now if this function throws
 */
export function openIn<Collection>(
  call: string,
  key: string | NativeIpcKey,
  options: Omit<OpenOptions, "size" | "mode" | "initialize" | "adopt">,
  { bytes, create, at, renew }: Placing<Collection>,
): readonly [Collection, SharedMemory] {
  try {
    return SharedMemory.openAccepted(key, {
      ...options,
      size: bytes,
      initialize: create,
      adopt: mayAdopt(options) ? renew : undefined,
    }, (memory) => [at(memory.bytes), memory]);
  } catch (error) {
    if (!(error instanceof SyncError)) throw error;
    throw new SyncError(error.code, `${openCall(call, key)}: ${error.message}`);
  }
}

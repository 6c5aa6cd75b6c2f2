/**
 * This module is a driver for [unstorage](https://unstorage.unjs.io), which Nitro and Nuxt use, whose items all processes
 * of a machine share. It imports nothing of unstorage.
 *
 * @example
 * ```ts
 * import { sharedMemoryDriver } from "./unstorage.ts";
 *
 * const driver = sharedMemoryDriver({ key: "storage of the shop", bytes: 2 ** 24 });
 * // const storage = createStorage({ driver });
 * driver.setItem("pages:front", "<h1>hello</h1>", { ttl: 60 });
 * console.log(driver.getItem("pages:front")); // in all processes
 * driver.dispose();
 * ```
 *
 * @module
 */
import { SharedMap } from "../collections/shared_map.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import { keysWith, type StoreOptions } from "./map_store.ts";
import { type TextOrBytes, textOrBytes } from "./text_or_bytes.ts";

export type { StoreOptions, TextOrBytes };

/** The options of the driver: those of its map, and its key. */
export interface SharedMemoryDriverOptions extends StoreOptions {
  /** The key of the map, as for `SharedMap.open()`. */
  readonly key: string | NativeIpcKey;
}

/** What unstorage passes to a driver with an item. */
export interface ItemOptions {
  /** The time to live in seconds, as in all drivers. If it is left out, the item has that of the map. */
  readonly ttl?: number | undefined;
}

/** What the driver knows of an item beside its value. */
export interface ItemMeta {
  /** The time that is left in seconds, if the item expires. */
  ttl?: number;
}

/** A driver, with what unstorage calls. Its methods are done when they return. */
export interface SharedMemoryDriver {
  /** What unstorage calls this driver. */
  readonly name: "shared-memory";
  /** Items can have a time to live. */
  readonly flags: { readonly ttl: true };
  /** The options that it was made with. */
  readonly options: SharedMemoryDriverOptions;
  /** Returns the map. */
  getInstance(): SharedMap<TextOrBytes>;
  /** Returns whether there is an item. */
  hasItem(key: string): boolean;
  /** Returns what `setItem()` or `setItemRaw()` has stored, `null` if there is nothing. */
  getItem(key: string): TextOrBytes | null;
  /** The same as `getItem()`. */
  getItemRaw(key: string): TextOrBytes | null;
  /** Stores a string. */
  setItem(key: string, value: string, options?: ItemOptions): void;
  /**
   * Stores a string, or bytes: an `ArrayBuffer`, or any view of one. They come back as a `Uint8Array`.
   *
   * @throws {TypeError} if the value is something else
   */
  setItemRaw(key: string, value: unknown, options?: ItemOptions): void;
  /** Removes an item. */
  removeItem(key: string): void;
  /** Returns the time that is left, `null` if there is no such item. */
  getMeta(key: string): ItemMeta | null;
  /** Returns the keys that begin with `base`, or all. */
  getKeys(base?: string): string[];
  /** Removes the items whose keys begin with `base`, or all. */
  clear(base?: string): void;
  /** Detaches the map. */
  dispose(): void;
}

function rawOf(value: unknown): TextOrBytes {
  if (typeof value === "string") return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) {
    return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  }
  throw new TypeError(`setItemRaw: a value must be a string or bytes, not ${typeof value}`);
}

/**
 * Opens the map, and returns a driver for `createStorage({ driver })` or `storage.mount(base, driver)`.
 *
 * @throws as `SharedMap.open()` does
 */
export function sharedMemoryDriver(options: SharedMemoryDriverOptions): SharedMemoryDriver {
  const { key, ...others } = options;
  const map = SharedMap.open(key, { ...others, codec: textOrBytes });
  const set = (key: string, value: TextOrBytes, { ttl }: ItemOptions = {}) =>
    void map.set(key, value, { ttl: ttl === undefined ? undefined : ttl * 1000 });
  return {
    name: "shared-memory",
    flags: { ttl: true },
    options,
    getInstance: () => map,
    hasItem: (key) => map.has(key),
    getItem: (key) => map.get(key) ?? null,
    getItemRaw: (key) => map.get(key) ?? null,
    setItem: set,
    setItemRaw: (key, value, options) => set(key, rawOf(value), options),
    removeItem: (key) => void map.delete(key),
    getMeta(key) {
      const ttl = map.ttl(key);
      if (ttl === undefined) return null;
      return ttl === Infinity ? {} : { ttl: ttl / 1000 };
    },
    getKeys: (base = "") => [...keysWith(map, base)],
    clear(base = "") {
      if (base === "") return map.clear();
      for (const key of keysWith(map, base)) map.delete(key);
    },
    dispose: () => map[Symbol.dispose](),
  };
}

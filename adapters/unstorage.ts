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
import { checkOptions } from "../core/arguments.ts";
import { utf8 } from "../collections/codecs.ts";
import { SharedMap } from "../collections/shared_map.ts";
import { SharedTopic } from "../collections/shared_topic.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import { SyncError } from "../sync/errors.ts";
import { keysWith, type StoreOptions } from "./map_store.ts";
import { type TextOrBytes, textOrBytes } from "./text_or_bytes.ts";

export type { StoreOptions, TextOrBytes };

/** The options of the driver: those of its map, and its key. */
export interface SharedMemoryDriverOptions extends StoreOptions {
  /** The key of the map, as for `SharedMap.open()`. */
  readonly key: string | NativeIpcKey;
  /**
   * The key of a `SharedTopic` by which processes tell each other what they change, for `watch()`. All processes that
   * change items must name the same one. If it is left out, `storage.watch()` tells only of the changes of its own process.
   */
  readonly changes?: string | NativeIpcKey | undefined;
}

/** What unstorage passes to a driver with an item. */
export interface ItemOptions {
  /** The time to live in seconds, as in all drivers. If it is left out, the item has that of the map. */
  readonly ttl?: number | undefined;
}

/** What the driver knows of an item beside its value. It is a type alias, as an interface would not be unstorage's own. */
export type ItemMeta = {
  /** The time that is left in seconds, if the item expires. */
  ttl?: number;
};

/** What a watcher is told of an item. */
export type ItemEvent = "update" | "remove";

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
  /** Detaches the map, and ends all watches. */
  dispose(): void;
  /**
   * Calls back for each change that any process makes, also this one, until the returned function is called. Items that
   * expire or are evicted are not changed by anybody. It is there only if the options name the topic of the changes.
   */
  readonly watch?: (callback: (event: ItemEvent, key: string) => void) => () => void;
}

function rawOf(value: unknown): TextOrBytes {
  if (typeof value === "string") return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) {
    return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  }
  throw new TypeError(`setItemRaw: a value must be a string or bytes, not ${typeof value}`);
}

/** The bytes of a topic of changes. A key that takes more than a quarter of them cannot be told. */
const TOPIC_BYTES = 65_536;

/** The changes of all processes, each of which is a message: the first letter of the event, and the key. */
class Changes {
  readonly #topic: SharedTopic<string>;

  constructor(key: string | NativeIpcKey) {
    this.#topic = SharedTopic.open(key, { bytes: TOPIC_BYTES, codec: utf8 });
  }

  tell(event: ItemEvent, key: string): void {
    try {
      this.#topic.publish(event[0]! + key);
    } catch (error) { // the item has changed already, so the call has done its work; those who watch miss this event
      if (!(error instanceof SyncError) || !["InvalidSize", "Busy"].includes(error.code)) {
        throw error;
      }
    }
  }

  watch(callback: (event: ItemEvent, key: string) => void): () => void {
    const subscription = this.#topic.subscribe(({ value }) =>
      callback(value[0] === "u" ? "update" : "remove", value.slice(1))
    );
    return () => subscription.close();
  }

  close(): void {
    this.#topic[Symbol.dispose]();
  }
}

/** Returns a time to live in ms. As in other drivers, 0 is for ever. */
function msOf(seconds: number | null | undefined): number | undefined {
  if (seconds === undefined || seconds === null) return undefined;
  return seconds === 0 ? Infinity : seconds * 1000;
}

/**
 * Opens the map, and returns a driver for `createStorage({ driver })` or `storage.mount(base, driver)`.
 *
 * @throws as `SharedMap.open()` and `SharedTopic.open()` do
 */
export function sharedMemoryDriver(options: SharedMemoryDriverOptions): SharedMemoryDriver {
  checkOptions("sharedMemoryDriver", options, '{ key: "items", bytes: 1_048_576 }');
  const { key, changes: changesKey, ...others } = options;
  const changes = changesKey === undefined ? undefined : new Changes(changesKey);
  let map: SharedMap<TextOrBytes>;
  try {
    map = SharedMap.open(key, { ...others, codec: textOrBytes });
  } catch (error) {
    changes?.close();
    throw error;
  }
  const set = (key: string, value: TextOrBytes, options?: ItemOptions | null) => {
    map.set(key, value, { ttl: msOf(options?.ttl) });
    changes?.tell("update", key);
  };
  const remove = (key: string) => {
    if (map.delete(key)) changes?.tell("remove", key);
  };
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
    removeItem: remove,
    getMeta(key) {
      const ttl = map.ttl(key);
      if (ttl === undefined) return null;
      return ttl === Infinity ? {} : { ttl: ttl / 1000 };
    },
    getKeys: (base = "") => [...keysWith(map, base)],
    clear(base = "") {
      if (base === "" && changes === undefined) return map.clear();
      for (const key of keysWith(map, base)) remove(key);
    },
    dispose() {
      changes?.close();
      map[Symbol.dispose]();
    },
    // unstorage tells of the changes of a driver that cannot watch.
    ...(changes === undefined ? {} : { watch: (callback) => changes.watch(callback) }),
  };
}

// Nitro and Nuxt import a driver by the name of its module: `driver: "@shared-memory/shared-memory/unstorage"`.
export default sharedMemoryDriver;

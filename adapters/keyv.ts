/**
 * This module is a store for [Keyv](https://keyv.org) 5 and 6 that all processes of a machine share. It imports nothing
 * of Keyv.
 *
 * @example
 * ```ts
 * import { KeyvStore } from "./keyv.ts";
 *
 * using store = new KeyvStore("cache of the shop", { bytes: 2 ** 24 });
 * // const cache = new Keyv({ store, namespace: "pages" });
 * await store.set("pages:front", "<h1>hello</h1>", 60_000);
 * console.log(await store.get("pages:front")); // in all processes
 * ```
 *
 * @module
 */
import { SharedMap } from "../collections/shared_map.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import { keysWith, type StoreOptions } from "./map_store.ts";
import { type TextOrBytes, textOrBytes } from "./text_or_bytes.ts";

export type { StoreOptions, TextOrBytes };

/** An entry of `setMany()`. */
export interface KeyvEntry {
  /** The key, with its namespace. */
  readonly key: string;
  /** What Keyv has made of the value. */
  readonly value: TextOrBytes;
  /** The time to live in ms. If it is left out, it is that of the map. */
  readonly ttl?: number | undefined;
}

/**
 * A Keyv store keeps the entries of Keyv in a {@linkcode SharedMap}. Each call is one step of the map, and settles at once.
 *
 * Keyv sets the namespace of its store, so give each Keyv a store of its own. Stores of one key are one map.
 */
export class KeyvStore implements Disposable {
  /**
   * What Keyv asks of a store: Keyv 5 iterates only over stores of the dialects that it knows, and this one iterates as
   * that of Redis does.
   */
  readonly opts: Record<string, unknown> = { dialect: "redis", url: "" };
  /** Set by Keyv 5. Keyv 6 puts its namespace in front of the keys of a store without this property. */
  declare namespace?: string;
  readonly #map: SharedMap<TextOrBytes>;

  /**
   * Opens the map, and creates it if it does not exist.
   *
   * @param key of the map, as for `SharedMap.open()`
   * @throws as `SharedMap.open()` does
   */
  constructor(key: string | NativeIpcKey, options: StoreOptions) {
    this.#map = SharedMap.open(key, { ...options, codec: textOrBytes });
  }

  /** Returns what was stored. */
  // deno-lint-ignore require-await -- what it throws is to reject the promise
  async get(key: string): Promise<TextOrBytes | undefined> {
    return this.#map.get(key);
  }

  /** Returns what was stored under each of these keys. */
  // deno-lint-ignore require-await -- see get()
  async getMany(keys: readonly string[]): Promise<(TextOrBytes | undefined)[]> {
    return keys.map((key) => this.#map.get(key));
  }

  /** Returns whether the key has a value. */
  // deno-lint-ignore require-await -- see get()
  async has(key: string): Promise<boolean> {
    return this.#map.has(key);
  }

  /** Returns for each of these keys whether it has a value. */
  // deno-lint-ignore require-await -- see get()
  async hasMany(keys: readonly string[]): Promise<boolean[]> {
    return keys.map((key) => this.#map.has(key));
  }

  /**
   * Stores a value.
   *
   * @param ttl in ms. What has no time left is deleted
   * @throws {TypeError} if the value is neither a string nor a `Uint8Array`: Keyv's own serialization makes strings
   */
  // deno-lint-ignore require-await -- see get()
  async set(key: string, value: TextOrBytes, ttl?: number): Promise<boolean> {
    this.#set({ key, value, ttl });
    return true;
  }

  /** Stores several values, one after the other. */
  // deno-lint-ignore require-await -- see get()
  async setMany(entries: readonly KeyvEntry[]): Promise<boolean[]> {
    return entries.map((entry) => {
      this.#set(entry);
      return true;
    });
  }

  #set({ key, value, ttl }: KeyvEntry): void {
    // Keyv passes what its caller has passed: null, which is for it no time to live, is not 0 for this either.
    if (typeof ttl === "number" && ttl <= 0) this.#map.delete(key);
    else this.#map.set(key, value, { ttl });
  }

  /** Deletes a key. @returns whether it had a value */
  // deno-lint-ignore require-await -- see get()
  async delete(key: string): Promise<boolean> {
    return this.#map.delete(key);
  }

  /** Deletes several keys. @returns whether all of them had values */
  // deno-lint-ignore require-await -- see get()
  async deleteMany(keys: readonly string[]): Promise<boolean> {
    return keys.map((key) => this.#map.delete(key)).every(Boolean);
  }

  /** Deletes all keys of the namespace, or all keys if Keyv has set none. */
  // deno-lint-ignore require-await -- see get()
  async clear(): Promise<void> {
    if (this.namespace === undefined) return this.#map.clear();
    for (const key of keysWith(this.#map, `${this.namespace}:`)) this.#map.delete(key);
  }

  /** Returns the entries of a namespace, or all. Keys that are set or deleted meanwhile may be among them or not. */
  async *iterator(
    namespace?: string,
  ): AsyncGenerator<[key: string, value: TextOrBytes], void, undefined> {
    for (const key of keysWith(this.#map, namespace === undefined ? "" : `${namespace}:`)) {
      const value = this.#map.get(key);
      if (value !== undefined) yield [key, value];
    }
  }

  /** Does nothing, as this store emits no events: its methods reject with what went wrong. */
  on(_event: string, _listener: (...args: never[]) => void): this {
    return this;
  }

  /** Detaches the map: `keyv.disconnect()`. */
  // deno-lint-ignore require-await -- Keyv awaits it
  async disconnect(): Promise<void> {
    this[Symbol.dispose]();
  }

  /** Detaches the map. */
  [Symbol.dispose](): void {
    this.#map[Symbol.dispose]();
  }
}

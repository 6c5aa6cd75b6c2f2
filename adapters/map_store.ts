import type { SharedMapOpenOptions } from "../collections/map_options.ts";

/**
 * These options say how the map of a store is opened: those of `SharedMap.open()` without the codec, which the store
 * chooses. `bytes` is the size of the map, which all processes must give alike.
 */
export type StoreOptions = Omit<SharedMapOpenOptions<unknown>, "codec">;

/** What a store needs of a map. */
interface Keys {
  keys(): Iterable<string | Uint8Array>;
}

/** @internal Returns those keys of a map that are strings and begin with this text. */
export function* keysWith(map: Keys, prefix: string): Generator<string, void, undefined> {
  for (const key of map.keys()) {
    if (typeof key === "string" && key.startsWith(prefix)) yield key;
  }
}

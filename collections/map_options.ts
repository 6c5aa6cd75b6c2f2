import type { OpenOptions } from "../core/open_options.ts";
import type { AbortSignalLike } from "../core/waiter.ts";
import type { Codec } from "./codecs.ts";
import { type CommonSettings, commonSettings } from "./common_settings.ts";
import type { MapHeader } from "./map_header.ts";
import { bucketsFor, checkShape, shapeOf, type ShapeOptions } from "./map_shape.ts";
import { SyncError } from "../sync/errors.ts";

/** These options say how a map is created and used. */
export interface SharedMapOptions<Value> extends Partial<ShapeOptions> {
  /**
   * What happens when the map is full. With `"clock"`, which is used if it is left out, the oldest entries that were not
   * used are evicted. With `"none"` nothing is evicted, and `set()` throws `Full`.
   */
  readonly evict?: "clock" | "none" | undefined;
  /**
   * Turns values other than numbers into bytes. If it is left out, the values are bytes. If it has a name, a map that was
   * created with a codec of another name is refused.
   */
  readonly codec?: Codec<Value> | undefined;
  /** The time to live in ms of an entry that is stored without one. If it is left out, entries do not expire. */
  readonly ttl?: number | undefined;
  /** The longest time in ms for which a change waits for another process that changes the same stripe. 1000 if left out. */
  readonly lockTimeout?: number | undefined;
}

/** The options of `SharedMap.open()`: those of the map, and those of `SharedMemory.open()`. */
export interface SharedMapOpenOptions<Value>
  extends SharedMapOptions<Value>, Omit<OpenOptions, "size" | "mode" | "initialize" | "adopt"> {
  /** The size of the map in bytes, with all that it needs. It may use a little less. */
  readonly bytes: number;
}

/** These options say when a value is stored, and for how long. */
export interface SetOptions {
  /** The time to live in ms, `Infinity` for ever. If it is left out, it is that of the map. */
  readonly ttl?: number | undefined;
  /** Whether the value is stored only if the key has none. */
  readonly ifAbsent?: boolean | undefined;
  /** Whether the value is stored only if the key has one. */
  readonly ifPresent?: boolean | undefined;
  /** The value is stored only if the present one has this version. */
  readonly ifVersion?: number | undefined;
}

/** These options say how long a computed value lives, and how long `getOrSet()` waits for another process. */
export interface GetOrSetOptions {
  /** The time to live in ms, `Infinity` for ever. If it is left out, it is that of the map. */
  readonly ttl?: number | undefined;
  /**
   * The time in ms after which another process no longer waits for this one, if it goes on computing, and after which this
   * one no longer waits for another. 30,000 if left out.
   */
  readonly timeout?: number | undefined;
  /** The wait ends when this signal is aborted, and the promise rejects with its `reason`. */
  readonly signal?: AbortSignalLike | undefined;
  /**
   * Whether the wait for another process keeps the program alive. `false` if left out: a program that does nothing else
   * then ends without the value. While this process computes, it is up to `compute`.
   */
  readonly ref?: boolean | undefined;
}

/** The options of a map as they were read, once, and checked. */
export interface MapSettings<Value> extends CommonSettings<Value> {
  readonly ttl: number;
}

/** @throws {TypeError | RangeError} if an option is not what it should be */
export function settingsOf<Value>(
  call: string,
  options: SharedMapOptions<Value>,
): MapSettings<Value> {
  const common = commonSettings(call, options);
  const { ttl = Infinity } = options;
  checkTtl(call, ttl);
  return { ...common, ttl };
}

/** @throws {TypeError} if the option `evict` is neither `"clock"` nor `"none"` */
export function evictsOf(call: string, evict: unknown): boolean {
  if (evict === undefined || evict === "clock") return true;
  if (evict === "none") return false;
  throw new TypeError(`${call}: evict must be "clock" or "none", not ${String(evict)}`);
}

/** @throws {TypeError | RangeError} if `ttl` is not a time to live in ms */
export function checkTtl(call: string, ttl: unknown): asserts ttl is number {
  if (typeof ttl !== "number") {
    throw new TypeError(`${call}: the ttl must be a number of ms, not ${typeof ttl}`);
  }
  if (ttl > 0) return;
  throw new RangeError(`${call}: the ttl must be more than 0 ms, not ${ttl}`);
}

/**
 * @internal Checks that a map that exists is the one that the options describe.
 *
 * @throws {SyncError} `WrongKind` if it is not
 */
export function requireSame<Value>(
  call: string,
  header: MapHeader,
  options: SharedMapOptions<Value>,
  { codecName }: MapSettings<Value>,
): void {
  const { evict } = options;
  const differences = shapeDifferences(call, header, options);
  if (evict !== undefined && evictsOf(call, evict) !== header.evicts) {
    differences.push(`evict: "${header.evicts ? "clock" : "none"}", not "${evict}"`);
  }
  if (codecName !== "" && header.codec !== "" && codecName !== header.codec) {
    differences.push(`codec: "${header.codec}", not "${codecName}"`);
  }
  if (differences.length === 0) return;
  throw new SyncError(
    "WrongKind",
    `${call}: the map was created with other options: ${
      differences.join("; ")
    }. Use the same ones everywhere, or ` +
      "another key",
  );
}

function shapeDifferences<Value>(
  call: string,
  header: MapHeader,
  { bytes, stripes, entryBytes }: SharedMapOptions<Value>,
): string[] {
  if (bytes !== undefined) {
    const shape = shapeOf(call, { bytes, stripes, entryBytes });
    return (["stripes", "units", "buckets"] as const)
      .filter((name) => shape[name] !== header[name])
      .map((name) => `${header[name]} ${name}, not ${shape[name]}`);
  }
  checkShape(call, { stripes, entryBytes });
  const differences: string[] = [];
  if (stripes !== undefined && stripes > header.stripes) {
    differences.push(`${header.stripes} stripes, not ${stripes} or more`);
  }
  if (entryBytes !== undefined && bucketsFor(header.units, entryBytes) !== header.buckets) {
    differences.push(`another number of entryBytes, not ${entryBytes}`);
  }
  return differences;
}

import { sharedClock } from "../backends/clock.ts";
import { checkBoolean, checkFunction, checkOptions, refuseThenable } from "../core/arguments.ts";
import type { Bytes } from "../core/view_types.ts";
import { requireStack } from "../core/stack.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import type { SharedMemory } from "../shared_memory.ts";
import { SyncError } from "../sync/errors.ts";
import { Mutex } from "../sync/mutex.ts";
import type { LayoutMember } from "../sync/layout_member.ts";
import { kindText, PrimitiveKind, Slot } from "../sync/slot.ts";
import { type Codec, codecText } from "./codecs.ts";
import { notConstructed } from "./common_settings.ts";
import { MapComputer } from "./map_computer.ts";
import { MapCore } from "./map_core.ts";
import { makeHeader, type MapHeader, readHeader } from "./map_header.ts";
import { entriesOf } from "./map_iterator.ts";
import {
  checkTtl,
  evictsOf,
  type GetOrSetOptions,
  type MapSettings,
  requireSame,
  type SetOptions,
  settingsOf,
  type SharedMapOpenOptions,
  type SharedMapOptions,
} from "./map_options.ts";
import { MapReader } from "./map_reader.ts";
import { encodedBy } from "./encoded.ts";
import { openIn } from "./opening.ts";
import { computerByte, COMPUTERS, mapBytes, shapeOf, stripeByte } from "./map_shape.ts";
import { COUNT, EVICTED, EXPIRED, LIVE } from "./map_stripe.ts";
import { Condition, KEPT, MapWriter } from "./map_writer.ts";
import { renewStripes } from "./renewal.ts";
import { RECOVERED, UNIT_BYTES } from "./ring_log.ts";

/** What `set()` has done. */
export interface SetResult {
  /** Whether the value was stored: `false` if a condition of the options was not true. */
  readonly stored: boolean;
  /** How many other entries were evicted for it. */
  readonly evicted: number;
  /** The version of the value that the key has now; 0 if it has none. */
  readonly version: number;
}

/** What `stats()` returns. */
export interface SharedMapStats {
  /** The number of entries, with those that have expired and are still there. */
  readonly entries: number;
  /** The number of bytes that the entries take. */
  readonly bytes: number;
  /** The number of bytes that there are for entries. A part of it stays free, so that entries can be moved. */
  readonly capacity: number;
  /** How often this object has found a value. */
  readonly hits: number;
  /** How often this object has found none. */
  readonly misses: number;
  /** How many entries all processes have evicted. */
  readonly evicted: number;
  /** How many expired entries all processes have removed. */
  readonly expired: number;
  /** How often a process was killed in the middle of a change, and another one has counted anew. */
  readonly recovered: number;
}

const ALIGNMENT = 64;
/** An update fails after `lockTimeout` and this number of attempts, if others change the value again and again. */
const UPDATES = 100;

/**
 * A shared map is a cache or a table of entries that all processes share: a fixed number of bytes in a segment. Keys are
 * strings or bytes, and values are numbers or what a {@linkcode Codec} turns into bytes.
 *
 * Readers take no lock and are never blocked. A change locks one of several parts of the map, the stripes. A process that
 * is killed at any moment leaves each entry as it was before its change or after it, and holds nobody up.
 *
 * A number is stored as it is, whatever the codec is, and `incr()` changes it in place.
 *
 * @example
 * ```ts
 * import { json, SharedMap } from "./mod.ts";
 *
 * interface Session {
 *   user: string;
 * }
 * using sessions = SharedMap.open<Session>("sessions", {
 *   bytes: 2 ** 20,
 *   codec: json,
 *   ttl: 1_800_000, // half an hour
 * });
 * sessions.set("id", { user: "ann" });
 * console.log(sessions.get("id")?.user); // ann, in all processes
 * ```
 */
export class SharedMap<Value = Uint8Array> implements Disposable {
  /** A map must begin at a multiple of this number of bytes in the segment. */
  static readonly ALIGNMENT: number = ALIGNMENT;
  // For `declare` and `private`, see Slot.
  declare private readonly core: MapCore;
  declare private readonly codec: Codec<Value>;
  declare private readonly defaultTtl: number;
  declare private readonly lockTimeout: number;
  declare private readonly reader: MapReader;
  declare private readonly writer: MapWriter;
  declare private readonly computer: MapComputer<Value>;
  private memory: SharedMemory | null = null;
  /** Where `flushExpired()` goes on: the number of a stripe and of a bucket. */
  private flushed: readonly [stripe: number, bucket: number] = [0, 0];

  private constructor(core: MapCore, { codec, ttl, lockTimeout }: MapSettings<Value>) {
    if (!(core instanceof MapCore)) throw notConstructed("SharedMap");
    this.core = core;
    this.codec = codec;
    this.defaultTtl = ttl;
    this.lockTimeout = lockTimeout;
    this.reader = new MapReader(core);
    this.writer = new MapWriter(core, lockTimeout);
    this.computer = new MapComputer({
      core,
      reader: this.reader,
      lockTimeout,
      decoded: (raw) => this.decoded(raw),
      encoded: (value) => this.encoded("getOrSet", value),
    });
  }

  /**
   * Opens the map in the segment of a key, and creates it if it does not exist. The map is detached by `dispose`, and the
   * segment is removed with its last user, unless the options say otherwise.
   *
   * @param options those of the map and those of `SharedMemory.open()`
   * @throws {SharedMemoryException} as `SharedMemory.open()` does; `InvalidSize` if the map that exists is smaller
   * @throws {SyncError} as {@linkcode SharedMap.at} does
   * @throws {TypeError | RangeError} if an option is not what it should be
   */
  static open<Value = Uint8Array>(
    key: string | NativeIpcKey,
    options: SharedMapOpenOptions<Value>,
  ): SharedMap<Value> {
    checkOptions("SharedMap.open", options, "{ bytes: 1_048_576 }");
    const { bytes, stripes, entryBytes, evict, codec, ttl, lockTimeout, ...others } = options;
    const own = { bytes, stripes, entryBytes, evict, codec, ttl, lockTimeout };
    settingsOf("SharedMap.open", own);
    const [map, memory] = openIn("SharedMap.open", key, others, {
      bytes: mapBytes(shapeOf("SharedMap.open", { ...own, bytes: bytes! })),
      create: (view) => void SharedMap.create(view, 0, own),
      at: (view) => SharedMap.at(view, 0, own),
      renew: (view) => SharedMap.renew(view),
    });
    map.memory = memory;
    return map;
  }

  /**
   * Returns the number of bytes that a map takes: at most `options.bytes`.
   *
   * @throws {TypeError | RangeError} if an option is not a number in its range
   */
  static bytesFor<Value>(options: SharedMapOptions<Value>): number {
    checkOptions("SharedMap.bytesFor", options, "{ bytes: 1_048_576 }");
    return mapBytes(shapeOf("SharedMap.bytesFor", { ...options, bytes: options.bytes! }));
  }

  /**
   * Creates an empty map in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the map begins in the view, in bytes
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room, or
   * an option is not what it should be
   */
  static create<Value = Uint8Array>(
    view: ArrayBufferView,
    byteOffset: number,
    options: SharedMapOptions<Value>,
  ): SharedMap<Value> {
    const call = "SharedMap.create";
    const settings = settingsOf(call, options);
    const shape = shapeOf(call, { ...options, bytes: options.bytes! });
    const evicts = evictsOf(call, options.evict);
    const slot = new Slot(call, view, byteOffset, ALIGNMENT);
    const { codecName: codec } = settings;
    const { SharedMap: kind } = PrimitiveKind;
    const header = makeHeader(call, slot, { kind, shape, evicts, codec }, () => {
      for (let i = 0; i < COMPUTERS; i++) Mutex.create(view, byteOffset + computerByte(i));
      for (let i = 0; i < shape.stripes; i++) {
        Mutex.create(view, byteOffset + stripeByte(shape, i));
      }
    });
    return SharedMap.joined(slot, header, view, byteOffset, settings);
  }

  /**
   * Returns an object for a map that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the map begins in the view, in bytes
   * @param options those that say how the map is created are compared with it, as far as they are given
   * @throws {SyncError} `NotFound` if there is no map; `WrongKind` if the place holds something else, if the map was
   * created with other options or a codec of another name, or if it cannot be used in this container; `Damaged` if its
   * header was overwritten;
   * `NotAttached` if the segment is not attached; `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room, or
   * an option is not what it should be
   */
  static at<Value = Uint8Array>(
    view: ArrayBufferView,
    byteOffset = 0,
    options: SharedMapOptions<Value> = {},
  ): SharedMap<Value> {
    const call = "SharedMap.at";
    const settings = settingsOf(call, options);
    const slot = new Slot(call, view, byteOffset, ALIGNMENT);
    const header = readHeader(call, slot);
    requireSame(call, header, options, settings);
    return SharedMap.joined(slot, header, view, byteOffset, settings);
  }

  /**
   * Makes the locks of a map anew whose users have all ended: in `adopt` of `SharedMemory.open()`, before another process
   * attaches. The entries stay. {@linkcode SharedMap.open} and `layout()` do it where it is needed.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the map begins in the view, in bytes
   * @throws as {@linkcode SharedMap.at}, but not for the locks
   */
  static renew(view: ArrayBufferView, byteOffset = 0): void {
    renewStripes("SharedMap.renew", PrimitiveKind.SharedMap, view, byteOffset, ALIGNMENT);
    for (let i = 0; i < COMPUTERS; i++) Mutex.renew(view, byteOffset + computerByte(i));
  }

  /**
   * Returns a member of a `layout()`: a map that is created with these options.
   *
   * @param options as for {@linkcode SharedMap.create}. Those that say how the map is laid out, and the name of the codec,
   * are part of the layout: programs with others get a `WrongLayout`
   * @throws {TypeError | RangeError} if an option is not what it should be
   *
   * @example
   * ```ts
   * import { layout, SharedMap, utf8 } from "./mod.ts";
   * import { Counter } from "../sync/mod.ts";
   *
   * const Site = layout({ visits: Counter, names: SharedMap.of({ bytes: 65_536, codec: utf8 }) });
   * using site = Site.open("site with names");
   * site.names.set("1", "ann");
   * console.log(site.names.get("1")); // ann
   * ```
   */
  static of<Value = Uint8Array>(options: SharedMapOptions<Value>): LayoutMember<SharedMap<Value>> {
    const call = "SharedMap.of";
    const { codecName } = settingsOf(call, options);
    const { stripes, units, buckets } = shapeOf(call, { ...options, bytes: options.bytes! });
    const evicts = evictsOf(call, options.evict);
    return {
      KIND: kindText(
        "SharedMap",
        `(${stripes}, ${units}, ${buckets}, ${evicts ? "clock" : "none"}, ${codecText(codecName)})`,
      ),
      BYTES: SharedMap.bytesFor(options),
      ALIGNMENT,
      create: (view, byteOffset) => SharedMap.create(view, byteOffset, options),
      at: (view, byteOffset) => SharedMap.at(view, byteOffset, options),
      renew: (view, byteOffset) => SharedMap.renew(view, byteOffset),
    };
  }

  /** Returns an object for a map whose header was read. */
  private static joined<Value>(
    slot: Slot,
    header: MapHeader,
    view: ArrayBufferView,
    byteOffset: number,
    settings: MapSettings<Value>,
  ): SharedMap<Value> {
    const core = new MapCore(slot, header, (byte) => Mutex.at(view, byteOffset + byte));
    return new SharedMap(core, settings);
  }

  /**
   * Returns the value of a key, `undefined` if it has none.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached; `Damaged` if the bytes of the map or of the value
   * were overwritten; `Busy` if writers overwrote the value again and again for 100 ms while it was read; `InvalidSize`
   * if the key has more than 64 KiB
   * @throws {TypeError} if `key` is neither a string nor a `Uint8Array`
   * @throws whatever the codec throws
   */
  get(key: string | Uint8Array): Value | undefined {
    return this.decoded(this.reader.get("get", key));
  }

  /**
   * Copies the bytes of a value to the beginning of `into`, without creating an array. They are what the codec has made,
   * or the 8 bytes of a number.
   *
   * @returns the number of bytes, or -1 if the key has no value
   * @throws {RangeError} if `into` is too short
   * @throws {SyncError | TypeError} as {@linkcode SharedMap.get}
   */
  getInto(key: string | Uint8Array, into: Uint8Array): number {
    if (!(into instanceof Uint8Array)) {
      throw new TypeError(`SharedMap.getInto: into must be a Uint8Array, not ${typeof into}`);
    }
    return this.reader.getInto("getInto", key, into);
  }

  /**
   * Returns the value of a key even if it has expired, as long as its bytes are not needed for other entries: better than
   * nothing while a new value cannot be had.
   *
   * @throws as {@linkcode SharedMap.get}
   */
  getStale(key: string | Uint8Array): Value | undefined {
    return this.decoded(this.reader.get("getStale", key, true));
  }

  /**
   * Returns the value of a key and its version, for `set(key, value, { ifVersion })`.
   *
   * @throws as {@linkcode SharedMap.get}
   */
  getWithVersion(key: string | Uint8Array): { value: Value; version: number } | undefined {
    const raw = this.reader.get("getWithVersion", key);
    const { version } = this.reader;
    return raw === undefined ? undefined : { value: this.decoded(raw)!, version };
  }

  /** Returns whether a key has a value. @throws as {@linkcode SharedMap.get} */
  has(key: string | Uint8Array): boolean {
    return this.reader.probe("has", key);
  }

  /**
   * Returns how long the value of a key will live, in ms; `Infinity` if it does not expire, and `undefined` if there is
   * none.
   *
   * @throws as {@linkcode SharedMap.get}
   */
  ttl(key: string | Uint8Array): number | undefined {
    if (!this.reader.probe("ttl", key)) return undefined;
    const { expiry } = this.reader;
    return expiry === 0 ? Infinity : Math.max(0, expiry - sharedClock().now());
  }

  /**
   * Stores a value, if the conditions in the options are true.
   *
   * @throws {SyncError} `InvalidSize` if the entry takes more than a quarter of a stripe, `Full` if there is no room and
   * nothing may be evicted (see also {@linkcode SharedMap.flushExpired}), `Busy` if another process holds the stripe for all of `lockTimeout`; otherwise as
   * {@linkcode SharedMap.get}. The map is not changed then
   * @throws {TypeError | RangeError} if an option is not what it should be
   * @throws whatever the codec throws
   */
  set(key: string | Uint8Array, value: Value | number, options?: SetOptions): SetResult {
    const raw = this.encoded("set", value);
    const { writer } = this;
    let ttl = this.defaultTtl;
    let stored: boolean;
    if (options === undefined) {
      stored = writer.set("set", key, raw, expiryOf(ttl));
    } else {
      checkOptions("SharedMap.set", options, "{ ttl: 60_000 }");
      const { ifAbsent = false, ifPresent = false, ifVersion } = options;
      ttl = options.ttl ?? ttl;
      checkTtl("SharedMap.set", ttl);
      checkBoolean("SharedMap.set", "ifAbsent", ifAbsent);
      checkBoolean("SharedMap.set", "ifPresent", ifPresent);
      if (ifVersion !== undefined && typeof ifVersion !== "number") {
        throw new TypeError(`SharedMap.set: ifVersion must be a version, not ${typeof ifVersion}`);
      }
      const condition = conditionOf(ifAbsent, ifPresent, ifVersion);
      stored = writer.set("set", key, raw, expiryOf(ttl), condition, ifVersion);
    }
    return { stored, evicted: stored ? writer.evicted : 0, version: writer.version };
  }

  /**
   * Replaces the value of a key by what `fn` returns for it. `fn` is called without a lock, and again if another process
   * has changed the value meanwhile: so it may be slow, throw, or use the map.
   *
   * @param fn gets the value, or `undefined` if there is none. It must not return a promise. If it returns `undefined`,
   * the key is removed
   * @param options `ttl` is the time to live in ms; if it is left out, a value that exists keeps its time
   * @returns what `fn` has returned last
   * @throws {SyncError} `Busy` if others change the value again and again for `lockTimeout`; otherwise as
   * {@linkcode SharedMap.set}
   * @throws {TypeError} if `fn` returns a promise
   * @throws whatever `fn` or the codec throws
   */
  update<Next extends Value | number | undefined>(
    key: string | Uint8Array,
    fn: (old: Value | undefined) => Next,
    options: { readonly ttl?: number | undefined } = {},
  ): Next {
    const { reader, writer } = this;
    checkOptions("SharedMap.update", options, "{ ttl: 60_000 }");
    const { ttl } = options;
    if (ttl !== undefined) checkTtl("SharedMap.update", ttl);
    checkFunction("SharedMap.update", "fn", fn);
    let deadline = Infinity;
    for (let attempt = 1;; attempt++) {
      const raw = reader.get("update", key);
      const { version } = reader;
      const next = fn(this.decoded(raw));
      refuseThenable(next, PROMISE_TO_UPDATE);
      const condition = raw === undefined ? Condition.Absent : Condition.Version;
      if (next === undefined) {
        if (raw === undefined || writer.delete("update", key, condition, version)) return next;
      } else {
        const isKept = ttl === undefined && raw !== undefined;
        const encoded = this.encoded("update", next as Value | number);
        const expiry = isKept ? KEPT : expiryOf(ttl ?? this.defaultTtl);
        if (writer.set("update", key, encoded, expiry, condition, version)) return next;
      }
      if (attempt === 1) deadline = performance.now() + this.lockTimeout;
      if (attempt % UPDATES === 0 && performance.now() > deadline) throw this.outrun();
    }
  }

  /** Returns the error for an update that others were faster than. */
  private outrun(): SyncError {
    return new SyncError(
      "Busy",
      `SharedMap.update: others have changed the value again and again for ${this.lockTimeout} ms; let fn do less, or ` +
        "use incr() for numbers",
    );
  }

  /**
   * Adds `by` to the number of a key, in one step. The time to live of a number that exists does not change.
   *
   * @param options `initial` is the number that a key without a value begins with, 0 if left out; `ttl` its time to live
   * in ms
   * @returns the new number
   * @throws {SyncError} `WrongKind` if the value is not a number; otherwise as {@linkcode SharedMap.set}
   * @throws {TypeError | RangeError} if an argument is not a finite number
   */
  incr(
    key: string | Uint8Array,
    by = 1,
    options?: { readonly initial?: number | undefined; readonly ttl?: number | undefined },
  ): number {
    if (options !== undefined) checkOptions("SharedMap.incr", options, "{ ttl: 60_000 }");
    const { initial = 0, ttl = this.defaultTtl } = options ?? {};
    if (!Number.isFinite(by)) throw notFinite("by", by);
    if (!Number.isFinite(initial)) throw notFinite("initial", initial);
    if (options !== undefined) checkTtl("SharedMap.incr", ttl);
    this.writer.incr("incr", key, by, initial, ttl);
    return this.writer.number;
  }

  /**
   * Returns the value of a key. If it has none, `compute` is called, and what it returns is stored. Of all processes that
   * want the value, one calls its `compute`; the others wait for it without blocking their event loops. If that one dies
   * or its `compute` throws, the next one calls its own.
   *
   * If the key is set or removed meanwhile, the result is returned, but not stored. If it is `undefined`, nothing is
   * stored. If the map is full and nothing may be evicted, the promise rejects with `Full` and `compute` is not called,
   * as its result could not be stored.
   *
   * A wait for another process does not keep the program alive, unless the option `ref` is `true`.
   *
   * @throws (rejects) whatever `compute` or the codec throws, and the reason of `signal`
   * @throws {SyncError} (rejects) as {@linkcode SharedMap.set}
   * @throws {TypeError | RangeError} (rejects) if an argument or option is not what it should be
   *
   * @example
   * ```ts
   * import { json, SharedMap } from "./mod.ts";
   *
   * using pages = SharedMap.open<string[]>("pages", { bytes: 2 ** 20, codec: json });
   * const page = await pages.getOrSet("1", async () => {
   *   await Promise.resolve(); // ask the database
   *   return ["row"];
   * }, { ttl: 10_000 });
   * console.log(page); // [ "row" ]
   * ```
   */
  getOrSet<Result extends Value | number | undefined>(
    key: string | Uint8Array,
    compute: () => Result | PromiseLike<Result>,
    options: GetOrSetOptions = {},
  ): Promise<Value | Result> {
    requireStack(); // before there is a promise
    return this.computer.getOrSet(key, compute, options, this.defaultTtl) as Promise<
      Value | Result
    >;
  }

  /**
   * Removes a key.
   *
   * @returns whether it had a value
   * @throws as {@linkcode SharedMap.set}
   */
  delete(key: string | Uint8Array): boolean {
    return this.writer.delete("delete", key);
  }

  /**
   * Changes how long the value of a key will live.
   *
   * @param ttl in ms from now on; `Infinity` for ever
   * @returns whether the key has a value
   * @throws as {@linkcode SharedMap.set}
   */
  expire(key: string | Uint8Array, ttl: number): boolean {
    checkTtl("SharedMap.expire", ttl);
    return this.writer.expire("expire", key, expiryOf(ttl));
  }

  /**
   * Removes all entries, one stripe after the other.
   *
   * @throws {SyncError} as {@linkcode SharedMap.set}
   */
  clear(): void {
    this.core.require("clear");
    for (let i = 0; i < this.core.stripes.length; i++) {
      this.writer.inStripe("clear", i, (stripe) => {
        stripe.clear();
        return true;
      });
    }
  }

  /**
   * Removes entries that have expired. Nothing needs this call: such entries are not found, and make room when it is
   * needed. It locks a stripe only while it removes the entries of one bucket. The next call goes on where this one ends.
   *
   * A full map that evicts nothing looks at all entries of a stripe for those that have expired, and not again for 64 times
   * as long as that takes, and at most a second: it may be `Full` for this time although an entry has expired.
   *
   * @param max the number of entries after which the call returns; without limit if left out
   * @returns the number of entries that were removed
   * @throws {SyncError} as {@linkcode SharedMap.set}
   */
  flushExpired(max = Infinity): number {
    if (typeof max !== "number") {
      throw new TypeError(`SharedMap.flushExpired: max must be a number, not ${typeof max}`);
    }
    if (!(max >= 0)) {
      throw new RangeError(`SharedMap.flushExpired: max must be 0 or more, not ${max}`);
    }
    const { stripes, header: { buckets } } = this.core;
    let [index, bucket] = this.flushed;
    let count = 0;
    for (let left = stripes.length * buckets; left > 0 && count < max; left--) {
      this.core.require("flushExpired");
      const at = bucket;
      if (stripes[index]!.seemsExpired(at)) {
        const most = max - count;
        count += this.writer.inStripe(
          "flushExpired",
          index,
          (stripe) => stripe.dropExpired(at, most),
        );
      }
      bucket = (bucket + 1) % buckets;
      if (bucket === 0) index = (index + 1) % stripes.length;
    }
    this.flushed = [index, bucket];
    return count;
  }

  /**
   * Returns the keys. A key that exists during the whole iteration is returned once, and others may be.
   *
   * @throws as {@linkcode SharedMap.get}
   */
  *keys(): Generator<string | Uint8Array, void, undefined> {
    for (const [key] of entriesOf(this.core, "keys")) yield key;
  }

  /**
   * Returns the entries, as {@linkcode SharedMap.keys} returns the keys.
   *
   * @throws as {@linkcode SharedMap.get}. The iteration ends with an error of the codec. To go on with the other entries,
   * iterate over the keys, and `get()` each of them
   */
  *entries(): Generator<[key: string | Uint8Array, value: Value], void, undefined> {
    for (const [key, value] of entriesOf(this.core, "entries")) yield [key, this.decoded(value)!];
  }

  /** The same as {@linkcode SharedMap.entries}. */
  [Symbol.iterator](): Generator<[key: string | Uint8Array, value: Value], void, undefined> {
    return this.entries();
  }

  /**
   * The number of entries, with those that have expired and are still there.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   */
  get size(): number {
    this.core.require("size");
    return this.core.sum(COUNT);
  }

  /**
   * Returns numbers about the map. Hits and misses are those of this object; the others are those of all processes.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   */
  stats(): SharedMapStats {
    const { core, reader: { hits, misses } } = this;
    core.require("stats");
    return {
      entries: core.sum(COUNT),
      bytes: core.sum(LIVE) * UNIT_BYTES,
      capacity: core.capacity,
      hits,
      misses,
      evicted: core.total(EVICTED),
      expired: core.total(EXPIRED),
      recovered: core.sum(RECOVERED),
    };
  }

  /**
   * Ends the lifetime `"until-removed"` of a map that {@linkcode SharedMap.open} has opened: `SharedMemory.remove()`. From
   * now on the last process to detach removes the map.
   *
   * @throws {SharedMemoryException} as `SharedMemory.remove()` does
   * @throws {SyncError} `NotOwner` if the map was not opened by `open()`: its segment belongs to the program
   */
  remove(): void {
    if (this.memory !== null) return this.memory.remove();
    throw new SyncError(
      "NotOwner",
      "SharedMap.remove: the map was not opened by SharedMap.open(); call remove() of its SharedMemory",
    );
  }

  /** Detaches the map if `open()` has attached it. Otherwise it does nothing: the program detaches its segment. */
  [Symbol.dispose](): void {
    this.memory?.[Symbol.dispose]();
  }

  /** Returns the value of what a read has returned. */
  private decoded(raw: Bytes | number | undefined): Value | undefined {
    if (raw === undefined || typeof raw === "number") return raw as Value | undefined;
    return this.codec.decode(raw);
  }

  /** Returns what is stored for a value. */
  private encoded(method: string, value: Value | number): Uint8Array | number {
    if (typeof value === "number") return value;
    return encodedBy("SharedMap", method, this.codec, value);
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => {
      const isUsable = this.core.slot.isIntact;
      return { attached: isUsable, size: isUsable ? this.size : undefined };
    });
  }
}

const PROMISE_TO_UPDATE =
  "SharedMap.update: fn returned a promise, for which it does not wait; use getOrSet()";

function expiryOf(ttl: number): number {
  return ttl === Infinity ? 0 : sharedClock().now() + ttl;
}

function conditionOf(
  ifAbsent: boolean,
  ifPresent: boolean,
  ifVersion: number | undefined,
): Condition {
  const given = Number(ifAbsent) + Number(ifPresent) + Number(ifVersion !== undefined);
  if (given > 1) {
    throw new TypeError(
      "SharedMap.set: give one of ifAbsent, ifPresent and ifVersion, not several",
    );
  }
  if (ifAbsent) return Condition.Absent;
  if (ifPresent) return Condition.Present;
  return ifVersion === undefined ? Condition.Always : Condition.Version;
}

function notFinite(name: string, value: unknown): TypeError | RangeError {
  const text = `SharedMap.incr: ${name} must be a finite number, not `;
  if (typeof value === "number") return new RangeError(text + value);
  return new TypeError(text + typeof value);
}

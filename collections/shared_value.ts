import { thisPlatform } from "../backends/platform.ts";
import { checkFunction, checkOptions, refuseThenable } from "../core/arguments.ts";
import { requireStack } from "../core/stack.ts";
import { lengthOf } from "../core/view_extent.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import type { SharedMemory } from "../shared_memory.ts";
import { SyncError } from "../sync/errors.ts";
import { Event } from "../sync/event.ts";
import type { LayoutMember } from "../sync/layout_member.ts";
import { Mutex } from "../sync/mutex.ts";
import { kindText, Slot } from "../sync/slot.ts";
import { type Codec, codecText } from "./codecs.ts";
import { type CommonSettings, commonSettings, notConstructed } from "./common_settings.ts";
import { encodedBy } from "./encoded.ts";
import { openIn } from "./opening.ts";
import { RECOVERED } from "./ring_log.ts";
import { SectionLock } from "./section_lock.ts";
import { ValueChanges } from "./value_changes.ts";
import { ValueHalves } from "./value_halves.ts";
import {
  checkMaxBytes,
  EVENT_BYTE,
  makeHeader,
  MUTEX_BYTE,
  readHeader,
  requireSame,
  valueBytes,
} from "./value_header.ts";
import {
  type ChangesOptions,
  checkChanges,
  type SharedValueOpenOptions,
  type SharedValueOptions,
} from "./value_options.ts";
import { ValueWatcher } from "./value_watcher.ts";

/** What `stats()` returns. */
export interface SharedValueStats {
  /** The number of bytes that the value takes. */
  readonly bytes: number;
  /** The number of bytes that a value may take. */
  readonly maxBytes: number;
  /** How often a process was killed in the middle of a change. */
  readonly recovered: number;
}

/** A subscription lasts until `close()`, `dispose`, the end of its signal, or until its value is detached. */
export interface ValueSubscription extends Disposable {
  /** Ends the subscription. */
  close(): void;
}

/** A value that was decoded, and its version. */
interface Decoded<Value> {
  readonly version: number;
  readonly value: Value;
}

const ALIGNMENT = 64;
/** An update fails after `lockTimeout` and this number of attempts, if others set the value again and again. */
const UPDATES = 100;
const NAME = "SharedValue";
const NONE = { version: 0, value: undefined } as const;

/**
 * A shared value is one value of any size up to a maximum that all processes read: feature flags, a routing table, a
 * configuration.
 *
 * Readers take no lock and wait for nobody. Each object decodes a value once, and then returns the same object until the
 * value changes: **do not change that object**, or the program sees something else than the others. `set()` it instead.
 *
 * A process that is killed while it sets a value leaves the value before, and holds nobody up.
 *
 * @example
 * ```ts
 * import { json, SharedValue } from "./mod.ts";
 *
 * interface Flags {
 *   newCheckout: boolean;
 * }
 * using flags = SharedValue.open<Flags>("flags", {
 *   maxBytes: 2 ** 20,
 *   codec: json,
 *   initial: { newCheckout: false },
 * });
 * console.log(flags.value?.newCheckout); // false
 * flags.set({ newCheckout: true }); // all processes see it
 * ```
 */
export class SharedValue<Value = Uint8Array> implements Disposable {
  /** A value must begin at a multiple of this number of bytes in the segment. */
  static readonly ALIGNMENT: number = ALIGNMENT;
  // For `declare` and `private`, see Slot.
  declare private readonly slot: Slot;
  declare private readonly halves: ValueHalves;
  declare private readonly lock: SectionLock;
  declare private readonly event: Event;
  declare private readonly codec: Codec<Value>;
  declare private readonly lockTimeout: number;
  declare private readonly watcher: ValueWatcher;
  private memory: SharedMemory | null = null;
  /** What was read last. */
  private decoded: Decoded<Value | undefined> = NONE;

  private constructor(
    slot: Slot,
    maxBytes: number,
    mutex: Mutex,
    event: Event,
    settings: CommonSettings<Value>,
  ) {
    if (!(slot instanceof Slot)) throw notConstructed("SharedValue");
    const { codec, lockTimeout } = settings;
    this.slot = slot;
    this.halves = new ValueHalves(slot, maxBytes, thisPlatform().arch === "x64");
    this.event = event;
    this.codec = codec;
    this.lockTimeout = lockTimeout;
    this.lock = new SectionLock({
      words: this.halves.words,
      recover() {}, // what a killed process has begun is in the half at which no reader looks
      reset() {},
      name: NAME,
      part: "the value",
    }, mutex);
    this.watcher = new ValueWatcher({ slot, event, version: () => this.version });
  }

  /**
   * Opens the value in the segment of a key, and creates it if it does not exist. The value is detached by `dispose`, and
   * the segment is removed with its last user, unless the options say otherwise.
   *
   * @param options those of the value and those of `SharedMemory.open()`
   * @throws {SharedMemoryException} as `SharedMemory.open()` does; `InvalidSize` if the segment that exists is smaller
   * @throws {SyncError} as {@linkcode SharedValue.at} does; `InvalidSize` if `initial` is too large
   * @throws {TypeError | RangeError} if an option is not what it should be
   */
  static open<Value = Uint8Array>(
    key: string | NativeIpcKey,
    options: SharedValueOpenOptions<Value>,
  ): SharedValue<Value> {
    checkOptions("SharedValue.open", options, "{ maxBytes: 1000 }");
    const { maxBytes, codec, initial, lockTimeout, ...others } = options;
    const own = { maxBytes, codec, initial, lockTimeout };
    const call = "SharedValue.open";
    checkMaxBytes(call, maxBytes);
    commonSettings(call, own);
    const [value, memory] = openIn(call, key, others, {
      bytes: valueBytes(maxBytes),
      create: (view) => void SharedValue.create(view, 0, own),
      at: (view) => SharedValue.at(view, 0, own),
      renew: (view) => SharedValue.renew(view),
    });
    value.memory = memory;
    return value;
  }

  /**
   * Returns the number of bytes that a shared value takes: twice `maxBytes`, and 256 more.
   *
   * @throws {TypeError | RangeError} if `maxBytes` is not an integer from 1 to 1 GiB
   */
  static bytesFor<Value>(options: SharedValueOptions<Value>): number {
    checkOptions("SharedValue.bytesFor", options, "{ maxBytes: 1000 }");
    const { maxBytes } = options;
    checkMaxBytes("SharedValue.bytesFor", maxBytes);
    return valueBytes(maxBytes);
  }

  /**
   * Creates a shared value in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where it begins in the view, in bytes
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `InvalidSize` if `initial` is too large,
   * `NotAttached` if the segment is not attached, `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room, or
   * an option is not what it should be
   * @throws whatever the codec throws for `initial`; nothing is created then
   */
  static create<Value = Uint8Array>(
    view: ArrayBufferView,
    byteOffset: number,
    options: SharedValueOptions<Value>,
  ): SharedValue<Value> {
    const call = "SharedValue.create";
    const settings = commonSettings(call, options);
    const { maxBytes, initial } = options;
    checkMaxBytes(call, maxBytes);
    const slot = new Slot(call, view, byteOffset, ALIGNMENT);
    const first = initial === undefined
      ? null
      : encoded("create", settings.codec, initial, maxBytes);
    makeHeader(call, slot, { maxBytes, codec: settings.codecName }, () => {
      Mutex.create(view, byteOffset + MUTEX_BYTE);
      Event.create(view, byteOffset + EVENT_BYTE);
      if (first === null) return;
      new ValueHalves(slot, maxBytes, true).write(first, lengthOf(first), undefined);
    });
    return SharedValue.joined(slot, maxBytes, view, byteOffset, settings);
  }

  /**
   * Returns an object for a shared value that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where it begins in the view, in bytes
   * @param options `maxBytes` is compared with that of the value, if it is given
   * @throws {SyncError} `NotFound` if there is no shared value; `WrongKind` if the place holds something else, if it was
   * created with another `maxBytes` or a codec of another name, or if it cannot be used in this container; `Damaged` if its header was overwritten;
   * `NotAttached` if the segment is not attached; `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room, or
   * an option is not what it should be
   */
  static at<Value = Uint8Array>(
    view: ArrayBufferView,
    byteOffset = 0,
    options: SharedValueOptions<Value> = {},
  ): SharedValue<Value> {
    const call = "SharedValue.at";
    const settings = commonSettings(call, options);
    const slot = new Slot(call, view, byteOffset, ALIGNMENT);
    const maxBytes = readHeader(call, slot);
    requireSame(call, slot, maxBytes, options.maxBytes, settings.codecName);
    return SharedValue.joined(slot, maxBytes, view, byteOffset, settings);
  }

  /**
   * Makes the lock of a shared value anew whose users have all ended: in `adopt` of `SharedMemory.open()`, before another
   * process attaches. The value stays. {@linkcode SharedValue.open} and `layout()` do it where it is needed.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the value begins in the view, in bytes
   * @throws as {@linkcode SharedValue.at}, but not for the lock
   */
  static renew(view: ArrayBufferView, byteOffset = 0): void {
    const call = "SharedValue.renew";
    readHeader(call, new Slot(call, view, byteOffset, ALIGNMENT));
    Mutex.renew(view, byteOffset + MUTEX_BYTE);
  }

  /**
   * Returns a member of a `layout()`: a shared value that is created with these options.
   *
   * @param options as for {@linkcode SharedValue.create}. `maxBytes` is part of the layout: programs with another one get a
   * `WrongLayout`
   * @throws {TypeError | RangeError} if an option is not what it should be
   *
   * @example
   * ```ts
   * import { layout, SharedValue, utf8 } from "./mod.ts";
   * import { Counter } from "../sync/mod.ts";
   *
   * const Site = layout({ visits: Counter, motto: SharedValue.of({ maxBytes: 100, codec: utf8 }) });
   * using site = Site.open("site with a motto");
   * site.motto.set("hello");
   * console.log(site.motto.value); // hello
   * ```
   */
  static of<Value = Uint8Array>(
    options: SharedValueOptions<Value>,
  ): LayoutMember<SharedValue<Value>> {
    const call = "SharedValue.of";
    const { codecName } = commonSettings(call, options);
    checkMaxBytes(call, options.maxBytes);
    return {
      KIND: kindText(NAME, `(${options.maxBytes}, ${codecText(codecName)})`),
      BYTES: valueBytes(options.maxBytes),
      ALIGNMENT,
      create: (view, byteOffset) => SharedValue.create(view, byteOffset, options),
      at: (view, byteOffset) => SharedValue.at(view, byteOffset, options),
      renew: (view, byteOffset) => SharedValue.renew(view, byteOffset),
    };
  }

  /** Returns an object for a shared value whose header was read. */
  private static joined<Value>(
    slot: Slot,
    maxBytes: number,
    view: ArrayBufferView,
    byteOffset: number,
    settings: CommonSettings<Value>,
  ): SharedValue<Value> {
    const mutex = Mutex.at(view, byteOffset + MUTEX_BYTE);
    const event = Event.at(view, byteOffset + EVENT_BYTE);
    return new SharedValue(slot, maxBytes, mutex, event, settings);
  }

  /**
   * The value that was set last; `undefined` before the first one. Until the value changes, the same object is returned,
   * which must not be changed.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached; `Damaged` if the bytes of the value were
   * overwritten; `Busy` if writers set the value again and again for a second while it was read
   * @throws whatever the codec throws
   */
  get value(): Value | undefined {
    return this.current("value").value;
  }

  /**
   * The version of the value: 0 before the first one, and then a number that grows with each change.
   *
   * @throws {SyncError} as {@linkcode SharedValue.value} does
   */
  get version(): number {
    this.require("version");
    return this.halves.version("version");
  }

  /**
   * Sets the value. All processes read it from now on.
   *
   * @returns the version of the value
   * @throws {SyncError} `InvalidSize` if the value takes more than `maxBytes`; `Busy` if another process is in the middle
   * of a change for all of `lockTimeout`; `NotAttached` if the segment has been detached; `Damaged` if the bytes of the lock
   * were overwritten. Nothing is changed then
   * @throws whatever the codec throws
   */
  set(value: Value): number {
    this.require("set");
    return this.write("set", this.encoded("set", value), undefined);
  }

  /**
   * Replaces the value by what `fn` returns for it. `fn` is called without a lock, and again if another process has set the
   * value meanwhile: so it may be slow, or throw.
   *
   * @param fn gets the value, which it must not change, or `undefined` if there is none. It must not return a promise. If
   * it returns `undefined`, the value stays as it is
   * @returns what `fn` has returned last
   * @throws {SyncError} `Busy` if others set the value again and again for `lockTimeout`; otherwise as
   * {@linkcode SharedValue.set} and {@linkcode SharedValue.value}
   * @throws {TypeError} if `fn` is no function, or returns a promise
   * @throws whatever `fn` or the codec throws
   */
  update<Next extends Value | undefined>(fn: (old: Value | undefined) => Next): Next {
    checkFunction("SharedValue.update", "fn", fn);
    let deadline = Infinity;
    for (let attempt = 1;; attempt++) {
      const { value, version } = this.current("update");
      const next = fn(value);
      refuseThenable(next, PROMISE_TO_UPDATE);
      if (next === undefined) return next;
      const bytes = this.encoded("update", next as Value);
      if (this.write("update", bytes, version) !== -1) return next;
      if (attempt === 1) deadline = performance.now() + this.lockTimeout;
      if (attempt % UPDATES === 0 && performance.now() > deadline) throw this.outrun();
    }
  }

  /**
   * Returns an iterator of the values that are set from now on. A value that is replaced before the program comes to it is
   * left out, so each is the newest one. The iterator ends when the value is detached.
   *
   * Waiting does not keep the program alive, unless the option `ref` says so: pass it where nothing else does.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   * @throws {TypeError | RangeError} if an option is not what it should be
   * @throws the reason of a signal that has been aborted; `next()` rejects with it
   *
   * @example
   * ```ts
   * import { SharedValue, utf8 } from "./mod.ts";
   *
   * using motto = SharedValue.open("motto", { maxBytes: 100, codec: utf8 });
   * motto.set("hello");
   * for await (const text of motto.changes({ from: 0, ref: true })) {
   *   console.log(text); // hello
   *   break;
   * }
   * ```
   */
  changes(options: ChangesOptions = {}): AsyncIterableIterator<Value> {
    return this.changesFor("changes", options);
  }

  /**
   * Calls a function with each value that is set from now on, and with its version, as {@linkcode SharedValue.changes}
   * returns them.
   *
   * @param callback is never called before this function has returned. What it throws is thrown where nobody catches it; so
   * is an error of reading, which ends the subscription
   * @returns the subscription, which lasts until `close()`, the end of its signal, or until the value is detached
   * @throws as {@linkcode SharedValue.changes}
   *
   * @example
   * ```ts
   * import { json, SharedValue } from "./mod.ts";
   *
   * using flags = SharedValue.open<{ dark: boolean }>("flags to follow", { maxBytes: 1000, codec: json });
   * const subscription = flags.subscribe(({ dark }, version) => console.log(version, dark));
   * flags.set({ dark: true });
   * subscription.close();
   * ```
   */
  subscribe(
    callback: (value: Value, version: number) => void,
    options: ChangesOptions = {},
  ): ValueSubscription {
    checkFunction("SharedValue.subscribe", "callback", callback);
    const changes = this.changesFor("subscribe", options);
    void follow(changes, callback, options.signal);
    const close = () => void changes.return();
    return { close, [Symbol.dispose]: close };
  }

  /** Returns the changes for a method. */
  private changesFor(method: string, options: ChangesOptions): ValueChanges<Value> {
    requireStack(); // before there is a promise
    checkChanges(`SharedValue.${method}`, options);
    this.require(method);
    const { from = this.version, ref = false, signal } = options;
    return new ValueChanges<Value>(
      {
        wait: (since, isReferenced, signal) => this.watcher.wait(since, isReferenced, signal),
        isUsable: () => this.slot.isUsable,
        current: () => this.current(method) as Decoded<Value>,
      },
      from,
      ref,
      signal,
    );
  }

  /**
   * Returns numbers about the value.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   */
  stats(): SharedValueStats {
    this.require("stats");
    const { length, maxBytes, words } = this.halves;
    return { bytes: length, maxBytes, recovered: Atomics.load(words, RECOVERED) };
  }

  /**
   * Ends the lifetime `"until-removed"` of a value that {@linkcode SharedValue.open} has opened: `SharedMemory.remove()`.
   * From now on the last process to detach removes the value.
   *
   * @throws {SharedMemoryException} as `SharedMemory.remove()` does
   * @throws {SyncError} `NotOwner` if the value was not opened by `open()`: its segment belongs to the program
   */
  remove(): void {
    if (this.memory !== null) return this.memory.remove();
    throw new SyncError(
      "NotOwner",
      "SharedValue.remove: the value was not opened by SharedValue.open(); call remove() of its SharedMemory",
    );
  }

  /** Detaches the value if `open()` has attached it. Otherwise it does nothing: the program detaches its segment. */
  [Symbol.dispose](): void {
    this.memory?.[Symbol.dispose]();
  }

  /** Returns the present value and its version. It decodes a version only once. */
  private current(method: string): Decoded<Value | undefined> {
    this.require(method);
    if (this.halves.isLatest(this.decoded.version)) return this.decoded;
    const { version, bytes } = this.halves.read(method);
    this.decoded = NONE; // so that the last value can be collected while this one is decoded, which takes less time
    const value = bytes === null ? undefined : this.codec.decode(bytes);
    return this.decoded = { version, value };
  }

  /** Returns the bytes of a value. */
  private encoded(method: string, value: Value): Uint8Array {
    return encoded(method, this.codec, value, this.halves.maxBytes);
  }

  /** Sets the value, if the version is `ifVersion` or that is not given; returns the new version, or -1. */
  private write(method: string, bytes: Uint8Array, ifVersion: number | undefined): number {
    this.require(method); // the codec may have detached it
    const length = lengthOf(bytes);
    const version = this.lock.change(
      method,
      this.lockTimeout,
      () => this.halves.write(bytes, length, ifVersion),
    );
    if (version !== -1) this.event.notifyAll();
    return version;
  }

  /** Makes sure that the value can be used. @throws {SyncError} if it was detached, or if its header was overwritten */
  private require(method: string): void {
    if (!this.slot.isIntact) this.refuse(method);
  }

  /** Throws the error for a value that cannot be used. */
  private refuse(method: string): void {
    this.slot.requireUsable(method);
    throw new SyncError(
      "Damaged",
      `SharedValue.${method}: the value has been overwritten; create it again when no process uses it`,
    );
  }

  /** Returns the error for an update that others were faster than. */
  private outrun(): SyncError {
    return new SyncError(
      "Busy",
      `SharedValue.update: others have set the value again and again for ${this.lockTimeout} ms; let fn do less`,
    );
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => {
      const isUsable = this.slot.isIntact;
      return { attached: isUsable, version: isUsable ? this.halves.shownVersion : undefined };
    });
  }
}

const PROMISE_TO_UPDATE = "SharedValue.update: fn returned a promise, for which it does not wait";

async function follow<Value>(
  changes: ValueChanges<Value>,
  callback: (value: Value, version: number) => void,
  signal: ChangesOptions["signal"],
): Promise<void> {
  try {
    for await (const value of changes) {
      if (changes.isOver) break; // it was closed or detached after the value was read
      try {
        callback(value, changes.version);
      } catch (error) {
        throwLater(error);
      }
    }
  } catch (error) {
    if (!(signal?.aborted && signal.reason === error)) throwLater(error);
  }
}

/** Throws an error where nobody catches it, so that the program learns of it. */
function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Returns the bytes of a value, which a value may have. */
function encoded<Value>(
  method: string,
  codec: Codec<Value>,
  value: Value,
  maxBytes: number,
): Uint8Array {
  const bytes = encodedBy("SharedValue", method, codec, value);
  const length = lengthOf(bytes);
  if (length <= maxBytes) return bytes;
  throw new SyncError(
    "InvalidSize",
    `SharedValue.${method}: the value takes ${length} bytes, and at most ${maxBytes} are possible; create it with a larger maxBytes`,
  );
}

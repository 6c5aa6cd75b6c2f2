import { checkOptions } from "../core/arguments.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import type { SharedMemory } from "../shared_memory.ts";
import { Mutex } from "../sync/mutex.ts";
import { SyncError } from "../sync/errors.ts";
import type { LayoutMember } from "../sync/layout_member.ts";
import { kindText, PrimitiveKind, Slot } from "../sync/slot.ts";
import { notConstructed } from "./common_settings.ts";
import {
  checkCost,
  type LimiterSettings,
  type RateLimiterOpenOptions,
  type RateLimiterOptions,
  type RateLimiterSize,
  requireSize,
  settingsOf,
  shapeOf,
} from "./limiter_options.ts";
import { LimiterRule, type TakeResult } from "./limiter_rule.ts";
import { ALLOWED, LimiterWriter, NO_ROOM_TOTAL, REFUSED } from "./limiter_writer.ts";
import { MapCore } from "./map_core.ts";
import { makeHeader, type MapHeader, readHeader } from "./map_header.ts";
import { MapReader } from "./map_reader.ts";
import { mapBytes, stripeByte } from "./map_shape.ts";
import { COUNT, EXPIRED, LIVE } from "./map_stripe.ts";
import { MapWriter } from "./map_writer.ts";
import { openIn } from "./opening.ts";
import { renewStripes } from "./renewal.ts";
import { RECOVERED, UNIT_BYTES } from "./ring_log.ts";

/** What `stats()` of a limiter returns. The numbers are those of all processes. */
export interface RateLimiterStats {
  /** The number of entries, with those of names whose allowance is whole again, until their place is needed. */
  readonly names: number;
  /** The number of bytes that the entries take. */
  readonly bytes: number;
  /** The number of bytes that there are for entries. A part of it stays free, so that entries can be moved. */
  readonly capacity: number;
  /** How often `take()` has found no room for a new name. If it grows, the limiter needs more `keys`. */
  readonly noRoom: number;
  /** How many entries have made room for others, since the allowance of their name was whole again. */
  readonly expired: number;
  /** How often a process was killed in the middle of a change, and another one has counted anew. */
  readonly recovered: number;
}

const ALIGNMENT = 64;

/**
 * A rate limiter limits what each name may use, for all processes together: requests of a client, bytes of a tenant. Names
 * are strings or bytes, their number is not limited, and the memory is fixed.
 *
 * A name may use `burst` at once, and `limit` in each `window` from then on. What it has used comes back evenly, 1 in each
 * `window / limit` ms. So in any period of t ms a name is allowed at most `burst + t * limit / window`. Two names never
 * share an allowance. The times are those of the monotonic clock, which nobody sets.
 *
 * One call is one step: however many processes take at the same time, none is allowed too much, and what a process was
 * allowed that is killed is counted. An entry is needed only until the allowance of its name is whole again, and only then
 * makes room for other names. So a flood of names does not reset the limit of any name. If there is no room for a new
 * name, the option `whenFull` decides, and `stats().noRoom` counts it.
 *
 * The limits belong to this object, and not to the segment, which has only times. So each process may have limits of its
 * own, as while a new version of a service replaces the old one.
 *
 * @example
 * ```ts
 * import { RateLimiter } from "./mod.ts";
 *
 * using limiter = RateLimiter.open("api", { limit: 100, window: 60_000, keys: 100_000 });
 * const { allowed, remaining, retryAfter } = limiter.take("192.0.2.1");
 * if (allowed) console.log(`go on, ${remaining} more are allowed now`);
 * else console.log(`too many requests, try again in ${retryAfter} ms`);
 * ```
 */
export class RateLimiter implements Disposable {
  /** A limiter must begin at a multiple of this number of bytes in the segment. */
  static readonly ALIGNMENT: number = ALIGNMENT;
  // For `declare` and `private`, see Slot.
  declare private readonly core: MapCore;
  declare private readonly rule: LimiterRule;
  declare private readonly refusesWhenFull: boolean;
  declare private readonly reader: MapReader;
  declare private readonly limiter: LimiterWriter;
  declare private readonly writer: MapWriter;
  private memory: SharedMemory | null = null;

  private constructor(core: MapCore, { limits, refusesWhenFull, lockTimeout }: LimiterSettings) {
    if (!(core instanceof MapCore)) throw notConstructed("RateLimiter");
    this.core = core;
    this.rule = new LimiterRule(limits);
    this.refusesWhenFull = refusesWhenFull;
    this.reader = new MapReader(core);
    this.limiter = new LimiterWriter(core, this.rule, lockTimeout);
    this.writer = new MapWriter(core, lockTimeout);
  }

  /**
   * Opens the limiter in the segment of a key, and creates it if it does not exist. The limiter is detached by `dispose`,
   * and the segment is removed with its last user, unless the options say otherwise.
   *
   * @param options those of the limiter and those of `SharedMemory.open()`
   * @throws {SharedMemoryException} as `SharedMemory.open()` does; `InvalidSize` if the limiter that exists is smaller
   * @throws {SyncError} as {@linkcode RateLimiter.at} does
   * @throws {TypeError | RangeError} if an option is not what it should be
   */
  static open(key: string | NativeIpcKey, options: RateLimiterOpenOptions): RateLimiter {
    checkOptions("RateLimiter.open", options, "{ limit: 100, window: 60_000, keys: 1000 }");
    const { limit, window, burst, keys, keyBytes, whenFull, lockTimeout, ...others } = options;
    const own = { limit, window, burst, keys, keyBytes, whenFull, lockTimeout };
    settingsOf("RateLimiter.open", own);
    const [limiter, memory] = openIn("RateLimiter.open", key, others, {
      bytes: mapBytes(shapeOf("RateLimiter.open", own)),
      create: (view) => void RateLimiter.create(view, 0, own),
      at: (view) => RateLimiter.at(view, 0, own),
      renew: (view) => RateLimiter.renew(view),
    });
    limiter.memory = memory;
    return limiter;
  }

  /**
   * Returns the number of bytes that a limiter takes.
   *
   * @throws {TypeError | RangeError} if an option is not a number in its range
   */
  static bytesFor(options: RateLimiterSize): number {
    return mapBytes(shapeOf("RateLimiter.bytesFor", options));
  }

  /**
   * Creates a limiter in a segment, in which no name has used anything.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the limiter begins in the view, in bytes
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room, or
   * an option is not what it should be
   */
  static create(
    view: ArrayBufferView,
    byteOffset: number,
    options: RateLimiterOptions & RateLimiterSize,
  ): RateLimiter {
    const call = "RateLimiter.create";
    const settings = settingsOf(call, options);
    const shape = shapeOf(call, options);
    const slot = new Slot(call, view, byteOffset, ALIGNMENT);
    const fill = () => {
      for (let i = 0; i < shape.stripes; i++) {
        Mutex.create(view, byteOffset + stripeByte(shape, i));
      }
    };
    const { RateLimiter: kind } = PrimitiveKind;
    const header = makeHeader(call, slot, { kind, shape, evicts: false, codec: "" }, fill);
    return RateLimiter.joined(slot, header, view, byteOffset, settings);
  }

  /**
   * Returns an object for a limiter that exists in a segment.
   *
   * The limits may differ from those of other objects. What a name has used is stored as the time until its allowance is
   * whole, so it counts for this object as what comes back in this time. If a name has used more than the new `burst`
   * can be, it is allowed nothing until the excess has come back; `reset()` forgets it.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the limiter begins in the view, in bytes
   * @param options `keys` and `keyBytes` are compared with those of the limiter if `keys` is given
   * @throws {SyncError} `NotFound` if there is no limiter; `WrongKind` if the place holds something else, if the limiter
   * was created with another size, or if it cannot be used in this container; `Damaged` if its header was overwritten;
   * `NotAttached` if the segment is not attached; `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room, or
   * an option is not what it should be
   */
  static at(view: ArrayBufferView, byteOffset: number, options: RateLimiterOptions): RateLimiter {
    const call = "RateLimiter.at";
    const settings = settingsOf(call, options);
    const slot = new Slot(call, view, byteOffset, ALIGNMENT);
    const header = readHeader(call, slot, PrimitiveKind.RateLimiter);
    requireSize(call, header, options);
    return RateLimiter.joined(slot, header, view, byteOffset, settings);
  }

  /**
   * Makes the locks of a limiter anew whose users have all ended: in `adopt` of `SharedMemory.open()`, before another
   * process attaches. What names have used stays. {@linkcode RateLimiter.open} and `layout()` do it where it is needed.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the limiter begins in the view, in bytes
   * @throws as {@linkcode RateLimiter.at}, but not for the locks
   */
  static renew(view: ArrayBufferView, byteOffset = 0): void {
    renewStripes("RateLimiter.renew", PrimitiveKind.RateLimiter, view, byteOffset, ALIGNMENT);
  }

  /**
   * Returns a member of a `layout()`: a limiter that is created with these options. Only its size is part of the layout, so
   * that a program with other limits can use it.
   *
   * @param options as for {@linkcode RateLimiter.create}
   * @throws {TypeError | RangeError} if an option is not what it should be
   */
  static of(options: RateLimiterOptions & RateLimiterSize): LayoutMember<RateLimiter> {
    const call = "RateLimiter.of";
    settingsOf(call, options);
    const shape = shapeOf(call, options);
    const { stripes, units, buckets } = shape;
    return {
      KIND: kindText("RateLimiter", `(${stripes}, ${units}, ${buckets})`),
      BYTES: mapBytes(shape),
      ALIGNMENT,
      create: (view, byteOffset) => RateLimiter.create(view, byteOffset, options),
      at: (view, byteOffset) => RateLimiter.at(view, byteOffset, options),
      renew: (view, byteOffset) => RateLimiter.renew(view, byteOffset),
    };
  }

  /** Returns an object for a limiter whose header was read. */
  private static joined(
    slot: Slot,
    header: MapHeader,
    view: ArrayBufferView,
    byteOffset: number,
    settings: LimiterSettings,
  ): RateLimiter {
    const core = new MapCore(slot, header, (byte) => Mutex.at(view, byteOffset + byte));
    return new RateLimiter(core, settings);
  }

  /**
   * Takes `cost` from the allowance of a name, all of it or nothing.
   *
   * @param name any string or bytes. Each entry takes as many bytes as its name and 32 more: do not let clients choose
   * long names, use their hash
   * @param cost an integer of 0 or more. 0 takes nothing. A cost above `burst` is never allowed, and its `retryAfter` is
   * `Infinity`: an error would end a server's request, and the cost may come from a client
   * @returns whether it was allowed, what is left, and when to try again. Times are in ms, as those of all options and of
   * timers; for the header `Retry-After` use `Math.ceil(retryAfter / 1000)`. If there is no room for a new name and
   * `whenFull` is `"refuse"`, it is the time in which a cost of 1 comes back, since some entry may make room by then
   * @throws {SyncError} `Busy` if another process holds the stripe for all of `lockTimeout`; `InvalidSize` if the name has
   * more than 64 KiB or its entry takes more than a quarter of a stripe; `NotAttached` if the segment has been detached;
   * `Damaged` if the bytes of the limiter were overwritten. Nothing was taken then
   * @throws {TypeError | RangeError} if an argument is not what it should be
   */
  take(name: string | Uint8Array, cost = 1): TakeResult {
    checkCost("take", cost);
    const { limiter, rule } = this;
    const outcome = limiter.take("take", name, cost);
    if (outcome === ALLOWED) return rule.allowed(limiter.ahead);
    if (outcome === REFUSED) return rule.refused(limiter.ahead, cost);
    if (!this.refusesWhenFull) return rule.allowed(cost * rule.interval);
    return { allowed: false, remaining: 0, retryAfter: Math.ceil(rule.interval) };
  }

  /**
   * Returns what `take(name)` would return, except that nothing is taken: `remaining` is what is left before. It takes no
   * lock, and does not know whether there is room for a new name.
   *
   * @throws {SyncError} `InvalidSize` if the name has more than 64 KiB; `NotAttached` if the segment has been detached;
   * `Damaged` if the bytes of the limiter were overwritten; `Busy` if writers were faster again and again for 100 ms
   * @throws {TypeError} if `name` is neither a string nor a `Uint8Array`
   */
  peek(name: string | Uint8Array): TakeResult {
    const { limiter, reader, rule } = this;
    const ahead = reader.probe("peek", name) ? limiter.aheadOf(reader.expiry) : 0;
    return rule.allows(ahead, 1) ? rule.allowed(ahead) : rule.refused(ahead, 1);
  }

  /**
   * Gives a name its whole allowance back.
   *
   * @returns whether it had used some of it
   * @throws {SyncError | TypeError} as {@linkcode RateLimiter.take}
   */
  reset(name: string | Uint8Array): boolean {
    return this.writer.delete("reset", name);
  }

  /**
   * Returns numbers about the limiter.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached
   */
  stats(): RateLimiterStats {
    const { core } = this;
    core.require("stats");
    return {
      names: core.sum(COUNT),
      bytes: core.sum(LIVE) * UNIT_BYTES,
      capacity: core.capacity,
      noRoom: core.total(NO_ROOM_TOTAL),
      expired: core.total(EXPIRED),
      recovered: core.sum(RECOVERED),
    };
  }

  /**
   * Ends the lifetime `"until-removed"` of a limiter that {@linkcode RateLimiter.open} has opened, as
   * {@linkcode SharedMap.remove} does.
   *
   * @throws {SharedMemoryException} as `SharedMemory.remove()` does
   * @throws {SyncError} `NotOwner` if the limiter was not opened by `open()`: its segment belongs to the program
   */
  remove(): void {
    if (this.memory !== null) return this.memory.remove();
    throw new SyncError(
      "NotOwner",
      "RateLimiter.remove: the limiter was not opened by RateLimiter.open(); call remove() of its SharedMemory",
    );
  }

  /** Detaches the limiter if `open()` has attached it. Otherwise it does nothing: the program detaches its segment. */
  [Symbol.dispose](): void {
    this.memory?.[Symbol.dispose]();
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => {
      const isUsable = this.core.slot.isIntact;
      return { attached: isUsable, names: isUsable ? this.core.sum(COUNT) : undefined };
    });
  }
}

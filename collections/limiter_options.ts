import type { OpenOptions } from "../core/open_options.ts";
import { checkOptions } from "../core/arguments.ts";
import { checkTimeout } from "../core/waiter.ts";
import { SyncError } from "../sync/errors.ts";
import { AHEAD_MAX, INTERVAL_MIN, type Limits } from "./limiter_rule.ts";
import { limiterShape } from "./limiter_shape.ts";
import type { MapHeader } from "./map_header.ts";
import { KEY_BYTES_MAX } from "./map_key.ts";
import type { MapShape } from "./map_shape.ts";

/** The options that decide how large a limiter is. */
export interface RateLimiterSize {
  /** The number of names that can have used some of their allowance at the same time. */
  readonly keys: number;
  /** The usual length of a name in UTF-8, in bytes. 40 if left out: a UUID or an IPv6 address fits. */
  readonly keyBytes?: number | undefined;
}

/** These options say what a limiter allows. */
export interface RateLimiterOptions extends Partial<RateLimiterSize> {
  /** The cost that a name is allowed in each window, in the long run. */
  readonly limit: number;
  /** The length of a window in ms. */
  readonly window: number;
  /** The cost that a name is allowed at once if it has used nothing. `limit` if left out. */
  readonly burst?: number | undefined;
  /**
   * What `take()` says to a new name if there is no room for it. With `"refuse"`, which is used if it is left out, the cost
   * is refused. With `"allow"` it is allowed, and not counted.
   */
  readonly whenFull?: "refuse" | "allow" | undefined;
  /** The longest time in ms for which a call waits for another process that changes the same stripe. 1000 if left out. */
  readonly lockTimeout?: number | undefined;
}

/** The options of `RateLimiter.open()`: those of the limiter, and those of `SharedMemory.open()`. */
export interface RateLimiterOpenOptions
  extends RateLimiterOptions, Omit<OpenOptions, "size" | "mode" | "initialize" | "adopt"> {
  /** The number of names that can have used some of their allowance at the same time. */
  readonly keys: number;
}

/** The options of a limiter as they were read, once, and checked. */
export interface LimiterSettings {
  readonly limits: Limits;
  readonly refusesWhenFull: boolean;
  readonly lockTimeout: number;
}

const KEY_BYTES = 40;
const KEYS_MAX = 2 ** 32;
const LOCK_TIMEOUT_MS = 1000;

/** @throws {TypeError | RangeError} if an option is not what it should be */
export function settingsOf(call: string, options: RateLimiterOptions): LimiterSettings {
  checkOptions(call, options);
  const { limit, window, burst = limit, whenFull = "refuse", lockTimeout = LOCK_TIMEOUT_MS } =
    options;
  checkCount(call, "limit", limit, Number.MAX_SAFE_INTEGER);
  checkCount(call, "burst", burst, Number.MAX_SAFE_INTEGER);
  checkWindow(call, limit, window, burst);
  if (whenFull !== "refuse" && whenFull !== "allow") {
    throw new TypeError(`${call}: whenFull must be "refuse" or "allow", not ${String(whenFull)}`);
  }
  checkTimeout(call, lockTimeout);
  return { limits: { limit, window, burst }, refusesWhenFull: whenFull === "refuse", lockTimeout };
}

/** @throws {TypeError | RangeError} if the sizes are not numbers in their ranges */
export function shapeOf(call: string, options: RateLimiterSize): MapShape {
  checkOptions(call, options);
  const { keys, keyBytes = KEY_BYTES } = options;
  checkCount(call, "keys", keys, KEYS_MAX);
  checkCount(call, "keyBytes", keyBytes, KEY_BYTES_MAX);
  return limiterShape(call, keys, keyBytes);
}

/**
 * @internal Checks that a limiter that exists has the size that the options describe, as far as they do.
 *
 * @throws {SyncError} `WrongKind` if it has not
 */
export function requireSize(
  call: string,
  header: MapHeader,
  { keys, keyBytes }: Partial<RateLimiterSize>,
): void {
  if (keys === undefined) return;
  const { stripes, units } = shapeOf(call, { keys, keyBytes });
  if (stripes === header.stripes && units === header.units) return;
  throw new SyncError(
    "WrongKind",
    `${call}: the limiter was created with other keys or keyBytes: it has ${header.stripes} stripes of ` +
      `${header.units} units, not ${stripes} of ${units}. Use the same ones everywhere, or another key`,
  );
}

/** @throws {TypeError | RangeError} if a cost is neither 0 nor a positive integer */
export function checkCost(method: string, cost: unknown): asserts cost is number {
  if (typeof cost !== "number") {
    throw new TypeError(`RateLimiter.${method}: the cost must be a number, not ${typeof cost}`);
  }
  if (Number.isSafeInteger(cost) && cost >= 0) return;
  throw new RangeError(
    `RateLimiter.${method}: the cost must be an integer of 0 or more, not ${cost}`,
  );
}

function checkCount(call: string, name: string, value: unknown, most: number) {
  if (typeof value !== "number") {
    throw new TypeError(`${call}: ${name} must be a number, not ${typeof value}`);
  }
  if (Number.isInteger(value) && value >= 1 && value <= most) return;
  throw new RangeError(`${call}: ${name} must be an integer from 1 to ${most}, not ${value}`);
}

function checkWindow(call: string, limit: number, window: unknown, burst: number): void {
  if (typeof window !== "number") {
    throw new TypeError(`${call}: window must be a number of ms, not ${typeof window}`);
  }
  if (!(window > 0 && window < Infinity)) {
    throw new RangeError(`${call}: window must be more than 0 ms and finite, not ${window}`);
  }
  const interval = window / limit;
  if (interval < INTERVAL_MIN) {
    throw new RangeError(
      `${call}: limit must be at most ${
        1 / INTERVAL_MIN
      } for each ms of the window, not ${limit} in ${window} ms`,
    );
  }
  if (interval * burst <= AHEAD_MAX) return;
  throw new RangeError(
    `${call}: with this limit and window, a burst of ${burst} would come back in ${
      interval * burst
    } ms, and that ` +
      `must not take more than ${AHEAD_MAX} ms; use a smaller burst`,
  );
}

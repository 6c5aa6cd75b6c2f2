/**
 * Times are whole multiples of 2^-16 ms, about 15 ns. Sums and differences of such numbers are exact, up to
 * {@linkcode AHEAD_MAX} and for a system that has run for two years.
 */
const TICKS = 65536;
/** The longest time in which an allowance may become whole again, in ms: about two years. */
export const AHEAD_MAX = 2 ** 36;
/** The shortest time in which a cost of 1 may come back, in ms. */
export const INTERVAL_MIN = 1 / 1024;

/** What a limiter allows, as it was checked. */
export interface Limits {
  readonly limit: number;
  readonly window: number;
  readonly burst: number;
}

/** What `take()` and `peek()` return. */
export interface TakeResult {
  /** Whether the cost is within what is allowed now. If not, nothing was taken. */
  readonly allowed: boolean;
  /** What is left for the name, a whole number from 0 to `burst`. */
  readonly remaining: number;
  /**
   * The time in ms after which the same cost is allowed if nobody takes anything meanwhile, a whole number. It is 0 if the
   * cost is allowed, and `Infinity` if it is more than `burst`, so that it will never be allowed.
   */
  readonly retryAfter: number;
}

/** Returns the last tick up to a time. */
export function tickOf(time: number): number {
  return Math.floor(time * TICKS) / TICKS;
}

/**
 * Returns how far ahead of `now` the time is at which an allowance will be whole, in ms. A time that no limiter can have
 * stored is that of overwritten bytes, and means that the allowance is whole.
 */
export function aheadOf(whole: number, now: number): number {
  const ahead = whole - now;
  return ahead > 0 && ahead <= 2 * AHEAD_MAX ? ahead : 0;
}

/**
 * The rule of a rate limiter, the generic cell rate algorithm: what a name has used is the time until its allowance is
 * whole again. A cost of 1 adds one interval to this time, and is refused if the time would be more than `burst` intervals.
 */
export class LimiterRule {
  // For `declare`, see Slot.
  declare readonly burst: number;
  /** The time in ms in which a cost of 1 comes back. It is rounded up, so that never more than the limit is allowed. */
  declare readonly interval: number;
  /** The most that a name can have used, in ms. */
  declare readonly most: number;

  constructor({ limit, window, burst }: Limits) {
    this.burst = burst;
    this.interval = Math.ceil(window / limit * TICKS) / TICKS;
    this.most = burst * this.interval;
  }

  /** Whether a cost is allowed for a name that has used `ahead` ms. */
  allows(ahead: number, cost: number): boolean {
    return ahead + cost * this.interval <= this.most;
  }

  /** Returns what is left for a name that has used `ahead` ms. */
  remaining(ahead: number): number {
    return Math.max(0, Math.floor((this.most - ahead) / this.interval));
  }

  /** Returns the result for a cost that is allowed. */
  allowed(aheadAfter: number): TakeResult {
    return { allowed: true, remaining: this.remaining(aheadAfter), retryAfter: 0 };
  }

  /** Returns the result for a cost that is refused to a name that has used `ahead` ms. */
  refused(ahead: number, cost: number): TakeResult {
    const wait = Math.ceil(ahead + cost * this.interval - this.most);
    const retryAfter = cost > this.burst ? Infinity : wait;
    return { allowed: false, remaining: this.remaining(ahead), retryAfter };
  }
}

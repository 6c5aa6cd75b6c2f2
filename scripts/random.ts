/** Random choices that a seed repeats. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** Mulberry32: from 0 to below 1. */
  number(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    const state = this.#state;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.number() * limit);
  }

  chance(probability: number): boolean {
    return this.number() < probability;
  }

  oneOf<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  /** One of the values, each as likely as its weight says. */
  weighted<T>(values: readonly (readonly [weight: number, value: T])[]): T {
    const sum = values.reduce((total, [weight]) => total + weight, 0);
    let left = this.number() * sum;
    for (const [weight, value] of values) {
      left -= weight;
      if (left < 0) return value;
    }
    return values.at(-1)![1];
  }
}

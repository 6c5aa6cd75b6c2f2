/** What the tests of rate limiters share. */
import { RateLimiter, type RateLimiterOptions } from "../../collections/mod.ts";
import type { RateLimiterSize } from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { uniqueKey } from "./support.ts";

export type Options = RateLimiterOptions & RateLimiterSize;

/** A limiter at the beginning of a segment of its own, in which the test has some words after it. */
export interface LimiterPlace extends Disposable {
  readonly limiter: RateLimiter;
  readonly memory: SharedMemory;
  readonly words: Int32Array;
  /** JavaScript of an agent: `limiter` and `words` are these, and live as long as the agent. */
  readonly joining: string;
  /** Another object for the same limiter, through the same attachment. */
  join(options: RateLimiterOptions): RateLimiter;
}

export function openLimiter(options: Options, words = 8): LimiterPlace {
  const key = uniqueKey("limiter");
  const bytes = RateLimiter.bytesFor(options);
  const memory = SharedMemory.open(key, {
    size: bytes + 4 * words,
    initialize: (view) => void RateLimiter.create(view, 0, options),
  });
  const join = (options: RateLimiterOptions) => RateLimiter.at(memory.bytes, 0, options);
  return {
    limiter: join(options),
    memory,
    words: memory.view(Int32Array, bytes, words),
    joining: `
      const memory = objects.memory = library.SharedMemory.open(${JSON.stringify(key)});
      const words = objects.words = memory.view(Int32Array, ${bytes}, ${words});
      const join = (options) => collections.RateLimiter.at(memory.bytes, 0, options);
      const limiter = objects.limiter = join(${JSON.stringify(options)});`,
    join,
    [Symbol.dispose]: () => memory[Symbol.dispose](),
  };
}

/** What the tests of collections share. */
import { sharedClock } from "../../backends/clock.ts";
import { enterContext } from "../../context.ts";
import { registry } from "../../registry.ts";
import { SharedMap, type SharedMapOpenOptions } from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { uniqueKey } from "./support.ts";

/** A clock that only the test moves. */
export class ManualClock {
  readonly scope = 1;
  time = 1e6;

  now(): number {
    return this.time;
  }
}

/** Calls `body` with a clock for the maps that it opens. */
export function withClock<Result>(clock: ManualClock, body: () => Result): Result {
  const before = enterContext({ registry, values: new Map([[sharedClock, clock]]) });
  try {
    return body();
  } finally {
    enterContext(before);
  }
}

/** A map in a segment of its own, whose bytes the test has too. */
export interface MapPlace<Value> extends Disposable {
  readonly map: SharedMap<Value>;
  readonly memory: SharedMemory;
  readonly key: string;
  /** Another object for the same map, through the same attachment. */
  join(): SharedMap<Value>;
}

export function openMap<Value = Uint8Array>(
  options: SharedMapOpenOptions<Value>,
): MapPlace<Value> {
  const key = uniqueKey("map");
  const memory = SharedMemory.open(key, {
    size: SharedMap.bytesFor(options),
    initialize: (bytes) => void SharedMap.create(bytes, 0, options),
  });
  const join = () => SharedMap.at(memory.bytes, 0, options);
  return { map: join(), memory, key, join, [Symbol.dispose]: () => memory[Symbol.dispose]() };
}

/** JavaScript of an agent: `objects.map` is the map of a key. */
export function joining(key: string, options: string): string {
  return `objects.map = collections.SharedMap.open(${JSON.stringify(key)}, ${options});`;
}

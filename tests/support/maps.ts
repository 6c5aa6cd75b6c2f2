/** What the tests of collections share. */
import { type Clock, sharedClock } from "../../backends/clock.ts";
import { enterContext } from "../../context.ts";
import { registry } from "../../registry.ts";
import { SharedMap, type SharedMapOpenOptions } from "../../collections/mod.ts";
import { shapeOf, stripeByte } from "../../collections/map_shape.ts";
import { Mutex } from "../../sync/mod.ts";
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
export function withClock<Result>(clock: Clock, body: () => Result): Result {
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

/** The words of the logs of a map, one array for each stripe: the head is the first word, and the tail is word 16. */
export function logsOf(
  memory: SharedMemory,
  options: SharedMapOpenOptions<never>,
): Int32Array[] {
  const shape = shapeOf("logsOf", options);
  return Array.from({ length: shape.stripes }, (_, i) => {
    return memory.view(Int32Array, stripeByte(shape, i) + Mutex.BYTES, 32 + shape.buckets);
  });
}

/** Lets the logs of an empty map begin at a position. */
export function beginAt(logs: readonly Int32Array[], position: number): void {
  for (const words of logs) words[0] = words[16] = position;
}

/** JavaScript of an agent: `objects.map` is the map of a key. */
export function joining(key: string, options: string): string {
  return `objects.map = collections.SharedMap.open(${JSON.stringify(key)}, ${options});`;
}

/** What the tests of shared values share. */
import { SharedValue, type SharedValueOpenOptions } from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { uniqueKey } from "./support.ts";

/** A shared value in a segment of its own, whose bytes the test has too. */
export interface ValuePlace<Value> extends Disposable {
  readonly value: SharedValue<Value>;
  readonly memory: SharedMemory;
  readonly key: string;
  /** The words of the header: the latest version is word 16. */
  readonly words: Int32Array;
  /** The versions of the halves. */
  readonly versions: Float64Array;
  /** Another object for the same value, through the same attachment. */
  join(): SharedValue<Value>;
}

export function openValue<Value = Uint8Array>(
  options: SharedValueOpenOptions<Value>,
): ValuePlace<Value> {
  const key = uniqueKey("value");
  const memory = SharedMemory.open(key, {
    size: SharedValue.bytesFor(options),
    initialize: (bytes) => void SharedValue.create(bytes, 0, options),
  });
  const join = () => SharedValue.at(memory.bytes, 0, options);
  return {
    value: join(),
    memory,
    key,
    words: memory.view(Int32Array, 0, 32),
    versions: memory.view(Float64Array, 80, 2),
    join,
    [Symbol.dispose]: () => memory[Symbol.dispose](),
  };
}

/** Lets the versions of a value that was not set yet begin after `version`. */
export function beginAfter({ words, versions }: ValuePlace<never>, version: number): void {
  const half = version & 1;
  words[17 + half] = words[16] = version | 0;
  versions[half] = version;
}

/** JavaScript of an agent: `objects.value` is the value of a key. */
export function joining(key: string, options: string): string {
  return `objects.value = collections.SharedValue.open(${JSON.stringify(key)}, ${options});`;
}

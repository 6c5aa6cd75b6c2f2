/** What the tests of topics share. */
import { SharedTopic, type SharedTopicOptions } from "../../collections/mod.ts";
import { LOG_BYTE, LOG_BYTES } from "../../collections/topic_shape.ts";
import { SharedMemory } from "../../mod.ts";
import { uniqueKey } from "./support.ts";

/** A topic in a segment of its own, whose bytes the test has too. */
export interface TopicPlace<Value> extends Disposable {
  readonly topic: SharedTopic<Value>;
  readonly memory: SharedMemory;
  readonly key: string;
  /** The words of the log: the head is the first one, then the epoch; the tail is word 16. */
  readonly words: Int32Array;
  /** The words of the ring. */
  readonly data: Int32Array;
  /** Another object for the same topic, through the same attachment. */
  join(options?: SharedTopicOptions<Value>): SharedTopic<Value>;
}

export function openTopic<Value = Uint8Array>(
  options: SharedTopicOptions<Value> & { readonly bytes: number },
): TopicPlace<Value> {
  const key = uniqueKey("topic");
  const memory = SharedMemory.open(key, {
    size: SharedTopic.bytesFor(options),
    initialize: (bytes) => void SharedTopic.create(bytes, 0, options),
  });
  const join = (more: SharedTopicOptions<Value> = {}) =>
    SharedTopic.at(memory.bytes, 0, { ...options, ...more });
  const ring = LOG_BYTE + LOG_BYTES;
  return {
    topic: join(),
    memory,
    key,
    words: memory.view(Int32Array, LOG_BYTE, LOG_BYTES / 4),
    data: memory.view(Int32Array, ring, Math.floor((SharedTopic.bytesFor(options) - ring) / 4)),
    join,
    [Symbol.dispose]: () => memory[Symbol.dispose](),
  };
}

/** Lets an empty topic begin at a position, after the message with a sequence number. */
export function beginAt(
  { words }: { readonly words: Int32Array },
  position: number,
  sequence = 0,
): void {
  words[0] = words[16] = position;
  words[18] = sequence | 0;
  words[19] = Math.floor(sequence / 2 ** 32);
}

/** JavaScript of an agent: `objects.topic` is the topic of a key. */
export function joining(key: string, options: string): string {
  return `objects.topic = collections.SharedTopic.open(${JSON.stringify(key)}, ${options});`;
}

/**
 * JavaScript of an agent: `valueOf(me, number, length)` returns a message of a publisher with a checksum, and
 * `numberOf(value)` throws if it is not whole.
 */
export const MESSAGES = `
  const sumOf = (value) => value.reduce((sum, byte, at) => at > 11 ? Math.imul(sum, 31) + byte | 0 : sum, 7);
  const valueOf = (me, number, length) => {
    const value = new Uint8Array(12 + length);
    for (let at = 12; at < value.length; at++) value[at] = number + at + me;
    new Int32Array(value.buffer, 0, 3).set([me, number, Math.imul(sumOf(value), 31) + number + me | 0]);
    return value;
  };
  const numberOf = (value) => {
    const [me, number, sum] = new Int32Array(value.slice(0, 12).buffer);
    if (sum !== (Math.imul(sumOf(value), 31) + number + me | 0)) throw new Error("a torn message: " + value);
    return [me, number];
  };`;

/** The same functions for the test. */
export const { valueOf, numberOf } = new Function(
  `${MESSAGES} return { valueOf, numberOf };`,
)() as {
  valueOf(me: number, number: number, length: number): Uint8Array;
  numberOf(value: Uint8Array): [me: number, number: number];
};

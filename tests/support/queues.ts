/** What the tests of queues share. */
import { SharedQueue, type SharedQueueOpenOptions } from "../../collections/mod.ts";
import type { QueueLog } from "../../collections/queue_log.ts";
import { SharedMemory } from "../../mod.ts";
import { uniqueKey } from "./support.ts";

/** A queue in a segment of its own, whose bytes the test has too. */
export interface QueuePlace<Value> extends Disposable {
  readonly queue: SharedQueue<Value>;
  readonly memory: SharedMemory;
  readonly key: string;
  /** Another object for the same queue, through the same attachment. */
  join(options?: Partial<SharedQueueOpenOptions<Value>>): SharedQueue<Value>;
}

export function openQueue<Value = Uint8Array>(
  options: SharedQueueOpenOptions<Value>,
): QueuePlace<Value> {
  const key = uniqueKey("queue");
  const memory = SharedMemory.open(key, {
    size: SharedQueue.bytesFor(options),
    initialize: (bytes) => void SharedQueue.create(bytes, 0, options),
  });
  const join = (others = {}) => SharedQueue.at(memory.bytes, 0, { ...options, ...others });
  return { queue: join(), memory, key, join, [Symbol.dispose]: () => memory[Symbol.dispose]() };
}

/** The table and the ring of a queue. */
export function logOf(queue: unknown): QueueLog {
  return (queue as { core: { log: QueueLog } }).core.log;
}

/** Lets the ring of an empty queue begin at a position. */
export function beginAt(queue: unknown, position: number): void {
  const { words } = logOf(queue);
  words[0] = words[16] = position;
}

/** Lets the next change find that a process was killed in the middle of the last one. */
export function pretendKill(queue: unknown): void {
  logOf(queue).words[29] = 2 ** 22 + 1;
}

/** JavaScript of an agent: `objects.queue` is the queue of a key. */
export function joiningQueue(key: string, options: string): string {
  return `objects.queue = collections.SharedQueue.open(${JSON.stringify(key)}, ${options});`;
}

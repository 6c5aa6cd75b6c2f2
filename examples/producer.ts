/**
 * Sends messages to another process, `consumer.ts`. Start both, in whatever order and runtimes:
 *
 *     bun examples/producer.ts 100000      # how many; 1000 if left out
 *     deno run --allow-ffi examples/consumer.ts
 */
import process from "node:process";
import { SharedMemory } from "../mod.ts";
import { RingBuffer } from "./ring_buffer.ts";

const count = Number(process.argv[2] ?? 1000);
const CAPACITY = 4096; // far less than all messages: the producer waits for the consumer, again and again

using memory = SharedMemory.open("messages", {
  size: RingBuffer.bytesFor(CAPACITY),
  initialize: (bytes) => void RingBuffer.create(bytes), // done before the other process sees it
});
const ring = RingBuffer.at(memory.view(Uint8Array, 0, RingBuffer.bytesFor(CAPACITY)));

const encoder = new TextEncoder();
for (let id = 1; id <= count; id++) {
  const text = JSON.stringify({ id, text: "x".repeat(id % 50) });
  if (!await ring.send(encoder.encode(text), 60_000)) throw new Error("nobody takes the messages");
}
if (!await ring.close(60_000)) throw new Error("nobody takes the last messages");
console.log(`sent ${count} messages`);

/** Receives the messages of `producer.ts`, which see. */
import { SharedMemory } from "../mod.ts";
import { RingBuffer } from "./ring_buffer.ts";

const CAPACITY = 4096; // the same as the producer's

using memory = SharedMemory.open("messages", {
  size: RingBuffer.bytesFor(CAPACITY),
  initialize: (bytes) => void RingBuffer.create(bytes),
});
const ring = RingBuffer.at(memory.view(Uint8Array, 0, RingBuffer.bytesFor(CAPACITY)));

const decoder = new TextDecoder();
let [count, bytes] = [0, 0];
for (let message; (message = await ring.receive(60_000)) !== null;) {
  const { id, text } = JSON.parse(decoder.decode(message)) as { id: number; text: string };
  if (id !== ++count || text.length !== id % 50) throw new Error(`message ${id} is not in order`);
  bytes += message.length;
}
console.log(`received ${count} messages, ${bytes} bytes, all in order`);

/** What both processes of `latency.ts` share: the ways by which a message goes from the one to the other. */
import { Buffer } from "node:buffer";
import { messageBytes } from "./messaging_measures.ts";

/** How long both processes do nothing before each message, in ms. */
export const pauseMs = 3;

export const mib = 2 ** 20;

/** The ways, by what the one process calls them to the other. */
export const ways = {
  queue: "SharedQueue: send to take",
  topic: "SharedTopic: publish to the callback",
  value: "SharedValue: set to the callback",
  socket: "Unix socket",
  echo: "Unix socket, there and back",
  send: "process.send",
  list: "Redis: LPUSH to BRPOP",
  channel: "Redis: PUBLISH to SUBSCRIBE",
} as const;
export type Way = keyof typeof ways;

/** A message that has the time at which it is sent. */
export function stamped(time: number): Uint8Array {
  const bytes = new Uint8Array(messageBytes);
  new DataView(bytes.buffer).setFloat64(0, time);
  return bytes;
}

export function timeOf(bytes: Uint8Array): number {
  if (bytes.length !== messageBytes) throw new Error(`a message of ${bytes.length} bytes`);
  return new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0);
}

/** A command of Redis, in its protocol (RESP 2). */
export function command(...words: (string | Uint8Array)[]): Buffer {
  const parts = words.flatMap((word) => [
    Buffer.from(`$${Buffer.byteLength(word)}\r\n`),
    Buffer.from(word as Uint8Array),
    Buffer.from("\r\n"),
  ]);
  return Buffer.concat([Buffer.from(`*${words.length}\r\n`), ...parts]);
}

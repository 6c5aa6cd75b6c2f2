/** The other process of `latency.ts`, which starts it: `<runtime> latency_sender.ts KEY SOCKET [REDIS]`. */
import { once } from "node:events";
import { connect } from "node:net";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { SharedQueue, SharedTopic, SharedValue } from "../collections/mod.ts";
import { sharedNow } from "./hand_off_pair.ts";
import { command, mib, pauseMs, stamped, type Way } from "./latency_pair.ts";
import { messageBytes } from "./messaging_measures.ts";

const [key, path, redisPath] = process.argv.slice(2);
if (key === undefined || path === undefined) {
  throw new Error("usage: latency_sender.ts KEY SOCKET [REDIS]");
}
const queue = SharedQueue.open(`${key}-queue`, { bytes: mib });
const topic = SharedTopic.open(`${key}-topic`, { bytes: mib });
const value = SharedValue.open(`${key}-value`, { maxBytes: messageBytes });
const socket = connect(path);
await once(socket, "connect");
socket.on("data", (bytes) => socket.write(bytes));
const redis = redisPath === undefined ? undefined : connect(redisPath);
redis?.on("data", () => {}); // the number of those who have got the message

const sends: Record<Exclude<Way, "echo">, (bytes: Uint8Array) => unknown> = {
  queue: (bytes) => queue.send(bytes),
  topic: (bytes) => topic.publish(bytes),
  value: (bytes) => value.set(bytes),
  socket: (bytes) => socket.write(bytes),
  send: (bytes) => process.send!(bytes),
  list: (bytes) => redis!.write(command("LPUSH", "list", bytes)),
  channel: (bytes) => redis!.write(command("PUBLISH", "channel", bytes)),
};

process.on("message", async (way: Way) => {
  if (way === "echo") return;
  await delay(pauseMs);
  sends[way](stamped(sharedNow()));
});
socket.on("close", () => {
  redis?.destroy();
  for (const one of [queue, topic, value]) one[Symbol.dispose]();
});

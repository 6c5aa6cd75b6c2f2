/**
 * A chat over several Bun servers on one port: whichever process a page is connected to, it gets the messages of all.
 * Start some, open pages, and kill servers as you like:
 *
 *     bun examples/chat.ts 8000
 *     bun examples/chat.ts 8000
 */
import process from "node:process";
import { json, SharedTopic } from "../collections/mod.ts";
import { file, serve } from "./bun.ts";

interface ChatMessage {
  readonly name: string;
  readonly text: string;
}

// An orderly end detaches. Before the segment is opened, so that no signal comes in between.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit());

// The newest messages that fit in a megabyte. They are there as long as one of the servers is.
const chat = SharedTopic.open<ChatMessage>("chat", { bytes: 2 ** 20, codec: json });
const page = await file(new URL("chat.html", import.meta.url)).text();

/** What a page has sent; `null` if it is no message. */
function messageOf(data: string | Uint8Array): ChatMessage | null {
  try {
    const { name, text } = JSON.parse(String(data));
    if (typeof name !== "string" || typeof text !== "string" || text === "") return null;
    return { name: name.slice(0, 40), text: text.slice(0, 1000) };
  } catch {
    return null;
  }
}

const server = serve({
  port: Number(process.argv[2] ?? 8000),
  hostname: "127.0.0.1",
  reusePort: true,
  fetch(request, server) {
    if (new URL(request.url).pathname !== "/chat") {
      return new Response(page, { headers: { "content-type": "text/html; charset=utf-8" } });
    }
    return server.upgrade(request)
      ? undefined
      : new Response("a WebSocket please", { status: 400 });
  },
  websocket: {
    open(socket) {
      socket.send(JSON.stringify({ server: process.pid, last: chat.stats().last }));
      // What was said before. A page that comes back leaves out what it knows, by the numbers of the messages. They begin
      // anew when all servers have ended: the last one is lower then, unless as many messages were sent since.
      const earlier = chat.reader({ from: "oldest" });
      for (let message; (message = earlier.next()) !== undefined;) {
        socket.send(JSON.stringify({ ...message.value, sequence: message.sequence }));
      }
      socket.subscribe("chat");
    },
    message(_socket, data) {
      const message = messageOf(data);
      if (message !== null) chat.publish(message);
    },
  },
});

chat.subscribe(({ value, sequence }) => {
  server.publish("chat", JSON.stringify({ ...value, sequence }));
});
console.log(`http://127.0.0.1:${server.port}`);

/**
 * The time from the sending of a message in one process to its receipt in another one that sleeps:
 * `<runtime> latency.ts KEY FOLDER ROUNDS [SOCKET]` prints the times in ns of each way as one line of JSON. SOCKET is that of
 * a Redis server.
 */
import { Buffer } from "node:buffer";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { SharedQueue, SharedTopic, SharedValue } from "../collections/mod.ts";
import { sharedNow } from "./hand_off_pair.ts";
import { command, mib, pauseMs, stamped, timeOf, type Way, ways } from "./latency_pair.ts";
import { messageBytes } from "./messaging_measures.ts";

const warmUp = 20;
const deadlineMs = 10_000;

/** The message that is awaited. */
class Awaited {
  #resolve: (ns: number) => void = () => {};

  /** Waits for a message; returns how long it has taken. */
  async next(what: string): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#resolve = resolve;
    const timer = setTimeout(() => reject(new Error(`a message is missing: ${what}`)), deadlineMs);
    const ns = await promise;
    clearTimeout(timer);
    if (!(ns > 0)) throw new Error(`a message took ${ns} ns`);
    return ns;
  }

  /** Notes a message that has come now. */
  note(bytes: Uint8Array): void {
    this.#resolve(sharedNow() - timeOf(bytes));
  }
}

/** The other process, which sends what it is told to. */
class Sender {
  readonly #child: ChildProcess;
  readonly socket: Socket;

  private constructor(child: ChildProcess, socket: Socket) {
    this.#child = child;
    this.socket = socket;
  }

  static async start(key: string, path: string, redis: string | undefined): Promise<Sender> {
    const server = createServer().listen(path);
    const program = fileURLToPath(new URL("./latency_sender.ts", import.meta.url));
    const child = fork(program, [key, path, ...(redis === undefined ? [] : [redis])], {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      serialization: "advanced",
    });
    child.on("exit", (code) => {
      if (code !== 0) throw new Error(`the other process ended: ${code}`);
    });
    const [socket] = await once(server, "connection");
    server.close();
    return new Sender(child, socket);
  }

  /** Asks for a message, after a pause. */
  ask(way: Way): void {
    this.#child.send(way);
  }

  onMessage(listener: (bytes: Uint8Array) => void): void {
    this.#child.on("message", (bytes) => listener(bytes as Uint8Array));
  }

  async end(): Promise<void> {
    this.socket.end();
    this.#child.disconnect();
    await once(this.#child, "exit");
  }
}

/** Calls `listener` with each piece of `length` bytes that a socket gets. */
function pieces(socket: Socket, length: number, listener: (piece: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (; rest.length >= length; rest = rest.subarray(length)) listener(rest.subarray(0, length));
  });
}

/** Receives messages by each way, one after the other. */
async function measure(
  key: string,
  path: string,
  rounds: number,
  redis: string | undefined,
): Promise<Record<string, number[]>> {
  using queue = SharedQueue.open(`${key}-queue`, { bytes: mib });
  using topic = SharedTopic.open(`${key}-topic`, { bytes: mib });
  using value = SharedValue.open(`${key}-value`, { maxBytes: messageBytes });
  const sender = await Sender.start(key, path, redis);
  const awaited = new Awaited();
  sender.onMessage((bytes) => awaited.note(bytes));
  pieces(sender.socket, messageBytes, (piece) => awaited.note(piece));
  topic.subscribe(({ value }) => awaited.note(value));
  value.subscribe((bytes) => awaited.note(bytes));

  const found: Record<string, number[]> = {};
  /** `receive` begins to wait for a message where nothing else does. */
  const run = async (way: Way, receive: () => void = () => {}) => {
    const times: number[] = [];
    for (let i = -warmUp; i < rounds; i++) {
      const next = awaited.next(ways[way]);
      receive();
      sender.ask(way);
      const ns = await next;
      if (i >= 0) times.push(ns);
    }
    found[ways[way]] = times;
  };
  await run("queue", async () => {
    const job = await queue.take({ ref: true, timeout: deadlineMs });
    if (job === undefined) return;
    awaited.note(job.value);
    job.ack();
  });
  for (const way of ["topic", "value", "socket", "send"] as const) await run(way);
  // The other process sends back what this one has sent, with the time of this one.
  await run("echo", async () => {
    await delay(pauseMs);
    sender.socket.write(stamped(sharedNow()));
  });
  if (redis !== undefined) {
    const list = connect(redis);
    await once(list, "connect");
    const popped = `*2\r\n$4\r\nlist\r\n$${messageBytes}\r\n`.length;
    pieces(list, popped + messageBytes + 2, (piece) => {
      awaited.note(piece.subarray(popped, -2));
    });
    await run("list", () => void list.write(command("BRPOP", "list", "20")));
    list.destroy();

    const channel = connect(redis);
    channel.write(command("SUBSCRIBE", "channel"));
    await once(channel, "data");
    const published = `*3\r\n$7\r\nmessage\r\n$7\r\nchannel\r\n$${messageBytes}\r\n`.length;
    pieces(channel, published + messageBytes + 2, (piece) => {
      awaited.note(piece.subarray(published, -2));
    });
    await run("channel");
    channel.destroy();
  }
  await sender.end();
  return found;
}

const [key, folder, rounds, redis] = process.argv.slice(2);
if (key === undefined || folder === undefined || rounds === undefined) {
  throw new Error("usage: latency.ts KEY FOLDER ROUNDS [SOCKET]");
}
console.log(JSON.stringify(await measure(key, join(folder, "socket"), Number(rounds), redis)));

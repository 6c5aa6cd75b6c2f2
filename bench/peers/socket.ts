/** Unix sockets: one process has the number, and does for the others what they ask for. */
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import type { Job } from "../commands.ts";
import { Kind, receive, send } from "./frames.ts";
import type { Connection } from "./jobs.ts";
import { requireStamped } from "./mib.ts";

async function serve(path: string): Promise<Job> {
  let total = 0;
  const server = createServer((socket) => {
    let number = 0;
    socket.on("error", () => socket.destroy());
    receive(socket, (kind, body) => {
      if (kind === Kind.increment) total++;
      if (kind === Kind.bytes) requireStamped(body, ++number);
      const answer = Buffer.alloc(8);
      answer.writeDoubleLE(total);
      send(socket, kind, answer);
    });
  });
  server.listen(path);
  await once(server, "listening");
  return { run: () => ({}), total: () => total, end: () => void server.close() };
}

/** What is asked one after the other. */
class Client implements Connection {
  readonly #socket: Socket;
  #answered: (total: number) => void = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    receive(socket, (_, body) => this.#answered(body.readDoubleLE(0)));
  }

  #ask(kind: number, body: Uint8Array | null = null): Promise<number> {
    const answer = new Promise<number>((resolve) => this.#answered = resolve);
    send(this.#socket, kind, body);
    return answer;
  }

  async increment(): Promise<void> {
    await this.#ask(Kind.increment);
  }

  total(): Promise<number> {
    return this.#ask(Kind.total);
  }

  async roundTrip(): Promise<void> {
    await this.#ask(Kind.echo);
  }

  async handOver(bytes: Uint8Array): Promise<void> {
    await this.#ask(Kind.bytes, bytes);
  }

  async close(): Promise<void> {
    this.#socket.end();
    await once(this.#socket, "close");
  }
}

export async function open(
  folder: string,
  index: number,
): Promise<{ server: Job } | { connection: Connection }> {
  const path = `${folder}/socket`;
  if (index < 0) return { server: await serve(path) };
  const socket = connect(path);
  await once(socket, "connect");
  return { connection: new Client(socket) };
}

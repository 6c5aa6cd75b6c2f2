/**
 * Redis on a Unix socket, in its own protocol (RESP 2). Who waits for another process takes from a list, BLPOP;
 * the commands that need no answer of their own are sent together.
 */
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import process from "node:process";
import { type Job, repeatAsync } from "../commands.ts";
import { mib, requireStamped, stamped } from "./mib.ts";

type Reply = number | string | Buffer | null | Reply[];

/** A reply and where the next one begins, or `null` if it is not all there yet. */
function parse(bytes: Buffer, begin: number): [Reply, number] | null {
  const lineEnd = bytes.indexOf("\r\n", begin);
  if (lineEnd < 0) return null;
  const line = bytes.toString("latin1", begin + 1, lineEnd);
  const next = lineEnd + 2;
  switch (String.fromCharCode(bytes[begin]!)) {
    case "+":
      return [line, next];
    case "-":
      throw new Error(line);
    case ":":
      return [Number(line), next];
    case "$": {
      const length = Number(line);
      if (length < 0) return [null, next];
      if (bytes.length < next + length + 2) return null;
      return [bytes.subarray(next, next + length), next + length + 2];
    }
    case "*": {
      if (line === "-1") return [null, next];
      const items: Reply[] = [];
      let at = next;
      for (let i = 0; i < Number(line); i++) {
        const item = parse(bytes, at);
        if (item === null) return null;
        items.push(item[0]);
        at = item[1];
      }
      return [items, at];
    }
  }
  throw new Error("not RESP");
}

class Redis {
  readonly #socket: Socket;
  readonly #waiting: ((reply: Reply) => void)[] = [];
  #chunks: Buffer[] = [];
  #length = 0;
  /** How many bytes are worth a look: those of a long string are counted first. */
  #needed = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
  }

  #receive(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length < this.#needed) return;
    let rest = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    for (let found; rest.length > 0 && (found = parse(rest, 0)) !== null;) {
      this.#waiting.shift()!(found[0]);
      rest = rest.subarray(found[1]);
    }
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#length = rest.length;
    const isString = rest[0] === 0x24 && rest.includes("\r\n");
    this.#needed = isString ? parseInt(rest.toString("latin1", 1, 12)) : 0;
  }

  call(...words: (string | Uint8Array)[]): Promise<Reply> {
    const reply = new Promise<Reply>((resolve) => this.#waiting.push(resolve));
    this.#socket.cork();
    this.#socket.write(`*${words.length}\r\n`);
    for (const word of words) {
      this.#socket.write(`$${Buffer.byteLength(word)}\r\n`);
      this.#socket.write(word);
      this.#socket.write("\r\n");
    }
    this.#socket.uncork();
    return reply;
  }

  async end(): Promise<void> {
    this.#socket.end();
    await once(this.#socket, "close");
  }
}

export async function open(folder: string, index: number, name: string): Promise<{ server: Job }> {
  const socket = connect(process.env["BENCH_REDIS"]!);
  await once(socket, "connect");
  const redis = new Redis(socket);
  // Of this crew: all of them use one server.
  const key = (text: string) => `${folder}:${text}`;
  const end = () => redis.end();
  if (name === "mutex") {
    return {
      server: {
        run: (ms) => repeatAsync(ms, 1, async () => void await redis.call("INCR", key("total"))),
        total: async () => Number(await redis.call("GET", key("total"))),
        end,
      },
    };
  }
  const isMib = name === "mib";
  let number = 0;
  if (index % 2 === 0) {
    const source = Uint8Array.from({ length: mib }, (_, i) => i);
    const ask = async (word: string) => {
      void redis.call("RPUSH", key("ping"), word);
      await redis.call("BLPOP", key("pong"), "10");
    };
    const operation = () => {
      if (isMib) void redis.call("SET", key("mib"), stamped(source, ++number));
      return ask("go");
    };
    return {
      server: {
        async run(ms) {
          const result = await repeatAsync(ms, 1, operation);
          await ask("stop");
          return result;
        },
        end,
      },
    };
  }
  return {
    server: {
      async run() {
        for (;;) {
          const popped = await redis.call("BLPOP", key("ping"), "20") as Buffer[] | null;
          if (popped === null) throw new Error("nobody asks");
          const isLast = popped[1]!.toString() === "stop";
          if (isMib && !isLast) {
            requireStamped(await redis.call("GET", key("mib")) as Buffer, ++number);
          }
          await redis.call("RPUSH", key("pong"), "done");
          if (isLast) return {};
        }
      },
      end,
    },
  };
}

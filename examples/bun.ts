/**
 * What the examples use of Bun, with types, so that they can be checked without Bun's own. In a project of yours
 * `import { file, serve } from "bun"` instead, after `bun add -d @types/bun`.
 */
export interface Server {
  readonly port: number;
  requestIP(request: Request): { address: string } | null;
  /** Seconds without a byte until the connection is closed; 0 for never. */
  timeout(request: Request, seconds: number): void;
  /** Takes no more connections; resolves when the open ones are done. */
  stop(): Promise<void>;
  /** Makes a WebSocket of a request; `false` if that is impossible. */
  upgrade(request: Request): boolean;
  /** Sends a text to all WebSockets of this process that have subscribed to `channel`. */
  publish(channel: string, text: string): number;
}

/** A connection to a page. */
export interface Socket {
  send(text: string): number;
  subscribe(channel: string): void;
}

interface Bun {
  file(path: URL): { text(): Promise<string> };
  serve(options: {
    port: number;
    hostname: string;
    /** Other processes may listen on the same port; Linux shares the connections out among them. */
    reusePort?: boolean;
    /** Whether the answer to a request that failed tells why. */
    development?: boolean;
    fetch(
      request: Request,
      server: Server,
    ): Response | undefined | Promise<Response | undefined>;
    websocket?: {
      open(socket: Socket): void;
      message(socket: Socket, message: string | Uint8Array): void;
    };
  }): Server;
}

const { Bun } = globalThis as unknown as { Bun?: Bun };
if (Bun === undefined) throw new Error("this example is for Bun: start it with bun");
export const { file, serve } = Bun;

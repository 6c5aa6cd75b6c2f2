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
    fetch(request: Request, server: Server): Response | Promise<Response>;
  }): Server;
}

const { Bun } = globalThis as unknown as { Bun?: Bun };
if (Bun === undefined) throw new Error("this example is for Bun: start it with bun");
export const { file, serve } = Bun;

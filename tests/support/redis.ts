/**
 * A server of Redis, of Debian's package redis-server, for tests. It saves nothing. SHARED_MEMORY_TEST_REDIS names another
 * program: `valkey-server`.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import process from "node:process";
import { freePort } from "../../scripts/free_port.ts";
import { isRequired, keyFolder, until } from "./support.ts";

const program = process.env["SHARED_MEMORY_TEST_REDIS"] || "redis-server";

/** `{ skip: reason }` where it is not installed, unless the environment requires it. */
export const needsRedis: { skip?: string } =
  isRequired("redis") || spawnSync(program, ["--version"]).status === 0
    ? {}
    : { skip: `${program} is not installed` };

export class RedisServer implements Disposable {
  readonly port: number;
  readonly #folder = mkdtempSync(`${keyFolder}redis-`);
  #server: ChildProcess | undefined;

  private constructor(port: number) {
    this.port = port;
  }

  /** Starts one, which listens on a port of 127.0.0.1 and on a Unix socket. */
  static async start(): Promise<RedisServer> {
    for (let attempt = 0;; attempt++) {
      const redis = new RedisServer(await freePort());
      try {
        await redis.start();
        return redis;
      } catch (error) { // another program has taken the port meanwhile
        redis[Symbol.dispose]();
        if (attempt === 4) throw error;
      }
    }
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** The path of the Unix socket. */
  get path(): string {
    return `${this.#folder}/socket`;
  }

  /** Starts it again, on the same port and without data. */
  async start(): Promise<void> {
    const listen = ["--bind", "127.0.0.1", "--port", `${this.port}`, "--unixsocket", this.path];
    const args = [...listen, "--save", "", "--dir", this.#folder];
    const server = spawn(program, args, { stdio: "ignore" });
    this.#server = server;
    await until(() => {
      if (server.exitCode !== null) throw new Error(`${program} ended with ${server.exitCode}`);
      return existsSync(this.path);
    }, `the socket of ${program}`);
  }

  async kill(): Promise<void> {
    const server = this.#server!;
    const ended = once(server, "exit");
    server.kill("SIGKILL");
    await ended;
    rmSync(this.path, { force: true });
  }

  [Symbol.dispose](): void {
    this.#server?.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

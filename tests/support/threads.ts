/** Threads for the tests: `node:worker_threads`, which all runtimes have. */
import { Worker } from "node:worker_threads";
import { withDeadline } from "./support.ts";

/** What a `Thread` runs. */
export const fixture = new URL("../fixtures/worker.ts", import.meta.url);

/** A worker with its own object of a key, its messages in order, and its end. */
export class Thread {
  readonly worker: Worker;
  readonly errors: Error[] = [];
  /** The exit code. */
  readonly ended: Promise<number>;
  // deno-lint-ignore no-explicit-any
  readonly #messages: any[] = [];
  #arrived = () => {};

  /** `source` has an attached `memory` of the key. */
  constructor(key: string, source: string) {
    const workerData = `
      const memory = new library.SharedMemory(${JSON.stringify(key)});
      if (!memory.attach()) throw new Error(memory.errorString());
      ${source}`;
    this.worker = new Worker(fixture, { workerData });
    this.worker.on("message", (message) => {
      this.#messages.push(message);
      this.#arrived();
    });
    this.worker.on("error", (error) => this.errors.push(error as Error));
    this.ended = new Promise((resolve) => this.worker.on("exit", resolve));
  }

  // deno-lint-ignore no-explicit-any
  async next(): Promise<any> {
    if (this.#messages.length === 0) {
      const arrived = new Promise<void>((resolve) => this.#arrived = resolve);
      const ended = this.ended.then(() => {
        if (this.#messages.length > 0) return;
        throw new Error(`the thread has ended: ${this.errors.map(({ message }) => message)}`);
      });
      await withDeadline(Promise.race([arrived, ended]), "a message of a thread");
    }
    return this.#messages.shift();
  }

  tell(value: unknown, transfer: ArrayBuffer[] = []): void {
    this.worker.postMessage(value, transfer);
  }

  async end(): Promise<number> {
    return await withDeadline(this.ended, "the end of a thread");
  }
}

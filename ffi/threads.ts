import process from "node:process";
import type { Worker } from "node:worker_threads";
import type { AsyncCFunctions, CSignature, CSignatures } from "./types.ts";

/** More calls than this at a time wait for a thread. */
const THREADS_MAX = 16;

type Result = { readonly value: unknown } | { readonly error: unknown };

interface Call {
  readonly name: string;
  readonly args: readonly unknown[];
  settle(result: Result): void;
}

/** What runs on a thread: it has only these two messages, a call and what it returned. */
const SERVE = `
  const { parentPort, workerData } = process.getBuiltinModule("node:worker_threads");
  const load = () => {
    let cause;
    for (const library of workerData.libraries) {
      try {
        return bind(library, workerData.symbols);
      } catch (error) {
        cause ??= error;
      }
    }
    throw cause;
  };
  const functions = load();
  parentPort.on("message", ({ name, args }) => parentPort.postMessage(functions[name](...args)));`;

/** Threads of this program that call C functions, each one call at a time; idle ones are kept. */
class Threads {
  readonly #code: string;
  readonly #data: unknown;
  readonly #idle: Worker[] = [];
  readonly #waiting: Call[] = [];
  #count = 0;

  constructor(code: string, data: unknown) {
    this.#code = code;
    this.#data = data;
  }

  call(name: string, args: readonly unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const settle = (result: Result) =>
        "error" in result ? reject(result.error) : resolve(result.value);
      const call = { name, args, settle };
      const worker = this.#idle.pop() ?? (this.#count < THREADS_MAX ? this.#start() : undefined);
      if (worker === undefined) this.#waiting.push(call);
      else this.#run(worker, call);
    });
  }

  #start(): Worker {
    const { Worker } = process.getBuiltinModule("node:worker_threads");
    const worker = new Worker(this.#code, {
      eval: true,
      workerData: this.#data,
    });
    this.#count++;
    worker.once("exit", () => {
      this.#count--;
      const at = this.#idle.indexOf(worker);
      if (at >= 0) this.#idle.splice(at, 1);
      const next = this.#waiting.shift();
      if (next !== undefined) this.#run(this.#start(), next);
    });
    return worker;
  }

  #run(worker: Worker, call: Call): void {
    const finish = (result: Result) => {
      worker.off("message", onMessage);
      worker.off("error", onError);
      worker.off("exit", onExit);
      call.settle(result);
    };
    const onMessage = (value: unknown) => {
      finish({ value });
      const next = this.#waiting.shift();
      if (next !== undefined) {
        this.#run(worker, next);
      } else {
        worker.unref();
        this.#idle.push(worker);
      }
    };
    const onError = (error: unknown) => finish({ error });
    const onExit = () => finish({ error: new Error("the thread that waited has ended") });
    worker.on("message", onMessage);
    worker.on("error", onError);
    worker.on("exit", onExit);
    worker.ref();
    worker.postMessage({ name: call.name, args: call.args });
  }
}

/**
 * `Ffi.background` where the FFI itself has no such calls. `bind` is code that defines a function of
 * that name, from a library's path and the functions as the runtime has them `described`.
 */
export function threadCalls<const S extends CSignatures>(
  bind: string,
  described: (signature: CSignature) => unknown,
  libraries: readonly string[],
  signatures: S,
): AsyncCFunctions<S> {
  const symbols = Object.fromEntries(
    Object.entries(signatures).map(([name, signature]) => [name, described(signature)]),
  );
  const threads = new Threads(bind + SERVE, { libraries, symbols });
  return Object.fromEntries(
    Object.keys(signatures).map((name) => [
      name,
      (...args: readonly unknown[]) => threads.call(name, args),
    ]),
  ) as unknown as AsyncCFunctions<S>;
}

/**
 * The workers of a simulated process, as `ffi/threads.ts` uses them: the code of a worker is the program of a thread.
 * Messages are texts, because a thread runs in another replay than its process; the private memory that a message
 * refers to is sent with it.
 */
import type { SimulatedFfi } from "./ffi.ts";
import type { Program } from "./scenario.ts";

type Listener = (message: unknown) => void;

/** What the product sends to a thread. */
interface Request {
  readonly state: Int32Array;
  readonly args: readonly unknown[];
}

interface Written {
  readonly state: number;
  readonly args: readonly (number | { readonly bigint: string })[];
  readonly memory: readonly (readonly [address: number, bytes: readonly number[]])[];
}

const WORDS_BYTES = 8;

function written(ffi: SimulatedFfi, { state, args }: Request): Written {
  const plain = args.map((arg) =>
    typeof arg === "bigint" ? { bigint: String(arg) } : arg as number
  );
  const memory = args.flatMap((arg) => ffi.privateMemory(Number(arg)) ?? []);
  return { state: ffi.addressOf(state)!, args: plain, memory };
}

function read(ffi: SimulatedFfi, { state, args, memory }: Written): Request {
  for (const [address, bytes] of memory) ffi.addPrivateMemory(address, bytes);
  return {
    state: new Int32Array(ffi.wordsAt(state, WORDS_BYTES)),
    args: args.map((arg) => typeof arg === "object" ? BigInt(arg.bigint) : arg),
  };
}

const programs: Program[] = [];
const numbers = new Map<string, number>();

/** Returns the program of a thread. */
export function threadProgram(number: number): Program {
  return programs[number]!;
}

/** Returns the number of the program that runs the code of a worker. Equal ones have one number, and so one tree of moments. */
function numberOf(code: string, workerData: { readonly libraries: readonly string[] }): number {
  const text = JSON.stringify([code, workerData.libraries]);
  let number = numbers.get(text);
  if (number === undefined) {
    numbers.set(text, number = programs.push(running(code, workerData)) - 1);
  }
  return number;
}

/** A thread that runs the code of a worker, and then handles its messages. */
const running = (code: string, workerData: unknown): Program => (ffi) => {
  const listeners: Listener[] = [];
  const parentPort = {
    on: (_: "message", listener: Listener) => void listeners.push(listener),
    postMessage: (message: unknown) => ffi.post("leader", message),
  };
  const process = { getBuiltinModule: () => ({ parentPort, workerData }) };
  const bind = (library: string, symbols: Record<string, never>) => ffi.load([library], symbols);
  const memory = (address: bigint, bytes: number) => ffi.arrayBuffer(address, bytes);
  new Function("process", "bind", "memory", code)(process, bind, memory);
  for (;;) {
    const { message } = ffi.receive(Infinity)!;
    for (const listener of listeners) listener(read(ffi, message as Written));
  }
};

/** `Worker` of `node:worker_threads`, as far as the product uses it. */
export class SimulatedWorker {
  isReferenced = true;
  readonly #ffi: SimulatedFfi;
  readonly #thread: number;
  readonly #listeners: Listener[] = [];

  constructor(
    ffi: SimulatedFfi,
    code: string,
    { workerData }: { workerData: { readonly libraries: readonly string[] } },
  ) {
    this.#ffi = ffi;
    this.#thread = ffi.startThread(numberOf(code, workerData));
  }

  get thread(): number {
    return this.#thread;
  }

  on(event: "message" | "error" | "exit", listener: Listener): void {
    if (event === "message") this.#listeners.push(listener); // a simulated thread neither fails nor ends
  }

  postMessage(message: Request): void {
    this.#ffi.post(this.#thread, written(this.#ffi, message));
  }

  receive(message: unknown): void {
    for (const listener of this.#listeners) listener(message);
  }

  ref(): void {
    this.isReferenced = true;
  }

  unref(): void {
    this.isReferenced = false;
  }
}

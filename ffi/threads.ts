import process from "node:process";
import type { Worker, WorkerOptions } from "node:worker_threads";
import type { Background, BackgroundCall, CSignature, CSignatures, ThreadCode } from "./types.ts";

/** The maximum number of threads. Further calls wait for a thread. */
const THREADS_MAX = 16;
/** The longest time in ms that the end of the program waits for a call, which is longer than any call lasts. */
const ENDING_MS = 1000;
/** It waits in slices of so many ms. If the process is stopped for a while, only one of them is lost. */
const ENDING_SLICE_MS = 100;

/**
 * The states of a call. It waits for something and is wanted (`WAITING`) or not (`GIVEN_UP`), has taken what it waited
 * for (`TAKEN`), is releasing it (`RETURNING`), or is over (`OVER`).
 */
const WAITING = 0;
const GIVEN_UP = 1;
const TAKEN = 2;
const RETURNING = 3;
const OVER = 4;

/** The error thrown when no thread could be started, or when the waiting thread has ended. */
export class ThreadError extends Error {
  /** Whether the program is not allowed to start threads. */
  readonly isForbidden: boolean;

  /** @param cause the error of the runtime */
  constructor(cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const isForbidden = (cause as { code?: unknown } | null)?.code === "ERR_ACCESS_DENIED";
    const text = isForbidden
      ? "the program may not start the thread that waits; give it the flag --allow-worker"
      : "the thread that waits could not be started or has ended; if this user has too many processes and " +
        "threads, end some or raise the limit (ulimit -u)";
    super(`${text} [${reason}]`, { cause });
    this.isForbidden = isForbidden;
  }
}

/** Defines how a runtime binds C functions on a thread. */
export interface ThreadBinding {
  /** Source text that defines `bind(library, symbols)` and `memory(address, byteLength)`. */
  readonly code: string;
  /** Describes a C function in the form that `bind` accepts. */
  readonly described: (signature: CSignature) => unknown;
  /** Whether the end of the program waits for threads that are in a C call. */
  readonly joinsAtExit: boolean;
  /** The flags of the runtime that a thread needs to call C. */
  readonly flags: readonly string[];
}

/**
 * Returns the source text of a thread. The thread answers each call with what went wrong, if anything, and notes in the
 * state of the call whether it took what it waited for. If the call was given up, the thread itself releases what it
 * took, because the event loop may be blocked.
 */
function source(bind: string, { take, giveBack = "() => {}" }: ThreadCode): string {
  return `${bind}
  const { parentPort, workerData } = process.getBuiltinModule("node:worker_threads");
  const take = ${take};
  const giveBack = ${giveBack};
  let functions;
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
  const serve = (state, args) => {
    if (Atomics.compareExchange(state, 0, ${GIVEN_UP}, ${OVER}) === ${GIVEN_UP}) return;
    functions ??= load();
    Atomics.store(state, 1, 1);
    const isTaken = take(functions, memory, ...args);
    for (;;) {
      const before = Atomics.load(state, 0);
      const after = !isTaken ? ${OVER} : before === ${WAITING} ? ${TAKEN} : ${RETURNING};
      if (Atomics.compareExchange(state, 0, before, after) !== before) continue;
      if (after !== ${RETURNING}) return;
      giveBack(functions, memory, ...args);
      Atomics.store(state, 0, ${OVER});
      return;
    }
  };
  parentPort.on("message", ({ state, args }) => {
    let problem = null;
    try {
      serve(state, args);
    } catch (error) {
      problem = String(error?.message ?? error);
      Atomics.store(state, 0, ${OVER});
    }
    Atomics.notify(state, 0);
    parentPort.postMessage(problem);
  });`;
}

/** Whether the thread of a call may still take something or has to release it. */
function isUnsettled(state: number): boolean {
  return state !== TAKEN && state !== OVER;
}

/** A call on a thread, from the request until it is over. */
class Call implements BackgroundCall {
  readonly over: Promise<void>;
  readonly args: readonly unknown[];
  /** One of the states above; the second element is 1 once the thread has begun. */
  readonly state = new Int32Array(new SharedArrayBuffer(8));
  readonly resolve: () => void;
  readonly reject: (error: ThreadError) => void;
  /** The thread that makes the call, if it has one yet. */
  worker: Worker | null = null;
  isReferenced = true;

  constructor(args: readonly unknown[]) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.over = promise;
    promise.catch(() => {}); // the caller may ignore a call that it gave up
    this.args = args;
    this.resolve = resolve;
    this.reject = reject;
  }

  unref(): void {
    this.isReferenced = false;
    this.worker?.unref();
  }

  get hasBegun(): boolean {
    return Atomics.load(this.state, 1) === 1;
  }

  claim(): boolean {
    return this.#change(TAKEN, OVER);
  }

  giveUp(): void {
    this.#change(WAITING, GIVEN_UP);
  }

  resume(): boolean {
    return this.#change(GIVEN_UP, WAITING);
  }

  join(ms: number): boolean {
    const state = Atomics.load(this.state, 0);
    if (isUnsettled(state)) Atomics.wait(this.state, 0, state, ms);
    return isUnsettled(Atomics.load(this.state, 0));
  }

  #change(from: number, to: number): boolean {
    return Atomics.compareExchange(this.state, 0, from, to) === from;
  }
}

/** The threads of this program that make C calls. Each makes one call at a time, and idle threads are kept. */
class Threads {
  readonly #code: string;
  readonly #options: WorkerOptions;
  readonly #joinsAtExit: boolean;
  readonly #idle: Worker[] = [];
  readonly #waiting: Call[] = [];
  readonly #running = new Map<Worker, Call>();
  #count = 0;
  #isJoining = false;

  constructor(binding: ThreadBinding, code: ThreadCode, workerData: unknown) {
    this.#code = source(binding.code, code);
    // A thread inherits nothing from the program: no preloads, and no variable that requests some.
    const execArgv = [...binding.flags];
    this.#options = { eval: true, workerData, env: {}, execArgv, name: "shared memory" };
    this.#joinsAtExit = binding.joinsAtExit;
  }

  call(args: readonly unknown[]): Call {
    const call = new Call(args);
    const idle = this.#idle.pop();
    if (idle !== undefined) this.#run(idle, call);
    else this.#runOnNew(call);
    return call;
  }

  /** Starts a thread for a call. If no thread can be started, the call waits for an existing one. */
  #runOnNew(call: Call): void {
    if (this.#count >= THREADS_MAX) {
      this.#waiting.push(call);
      return;
    }
    try {
      this.#run(this.#start(), call);
    } catch (error) {
      if (this.#count > 0) this.#waiting.push(call);
      else call.reject(new ThreadError(error));
    }
  }

  #start(): Worker {
    const { isMainThread, Worker } = process.getBuiltinModule("node:worker_threads");
    const worker = new Worker(this.#code, this.#options);
    if ((this.#joinsAtExit || !isMainThread) && !this.#isJoining) {
      this.#isJoining = true;
      process.on("exit", () => this.#joinAll());
    }
    this.#count++;
    let isGone = false;
    const onEnd = (cause: unknown) => {
      if (isGone) return;
      isGone = true;
      this.#forget(worker, cause);
    };
    worker.on("error", onEnd);
    worker.on("exit", (code) => onEnd(`exit code ${code}`));
    worker.on("message", (problem: string | null) => this.#finish(worker, problem));
    return worker;
  }

  #run(worker: Worker, call: Call): void {
    this.#running.set(worker, call);
    call.worker = worker;
    if (call.isReferenced) worker.ref();
    else worker.unref();
    worker.postMessage({ state: call.state, args: call.args });
  }

  #finish(worker: Worker, problem: string | null): void {
    const call = this.#running.get(worker);
    this.#running.delete(worker);
    if (call !== undefined) call.worker = null; // its next call is another one's
    if (problem === null) call?.resolve();
    else call?.reject(new ThreadError(problem));
    const next = this.#waiting.shift();
    if (next !== undefined) {
      this.#run(worker, next);
    } else {
      worker.unref();
      this.#idle.push(worker);
    }
  }

  /** Removes a thread that has ended or could not start, and rejects its call. */
  #forget(worker: Worker, cause: unknown): void {
    this.#count--;
    const at = this.#idle.indexOf(worker);
    if (at >= 0) this.#idle.splice(at, 1);
    const call = this.#running.get(worker);
    this.#running.delete(worker);
    call?.reject(new ThreadError(cause));
    // If no thread is left, each waiting call starts a new one, or ends with an error if that fails.
    do {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      this.#runOnNew(next);
    } while (this.#count === 0);
  }

  /**
   * Ends all calls. This runs at the end of a program that waits for its threads anyway, or at the end of a worker,
   * whose process continues. Threads could no longer release what they take after that, so their calls must be over.
   */
  #joinAll(): void {
    for (const call of this.#running.values()) call.giveUp();
    for (const call of this.#running.values()) {
      for (let ms = ENDING_MS; ms > 0 && call.join(ENDING_SLICE_MS);) ms -= ENDING_SLICE_MS;
    }
  }
}

/** Implements `Ffi.background` for all runtimes. */
export function background<const S extends CSignatures>(
  binding: ThreadBinding,
  libraries: readonly string[],
  signatures: S,
  code: ThreadCode,
): Background {
  const symbols = Object.fromEntries(
    Object.entries(signatures).map(([name, signature]) => [name, binding.described(signature)]),
  );
  const threads = new Threads(binding, code, { libraries, symbols });
  return (...args) => threads.call(args);
}

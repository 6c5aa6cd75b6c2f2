/** The event loop of a simulated process: its timers, its workers, and the promise jobs of its program. */
import process from "node:process";
import { sleepSync } from "../../backends/timing.ts";
import type { SimulatedFfi } from "./ffi.ts";
import type { SimulatedWorker } from "./workers.ts";

/** How a program calls `process.exit()`: what its promise is resolved with then. */
export const Exit = {
  /** As in Node, whose end waits for the calls of its threads. */
  Node: "exit of Node",
  /** As in Deno and Bun, whose threads end at once. */
  Other: "exit of Deno or Bun",
  /** In a worker, whose process goes on for a while. */
  Worker: "exit of a worker",
} as const;
export type Exit = typeof Exit[keyof typeof Exit];
const EXITS: ReadonlySet<unknown> = new Set(Object.values(Exit));

/** Longer than other processes wait for a lock that nobody holds. */
const WORKER_MS = 3000;

interface Timer {
  readonly due: number;
  readonly fire: () => void;
}

/** What Deno has for its own code, under a symbol. */
interface DenoInternals {
  readonly core: { runMicrotasks(): void };
}

/** Returns the function by which the runtime runs all promise jobs at once. */
async function jobRunner(): Promise<() => void> {
  const { bun, deno } = process.versions;
  if (bun !== undefined) return (await import("bun:jsc" as string)).drainMicrotasks;
  if (deno === undefined) return (process as unknown as { _tickCallback(): void })._tickCallback;
  const { Deno } = globalThis as unknown as { Deno: Record<symbol, DenoInternals> };
  const { internal } = Deno as unknown as { internal: symbol };
  const { core } = Deno[internal]!;
  return () => core.runMicrotasks();
}

const runJobs = await jobRunner();

/**
 * Runs all promise jobs of this JavaScript thread, until none is left. A simulated process cannot wait for them in
 * another way, because its caller is not asynchronous.
 */
export function drainJobs(): void {
  let isRun = false;
  void Promise.resolve().then(() => isRun = true);
  runJobs();
  if (!isRun) throw new Error("no promise job runs here: begin in a timer or in setImmediate()");
}

/** Calls `body` where promise jobs can be run inside of it. */
export function outsideOfJobs<Result>(body: () => Result): Promise<Result> {
  return new Promise((resolve, reject) => {
    setImmediate(() => {
      try {
        resolve(body());
      } catch (error) {
        reject(error);
      }
    });
  });
}

export class EventLoop {
  readonly #ffi: SimulatedFfi;
  readonly #timers = new Map<number, Timer>();
  readonly #workers = new Map<number, SimulatedWorker>();
  readonly #exitListeners: (() => void)[] = [];
  #timerCount = 0;
  #how: unknown = Exit.Node;

  constructor(ffi: SimulatedFfi) {
    this.#ffi = ffi;
  }

  setTimeout(fire: () => void, ms = 0): number {
    const due = this.#ffi.beginTimer() + Math.max(1, ms);
    this.#timers.set(++this.#timerCount, { due, fire });
    return this.#timerCount;
  }

  clearTimeout(timer: number): void {
    this.#timers.delete(timer);
  }

  addWorker(worker: SimulatedWorker): void {
    this.#workers.set(worker.thread, worker);
  }

  onExit(listener: () => void): void {
    this.#exitListeners.push(listener);
  }

  /** Runs until nothing keeps the process alive, or the program exits. Throws what the promise rejects with. */
  run(main: Promise<unknown>): void {
    const ends: (() => boolean)[] = [];
    main.then(
      (value) => {
        this.#how = value ?? Exit.Node;
        ends.push(() => EXITS.has(value));
      },
      (error) => ends.push(() => fail(error)),
    );
    for (drainJobs(); !(ends[0]?.() ?? false); drainJobs()) {
      const next = this.#nextTimer();
      const isAlive = [...this.#workers.values()].some((worker) => worker.isReferenced);
      if (next === undefined && !isAlive) {
        if (ends.length > 0) return;
        throw new Error("the program ends although it waits for a promise");
      }
      const received = this.#ffi.receive(next === undefined ? Infinity : next[1].due);
      if (received !== null) this.#workers.get(received.from)!.receive(received.message);
      else if (next !== undefined) {
        this.#timers.delete(next[0]);
        next[1].fire();
      }
    }
  }

  /** Ends the loop and its threads. */
  exit(): void {
    if (this.#how === Exit.Other) return;
    for (const listener of this.#exitListeners) listener();
    if (this.#workers.size > 0) this.#ffi.endThreads();
    if (this.#how === Exit.Worker) sleepSync(WORKER_MS);
  }

  #nextTimer(): [number, Timer] | undefined {
    return [...this.#timers].sort(([, a], [, b]) => a.due - b.due)[0];
  }
}

function fail(error: unknown): never {
  throw error;
}

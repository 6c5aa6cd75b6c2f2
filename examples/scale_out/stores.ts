/** What the service keeps outside of its processes. It is the same on one machine and on many. */
import type { Cache, Limiter } from "./libraries.ts";

export interface Mail {
  readonly to: string;
}

/** What all processes hear of a mail that was sent. */
export interface News {
  readonly mail: string;
  readonly to: string;
  readonly attempt: number;
  /** The process that has sent it. */
  readonly by: number;
}

export interface Job<Value> {
  readonly id: string;
  readonly value: Value;
  /** 1 for the first attempt. */
  readonly attempt: number;
}

/** Says that an attempt has failed. */
export function tellFailed(error: unknown, id: string, attempt: number): void {
  console.log(`job ${id}, attempt ${attempt}: ${(error as Error).message}`);
}

/** Jobs, each of which one process works on. */
export interface Jobs<Value> {
  send(value: Value): Promise<void>;
  /**
   * Calls `fn` with one job after the other until the signal is aborted. A job is done when `fn` has returned. It is tried
   * again if `fn` throws or the process is killed, three times in all. It may have been done before, so `fn` must know
   * the ids of the jobs that must not be done twice.
   */
  work(fn: (job: Job<Value>) => Promise<void>, signal: AbortSignal): Promise<void>;
}

/** Messages that all processes get. */
export interface Topic<Value> {
  publish(value: Value): Promise<void>;
  subscribe(callback: (value: Value) => void): Promise<void>;
}

/** A price, and where it was found. */
export interface Found {
  readonly price: number | undefined;
  readonly from: "process" | "machine" | "redis";
}

export interface Prices {
  get(item: string): Promise<Found>;
  set(item: string, price: number): Promise<void>;
}

export interface Stores {
  /** Pages. */
  readonly cache: Cache;
  /** The store for express-session. */
  readonly sessions: object;
  /** What a client may do. */
  readonly limiter: Limiter;
  readonly mails: Jobs<Mail>;
  readonly news: Topic<News>;
  readonly prices: Prices;
  /** Lets go of them. Nothing runs any more that uses them. */
  close(): void;
}

/** What a client may do: so many mails in so many seconds. */
export const MAILS = { points: 5, duration: 3600 };
export const ATTEMPTS = 3;

/** @param url `redis://…`, or `undefined` for the memory of this machine */
export async function openStores(url: string | undefined): Promise<Stores> {
  if (url === undefined) return (await import("./shared_stores.ts")).open();
  return await (await import("./redis_stores.ts")).open(url);
}

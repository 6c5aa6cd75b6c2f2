import { clearInterval, setInterval } from "node:timers";
import { sharedClock } from "../backends/clock.ts";
import { delay, nextPause } from "../backends/timing.ts";
import { checkBoolean, checkFunction, checkOptions } from "../core/arguments.ts";
import { type AbortSignalLike, checkSignal, checkTimeout, TIMER_MAX } from "../core/waiter.ts";
import type { Bytes } from "../core/view_types.ts";
import type { MapCore } from "./map_core.ts";
import { checkTtl, type GetOrSetOptions } from "./map_options.ts";
import type { MapReader } from "./map_reader.ts";
import { computerByte, COMPUTERS, COMPUTERS_BYTE } from "./map_shape.ts";
import { Claim, Condition, MapWriter } from "./map_writer.ts";
import { Members } from "./members.ts";
import { AGAIN_MS, isBusy } from "./wait_line.ts";

/** What the computer of a map needs of it. */
export interface ComputedMap<Value> {
  readonly core: MapCore;
  readonly reader: MapReader;
  /** The longest time in ms for which a call waits for another process that changes the same stripe. */
  readonly lockTimeout: number;
  readonly decoded: (raw: Bytes | number) => Value | undefined;
  readonly encoded: (value: Value | number) => Uint8Array | number;
}

/** The arguments of a call, checked. */
interface Job<Value> {
  readonly key: string | Uint8Array;
  readonly compute: () => Value | undefined | PromiseLike<Value | undefined>;
  readonly ttl: number;
  readonly timeout: number;
  readonly signal: AbortSignalLike | undefined;
  /** Whether the wait keeps the program alive. */
  readonly ref: boolean;
}

/** A call that waits for a value or computes it. */
interface Running<Value> {
  readonly promise: Promise<Value | undefined>;
  readonly signal: AbortSignalLike | undefined;
}

const METHOD = "getOrSet";
const CALL = `SharedMap.${METHOD}`;
const TIMEOUT_MS = 30_000;

/**
 * Computes values for `getOrSet()`, so that of several processes only one does it.
 *
 * Who computes the value of a key first writes a pending record. All other operations regard it as no value. It says in
 * which slot the thread is that computes; the thread holds the mutex of the slot as long as it computes anything. So
 * whoever waits can tell that the thread has ended, and writes a pending record of its own. The result replaces the
 * pending record only if that is still there: otherwise the key was set or removed meanwhile.
 */
export class MapComputer<Value> {
  readonly #map: ComputedMap<Value>;
  /** It does not block the thread for long: a call that finds the stripe held tries again. */
  readonly #writer: MapWriter;
  /** The threads that compute values. Nobody waits for a thread without a slot. */
  readonly #members: Members;
  /** The calls of this object that wait for a value or compute it, by their key. */
  readonly #running = new Map<string, Running<Value>>();

  constructor(map: ComputedMap<Value>) {
    this.#map = map;
    this.#writer = new MapWriter(map.core, Math.min(map.lockTimeout, AGAIN_MS));
    const generations = map.core.slot.view(Int32Array, COMPUTERS_BYTE, COMPUTERS);
    this.#members = new Members(generations, (slot) => map.core.joinMutex(computerByte(slot)));
  }

  /** See {@linkcode SharedMap.getOrSet}. */
  async getOrSet(
    key: string | Uint8Array,
    compute: () => unknown,
    options: GetOrSetOptions,
    defaultTtl: number,
  ): Promise<Value | undefined> {
    checkOptions(CALL, options, "{ ttl: 60_000 }");
    const { ttl = defaultTtl, timeout = TIMEOUT_MS, signal, ref = false } = options;
    checkTtl(CALL, ttl);
    checkTimeout(CALL, timeout);
    checkFunction(CALL, "compute", compute);
    checkBoolean(CALL, "ref", ref);
    checkSignal(CALL, signal);
    signal?.throwIfAborted();
    const found = this.#get(key);
    if (found !== undefined) return found;
    const kept = typeof key === "string" ? key : new Uint8Array(key); // the program may change the bytes meanwhile
    const id = idOf(kept);
    const job = { key: kept, ttl, timeout, signal, ref, compute: compute as Job<Value>["compute"] };
    const running = this.#running.get(id);
    if (running !== undefined) {
      try {
        return await this.#join(running.promise, job);
      } catch (error) {
        if (signal?.aborted || !wasAborted(running.signal, error)) throw error;
        return await this.getOrSet(kept, compute, options, defaultTtl);
      }
    }
    const promise = this.#run(job);
    this.#running.set(id, { promise, signal });
    try {
      return await promise;
    } finally {
      this.#running.delete(id);
    }
  }

  #get(key: string | Uint8Array): Value | undefined {
    const raw = this.#map.reader.get(METHOD, key);
    return raw === undefined ? undefined : this.#map.decoded(raw);
  }

  /** Waits for another call of this object. It may wait for this one in turn, so there is a limit. */
  async #join(running: Promise<Value | undefined>, job: Job<Value>): Promise<Value | undefined> {
    const { timeout, signal, ref } = job;
    const { promise: given, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = () => reject(signal!.reason);
    signal?.addEventListener("abort", onAbort);
    const onTime = timeout > TIMER_MAX ? () => {} : resolve;
    const timer = setInterval(onTime, Math.min(timeout, TIMER_MAX));
    if (!ref) timer.unref();
    try {
      const isOver = await Promise.race([running.then(() => true), given.then(() => false)]);
      return isOver ? await running : await job.compute();
    } finally {
      clearInterval(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Waits for the value while another thread computes it, and computes it if none does. */
  async #run(job: Job<Value>): Promise<Value | undefined> {
    const { key, timeout, signal, ref } = job;
    const { reader } = this.#map;
    const until = performance.now() + timeout;
    for (let pause = nextPause(0); performance.now() < until; pause = nextPause(pause)) {
      const dead = this.#deadVersion(key);
      if (dead !== null) {
        const claim = unlessBusy(() => this.#claim(job, dead)) ??
          await this.#whenFree(key, () => this.#claim(job, dead), signal);
        if (typeof claim === "number") return await this.#compute(job, claim);
      }
      const raw = reader.get(METHOD, key);
      if (raw !== undefined) return this.#map.decoded(raw);
      if (dead === null) await delay(Math.min(pause, Math.max(0, until - performance.now())), ref);
      signal?.throwIfAborted();
    }
    return await job.compute(); // nothing is stored, as the key is another one's
  }

  /**
   * Returns the version of the pending record of a thread that has ended, 0 if there is no pending record; `null` if its
   * thread goes on computing.
   */
  #deadVersion(key: string | Uint8Array): number | null {
    const { reader } = this.#map;
    if (!reader.isPending(METHOD, key)) return 0;
    const { version, computer: [slot, generation] } = reader;
    return this.#members.isLiving(slot, generation) ? null : version;
  }

  /** Writes a pending record; returns its version, or what else there is. */
  #claim({ key, timeout }: Job<Value>, dead: number): number | "other" {
    const writer = this.#writer;
    const members = this.#members;
    members.enter();
    try {
      const computer = new Uint8Array(Int32Array.of(members.slot, members.generation).buffer);
      const expiry = timeout === Infinity ? 0 : sharedClock().now() + timeout;
      if (writer.claim(METHOD, key, computer, expiry, dead) === Claim.Mine) return writer.version;
    } catch (error) {
      members.leave();
      throw error;
    }
    members.leave();
    return "other";
  }

  /**
   * Calls `act` again and again while another process changes the stripe of a key, as one that was stopped in the middle,
   * without blocking the event loop.
   *
   * @throws {SyncError} (rejects) `Busy` after `lockTimeout`
   */
  async #whenFree<Result extends number | boolean | "other">(
    key: string | Uint8Array,
    act: () => Result,
    signal?: AbortSignalLike,
  ): Promise<Result> {
    const { core, lockTimeout } = this.#map;
    const until = performance.now() + lockTimeout;
    for (let pause = nextPause(0);; pause = nextPause(pause)) {
      await delay(Math.min(pause, Math.max(0, until - performance.now())));
      signal?.throwIfAborted();
      const result = unlessBusy(act);
      if (result !== undefined) return result;
      if (performance.now() < until) continue;
      core.seek(METHOD, key);
      throw core.locks[core.index]!.busy(METHOD, lockTimeout);
    }
  }

  /** Computes the value for the pending record with a version, and stores it in its place. */
  async #compute({ key, compute, ttl }: Job<Value>, version: number): Promise<Value | undefined> {
    let isStored = false;
    try {
      const value = await compute();
      if (value !== undefined) {
        const raw = this.#map.encoded(value);
        const store = (raw: Uint8Array | number) => {
          const expiry = ttl === Infinity ? 0 : sharedClock().now() + ttl;
          return this.#writer.set(METHOD, key, raw, expiry, Condition.Pending, version);
        };
        if (unlessBusy(() => store(raw)) === undefined) {
          const copy = typeof raw === "number" ? raw : new Uint8Array(raw); // the codec may use its array again
          await this.#whenFree(key, () => store(copy));
        }
        isStored = true;
      }
      return value;
    } finally {
      if (!isStored && !this.#giveUp(key, version)) void this.#giveUpLater(key, version);
      this.#members.leave();
    }
  }

  /** Removes a pending record, so that another thread computes the value; returns `false` if another one holds the stripe. */
  #giveUp(key: string | Uint8Array, version: number): boolean {
    try {
      this.#writer.delete(METHOD, key, Condition.Pending, version);
    } catch (error) { // the caller gets the first error
      return !isBusy(error);
    }
    return true;
  }

  /**
   * Removes a pending record when the stripe is free again. Otherwise the others would wait for it as long as this thread
   * computes anything else. If the program ends before, they find out that its thread has ended.
   */
  async #giveUpLater(key: string | Uint8Array, version: number): Promise<void> {
    for (let pause = 0; !this.#giveUp(key, version);) {
      await delay(pause = nextPause(pause), false);
    }
  }
}

/** Returns what `act` returns, or `undefined` if it finds the stripe locked. */
function unlessBusy<Result>(act: () => Result): Result | undefined {
  try {
    return act();
  } catch (error) {
    if (!isBusy(error)) throw error;
    return undefined;
  }
}

/** Whether a call has failed since the signal of its caller was aborted: other callers do not want that. */
function wasAborted(signal: AbortSignalLike | undefined, error: unknown): boolean {
  return signal !== undefined && signal.aborted && signal.reason === error;
}

/** Returns a text that no other key has. */
function idOf(key: string | Uint8Array): string {
  return typeof key === "string" ? `text ${key}` : `bytes ${key.join()}`;
}

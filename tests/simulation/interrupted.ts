/**
 * Processes on a simulated kernel of which one is interrupted: before a call of a certain name, something else happens.
 * Such a test needs no list of calls, so the calls may change as long as their effect does not.
 */
import type { Backend, Lock, OpenRequest, Segment } from "../../backends/types.ts";
import { AccessMode } from "../../errors.ts";
import { SimulatedFfi } from "./ffi.ts";
import {
  boot,
  type Call,
  call,
  EPOCH_MS,
  isBlocked,
  type Result,
  type State,
  UPTIME_MS,
} from "./kernel.ts";
import { type KeyType, POSIX, SYSTEM_V } from "./keys.ts";
import { POSIX_OBJECTS, SYSTEM_V_OBJECTS } from "./objects.ts";
import { inVirtualTime, running } from "./virtual_time.ts";

const BYTES = 100;
const { ReadWrite } = AccessMode;

/** A process that uses the segment and the lock of the simulation's key of one type. */
export class Interrupted {
  readonly backend: Backend;
  readonly lock: Lock;
  readonly #key: KeyType;
  readonly #state: State;
  readonly #index: number;
  readonly #ffi: SimulatedFfi;
  readonly #interruptions = new Map<unknown, () => void>();

  constructor(state: State, index: number, key: KeyType) {
    const { pid, uid } = state.processes[index]!;
    this.#key = key;
    this.#state = state;
    this.#index = index;
    this.#ffi = new SimulatedFfi((made) => this.#call(made), { pid, uid });
    this.backend = key.backend(this.#ffi);
    this.lock = this.backend.semaphores.lock(key.lock);
  }

  /** Has something happen before the next call of that name, once. */
  before(name: string, happens: () => void): void {
    this.#interruptions.set(name, happens);
  }

  #call(made: Call) {
    const [name] = made;
    const happens = this.#interruptions.get(name);
    this.#interruptions.delete(name);
    happens?.();
    let result = call(this.#state, this.#index, made);
    // Nobody else runs meanwhile, so the wait lasts until its timeout.
    for (; isBlocked(result); result = call(this.#state, this.#index, made, 2)) {
      this.#state.now += result.wait;
    }
    return result;
  }

  /** Calls a function as this process, also while another one is interrupted. */
  run<Result>(body: () => Result): Result {
    const outer = { ...running };
    running.ffi = this.#ffi;
    running.clock = () => this.#state.now;
    running.sleep = (ms) => this.#state.now += ms;
    try {
      return body();
    } finally {
      Object.assign(running, outer);
    }
  }

  create(): Segment {
    return this.run(() =>
      this.backend.segments.create(this.#key.segment, BYTES, ReadWrite, this.lock)
    );
  }

  attach(lock: Lock | null = this.lock): Segment {
    return this.run(() => this.backend.segments.attach(this.#key.segment, ReadWrite, lock));
  }

  /** Opens the segment, or creates it, with at least so many bytes. */
  open(size: number, more: Partial<OpenRequest> = {}): Segment {
    const request = { size, mode: ReadWrite, timeoutMs: 5000, initialize: null } as const;
    return this.run(() =>
      this.backend.segments.open(
        this.#key.segment,
        { ...request, existing: "attach", stale: "replace", ...more },
        this.lock,
      )
    );
  }

  /** Lets time pass; returns what it is then, in ms. */
  wait(ms: number): number {
    return this.#state.now += ms;
  }

  /** Whether `inspect()` says that the segment is persistent; `undefined` if there is none. */
  isPersistent(): boolean | undefined {
    return this.run(() => this.#key.inspection(this.#ffi).inventory(false)).segments[0]?.persistent;
  }

  /** Lets a file be as old as if it had been changed last so many seconds before the system was started. */
  changedBeforeStart(path: string, seconds: number): void {
    const started = (EPOCH_MS - UPTIME_MS) / 1000;
    const ino = (this.answer("statx", -100, path, 0).out as Record<string, number>)["ino"];
    const files = [...this.#state.inodes.values()].filter(({ number }) => number === ino);
    for (const file of files) file.ctime = started - seconds;
  }

  /** Makes a call as another program. */
  answer(...made: Call): Result {
    const result = call(this.#state, this.#index, made);
    if (isBlocked(result)) throw new Error(`${made[0]} waits`);
    return result;
  }

  /** Makes a call as another program, which must succeed, and returns its result. */
  call(...made: Call): number {
    const { ret, errno } = this.answer(...made);
    if (ret === -1) throw new Error(`${made[0]} has failed with ${errno}`);
    return ret;
  }

  /** Returns the id of the segment at an address. */
  idAt({ address }: Segment): number {
    return this.#state.processes[this.#index]!.maps.get(Number(address))!.id;
  }
}

/** Calls `body` with processes of these users, and a function that lists what they have left. */
export function interrupted(
  uids: readonly number[],
  body: (processes: Interrupted[], leftovers: () => readonly string[]) => void,
  key = SYSTEM_V,
): void {
  const state = boot({ processes: uids.map((uid) => ({ uid })) });
  const objects = key === POSIX ? POSIX_OBJECTS : SYSTEM_V_OBJECTS;
  const processes = uids.map((_, index) => new Interrupted(state, index, key));
  inVirtualTime(() => body(processes, () => objects.leftovers(state)));
}

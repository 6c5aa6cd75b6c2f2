/** The state of the world in the model: what there is, and who has it. */
import { AGENTS, MEMORIES, SEMAPHORES } from "./steps.ts";

export interface Segment {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly users: Set<Attachment>;
}

/** From attach to detach. */
export interface Attachment {
  readonly segment: Segment;
  readonly path: string;
  /** Whose lock it can take: `null` of a native key. */
  readonly key: string | null;
  /** Whether its `create()` made the key file. */
  readonly madeFile: boolean;
  readonly isWritable: boolean;
  readonly process: Process;
  /** Whether it has taken its lock by `lockAsync()`. */
  isLockedAsync: boolean;
}

/** What is under a path. */
export interface Place {
  segment: Segment | null;
  hasFile: boolean;
  /** Somebody used it without its lock, which may leave the key file or the lock behind. */
  wasNative: boolean;
}

/** A `SharedMemory`. */
export interface Memory {
  key: string | null;
  /** Set by `setNativeKey()`. */
  path: string | null;
  attachment: Attachment | null;
  /** `null` where no rule says what it is. */
  error: number | null;
}

/** A semaphore of the system. */
export interface KernelSemaphore {
  value: number;
  /** What the kernel adds when a process ends. */
  readonly undo: Map<Process, number>;
  readonly users: Set<Opened>;
  /** How often somebody who let go of it has left its removal to the others, its owner first. */
  offers: number;
  /** The process that did so last. */
  offeredBy: Process | null;
  isRemoved: boolean;
}

/** An open semaphore of an object. */
export interface Opened {
  target: KernelSemaphore;
  isOwner: boolean;
  /** How often its removal had been left to others by then, who do not include this one; see `offersTo()`. */
  offersBefore: number;
  /** Acquired and not released. */
  balance: number;
}

/** A `SystemSemaphore`. */
export interface Semaphore {
  key: string | null;
  initialValue: number;
  opened: Opened | null;
  error: number | null;
}

export interface Process {
  readonly memories: Readonly<Record<string, Memory>>;
  readonly semaphores: Readonly<Record<string, Semaphore>>;
  /** Of its objects and of forgotten ones. */
  readonly attachments: Set<Attachment>;
  readonly opened: Set<Opened>;
  /** Views that are kept though their object is not. */
  readonly kept: Attachment[];
}

export function newMemory(): Memory {
  return { key: null, path: null, attachment: null, error: 0 };
}

export function newSemaphore(): Semaphore {
  return { key: null, initialValue: 0, opened: null, error: 0 };
}

export function newProcess(): Process {
  return {
    memories: Object.fromEntries(MEMORIES.map((name) => [name, newMemory()])),
    semaphores: Object.fromEntries(SEMAPHORES.map((name) => [name, newSemaphore()])),
    attachments: new Set(),
    opened: new Set(),
    kept: [],
  };
}

export class World {
  readonly processes: Process[] = Array.from({ length: AGENTS }, newProcess);
  readonly semaphores = new Map<string, KernelSemaphore>();
  /** Who holds the lock of a key. */
  readonly holders = new Map<string, Attachment>();
  readonly #places = new Map<string, Place>();

  place(path: string): Place {
    let place = this.#places.get(path);
    if (place === undefined) {
      this.#places.set(path, place = { segment: null, hasFile: false, wasNative: false });
    }
    return place;
  }
}

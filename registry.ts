import process from "node:process";

/**
 * What every copy of this package in a thread knows of the others: two versions, a bundle beside the package, the
 * generations of a hot reload. All of them refuse a deadlock, accept each other's views and end with one exit hook.
 *
 * What is here crosses copies, and so versions. It has only these documented fields and methods, and nobody asks
 * which class it is of. A version that has to change the meaning of one of them uses another number in the name
 * below; a version that only adds something says so with a field of its own, which the others need not have.
 */

/** An object of this thread that is attached to a segment, whichever copy made it. */
export interface SharedAttachment {
  /** Where the segment is mapped. Nothing may be there any more once {@linkcode SharedAttachment.isEnded} is true. */
  readonly address: bigint;
  /** In bytes. */
  readonly size: number;
  /** Whether a store into the segment is allowed. */
  readonly isWritable: boolean;
  /** Whether it has been detached. */
  readonly isEnded: boolean;
  /** The same for all objects of one lock, `null` if the segment has no lock. */
  readonly lockIdentity: string | null;
  /** Whether it holds that lock. */
  readonly isLocked: boolean;
  /** Whether it is being filled by `initialize`, under the lock. */
  readonly isInitializing: boolean;
  /** Calls `release`, which must not throw, before the segment goes. Keeps alive what it refers to. */
  beforeEnd(release: () => void): void;
  /** The opposite of {@linkcode SharedAttachment.beforeEnd}. */
  notBeforeEnd(release: () => void): void;
}

/** A semaphore that is open in this thread, whichever copy opened it. */
export interface SharedSemaphore {
  /** The same for all objects of one semaphore; that of a lock if it is the semaphore of a lock. */
  readonly identity: string;
  /** How many units were acquired and not released. */
  readonly balance: number;
}

/** The asynchronous calls of one copy that wait for one lock or semaphore. */
export interface SharedWait {
  /** As in {@linkcode SharedAttachment.lockIdentity} or {@linkcode SharedSemaphore.identity}. */
  readonly identity: string;
  /** How many calls wait. None: all have given up, but a call on another thread goes on for a moment. */
  readonly count: number;
  /**
   * Blocks this thread until a call on another thread has come further, for at most `ms`; whether that call may still take
   * one, or give back what it took.
   */
  join(ms: number): boolean;
}

/** Something to be closed when the program ends. */
export interface Resource {
  /** Closes it at once, without waiting for anybody, and without throwing. */
  closeAtExit(): void;
}

/** What the copies in a thread have in common. */
export interface Registry {
  /** How many of the attachments are locked: as long as it is 0, no lock needs to look at them. */
  locksHeld: number;
  /** Whether the end of the program has closed everything. */
  isClosed: boolean;
  /** Whether a copy has installed what closes everything when the program ends. */
  hasExitHook: boolean;
  /** What is attached. */
  readonly attachments: Set<SharedAttachment>;
  /** The attachment of a buffer, also when it has ended. */
  readonly byBuffer: WeakMap<ArrayBufferLike, SharedAttachment>;
  /** The semaphores that are open, but for the locks of segments. */
  readonly semaphores: Set<SharedSemaphore>;
  /** Who waits. */
  readonly waits: Set<SharedWait>;
  /** What is to be closed when the program ends, in the order in which it was opened. */
  readonly resources: Set<Resource>;
}

const NAME = Symbol.for("@shared-memory/shared-memory registry 1");

/**
 * The global object of the thread, which lasts as long as that does. Test runners such as Jest give each file a context
 * of its own (`node:vm`), with a `process` whose listeners are never called.
 */
export function threadGlobal(): typeof globalThis & { process?: typeof process } {
  // What contexts get from outside was made with another `Function`.
  if (typeof TextEncoder !== "function" || TextEncoder instanceof Function) return globalThis;
  const vm = process.getBuiltinModule?.("node:vm");
  return vm === undefined ? globalThis : vm.runInThisContext("globalThis");
}

function find(): Registry {
  const shared = threadGlobal() as typeof globalThis & { [NAME]?: Registry };
  const found = shared[NAME];
  if (found !== undefined) return found;
  const made: Registry = {
    locksHeld: 0,
    isClosed: false,
    hasExitHook: false,
    attachments: new Set(),
    byBuffer: new WeakMap(),
    semaphores: new Set(),
    waits: new Set(),
    resources: new Set(),
  };
  // Where the global object is frozen, each copy is alone. It is not enumerable: test runners compare the names.
  Reflect.defineProperty(shared, NAME, { value: made });
  return made;
}

/** That of this thread. */
export const registry: Registry = find();

/** Whether an object of this thread, of whichever copy, holds the lock or a unit of the semaphore of `identity`. */
export function isHeldByThread(identity: string): boolean {
  for (const { lockIdentity, isLocked } of registry.attachments) {
    if (isLocked && lockIdentity === identity) return true;
  }
  for (const semaphore of registry.semaphores) {
    if (semaphore.balance > 0 && semaphore.identity === identity) return true;
  }
  return false;
}

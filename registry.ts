import process from "node:process";

/**
 * The registry connects all copies of this package in a thread: two versions, a bundle beside the package, or the
 * generations of a hot reload. Together they refuse a deadlock, accept each other's views and end with one exit hook.
 *
 * The objects in the registry cross copies, and so versions. Copies use only the documented fields and methods of these
 * objects, and never check their classes. A version that changes the meaning of a field must use another number in the
 * name below. A version that only adds something says so with a new field, which other versions may lack.
 */

/** A shared attachment is an object of this thread that is attached to a segment. Any copy may have created it. */
export interface SharedAttachment {
  /** The address of the segment. Once {@linkcode SharedAttachment.isEnded} is `true`, it may be unmapped. */
  readonly address: bigint;
  /** The size of the segment in bytes. */
  readonly size: number;
  /** Whether a store into the segment is allowed. */
  readonly isWritable: boolean;
  /** Whether the attachment has been detached. */
  readonly isEnded: boolean;
  /** The identity of the lock, equal for all its objects; `null` if the segment has no lock. */
  readonly lockIdentity: string | null;
  /** Whether the attachment holds the lock. */
  readonly isLocked: boolean;
  /** Whether `initialize` is filling the segment, under the lock. */
  readonly isInitializing: boolean;
  /** Calls `release`, which must not throw, before the segment is unmapped. It keeps `release` alive until then. */
  beforeEnd(release: () => void): void;
  /** Removes a function that {@linkcode SharedAttachment.beforeEnd} has added. */
  notBeforeEnd(release: () => void): void;
}

/** A shared semaphore is a semaphore that is open in this thread. Any copy may have opened it. */
export interface SharedSemaphore {
  /** The identity of the semaphore, equal for all its objects. The semaphore of a lock has the identity of the lock. */
  readonly identity: string;
  /** The number of units that were acquired and are not yet released. */
  readonly balance: number;
}

/** A shared wait stands for the asynchronous calls of one copy that wait for one lock or semaphore. */
export interface SharedWait {
  /** The {@linkcode SharedAttachment.lockIdentity} or {@linkcode SharedSemaphore.identity}. */
  readonly identity: string;
  /**
   * The number of calls that wait. If it is 0, all have given up, but a wait on another thread goes on for a moment.
   */
  readonly count: number;
  /**
   * Blocks this thread for at most `ms`, until the wait on another thread has made progress. It returns whether that
   * wait may still acquire a unit, or release the one that it acquired.
   */
  join(ms: number): boolean;
}

/** A resource is closed when the program ends. */
export interface Resource {
  /** Closes the resource at once. It neither waits for another process nor throws. */
  closeAtExit(): void;
}

/** The registry holds what the copies in a thread have in common. */
export interface Registry {
  /** The number of attachments that hold a lock. While it is 0, a call that locks need not check the attachments. */
  locksHeld: number;
  /** Whether the end of the program has closed everything. */
  isClosed: boolean;
  /** Whether a copy has installed the hook that closes everything when the program ends. */
  hasExitHook: boolean;
  /** The attachments that have not ended. */
  readonly attachments: Set<SharedAttachment>;
  /** The attachment of each buffer, even if it has ended. */
  readonly byBuffer: WeakMap<ArrayBufferLike, SharedAttachment>;
  /** The open semaphores, except the locks of segments. */
  readonly semaphores: Set<SharedSemaphore>;
  /** The asynchronous waits that are not over. */
  readonly waits: Set<SharedWait>;
  /** The resources to close when the program ends, in the order in which they were opened. */
  readonly resources: Set<Resource>;
}

const NAME = Symbol.for("@shared-memory/shared-memory registry 1");

/**
 * @internal Returns the global object of the thread, which lasts as long as the thread. Test runners such as Jest give each file
 * a context of its own (`node:vm`), with a `process` whose listeners are never called.
 */
export function threadGlobal(): typeof globalThis & { process?: typeof process } {
  // In such a context, a class from outside is an instance of another `Function`.
  if (typeof TextEncoder !== "function" || TextEncoder instanceof Function) return globalThis;
  const vm = process.getBuiltinModule?.("node:vm");
  return vm === undefined ? globalThis : vm.runInThisContext("globalThis");
}

/** Creates the registry of a process that has opened nothing yet. */
export function newRegistry(): Registry {
  return {
    locksHeld: 0,
    isClosed: false,
    hasExitHook: false,
    attachments: new Set(),
    byBuffer: new WeakMap(),
    semaphores: new Set(),
    waits: new Set(),
    resources: new Set(),
  };
}

function find(): Registry {
  const shared = threadGlobal() as typeof globalThis & { [NAME]?: Registry };
  const found = shared[NAME];
  if (found !== undefined) return found;
  const made = newRegistry();
  // If the global object is frozen, this fails and each copy is alone. The property is not enumerable, since test
  // runners compare the names.
  Reflect.defineProperty(shared, NAME, { value: made });
  return made;
}

/** The registry of this thread. In the simulation, it is the registry of the process that runs. */
export let registry: Registry = find();

/** Replaces the registry. Only a change of the context does so. */
export function useRegistry(next: Registry): void {
  registry = next;
}

/** Returns whether an object of this thread, of any copy, holds the lock or a unit of the semaphore of `identity`. */
export function isHeldByThread(identity: string): boolean {
  for (const { lockIdentity, isLocked } of registry.attachments) {
    if (isLocked && lockIdentity === identity) return true;
  }
  for (const semaphore of registry.semaphores) {
    if (semaphore.balance > 0 && semaphore.identity === identity) return true;
  }
  return false;
}
